"""The content digest: equal for equal features, however they are stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.coordination.store import open_store
from cache.format.codec import CODECS, FLOAT16
from cache.format.samples import Samples
from cache.inspection.content_digest import content_digest
from shared.errors import CacheError
from tests.cache.conftest import TOKENS, make_features, make_writer, with_map

LOSSLESS = [codec.name for codec in CODECS.values() if codec.value_format == FLOAT16]


@pytest.fixture
def digest(finished: Path) -> str:
    return content_digest(open_store(finished))


def digest_of(path: Path, **options: int | str | tuple[str, ...]) -> str:
    writer = make_writer(path, **options)  # type: ignore[arg-type]
    for shard in reversed(writer.shards):
        writer.write_shard(shard, [make_features(t, variant=shard.variant) for t in shard.tokens])
    return content_digest(open_store(path))


@pytest.mark.parametrize("rows_per_shard", [1, 3, 100])
def test_it_does_not_depend_on_shard_size_or_order(
    tmp_path: Path, digest: str, rows_per_shard: int
) -> None:
    assert digest_of(tmp_path / "store", rows_per_shard=rows_per_shard) == digest


def test_it_does_not_depend_on_the_order_of_samples_or_the_padding_of_boxes(
    tmp_path: Path, digest: str
) -> None:
    assert digest_of(tmp_path / "order", tokens=TOKENS[::-1]) == digest
    assert digest_of(tmp_path / "padding", max_boxes=50) == digest


@pytest.mark.parametrize("codec", LOSSLESS)
def test_it_does_not_depend_on_a_lossless_codec(tmp_path: Path, digest: str, codec: str) -> None:
    assert digest_of(tmp_path / "store", codec=codec) == digest


def test_quantised_features_have_their_own_digest_whatever_their_codec(
    tmp_path: Path, digest: str
) -> None:
    quantised = [name for name in CODECS if name not in LOSSLESS]
    digests = {digest_of(tmp_path / codec, codec=codec) for codec in quantised}
    assert len(quantised) > 1
    assert len(digests) == 1
    assert digests != {digest}


def test_it_does_not_depend_on_the_sign_of_an_unknown_velocity(tmp_path: Path, digest: str) -> None:
    writer = make_writer(tmp_path / "store")
    for shard in writer.shards:
        rows = [make_features(token) for token in shard.tokens]
        for row in rows:
            row.frame.annotations.boxes_lidar[:, 7:] = -np.float32(np.nan)
        writer.write_shard(shard, rows)
    assert content_digest(open_store(tmp_path / "store")) == digest


def test_it_changes_when_one_value_changes(tmp_path: Path, digest: str) -> None:
    for name in make_features("ant").maps:
        writer = make_writer(tmp_path / name)
        for shard in writer.shards:
            rows = [make_features(token) for token in shard.tokens]
            values = rows[0].maps[name].astype(np.float16)
            values.flat[-1] = np.nextafter(values.flat[-1], np.float16(np.inf))
            rows[0] = with_map(rows[0], name, values)
            writer.write_shard(shard, rows)
        assert content_digest(open_store(tmp_path / name)) != digest


def test_it_changes_when_a_label_changes(tmp_path: Path, digest: str) -> None:
    writer = make_writer(tmp_path / "store")
    for shard in writer.shards:
        rows = [make_features(token) for token in shard.tokens]
        annotations = rows[-1].frame.annotations
        if len(annotations.labels):
            changed = replace(annotations, labels=annotations.labels + 1)
            rows[-1] = replace(rows[-1], frame=replace(rows[-1].frame, annotations=changed))
        writer.write_shard(shard, rows)
    assert content_digest(open_store(tmp_path / "store")) != digest


def test_it_changes_when_two_variants_change_places(tmp_path: Path) -> None:
    digests = set()
    for number, places in enumerate(((0, 1), (1, 0))):
        writer = make_writer(tmp_path / f"{number}", variants=2)
        for shard in writer.shards:
            rows = [make_features(token, variant=places[shard.variant]) for token in shard.tokens]
            rows = [replace(r, frame=replace(r.frame, variant=shard.variant)) for r in rows]
            writer.write_shard(shard, rows)
        digests.add(content_digest(open_store(tmp_path / f"{number}")))
    assert len(digests) == 2


@pytest.mark.parametrize("column", ["tokens", "scenes", "timestamps_us"])
def test_it_changes_when_a_token_scene_or_time_changes(
    tmp_path: Path, digest: str, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames keep their values; only their names or times differ."""
    columns = {
        "tokens": list(TOKENS),
        "scenes": [f"scene-of-{token}" for token in TOKENS],
        "timestamps_us": [make_features(token).frame.timestamp_us for token in TOKENS],
    }
    last = columns[column][-1]
    columns[column][-1] = last + 1 if isinstance(last, int) else f"{last}-too"
    samples = Samples(**columns)  # type: ignore[arg-type]
    monkeypatch.setattr("tests.cache.conftest.make_samples", lambda tokens: samples)
    writer = make_writer(tmp_path / "store", tokens=tuple(columns["tokens"]))
    for shard in writer.shards:
        rows = []
        for place, token in enumerate(TOKENS[shard.start : shard.start + len(shard.tokens)]):
            at = shard.start + place
            named = replace(
                make_features(token).frame,
                token=samples.tokens[at],
                scene=samples.scenes[at],
                timestamp_us=samples.timestamps_us[at],
            )
            rows.append(replace(make_features(token), frame=named))
        writer.write_shard(shard, rows)
    assert content_digest(open_store(tmp_path / "store")) != digest


def test_recomputed_from_the_bytes_it_is_the_same(finished: Path, digest: str) -> None:
    assert content_digest(open_store(finished), recompute=True) == digest


def test_it_is_frozen(digest: str) -> None:
    """A change of this digest means that stored values changed: say so in CHANGELOG.md."""
    assert digest == "e5ef2b12cc30ad2a28e7de49f2945238988cd68d4629603aa3a4874392153018"


def test_an_unfinished_store_has_no_digest(begun: Path) -> None:
    with pytest.raises(
        CacheError, match="3 of 5 rows are missing, so it has no content digest yet"
    ):
        content_digest(open_store(begun))


def test_damage_is_named_when_recomputing(finished: Path) -> None:
    (finished / "lidar/stride8/c.0.2.0.0.0").unlink()
    with pytest.raises(CacheError, match=r"lidar/stride8 of sample elk.*is missing.*--repair"):
        content_digest(open_store(finished), recompute=True)
