"""Which tiles the kernels of biased attention are fastest with: what fills `kernel_sizes`.

    python -m benchmarks.speed.tile_sizes                            # about 3 minutes on a GPU
    python -m benchmarks.speed.tile_sizes --presets vov_1600x640 --samples 4 --out /tmp/tiles.json
    TRITON_INTERPRET=1 python -m benchmarks.speed.tile_sizes --presets tiny --queries 40

The last line is a rehearsal in Triton's interpreter, of two tiles only and in float16 (products of
bfloat16 are wrong there). On a GPU: bfloat16, 8 heads of 32, 900 + 830 queries. Each of the three
kernels is tried with every tile while the other two keep the tile of the table, so a row is the
time of the whole forward pass, or of the whole backward pass. Prints the tables, fastest tile
first, and writes JSON. A tile that does not compile or does not fit is a row that says why.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.aqr import QUERIES, windows_of
from benchmarks.speed.gpu.repeated_timing import repeated_ms
from shared.model.attention.kernels.kernel_sizes import KernelSizes, kernel_sizes
from shared.model.attention.kernels.window_bias_attention import window_bias_attention
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.tile_schedule import Tile
from shared.process.command import command_parser
from shared.process.device import available_device

RESULT = Path("benchmarks/results/tile_sizes.json")
HEADS, WIDTH = 8, 32
SIDES = ((64, 64), (64, 128), (128, 64), (32, 64), (128, 128))
TILES = tuple(
    Tile(queries=queries, tokens=tokens, warps=warps, stages=stages)
    for queries, tokens in SIDES
    for warps in ((4, 8) if queries * tokens > 64 * 64 else (4,))
    for stages in (2, 3)
)
KERNELS = ("forward", "of_query", "of_key")


class Case:
    """Attention at the shapes of a preset.

    Args:
        preset: its name.
        samples: batch size.
        queries: of each sample.
        device: that has the kernels.
    """

    def __init__(self, preset: str, samples: int, queries: int, device: torch.device) -> None:
        windows = windows_of(preset, device, queries=queries, samples=samples)
        tokens = windows.cells.layout.tokens
        self.device = device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
        self.inputs = [
            torch.randn(
                samples, HEADS, count, WIDTH, device=device, dtype=self.dtype
            ).requires_grad_()
            for count in (queries, tokens, tokens)
        ]
        self.bias = AttentionBias(
            per_sensor=torch.rand(samples, queries, 2, device=device).requires_grad_(),
            windows=windows,
            implementation="kernels",
        )

    def attend(self, sizes: KernelSizes) -> Tensor:
        """Return the attended values (B, heads, Q, E)."""
        query, key, value = self.inputs
        return window_bias_attention(query, key, value, self.bias, sizes)

    def milliseconds(self, kernel: str, tile: Tile) -> float:
        """Return the time of the pass that a kernel belongs to, with this tile."""
        table = kernel_sizes(self.device, self.dtype, WIDTH)
        sizes = replace(table, **{kernel: tile})
        if kernel == "forward":
            with torch.no_grad():
                return repeated_ms(lambda: self.attend(sizes))
        attended = self.attend(sizes)
        grad = torch.ones_like(attended)
        learnt = [*self.inputs, self.bias.per_sensor]
        return repeated_ms(lambda: torch.autograd.grad(attended, learnt, grad, retain_graph=True))


def measured(case: Case, kernel: str, tile: Tile) -> dict[str, Any]:
    """Return a row; a tile that fails says why."""
    row: dict[str, Any] = {"kernel": kernel, **asdict(tile)}
    try:
        return row | {"ms": round(case.milliseconds(kernel, tile), 4)}
    except Exception as error:  # whatever a compiler or driver raises; the other tiles go on
        return row | {"ms": None, "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a preset as Markdown, fastest first within a kernel."""
    lines = ["| kernel | queries x tokens | warps | stages | ms |", "|---|---|---|---|---|"]
    for kernel in KERNELS:
        own = [row for row in rows if row["kernel"] == kernel]
        for row in sorted(own, key=lambda row: (row["ms"] is None, row["ms"] or 0.0)):
            size = f"{row['queries']} x {row['tokens']}"
            shown = row["reason"] if row["ms"] is None else f"{row['ms']:.3f}"
            lines.append(f"| {kernel} | {size} | {row['warps']} | {row['stages']} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = command_parser(__doc__, "python -m benchmarks.speed.tile_sizes")
    parser.add_argument("--presets", nargs="+", default=["r50_800x320", "vov_1600x640"])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    device = available_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"
    tiles = TILES if device.type == "cuda" else TILES[:2]
    results: dict[str, Any] = {"device": name, "torch": torch.__version__}
    for preset in args.presets:
        case = Case(preset, args.samples, args.queries, device)
        rows = [measured(case, kernel, tile) for kernel in KERNELS for tile in tiles]
        results[preset] = rows
        args.out.write_text(json.dumps(results, indent=2))
        print(f"\n{preset}, {args.samples} samples, {name}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
