"""Loading: in order, errors unchanged; whatever the loader does, the first signal ends the run."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache.format.layout import Shard
from shared.config.preset_catalogue import tiny
from shared.data.features import FrameFeatures
from shared.errors import DatasetError, InterruptedWorkError
from stage1_extract.backbones.live import RawBatch
from stage1_extract.extraction import fill_store as extraction
from stage1_extract.extraction.fill_store import fill_store, planned_batches
from stage1_extract.extraction.stages.raw_loader import LoadedBatch, RawLoader
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import samples_in_flight
from tests.cache.conftest import TOKENS, make_features, make_writer
from tests.stage1_extract.extraction.faulty_frames import FaultyFrames

SHARDS = [
    Shard(index=0, variant=0, start=0, tokens=TOKENS[:3]),
    Shard(index=1, variant=0, start=3, tokens=TOKENS[3:]),
    Shard(index=2, variant=1, start=0, tokens=TOKENS[:3]),
]

FRAMES = tuple(make_features(token).frame for token in TOKENS)


class Live:
    """Stands in for `LiveFeatures`."""

    def __init__(self, frames: FaultyFrames) -> None:
        self.raw = frames
        self.frozen = self
        self.device = torch.device("cpu")
        self.preset = tiny()

    def digests(self) -> dict[str, str]:
        return {}

    def maps(self, batch: RawBatch) -> dict[str, torch.Tensor]:
        rows: list[FrameFeatures] = [
            make_features(row.frame.token, variant=row.frame.variant) for row in batch.rows
        ]
        return {
            name: torch.from_numpy(np.stack([row.maps[name] for row in rows]))
            for name in rows[0].maps
        }


def loader(
    frames: FaultyFrames, batch_size: int, workers: int, *, is_padded: bool = False
) -> RawLoader:
    return RawLoader(
        Live(frames),  # type: ignore[arg-type]
        planned_batches(SHARDS, batch_size),
        batch_size=batch_size,
        workers=workers,
        is_padded=is_padded,
        rates=StageRates(dict.fromkeys(STAGES, 1)),
    )


def load(
    frames: FaultyFrames, batch_size: int, workers: int, *, is_padded: bool = False
) -> list[LoadedBatch]:
    with loader(frames, batch_size, workers, is_padded=is_padded) as raw:
        return list(raw.batches(meanwhile=lambda: None))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_none_spans_two_shards(workers: int) -> None:
    batches = load(FaultyFrames(FRAMES), 2, workers)
    assert [
        (batch.shard.index, [row.frame.token for row in batch.raw.rows]) for batch in batches
    ] == [
        (0, ["ant", "bee"]),
        (0, ["cow"]),
        (1, ["dog", "elk"]),
        (2, ["ant", "bee"]),
        (2, ["cow"]),
    ]
    images = torch.cat([batch.raw.images for batch in batches])  # type: ignore[misc]
    assert images[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert not multiprocessing.active_children()


def test_a_batch_of_one_sample_keeps_it_while_its_slot_is_used_again() -> None:
    batches = load(FaultyFrames(FRAMES), 1, 1)
    assert len(batches) > samples_in_flight(1, 1)
    images = torch.cat([batch.raw.images for batch in batches])  # type: ignore[misc]
    assert images[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_a_short_batch_is_padded_with_its_last_sample() -> None:
    first, short, *_ = load(FaultyFrames(FRAMES), 2, 0, is_padded=True)
    assert first.raw.images is not None
    assert short.raw.images is not None
    assert len(first.raw.images) == len(short.raw.images) == 2
    assert torch.equal(short.raw.images[0], short.raw.images[1])
    assert len(short.raw.rows) == 1


def test_claims_are_taken_only_when_a_process_has_time() -> None:
    taken = []

    def shards() -> Any:
        for shard in SHARDS:
            taken.append(shard.index)
            yield shard

    hanging = FaultyFrames(FRAMES, "hangs")
    live = Live(hanging)
    rates = StageRates(dict.fromkeys(STAGES, 1))
    planned = planned_batches(shards(), 1)
    with RawLoader(
        live,  # type: ignore[arg-type]
        planned,
        batch_size=1,
        workers=0,
        is_padded=False,
        rates=rates,
    ) as raw:
        batches = raw.batches(meanwhile=lambda: None)
        next(batches)
        time.sleep(0.2)
    assert taken in ([0], [0, 1])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_raised_as_it_is_after_the_batches_before_it(workers: int) -> None:
    before = []
    with loader(FaultyFrames(FRAMES, "raises"), 1, workers) as raw:
        batches = raw.batches(meanwhile=lambda: None)
        before += [next(batches).raw.rows[0].frame.token for _ in range(3)]
        with pytest.raises(DatasetError) as caught:
            next(batches)
    assert before == ["ant", "bee", "cow"]
    assert str(caught.value) == "image dog cannot be read"


def test_a_process_that_dies_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DatasetError, match=r"loads raw files died.*memory ran out.*--workers"):
        load(FaultyFrames(FRAMES, "dies"), 1, 1)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("workers", "signum"), [(0, signal.SIGTERM), (1, signal.SIGINT)])
def test_the_first_signal_ends_a_run_whose_loader_hangs(
    tmp_path: Path, workers: int, signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path / "store", rows_per_shard=1)
    live = Live(FaultyFrames(FRAMES, "hangs"))
    monkeypatch.setattr(extraction, "LiveFeatures", lambda *_: live)
    sent: list[float] = []

    def signal_when_three_are_written() -> None:
        deadline = time.monotonic() + 60
        while len(writer.pending()) > 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=signal_when_three_are_written)
    sender.start()
    with pytest.raises(InterruptedWorkError, match="3 shards were finished"):
        fill_store(writer, [], live, workers=workers)  # type: ignore[arg-type]
    assert time.monotonic() - sent[0] < 5  # within a second on an idle machine
    sender.join()
    assert not multiprocessing.active_children()
    assert not [*(tmp_path / "store").rglob("*.claim")]
