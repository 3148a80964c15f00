"""Plot samples: six images and the BEV with true and predicted boxes, and a panel of features.

    plot-samples /data/r50.zarr --nuscenes /data/nuscenes --out pictures
    plot-samples /data/r50.zarr --nuscenes /data/nuscenes --out pictures --results results_nusc.json
    plot-samples /data/r50.zarr --nuscenes /data/nuscenes --out pictures
        --sensor-weights runs/a/sensor_weights/sensor_weights.npz
    plot-samples /data/r50.zarr --nuscenes /data/nuscenes --out pictures --condition beams-4-even

Writes <token>.png and <token>_features.png per sample; with --sensor-weights (a file that
`plot-sensor-weights` writes) also AQR's weights on the photos, as <token>_<condition>.png; with
--condition also the sensors under a condition below the recorded ones, as <token>_<condition>.png.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    import numpy as np
    from numpy.typing import NDArray
    from pyquaternion import Quaternion

    from cache.reader import CachedFeatures
    from cache.storage.location import store_path
    from shared.data.features import Frame
    from shared.errors import DatasetError
    from shared.process.even_samples import evenly_spaced
    from shared.process.folder_lock import make_folder
    from shared.process.number_options import real_number, whole_number
    from stage1_extract.conditions.apply_condition import changes_of
    from stage1_extract.conditions.catalogue.condition_catalogue import load_condition
    from stage1_extract.conditions.condition import Condition
    from stage1_extract.nuscenes.dataset_options import (
        OF_STORE,
        add_dataset_options,
        chosen_dataset,
    )
    from stage1_extract.nuscenes.records import SampleRecord
    from stage1_extract.plots.plot_condition import plot_condition
    from stage1_extract.plots.plot_features import plot_features
    from stage1_extract.plots.plot_scene import (
        PREDICTED_COLOUR,
        TRUE_COLOUR,
        PlottedBoxes,
        plot_scene,
    )
    from stage1_extract.plots.plot_weights_on_photos import (
        plot_weights_on_photos,
        read_sensor_weights,
    )

log = logging.getLogger(__name__)


def read_results(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of a nuScenes result JSON by sample token.

    Raises:
        DatasetError: if it is not such a file.
    """
    try:
        results = json.loads(path.read_text())["results"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is not a nuScenes result file ({error}); evaluate-stage2 writes one"
        ) from error
    if not isinstance(results, dict) or not results:
        came = "empty" if results in ({}, []) else f"a {type(results).__name__}"
        raise DatasetError(
            f"{path} is not a nuScenes result file: its results are {came}, expected lists of "
            "boxes by sample token; evaluate-stage2 writes them"
        )
    return results


def boxes_in_lidar(entries: list[dict[str, Any]], frame: Frame) -> NDArray[np.float64]:
    """Return nuScenes result entries as (n, 9) boxes in the LiDAR frame; velocities stay 0."""
    lidar_from_global = np.linalg.inv(frame.global_from_ego @ frame.ego_from_lidar)
    boxes = np.zeros((len(entries), 9))
    for box, entry in zip(boxes, entries, strict=True):
        heading = Quaternion(entry["rotation"]).rotation_matrix[:, 0]
        box[:3] = lidar_from_global[:3, :3] @ entry["translation"] + lidar_from_global[:3, 3]
        box[3:6] = np.asarray(entry["size"])[[1, 0, 2]]
        turned = lidar_from_global[:3, :3] @ heading
        box[6] = np.arctan2(turned[1], turned[0])
    return boxes


def plot_samples(
    store: CachedFeatures,
    records: list[SampleRecord],
    results: dict[str, list[dict[str, Any]]],
    out: Path,
    *,
    samples: int,
    min_score: float,
) -> None:
    """Plot a few samples, spread evenly over the store."""
    make_folder(out)
    by_token = {record.token: record for record in records}
    for i in evenly_spaced(len(store.tokens), samples):
        (features,) = store.read([store.tokens[i]])
        token = features.frame.token
        if token not in by_token:
            raise DatasetError(f"sample {token} of {store.path} is not among the records read")
        if results and token not in results:
            raise DatasetError(
                f"sample {token} of {store.path} has no entry in --results; name the results of an "
                "evaluation of this store"
            )
        truth = features.frame.annotations
        shown = truth.labels >= 0
        entries = [box for box in results.get(token, []) if box["detection_score"] >= min_score]
        true_boxes = truth.boxes_lidar[shown].astype(np.float64)
        kinds = [PlottedBoxes(boxes_lidar=true_boxes, colour=TRUE_COLOUR)]
        if results:
            predicted = boxes_in_lidar(entries, features.frame)
            kinds.append(PlottedBoxes(boxes_lidar=predicted, colour=PREDICTED_COLOUR))
        plot_scene(by_token[token], kinds, out / f"{token}.png")
        plot_features(features, out / f"{token}_features.png")
        log.info("%s", out / f"{token}.png")


def plot_under_condition(
    store: CachedFeatures,
    records: list[SampleRecord],
    condition: Condition,
    out: Path,
    *,
    samples: int,
) -> None:
    """Plot the same samples under a condition, as <token>_<condition>.png."""
    changes = {change.record.token: change for change in changes_of(condition, records)}
    by_token = {record.token: record for record in records}
    for i in evenly_spaced(len(store.tokens), samples):
        path = out / f"{store.tokens[i]}_{condition.name}.png"
        plot_condition(changes[store.tokens[i]], by_token, path)
        log.info("%s", path)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and start the work."""
    parser = command_parser(__doc__, "plot-samples")
    parser.add_argument("store", type=store_path, help="feature store")
    add_dataset_options(parser, **OF_STORE)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--results", type=Path, help="results_nusc.json of evaluate-stage2")
    parser.add_argument("--sensor-weights", type=Path, help=".npz file of plot-sensor-weights")
    parser.add_argument("--condition", help="name of a condition, or file.py:function")
    parser.add_argument(
        "--samples", type=whole_number(1), default=2, help="samples to plot (default 2)"
    )
    parser.add_argument(
        "--min-score",
        type=real_number(0, 1),
        default=0.25,
        help="least score of predicted boxes (default 0.25)",
    )
    args = parser.parse_args(argv)

    def work() -> None:
        condition = load_condition(args.condition) if args.condition else None
        store = CachedFeatures(args.store)
        records = chosen_dataset(args, store.provenance.dataset).read()
        results = read_results(args.results) if args.results else {}
        weights = read_sensor_weights(args.sensor_weights) if args.sensor_weights else None
        plot_samples(
            store, records, results, args.out, samples=args.samples, min_score=args.min_score
        )
        if condition is not None:
            plot_under_condition(store, records, condition, args.out, samples=args.samples)
        if weights is not None:
            plot_weights_on_photos(records, weights, args.out, samples=args.samples)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
