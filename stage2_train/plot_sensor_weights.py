"""Plot AQR's sensor weights: maps of some samples, and weights by class and by distance.

    plot-sensor-weights /data/val.zarr runs/a --out runs/a/sensor_weights

Each with all sensors, without the LiDAR, without cameras and without the front camera. Writes
<token>.png for some samples, detections.png over all samples evaluated, and sensor_weights.npz,
which `plot-samples --sensor-weights` plots over the photos.
"""

import logging
import sys
from pathlib import Path

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from cache.reader import CachedFeatures
    from cache.storage.location import store_path
    from shared.checkpoint.shipped_checkpoint import checkpoint_path
    from shared.data.feature_store import FeatureStore
    from shared.errors import ConfigError
    from shared.model.detector import CmtDetector
    from shared.process.autocast import allow_tf32
    from shared.process.even_samples import evenly_spaced
    from shared.process.folder_lock import make_folder
    from shared.process.number_options import real_number, whole_number
    from stage2_train.data.loader import default_workers
    from stage2_train.data.loading_options import WORKERS_HELP
    from stage2_train.evaluation.sensor_weights_table import sensor_weights_table
    from stage2_train.run.trained_detector import load_detector

WEIGHTS = "sensor_weights.npz"

log = logging.getLogger(__name__)


def plot_sensor_weights(
    store: FeatureStore,
    detector: CmtDetector,
    out: Path,
    *,
    samples: int,
    plots: int,
    min_score: float,
    workers: int = 0,
) -> None:
    """Plot the sensor weights of samples spread evenly over the store.

    Args:
        store: complete, with null features.
        detector: with AQR.
        out: folder for the pictures.
        samples: how many to evaluate.
        plots: how many of these get their own picture.
        min_score: from which a query counts as detecting.
        workers: loader threads.

    Raises:
        ConfigError: if there is no AQR or no matplotlib.
        CacheError: if the store is incomplete, or has no null features.
    """
    try:
        from stage2_train.plots.sensor_weights_plots import plot_detecting_queries, plot_weight_maps
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install matplotlib") from error
    allow_tf32(False)  # as evaluations do
    store.require_complete()
    tokens = [store.tokens[i] for i in evenly_spaced(len(store.tokens), samples)]
    table = sensor_weights_table(detector, store, tokens, workers=workers)
    make_folder(out)
    table.save(out / WEIGHTS)
    plot_detecting_queries(table, min_score, out / "detections.png")
    for sample in evenly_spaced(len(tokens), plots):
        path = out / f"{tokens[sample]}.png"
        plot_weight_maps(table, sample, store.preset, path)
        log.info("%s", path)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "plot-sensor-weights")
    parser.add_argument("store", type=store_path, help="complete feature store")
    parser.add_argument(
        "run", type=checkpoint_path, help="run folder or checkpoint of train-stage2, with AQR"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument(
        "--samples", type=whole_number(1), default=200, help="samples to evaluate (default 200)"
    )
    parser.add_argument(
        "--plot", type=whole_number(0), default=2, help="samples to plot (default 2)"
    )
    parser.add_argument(
        "--min-score",
        type=real_number(0, 1),
        default=0.25,
        help="of a detecting query (default 0.25)",
    )
    parser.add_argument("--workers", type=whole_number(0), help=WORKERS_HELP % ("", ""))
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        plot_sensor_weights(
            store,
            load_detector(args.run, store),
            args.out,
            samples=args.samples,
            plots=args.plot,
            min_score=args.min_score,
            workers=default_workers() if args.workers is None else args.workers,
        )
        print(args.out)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
