"""How many workers fit, what each gets, and that tasks which load are left a core."""

from typing import Any

import pytest

from shared.errors import ConfigError
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.cluster.worker_room import (
    Machine,
    WorkerNeeds,
    loading_tasks,
    require_loading_cores,
    worker_count,
    worker_needs,
)

GPUS: Machine = {"CPU": 96.0, "GPU": 8.0}
SMALL: Machine = {"CPU": 4.0, "GPU": 1.0}
CORES: Machine = {"CPU": 32.0}
LARGE: Machine = {"CPU": 64.0}
HEAD: Machine = {"CPU": 0.0}  # as docs/cluster.md has it


def options(**named: Any) -> RayOptions:
    nothing = dict.fromkeys(("gpus", "cores", "workers", "loading"))
    return RayOptions(address="auto", **{**nothing, **named})


@pytest.mark.parametrize(
    ("machines", "named", "needs"),
    [
        ([GPUS], {}, WorkerNeeds(6, 1.0)),
        ([GPUS, SMALL, CORES], {}, WorkerNeeds(2, 1.0)),
        ([GPUS], {"gpus": 0.5}, WorkerNeeds(3, 0.5)),
        ([GPUS], {"gpus": 0.0}, WorkerNeeds(90, 0.0)),
        ([CORES], {}, WorkerNeeds(30, 0.0)),
        ([CORES], {"gpus": 1.0, "cores": 5}, WorkerNeeds(5, 1.0)),  # a machine with one will come
        ([HEAD, GPUS], {}, WorkerNeeds(6, 1.0)),
        ([{"CPU": 0.0, "GPU": 1.0}, GPUS], {}, WorkerNeeds(6, 1.0)),
        ([HEAD, LARGE], {}, WorkerNeeds(60, 0.0)),
        ([{"CPU": 2.0}, LARGE], {}, WorkerNeeds(60, 0.0)),
        ([CORES, LARGE], {}, WorkerNeeds(30, 0.0)),
        ([{"CPU": 4.0}] * 8 + [LARGE], {}, WorkerNeeds(3, 0.0)),  # together a third of the cores
        ([{"CPU": 1.0}], {}, WorkerNeeds(1, 0.0)),
        ([GPUS], {"cores": 7}, WorkerNeeds(7, 1.0)),
    ],
)
def test_what_a_worker_gets(
    machines: list[Machine], named: dict[str, Any], needs: WorkerNeeds
) -> None:
    assert worker_needs(options(**named), machines) == needs


def test_a_head_without_cores_or_with_few_leaves_the_large_machine_to_one_worker() -> None:
    for head in (HEAD, {"CPU": 2.0}):
        machines = [head, LARGE]
        assert worker_count(worker_needs(options(), machines), options(), machines) == 1


@pytest.mark.parametrize(
    ("machines", "named", "asked"),
    [
        ([HEAD], {"gpus": 1.0}, "1 GPUs and cores"),
        ([CORES, SMALL], {"gpus": 2.0}, "2 GPUs and cores"),
        ([HEAD], {}, "cores"),
    ],
)
def test_cores_that_no_machine_tells_have_to_be_named(
    machines: list[Machine], named: dict[str, Any], asked: str
) -> None:
    with pytest.raises(ConfigError, match=rf"none of the .* now has {asked}, .*--cpus-per-worker"):
        worker_needs(options(**named), machines)


def test_one_and_a_half_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--gpus-per-worker 1\.5"):
        worker_needs(options(gpus=1.5), [GPUS])


@pytest.mark.parametrize(
    ("needs", "machine", "count"),
    [
        (WorkerNeeds(6, 1.0), GPUS, 8),
        (WorkerNeeds(6, 2.0), GPUS, 4),
        (WorkerNeeds(6, 0.5), GPUS, 16),
        (WorkerNeeds(1, 0.6), {"CPU": 8.0, "GPU": 2.0}, 2),  # a worker is on one GPU
        (WorkerNeeds(40, 1.0), GPUS, 2),
        (WorkerNeeds(6, 1.0), CORES, 0),
        (WorkerNeeds(6, 0.0), CORES, 5),
    ],
)
def test_how_many_workers_fit_a_machine(needs: WorkerNeeds, machine: Machine, count: int) -> None:
    assert needs.fitting(machine) == count


def test_as_many_workers_as_fit_at_least_one_or_as_many_as_named() -> None:
    needs = WorkerNeeds(6, 1.0)
    assert worker_count(needs, options(), [GPUS, GPUS, CORES]) == 16
    assert worker_count(needs, options(), [CORES]) == 1
    assert worker_count(needs, options(workers=64), [CORES]) == 64


@pytest.mark.parametrize(
    ("machines", "named", "tasks"),
    [
        ([GPUS], {}, 6),  # 48 cores are left for 8 workers
        ([GPUS, CORES, CORES], {}, 14),
        ([GPUS], {"loading": 3}, 3),
        ([GPUS], {"loading": 0}, 0),
        ([GPUS], {"workers": 64}, 1),  # they do not fit yet, but share what there is
    ],
)
def test_cores_that_no_worker_holds_load(
    machines: list[Machine], named: dict[str, Any], tasks: int
) -> None:
    chosen = options(**named)
    count = worker_count(WorkerNeeds(6, 1.0), chosen, machines)
    assert loading_tasks(WorkerNeeds(6, 1.0), chosen, machines, count) == tasks


def test_where_workers_hold_every_core_they_load_themselves() -> None:
    needs, machines = WorkerNeeds(1, 0.0), [{"CPU": 2.0}]
    assert loading_tasks(needs, options(), machines, 2) == 0
    with pytest.raises(ConfigError, match=r"--workers 1: .*take all 2 cores.*--workers 0"):
        require_loading_cores(needs, options(loading=1), machines)
    require_loading_cores(needs, options(loading=1, workers=1), machines)


def test_machines_to_come_may_have_cores_for_tasks_that_load() -> None:
    chosen, needs = options(gpus=1.0, cores=8, workers=16, loading=4), WorkerNeeds(8, 1.0)
    for machines in ([HEAD], [HEAD, {"CPU": 16.0, "GPU": 1.0}]):
        require_loading_cores(needs, chosen, machines)
        assert loading_tasks(needs, chosen, machines, 16) == 4
