"""Plant the faults of the lists one at a time, and report which of them a test notices.

    python -m benchmarks.validation.planted_faults                  # some 40 minutes on two cores
    python -m benchmarks.validation.planted_faults --only black-images clipping
    python -m benchmarks.validation.planted_faults --list

The test that notices must pass without the fault. Results are kept in
benchmarks/results/planted_faults.json; with --only, those of the other faults stay. Exit status 1
if a fault went unnoticed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue
from typing import Any

from benchmarks.console_scripts import print_table
from benchmarks.validation.planted_faults.fault_list import PACKAGES, Fault, read_faults
from benchmarks.validation.planted_faults.plant import (
    TIME_LIMIT_S,
    copy_repository,
    judge,
    require_own_modules,
)
from shared.process.command import command_parser

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks/results/planted_faults.json"
MOST_PROCESSES = 2


def judge_all(
    faults: Sequence[Fault], copies: Sequence[Path], time_limit_s: float
) -> Iterator[dict[str, Any]]:
    """Yield the result of each fault as soon as it is known; every copy holds one at a time."""
    free: Queue[Path] = Queue()
    sound: set[str] = set()
    for copy in copies:
        free.put(copy)

    def result_of(fault: Fault) -> dict[str, Any]:
        copy = free.get()
        try:
            verdict = judge(fault, copy, time_limit_s, sound=sound)
        finally:
            free.put(copy)
        return {
            "id": fault.id,
            "file": fault.file,
            "harm": fault.harm,
            "noticed": verdict.noticed,
            "by": "time limit" if verdict.is_late else verdict.by,
            "seconds": verdict.seconds,
        }

    with ThreadPoolExecutor(len(copies)) as pool:
        for done in as_completed([pool.submit(result_of, fault) for fault in faults]):
            yield done.result()


def in_order(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last result of every fault that has one, in the order of the lists."""
    by_id = {result["id"]: result for result in results}
    return [by_id[fault.id] for fault in read_faults() if fault.id in by_id]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="just these faults")
    parser.add_argument("--processes", type=int, choices=range(1, MOST_PROCESSES + 1), default=2)
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S, help="seconds per fault")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"(default {RESULTS})")
    parser.add_argument("--list", action="store_true", help="print the faults, plant none")
    args = parser.parse_args(arguments)
    faults = read_faults(args.only)
    problems = [problem for fault in faults for problem in fault.problems(ROOT)]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    if args.list:
        print_table([(fault.id, f"{fault.file}: {fault.harm}") for fault in faults])
        return 0
    unnoticed = run(faults, args)
    return 1 if unnoticed else 0


def run(faults: Sequence[Fault], args: argparse.Namespace) -> list[str]:
    """Judge faults, keep and print the results; return the ids of those that went unnoticed."""
    results = []
    before = json.loads(args.json.read_text())["faults"] if args.only and args.json.exists() else []
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copies = [copy_repository(ROOT, Path(folder) / f"{i}") for i in range(args.processes)]
        for copy in copies:
            require_own_modules(copy, PACKAGES)
        for result in judge_all(faults, copies, args.time_limit):
            results.append(result)
            print(f"{result['id']}: {result['by'] or 'NOT NOTICED'}", flush=True)
            # After each of them: the whole takes long, and may be stopped.
            kept = {"faults": in_order([*before, *results])}
            args.json.write_text(json.dumps(kept, indent=2) + "\n")
    words = {True: "noticed by ", False: "NOT NOTICED "}
    print_table([(r["id"], words[r["noticed"]] + (r["by"] or "")) for r in in_order(results)])
    unnoticed = [result["id"] for result in results if not result["noticed"]]
    print(f"{len(results) - len(unnoticed)} of {len(results)} faults were noticed")
    return unnoticed


if __name__ == "__main__":
    sys.exit(main())
