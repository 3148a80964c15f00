"""Write a small synthetic nuScenes v1.0-mini: six cameras, LiDAR keyframes and sweeps, true boxes.

    python -m shared.synthetic_nuscenes /data/synthetic
    python -m shared.synthetic_nuscenes /data/synthetic --seed 1 --scenes-train 4 --scenes-val 2

The same options give the same bytes. A complete OUT is left as it is, an unfinished OUT is written
again, and anything else in OUT is refused.
"""

import sys
from pathlib import Path

from shared.process.command import command_parser, run_command
from shared.process.number_options import whole_number
from shared.synthetic_nuscenes.world.synthetic_config import LIMITS, SyntheticConfig
from shared.synthetic_nuscenes.write import write_synthetic_nuscenes

OPTIONS = {
    "seed": "every random number follows from it",
    "scenes_train": "scenes of split mini_train, 1 to 8",
    "scenes_val": "scenes of split mini_val, 0 to 2",
    "samples_per_scene": "keyframes per scene, 0.5 s apart",
    "sweep_rate_hz": "LiDAR revolutions per second, even, up to 20",
    "azimuth_steps": "LiDAR firings per revolution",
}


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the data set.

    Returns:
        Exit status, see `run_command`.
    """
    parser = command_parser(__doc__, "python -m shared.synthetic_nuscenes")
    parser.add_argument("out", type=Path, metavar="OUT", help="data root to write")
    parser.add_argument("--workers", type=whole_number(1), help="processes (one per core)")
    defaults = SyntheticConfig()
    for name, meaning in OPTIONS.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=whole_number(*LIMITS[name]),
            default=getattr(defaults, name),
            help=f"{meaning} (%(default)s)",
        )
    options = vars(parser.parse_args(argv))
    out, workers = options.pop("out"), options.pop("workers")

    def work() -> None:
        write_synthetic_nuscenes(out, SyntheticConfig(**options), workers=workers)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
