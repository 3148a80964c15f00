"""Measure how large the conditions of MoME and MultiCorrupt are as deltas, over full stores.

    python -m benchmarks.speed.delta_bytes ../shared/nuscenes_real
    python -m benchmarks.speed.delta_bytes ../shared/nuscenes_real --conditions beams-4-even fog-3

Extracts the complete frames of mini_val of a partial v1.0-mini with r50_800x320, then these
conditions beside them, in runs/deltas (which git ignores), and writes
benchmarks/results/delta_bytes.json. What is there already is not extracted again. Weights are
seeded; how well features compress depends on them, on both sides of the ratio.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import folder_bytes, print_table
from cache.delta.delta_inspection import describe_delta
from cache.delta.delta_metadata import is_delta
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from shared.process.command import command_parser
from stage1_extract.__main__ import main as extract_features
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE

OUT, RESULTS = Path("runs/deltas"), Path("benchmarks/results/delta_bytes.json")
PRESET = "r50_800x320"
DATASET = ("--version", "v1.0-mini", "--split", "mini_val", "--existing-only")
# Names in the catalogue of what the two sources evaluate, without snow, which is not built.
MOME = (
    "beams-4-elevation",
    "lidar-drop",
    "fov-60",
    "objects-object-50",
    "cameras-drop",
    "occlusion",
)
MULTICORRUPT = tuple(
    f"{family}-{severity}"
    for family, severities in {
        "beams": ("16-even", "8-even", "4-even"),
        "points": ("70", "80", "90"),
        "lidar-shift": ("1", "2", "3"),
        "brightness": ("1", "2", "3"),
        "dark": ("1", "2", "3"),
        "cameras": ("20", "40", "60"),
        "blur": ("1", "2", "3"),
        "lidar-blur": ("1", "2", "3"),
        "fog": ("1", "2", "3"),
        "haze-ours": ("1", "2", "3"),
    }.items()
    for severity in severities
)
GOAL = 0.65


def extract(root: Path, store: Path, *options: str) -> None:
    """Extract a store, or finish it.

    Raises:
        RuntimeError: if the extraction fails; it has said why.
    """
    command = [PRESET, "--nuscenes", str(root), "--store", str(store), *options]
    if extract_features(command):
        raise RuntimeError(f"extract-features {' '.join(command)} failed, see above")


def measure(root: Path, name: str, base: Path, base_bytes: int) -> dict[str, Any]:
    """Return the bytes of a condition's delta, extracting it if needed."""
    store = OUT / f"{name}.zarr"
    place = as_store_path(store)
    if not (is_delta(place) and describe_delta(place)["is_complete"]):
        extract(root, store, "--condition", name, "--base", str(base))
    described = describe_delta(place)
    return {
        "bytes": folder_bytes(store),
        "over_full": round(folder_bytes(store) / base_bytes, 4),
        "rows": {part: entry["rows"]["total"] for part, entry in described["parts"].items()},
    }


def mean_over_full(measured: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """Return the mean ratio of these conditions; None unless all are measured."""
    if any(name not in measured for name in names):
        return None
    return round(sum(measured[name]["over_full"] for name in names) / len(names), 4)


def main() -> int:
    """Measure, print a table, write the JSON."""
    parser = command_parser(__doc__)
    parser.add_argument("root", type=Path, help="partial v1.0-mini")
    both = tuple(dict.fromkeys((*MOME, *MULTICORRUPT)))
    parser.add_argument("--conditions", nargs="+", default=both, choices=list(CATALOGUE))
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    base = OUT / "base.zarr"
    extract(args.root, base, *DATASET)
    samples, base_bytes = len(CachedFeatures(base).tokens), folder_bytes(base)
    measured: dict[str, Any] = {}
    for name in args.conditions:
        measured[name] = measure(args.root, name, base, base_bytes)
        means = {
            "MoME's six": mean_over_full(measured, MOME),
            "MultiCorrupt's, those built": mean_over_full(measured, MULTICORRUPT),
            "both": mean_over_full(measured, both),
        }
        document = {
            "preset": PRESET,
            "weights": "seeded",
            "samples": samples,
            "base_bytes": base_bytes,
            "goal": GOAL,
            "mean_over_full": means,
            "conditions": measured,
        }
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")  # each, since it takes an hour
    rows = [
        (name, f"{entry['over_full']:.3f} of the full store, {entry['bytes'] / 1e6:.2f} MB")
        for name, entry in measured.items()
    ]
    rows += [(f"mean of {name}", f"{mean}") for name, mean in means.items() if mean is not None]
    print_table(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
