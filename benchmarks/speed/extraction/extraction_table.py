"""The results of `benchmarks.speed.extraction` as Markdown, for docs/speed.md."""

from collections.abc import Iterator
from typing import Any

BEGIN = "<!-- benchmarks.speed.extraction: begin -->"
END = "<!-- benchmarks.speed.extraction: end -->"

Document = dict[str, Any]


def table(document: Document) -> str:
    """Return what was measured, as paragraphs and tables."""
    return "\n\n".join(
        [_conditions(document), _stages(document), _whole(document), *_memory(document)]
    )


def _conditions(document: Document) -> str:
    machine = document["machine"]
    device = machine["processor"] if machine["device"] == "none" else machine["device"]
    return (
        f"`{document['preset']}`, {document['samples']} samples of {document['frames']} frames, "
        f"batches of {document['batch_size']}, `{document['codec']}`; {device}, "
        f"{document['cores']} cores, load {document['load_before']:.1f} to "
        f"{document['load_after']:.1f}, {machine['measured_at'][:10]}."
    )


def _stages(document: Document) -> str:
    lines = ["| stage, per sample | ms | CPU ms |", "|---|---|---|"]
    lines += [
        f"| {name} | {stage['wall_ms']:.1f} | {stage['cpu_ms']:.1f} |"
        for name, stage in document["stages"].items()
    ]
    lines.append(f"| codec alone / write, by CPU time | | {document['write_share']:.2f} |")
    beside = document["limits"]["beside_backbones_cpu_s"] * 1e3
    lines.append(f"| load, join, check, write: beside the backbones | | {beside:.0f} |")
    return "\n".join(lines)


def _whole(document: Document) -> str:
    lines = [
        "| extraction | samples/s | backbones alone, samples/s | wall time / backbones' own |",
        "|---|---|---|---|",
    ]
    for run in document["whole"]:
        loading = f"{run['workers']} processes load" if run["workers"] else "a thread loads"
        speeds = f"{1 / run['wall_s']:.3g} | {1 / run['backbones_wall_s']:.3g}"
        lines.append(f"| {loading} | {speeds} | {run['ratio']:.2f} |")
    allowed = document["limits"]["samples_per_s"]
    bounds = ", ".join(f"{name} {rate:.3g}/s" for name, rate in allowed.items())
    return "\n".join(lines) + f"\n\nLimits: {bounds}; {document['limits']['limit']} holds."


def _memory(document: Document) -> Iterator[str]:
    if document["memory"]:
        lines = ["| writing threads | rows in memory | bound, MB | peak, MB |", "|---|---|---|---|"]
        lines += [
            f"| {run['threads']} | {run['rows_in_memory']} | {run['bound_mb']:.0f} | "
            f"{run['peak_mb']:.0f} |"
            for run in document["memory"]
        ]
        yield "\n".join(lines)
