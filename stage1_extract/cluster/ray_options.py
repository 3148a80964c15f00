"""The options of an extraction on a Ray cluster."""

import argparse
from dataclasses import dataclass
from importlib.util import find_spec

from shared.errors import ConfigError
from shared.process.number_options import real_number, whole_number

THIS_MACHINE = "local"  # Ray's word for a cluster of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class RayOptions:
    """How an extraction uses a cluster.

    Args:
        address: of the cluster, as Ray takes it.
        gpus, cores: of a worker; None for what fits the machines.
        workers: to ask for; None for as many as the machines can hold.
        loading: tasks that load raw files for a worker at a time; 0 loads in the worker itself,
            None as many as cores are left.
    """

    address: str
    gpus: float | None
    cores: int | None
    workers: int | None
    loading: int | None


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_argument_group(
        "on a Ray cluster, see docs/cluster.md",
        "workers come and go while it runs, and --workers are tasks that load raw files for each "
        "of them, on any machine with free cores (default as many as there are cores left)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const=THIS_MACHINE,
        metavar="ADDRESS",
        help="hand the work to this cluster: host:port, or auto for the one that runs on this "
        "machine; without ADDRESS, start Ray on this machine",
    )
    group.add_argument(
        "--gpus-per-worker",
        type=real_number(0),
        help="GPUs of a worker, 0.5 for two workers on each (default 1 if the cluster has any now, "
        "else 0: workers compute on CPUs)",
    )
    group.add_argument(
        "--cpus-per-worker",
        type=whole_number(1),
        help="cores of a worker, which compress and write, and without GPUs compute (default half "
        "of the cores that there are for each GPU; without GPUs nearly all of a machine)",
    )
    group.add_argument(
        "--ray-workers",
        type=whole_number(1),
        help="workers to ask for (default as many as fit the machines of the cluster); a cluster "
        "that grows by itself starts machines for them",
    )


def ray_options(args: argparse.Namespace) -> RayOptions | None:
    """Return how to use the cluster that the command line names; None if it names none.

    Raises:
        ConfigError: if an option needs --ray or contradicts it, or Ray is not installed.
    """
    of_ray = {
        "--gpus-per-worker": args.gpus_per_worker,
        "--cpus-per-worker": args.cpus_per_worker,
        "--ray-workers": args.ray_workers,
    }
    if args.ray is None:
        named = [option for option, value in of_ray.items() if value is not None]
        if named:
            raise ConfigError(f"{', '.join(named)}: only together with --ray")
        return None
    if find_spec("ray") is None:
        raise ConfigError(
            "--ray needs Ray, which is not installed: pip install 'frozen-cmt[extract,ray]', on "
            "every machine of the cluster"
        )
    if args.slice is not None:
        raise ConfigError("--ray hands out all shards itself; leave out --slice")
    return RayOptions(
        address=args.ray,
        gpus=args.gpus_per_worker,
        cores=args.cpus_per_worker,
        workers=args.ray_workers,
        loading=args.workers,
    )
