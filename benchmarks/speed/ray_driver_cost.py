"""What a Ray driver costs per shard, and how many workers it can keep busy.

    python -m benchmarks.speed.ray_driver_cost         # two minutes on two cores, 3 GB of memory
    python -m benchmarks.speed.ray_driver_cost --json FILE --shards 2000

The driver is the real one, on an empty store of 28,130 x 8 rows of r50_800x320. Its 64 workers are
four processes that answer at once, so that nothing but handing out is measured, three shards per
worker in flight as in a real run. The thread that hands out is the limit: its CPU time per shard,
turned round, is how many shards per second a driver can hand out at most.

Samples loaded in Ray tasks are timed as well: how long the worker that asked is busy with each.
"""

import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.util.metrics
import torch

from benchmarks.speed.store.sample_rows import new_store, synthetic_samples
from cache.writer import StoreWriter
from shared.config.preset_catalogue import r50_800x320
from shared.data.features import NO_ANNOTATIONS, Frame
from shared.process.command import command_parser
from shared.process.interrupts import Interrupts
from stage1_extract.backbones.live import join_raw
from stage1_extract.cluster.hand_out import HandOut
from stage1_extract.cluster.loading_tasks import LoadingTasks
from stage1_extract.cluster.ray_driver import RayDriver
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.cluster.ray_session import DashboardMeters
from stage1_extract.cluster.ray_worker import SHARDS_AT_A_TIME, StartedWorker
from stage1_extract.cluster.worker_crew import CrewMember, WorkerCrew
from stage1_extract.cluster.worker_room import WorkerNeeds
from stage1_extract.preprocessing.raw_frames import RawFrame
from stage1_extract.preprocessing.voxels import Voxels

RESULTS = Path("benchmarks/results/ray_driver.json")
SAMPLES, VARIANTS = 28_130, 8
WORKERS, PROCESSES = 64, 4
OBJECT_STORE_BYTES = 2**30
LOADED, VOXELS = 24, 80_000
# Rows per second of a worker: r50_800x320 by one H200 (LOG.md), by two CPU cores (docs/speed.md).
RATES = {"backbones of an H200 alone": 175.0, "two CPU cores": 0.43}


class Answering:
    """Extracts a shard in no time."""

    def extract(self, _: int) -> dict[str, tuple[float, int]]:
        """Return as `RayWorker.extract` does."""
        return dict.fromkeys(("loading", "computing", "writing"), (1.0, 10))


class MadeUpFrames:
    """Stands in for `RawFrames`: samples of the size that r50_800x320 has."""

    def __getitem__(self, place: tuple[int, int]) -> RawFrame:
        frame = Frame(
            token=str(place),
            scene="scene",
            timestamp_us=0,
            variant=0,
            img_from_lidar=np.zeros((6, 4, 4)),
            ego_from_lidar=np.eye(4),
            global_from_ego=np.eye(4),
            annotations=NO_ANNOTATIONS,
        )
        voxels = Voxels(
            means=torch.ones(VOXELS, 5), coordinates=torch.zeros(VOXELS, 3, dtype=torch.int32)
        )
        pixels = torch.ones(6, 3, 320, 800, dtype=torch.uint8)
        return RawFrame(frame=frame, images=pixels, voxels=voxels)


def crew_of(actors: list[Any], members: int) -> WorkerCrew:
    """Return workers that share a few processes."""
    options = RayOptions(address="local", gpus=None, cores=1, workers=members, loading=None)
    job: Any = None
    crew = WorkerCrew(ray, job, None, WorkerNeeds(1, 0.0), options)
    crew.is_store_open = True
    for number in range(members):
        started = StartedWorker(place="here", writers=1, about="")
        actor = actors[number % len(actors)]
        crew.members.append(CrewMember(f"extract-{number}", actor, 1, started))
    return crew


