"""How many workers fit the machines of a cluster, and what each of them gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import ConfigError
from stage1_extract.cluster.ray_options import RayOptions

# On a CPU the backbones need so many cores to compute a sample while one task loads the next.
CPU_CORES_PER_LOADER = 16
# Of all cores; small machines that have less together only load, as the head of a cluster may.
SPARED = 0.2

Machine = Mapping[str, float]  # what Ray counts there: "CPU", "GPU"


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What Ray reserves for a worker.

    Args:
        cores: of a machine.
        gpus: of the same machine; may be a fraction.
    """

    cores: int
    gpus: float

    def fitting(self, machine: Machine) -> int:
        """Return how many workers a machine can hold."""
        by_cores, gpus = int(machine.get("CPU", 0) // self.cores), machine.get("GPU", 0)
        if not self.gpus:
            return by_cores
        by_gpus = int(gpus) * int(1 / self.gpus) if self.gpus < 1 else int(gpus / self.gpus)
        return min(by_cores, by_gpus)

    def __str__(self) -> str:
        return f"{self.cores} cores" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


def worker_needs(options: RayOptions, machines: Sequence[Machine]) -> WorkerNeeds:
    """Return what a worker gets: what the command line says, or what fits the machines.

    Without a word on cores, a worker gets half of the cores that a machine has for each of its
    GPUs, since writing a row takes about as long as loading it; without GPUs it gets all of the
    smallest machine but those that load. Machines that cannot hold a worker do not count.

    Args:
        options: of the command line.
        machines: of the cluster, at least one.

    Raises:
        ConfigError: if a worker would need GPUs that Ray cannot reserve, or if no machine says how
            many cores it should get.
    """
    gpus = options.gpus
    if gpus is None:
        gpus = 1.0 if any(machine.get("GPU", 0) for machine in machines) else 0.0
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-worker {gpus:g}: above 1 it has to be a whole number")
    cores = options.cores or (_cores_beside(gpus, machines) if gpus else _cores_alone(machines))
    if cores is None:
        asked = f"{gpus:g} GPUs and cores" if gpus else "cores"
        raise ConfigError(
            f"--ray: none of the {len(machines)} machines that are in the cluster now has {asked}, "
            "and a worker keeps the cores that it starts with; say with --cpus-per-worker how "
            "many those on the machines to come get: about half of a machine's cores for each of "
            "its GPUs, or without GPUs nearly all, or start such a machine first"
        )
    return WorkerNeeds(cores, gpus)


def _cores_beside(gpus: float, machines: Sequence[Machine]) -> int | None:
    """Return the cores of a worker on GPUs; None if no machine has GPUs and cores."""
    shares = [
        machine["CPU"] * gpus / machine["GPU"]
        for machine in machines
        if machine.get("GPU", 0) >= gpus and machine.get("CPU", 0)
    ]
    return max(1, int(min(shares) // 2)) if shares else None


def _cores_alone(machines: Sequence[Machine]) -> int | None:
    """Return the cores of a worker without GPUs; None if no machine has cores."""
    cores = sorted(int(machine.get("CPU", 0)) for machine in machines)
    spared = SPARED * sum(cores)
    while cores and cores[0] <= spared:
        spared -= cores.pop(0)
    return max(1, cores[0] - -(-cores[0] // CPU_CORES_PER_LOADER)) if cores else None


def worker_count(needs: WorkerNeeds, options: RayOptions, machines: Sequence[Machine]) -> int:
    """Return how many workers to have now, at least one."""
    return options.workers or max(1, sum(needs.fitting(machine) for machine in machines))


def loading_tasks(
    needs: WorkerNeeds, options: RayOptions, machines: Sequence[Machine], workers: int
) -> int:
    """Return how many tasks may load for each worker at a time; 0 if it is to load itself."""
    if options.loading is not None:
        return options.loading
    left = _cores_left(needs, machines, workers)
    return max(1, left // workers) if left else 0


def require_loading_cores(
    needs: WorkerNeeds, options: RayOptions, machines: Sequence[Machine]
) -> None:
    """Make sure that workers leave a core for the tasks that the command line asks for.

    Where no machine holds a worker yet, those to come may have cores for both.

    Raises:
        ConfigError: if there is none.
    """
    workers = worker_count(needs, options, machines)
    is_held = any(needs.fitting(machine) for machine in machines)
    if options.loading and is_held and not _cores_left(needs, machines, workers):
        cores = sum(machine.get("CPU", 0) for machine in machines)
        raise ConfigError(
            f"--workers {options.loading}: the workers on GPUs or CPUs take all {cores:g} cores of "
            "the cluster, and none is left for tasks that load. Give fewer --cpus-per-worker or "
            "--ray-workers, or --workers 0 to load in the workers"
        )


def _cores_left(needs: WorkerNeeds, machines: Sequence[Machine], workers: int) -> int:
    """Return how many cores no worker holds."""
    cores = sum(machine.get("CPU", 0) for machine in machines)
    held = needs.cores * min(workers, sum(needs.fitting(machine) for machine in machines))
    return int(cores - held)
