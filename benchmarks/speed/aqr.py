"""What AQR costs against attention without it, at the official sizes.

    python -m benchmarks.speed.aqr                       # CPU, or the GPU if there is one
    python -m benchmarks.speed.aqr --presets r50_800x320 --samples 4 --out /tmp/aqr.json

900 + 830 queries (the most denoising queries a batch can have), forward and backward together; on a
GPU the decoder's attention in bfloat16, the generator's in float32. Every case runs in its own
process. Times are the fastest of several runs: on a CPU the processor time, which other jobs
disturb least. Memory is the peak beyond the inputs (resident, or allocated on a GPU), including the
gradients of the inputs. Prints tables and writes JSON. Takes about seven minutes of processor time.

The generator's attention is compared with its dense twins: `nn.MultiheadAttention` with a boolean
mask, which the public implementation calls, and torch's fused attention with the same mask. The
biased attention is compared with the same attention without a bias, and with a dense bias.
"""

import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.speed.gpu.synthetic_store import camera_ring
from benchmarks.speed.store.opening import memory_bytes
from shared.config.aqr_config import AqrConfig
from shared.config.preset_catalogue import load_preset
from shared.model.aqr.weight_generator import AqrWeightGenerator, dense_look
from shared.model.attention.biased_attention import biased_attention
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.local_windows import LocalWindows, TokenLayout
from shared.model.detector import build_detector
from shared.process.command import command_parser
from shared.process.device import available_device

RESULT = Path("benchmarks/results/aqr.json")
QUERIES = 900 + 830
RUNS = 5
CASES = {
    "generator": ("windows", "fused mask", "nn.MultiheadAttention"),
    "attention": ("no bias", "bias", "gaussian bias", "bias over a sensor", "dense"),
}
BASE = {"generator": "windows", "attention": "no bias"}


def windows_of(
    preset_name: str, device: torch.device, queries: int = QUERIES, samples: int = 1
) -> LocalWindows:
    """Return the windows of random queries under a ring of six cameras, the same in all samples."""
    preset = load_preset(preset_name)
    head = build_detector(preset, aqr=AqrConfig()).pts_bbox_head.to(device)
    views, _, rows, columns = preset.camera_maps[0].shape
    side = preset.grid.bev_cells
    layout = TokenLayout(bev=(side, side), camera=(views, rows, columns))
    references = torch.rand(1, queries, 3, generator=torch.Generator().manual_seed(0))
    references = references.to(device).expand(samples, -1, -1)
    ring = torch.from_numpy(camera_ring(*head.image_px)).to(device)
    cameras = head.geometry(ring.expand(samples, -1, -1, -1))
    cells = head.query_cells(references, cameras, layout)
    config = AqrConfig()
    camera_side = config.camera_side(columns=columns)
    return LocalWindows(cells=cells, bev_side=config.bev_window, camera_side=camera_side)


def generator_case(name: str, windows: LocalWindows) -> Callable[[], None]:
    """Return the generator's attention to the memory, forward and backward."""
    samples, queries, device, tokens, width = *_shape_of(windows), 256
    generator = AqrWeightGenerator(width, AqrConfig()).to(device)
    inputs = [_random_input(device, samples, count, width) for count in (queries, tokens, tokens)]
    theirs = nn.MultiheadAttention(width, 4, batch_first=True, device=device)

    def attend() -> Tensor:
        if name == "windows":
            types = torch.stack([generator.bev_type_embed, generator.rv_type_embed])
            return generator.attention.look(*inputs, types=types, windows=replace(windows))
        if name == "fused mask":
            return dense_look(generator, *inputs, windows=windows)
        hidden = ~(windows.covered | ~windows.covered.any(dim=-1, keepdim=True))  # (B, Q, N)
        attended: Tensor = theirs(*inputs, attn_mask=hidden.repeat_interleave(4, dim=0))[0]
        return attended

    return lambda: torch.autograd.backward(attend().square().mean())