def hand_out(store: Path, actors: list[Any], *, members: int, claims: bool, shards: int) -> Any:
    """Run the driver over a store; return what it took."""
    began = time.perf_counter()
    driver = RayDriver(StoreWriter(store), crew_of(actors, members), DashboardMeters(ray))
    start_s = time.perf_counter() - began
    driver._claims.is_alone = not claims
    driver._work = HandOut(islice(driver._work._fresh, shards))
    began, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
    with Interrupts() as interrupts:
        driver.run(interrupts)
    taken = driver._finished
    return {
        "workers": members,
        "claims": claims,
        "shards": taken,
        "start_s": round(start_s, 2),
        "wall_ms_per_shard": round((time.perf_counter() - began) / taken * 1e3, 3),
        "process_cpu_ms_per_shard": round((time.process_time() - cpu) / taken * 1e3, 3),
        "thread_cpu_ms_per_shard": round((time.thread_time() - thread) / taken * 1e3, 3),
    }


def load_in_tasks() -> dict[str, float]:
    """Time what a worker does for a sample that a task has loaded, besides waiting."""
    tasks = LoadingTasks([ray.put(MadeUpFrames())])
    tasks.load((0, 0)).result()  # starts a process
    ask_ms, take_ms = [], []
    for number in range(LOADED):
        began = time.thread_time()
        loading = tasks.load((0, number))
        ask_ms.append((time.thread_time() - began) * 1e3)
        frame, _ = loading.result()
        began = time.thread_time()
        join_raw([frame, frame])  # copies both, as for a GPU
        take_ms.append((time.thread_time() - began) * 1e3)
    assert frame.images is not None
    assert frame.voxels is not None
    return {
        "megabytes": (frame.images.nbytes + frame.voxels.means.nbytes) / 1e6,
        "ask_ms": round(statistics.median(ask_ms), 3),
        "join_two_ms": round(statistics.median(take_ms), 3),
    }


def extrapolated(cost_ms: float, rows_per_shard: int) -> dict[str, Any]:
    """Return how many workers a driver can serve at some rates of a worker."""
    per_second = 1e3 / cost_ms
    return {
        "shards_per_second": round(per_second),
        "workers_served": {
            name: round(per_second * rows_per_shard / rate) for name, rate in RATES.items()
        },
    }


def measure(shards: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.zarr"
        began = time.perf_counter()
        writer = new_store(store, r50_800x320(), synthetic_samples(SAMPLES), variants=VARIANTS)
        created_s, slots = time.perf_counter() - began, writer.store.layout.slots
        actors = [
            ray.remote(Answering)
            .options(num_cpus=0, max_concurrency=WORKERS // PROCESSES * SHARDS_AT_A_TIME)
            .remote()
            for _ in range(PROCESSES)
        ]
        ray.get([actor.extract.remote(0) for actor in actors])
        runs = [
            hand_out(store, actors, members=members, claims=claims, shards=shards)
            for members, claims in ((2, True), (WORKERS, True), (WORKERS, False))
        ]
    return {
        "rows": SAMPLES * VARIANTS,
        "rows_per_shard": slots,
        "all_shards": writer.store.layout.shard_count,
        "create_store_s": round(created_s, 2),
        "driver": runs,
        "extrapolated": extrapolated(runs[1]["thread_cpu_ms_per_shard"], slots),
        "extrapolated_by_wall_time": extrapolated(runs[1]["wall_ms_per_shard"], slots),
        "loading_tasks": load_in_tasks(),
        "versions": {"ray": ray.__version__, "torch": torch.__version__},
    }


def main() -> None:
    """Measure, print and keep."""
    parser = command_parser(__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    parser.add_argument("--shards", type=int, default=10_000, help="to hand out in each run")
    args = parser.parse_args()
    ray.init(
        address="local", num_cpus=2, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False
    )
    try:
        document = measure(args.shards)
    finally:
        ray.shutdown()
    text = json.dumps(document, indent=1)
    args.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
