"""The commands of `feature-cache`: what they print and how they exit."""

import json
from pathlib import Path

import numpy as np
import pytest

from cache.__main__ import main
from cache.format.codec import CODECS
from cache.format.statistics import Statistics, merge
from cache.inspection.estimate import RATIOS, estimate
from shared.config.preset_catalogue import r50_800x320
from tests.cache.conftest import COMMAND, TOKENS, fill, make_features, make_writer


def test_show_works_on_a_store_without_any_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_writer(tmp_path / "empty")
    assert main(["show", str(tmp_path / "empty")]) == 0
    assert "0 of 5 complete" in capsys.readouterr().out


def test_show_describes_an_unfinished_store(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(begun)]) == 0
    printed = capsys.readouterr().out
    for fact in (
        "small, cut backbone",
        "2 of 5 complete",
        "1 of 3",
        "zstd-1-shuffle",
        COMMAND,
        "absmax",
    ):
        assert fact in printed


def test_show_json_has_the_statistics_of_complete_rows(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(begun), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["rows"] == {"complete": 2, "total": 5}
    values = np.stack([make_features(t).maps["lidar/stride8"] for t in ("ant", "bee")])
    values = values.astype(np.float16).astype(np.float64)
    statistics = description["statistics"]["lidar/stride8"]
    assert statistics["count"] == 64
    assert statistics["absmax"] == np.abs(values).max()
    assert statistics["mean"] == pytest.approx(values.mean())
    assert statistics["std"] == pytest.approx(values.std())


def test_merged_statistics_are_those_of_all_values() -> None:
    shares = [np.float16([1, 2, 3]), np.float16([-10]), np.float16([4, 4])]
    merged = merge([Statistics.of(share) for share in shares])
    everything = np.concatenate(shares).astype(np.float64)
    assert (merged.count, merged.min, merged.max, merged.absmax) == (6, -10, 4, 10)
    assert merged.mean == pytest.approx(everything.mean())
    assert merged.std == pytest.approx(everything.std())


def test_verify_says_how_many_rows_it_read(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(begun)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "2 of 5 rows are complete and were read again: all as written\n"
    assert printed.err == ""  # no progress bar into a file


def test_verify_finds_an_entry_of_no_shard(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "ledger/000009.json").write_text("{}")
    assert main(["verify", str(finished)]) == 1
    assert "the store has 3 shards" in capsys.readouterr().out


def test_diff_of_equal_stores_exits_with_0(
    finished: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(finished), str(begun)]) == 0
    assert "no difference" in capsys.readouterr().out


def test_diff_names_each_field_and_exits_with_1(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_writer(tmp_path / "fewer", tokens=TOKENS[:2])
    assert main(["diff", str(finished), str(tmp_path / "fewer")]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("dataset.tokens: ")
    assert printed.count("\n") == 2
    assert "every array, but only samples that one of the two lacks" in printed


def test_diff_with_a_preset_compares_what_stage_1_uses(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(finished), "tiny"]) == 1
    printed = capsys.readouterr().out
    assert "preset.camera.width_px: 64 in " in printed
    assert "160 in tiny (the image branch of the preset)" in printed
    assert "weights" not in printed


def test_estimate_counts_bytes_from_the_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    camera = 2 * 6 * (1024 * 20 * 50 + 2048 * 10 * 25)
    lidar = 2 * (128 * 128 * 128 + 256 * 64 * 64)
    size = estimate(r50_800x320(), samples=10, variants=2, codec="zstd-1-shuffle")
    assert 0 < size.row - (camera + lidar) < 20_000  # geometry and boxes
    assert size.uncompressed == 20 * size.row
    assert size.smallest < size.largest < size.uncompressed
    assert main(["estimate", "r50_800x320", "--samples", "28130"]) == 0
    assert "24.74 MB a row, 695.8" in capsys.readouterr().out


def test_estimate_knows_the_ratio_of_every_codec(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {
        codec: estimate(r50_800x320(), samples=10, variants=2, codec=codec).largest
        for codec in CODECS
    }
    assert set(RATIOS) == set(CODECS)
    lossless = [sizes[codec] for codec in ("pcodec", "zstd-1-shuffle", "zstd-1", "none")]
    assert sizes["uint8-zstd-1"] < lossless[0]
    assert lossless == sorted(lossless)
    command = ["estimate", "r50_800x320", "--samples", "28130", "--codec"]
    assert main([*command, "uint8-zstd-1"]) == 0
    assert "as uint8-zstd-1: 12.5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "zip"])


def test_digest_prints_one_line(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digest", str(finished)]) == 0
    stored = capsys.readouterr().out
    assert main(["digest", str(finished), "--recompute"]) == 0
    assert capsys.readouterr().out == stored
    assert len(stored) == 65


@pytest.mark.parametrize("command", ["show", "verify", "digest"])
def test_a_path_that_is_not_a_store_is_one_message_and_exit_status_1(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "nowhere")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nowhere is not a feature store" in printed.err
    assert "Traceback" not in printed.err


def test_an_unknown_preset_or_unfinished_digest_exits_with_1(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", "r51", "--samples", "1"]) == 1
    assert main(["diff", str(begun), "r51"]) == 1
    assert main(["digest", str(begun)]) == 1
    assert "unknown preset 'r51'" in capsys.readouterr().err


def test_unusable_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-3", "many"):
        with pytest.raises(SystemExit) as refusal:
            main(["estimate", "tiny", "--samples", number])
        assert refusal.value.code == 2


def test_what_killed_writers_left_is_shown(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (begun / "lidar/stride8/.c.0.1.0.0.0.abc.partial").write_bytes(b"12345")
    (begun / "ledger/000001.lock").touch()  # which it held
    assert main(["show", str(begun)]) == 0
    assert "5 bytes in *.partial files" in capsys.readouterr().out
    fill(make_writer(begun))
    assert not list(begun.rglob("*.partial"))


def test_show_counts_damaged_ledger_entries_and_shows_the_rest(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "ledger/000001.json").write_text("{")
    assert main(["show", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert "damaged     1 of 3 ledger entries, first: ledger entry " in printed
    assert f"`feature-cache verify {finished} --repair` moves such entries aside; then" in printed
    assert "5 of 5 complete" in printed
    assert "absmax" in printed
    assert "sources     not known: ledger entries are damaged" in printed
    assert main(["show", str(finished), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert len(described["damaged_entries"]) == 1
    assert described["statistics"]["lidar/stride8"]["count"] == 3 * 32  # rows ant, bee, elk


@pytest.mark.parametrize("command", ["show", "verify", "digest"])
def test_a_path_where_nothing_is_is_answered_with_the_nearest_name(
    command: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(finished.with_name("finihsed.zarr"))]) == 1
    said = capsys.readouterr().err
    assert (
        "finihsed.zarr is not a feature store: there is nothing; did you mean finished.zarr?"
        in (said)
    )
    assert main([command, str(finished.parent / "x/y.zarr")]) == 1
    assert "there is nothing; `extract-features` makes one" in capsys.readouterr().err


def test_diff_with_neither_store_nor_preset_says_both(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(finished), str(finished.with_name("finishd.zarr"))]) == 1
    said = capsys.readouterr().err
    assert "finishd.zarr is not a feature store: there is nothing; did you mean finished" in said
    assert "unknown preset" in said


def test_diff_with_an_equal_preset_says_what_was_compared(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("from tests.cache.conftest import small_preset\n")
    assert main(["diff", str(finished), f"{tmp_path}/mine.py:small_preset"]) == 0
    assert capsys.readouterr().out == "no difference in the preset, which alone was compared\n"