def attention_case(name: str, windows: LocalWindows) -> Callable[[], None]:
    """Return one layer's attention of eight heads, forward and backward."""
    samples, queries, device, tokens = _shape_of(windows)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    query, key, value = (
        _random_input(device, samples, n, 8, 32, dtype=dtype).transpose(1, 2)
        for n in (queries, tokens, tokens)
    )
    per_sensor = _random_input(device, samples, queries, 2)

    def attend() -> Tensor:
        if name == "no bias":
            return scaled_dot_product_attention(query, key, value)
        bias = AttentionBias(
            per_sensor=per_sensor,
            windows=replace(windows),
            implementation="dense" if name == "dense" else "auto",
            sigma_cells=2.0 if name == "gaussian bias" else None,
            reach="sensor" if name == "bias over a sensor" else "windows",
        )
        return biased_attention(query, key, value, bias)

    return lambda: torch.autograd.backward(attend().float().square().mean())


def _shape_of(windows: LocalWindows) -> tuple[int, int, torch.device, int]:
    """Return samples, queries, device and tokens."""
    samples, queries = windows.cells.on_grid.shape
    return samples, queries, windows.cells.bev.device, windows.cells.layout.tokens


def _random_input(device: torch.device, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()


def measure(kind: str, name: str, preset: str, samples: int, threads: int) -> dict[str, Any]:
    """Run one case; called in its own process."""
    torch.set_num_threads(threads)
    device = available_device()
    make = generator_case if kind == "generator" else attention_case
    make(name, windows_of("tiny", device, queries=8))()  # loads and compiles what it needs
    windows = windows_of(preset, device, samples=samples)
    case = make(name, windows)
    memory = _Memory(device)
    case()
    if device.type == "cuda":
        torch.cuda.synchronize()
    peak_bytes = memory.peak()
    seconds = []
    for _ in range(RUNS):
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        started = clock()
        case()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - started)
    return {
        "kind": kind,
        "case": name,
        "preset": preset,
        "samples": samples,
        "seconds": min(seconds),
        "bytes": peak_bytes,
        "tokens": windows.cells.layout.tokens,
        "window": windows.tokens.shape[-1],
    }


class _Memory:
    """The most that is held from now on, beyond what is held now."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            self.before = memory_bytes("VmRSS")

    def peak(self) -> int:
        """Return bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() - self.before
        return memory_bytes("VmHWM") - self.before


def table(rows: list[dict[str, Any]], kind: str, preset: str) -> str:
    """Return one comparison as Markdown."""
    chosen = {row["case"]: row for row in rows if (row["kind"], row["preset"]) == (kind, preset)}
    base = chosen[BASE[kind]]
    head = (
        f"{kind}, {preset}: {QUERIES} queries, {base['tokens']:,} tokens, window {base['window']}"
    )
    lines = [
        head,
        "",
        f"| | seconds | x {BASE[kind]} | MB | x {BASE[kind]} |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['seconds']:.4f} | {row['seconds'] / base['seconds']:.2f} "
        f"| {row['bytes'] / 1e6:.0f} | {row['bytes'] / base['bytes']:.1f} |"
        for name, row in chosen.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.aqr")
    parser.add_argument("--presets", nargs="+", default=["r50_800x320", "vov_1600x640"])
    parser.add_argument("--samples", type=int, default=1, help="in a batch")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    rows = []
    processes = multiprocessing.get_context("spawn")
    for preset in args.presets:
        for kind, cases in CASES.items():
            for name in cases:
                with processes.Pool(1) as pool:
                    job = (kind, name, preset, args.samples, torch.get_num_threads())
                    rows.append(pool.apply(measure, job))
            print(table(rows, kind, preset))
    machine = torch.cuda.get_device_name() if has_gpu else f"CPU, {torch.get_num_threads()} threads"
    about = {"machine": machine, "torch": torch.__version__, "python": platform.python_version()}
    args.out.write_text(json.dumps({**about, "runs": RUNS, "cases": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
