"""How many workers fit the machines of a cluster, and what each of them gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import ConfigError
from stage1_extract.cluster.ray_options import RayOptions

# On a CPU the backbones need so many cores to compute a sample while one task loads the next.
CPU_CORES_PER_LOADER = 16

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
    smallest machine but those that load.

    Args:
        options: of the command line.
        machines: of the cluster, at least one.

    Raises:
        ConfigError: if a worker would need GPUs that Ray cannot reserve.
    """
    gpus = options.gpus
    if gpus is None:
        gpus = 1.0 if any(machine.get("GPU", 0) for machine in machines) else 0.0
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-worker {gpus:g}: above 1 it has to be a whole number")
    if options.cores is not None:
        return WorkerNeeds(options.cores, gpus)
    if not gpus:
        smallest = int(min(machine.get("CPU", 0) for machine in machines))
        loaders = -(-smallest // CPU_CORES_PER_LOADER)
        return WorkerNeeds(max(1, smallest - loaders), gpus)
    shares = [
        machine.get("CPU", 0) * gpus / machine["GPU"]
        for machine in machines
        if machine.get("GPU", 0) >= gpus
    ]
    return WorkerNeeds(max(1, int(min(shares, default=2) // 2)), gpus)


def worker_count(needs: WorkerNeeds, options: RayOptions, machines: Sequence[Machine]) -> int:
    """Return how many workers to have now, at least one."""
    return options.workers or max(1, sum(needs.fitting(machine) for machine in machines))


def loading_tasks(
    needs: WorkerNeeds, options: RayOptions, machines: Sequence[Machine], workers: int
) -> int:
    """Return how many tasks may load for each worker at a time; 0 if it is to load itself.

    Raises:
        ConfigError: if the command line asks for tasks, and the workers leave no core for them.
    """
    cores = sum(machine.get("CPU", 0) for machine in machines)
    held = needs.cores * min(workers, sum(needs.fitting(machine) for machine in machines))
    left = int(cores - held)
    if options.loading is None:
        return max(1, left // workers) if left else 0
    if options.loading and not left:
        raise ConfigError(
            f"--workers {options.loading}: the workers on GPUs or CPUs take all {cores:g} cores of "
            "the cluster, and none is left for tasks that load. Give fewer --cpus-per-worker or "
            "--ray-workers, or --workers 0 to load in the workers"
        )
    return options.loading
