"""How near honest stores come to what `check-parity` allows, with the noise of a GPU simulated.

    python -m benchmarks.validation.parity_margins

Every run has a synthetic set and noise of its own, and compares a store as a GPU would have written
it with live maps: once with seeded weights, once with the trained ones of `tiny`, backbones and
head. Writes benchmarks/results/parity_margins.json and prints, per kind of quantity, the range of
the noise and the largest difference as a multiple of it. The factors of `parity_tolerances` were
chosen by seeds below 300.
"""

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.validation.parity_margins.simulated_worlds import (
    OTHER_GPU,
    SAME_GPU,
    on_cpu,
    stored,
)
from shared.checkpoint.shipped_checkpoint import TINY_FILE
from shared.config.preset_catalogue import tiny
from shared.process.command import command_parser, run_command
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.parity.parity_report import ParityRow

RESULTS = Path("benchmarks/results/parity_margins.json")
WEIGHTS = {"seeded": None, "trained": TINY_FILE}
WORLDS = {"same GPU": SAME_GPU, "another GPU": OTHER_GPU}
FIRST_SEED = 300  # of the synthetic sets
SAMPLES = 4
Margins = dict[str, list[tuple[float, float, float]]]  # kind -> (noise, difference, allowed)


def compare(folder: Path, seed: int, weights: Path | None) -> Iterator[ParityRow]:
    """Yield the rows of honest stores of a synthetic set of its own, in every world."""
    root = folder / str(seed)
    if not root.exists():
        config = SyntheticConfig(seed=seed, scenes_train=1, scenes_val=0, samples_per_scene=SAMPLES)
        write_synthetic_nuscenes(root, config, workers=1)
    records = read_tables(root, "v1.0-mini", "mini_train")
    live = on_cpu(LiveFeatures(records, frozen_backbones(tiny(), weights)[0]))
    for world in WORLDS.values():
        source = world.run(live)
        yield from world.compare(
            source, stored(source), detector_samples=SAMPLES, checkpoint=weights
        )


def margins(rows: Iterable[ParityRow]) -> Margins:
    """Return noise, difference and tolerance of every row that has a noise, by kind."""
    result: Margins = defaultdict(list)
    for row in rows:
        if row.noise is not None:
            result[kind(row)].append((row.noise, row.difference, row.allowed))
    return result


def kind(row: ParityRow) -> str:
    """Return which quantities share a line: all maps' means, all outputs, and so on."""
    words = row.quantity.split()
    if "/" not in words[0]:  # not a map
        return f"{words[0]}, {row.unit}"
    what = f", {words[-1]}" if len(words) > 1 else ""
    return f"maps{what}, {row.unit}"


def main(argv: list[str] | None = None) -> int:
    """Compare, print the table, and keep it."""
    parser = command_parser(__doc__, "python -m benchmarks.validation.parity_margins")
    parser.add_argument("--runs", type=int, default=24, help="of either weights, default 24")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="default 300")
    args = parser.parse_args(argv)

    def work() -> None:
        document: dict[str, Any] = {
            "runs": args.runs,
            "first_seed": args.first_seed,
            "kinds": {},
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, weights in WEIGHTS.items():
                seeds = range(args.first_seed, args.first_seed + args.runs)
                rows = [row for seed in seeds for row in compare(Path(folder), seed, weights)]
                document["kinds"][name] = summary(margins(rows))
                document[f"refused, {name}"] = [row.document() for row in rows if not row.passed]
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        print(as_table(document))

    return run_command(work)


def summary(kinds: Margins) -> dict[str, dict[str, float]]:
    """Return, by kind, the range of the noise and how near the worst row came."""
    return {
        name: {
            "least noise": min(noise for noise, _, _ in triples),
            "most noise": max(noise for noise, _, _ in triples),
            "difference / noise": max(
                (difference / noise for noise, difference, _ in triples if noise), default=0.0
            ),
            "difference / allowed": max(
                (difference / allowed for _, difference, allowed in triples if allowed), default=0.0
            ),
        }
        for name, triples in kinds.items()
    }


def as_table(document: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    header = ["quantity", "weights", "noise", "difference / noise", "difference / allowed"]
    rows = [
        [
            name,
            weights,
            f"{line['least noise']:.1e} to {line['most noise']:.1e}",
            f"{line['difference / noise']:.2f}",
            f"{line['difference / allowed']:.2f}",
        ]
        for weights, kinds in document["kinds"].items()
        for name, line in kinds.items()
    ]
    return table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
