"""Python scripts in processes of their own: waits for them end, and none outlives its test."""

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 120  # far longer than any of these scripts takes

# Put into a script, this reports that it got there and waits until its input is closed.
READY = """
import sys
print("ready", flush=True)
sys.stdin.read()
"""

Child = subprocess.Popen[bytes]


@contextmanager
def running(script: str, *arguments: Sequence[object]) -> Iterator[list[Child]]:
    """Run a script once for each of these arguments; kill at the end what still runs.

    Args:
        script: Python source; it finds the repository's modules.
        arguments: one sequence per process, its `sys.argv[1:]`.
    """
    with ExitStack() as stack:
        children = []
        for of_child in arguments:
            child = subprocess.Popen(
                [sys.executable, "-c", script, *map(str, of_child)],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(child)  # waits for it and closes its pipes
            stack.callback(child.kill)
            children.append(child)
        yield children


@contextmanager
def hanging(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a script until it has printed "ready"; killed at the end, whatever the test has asserted.

    Args:
        script: Python source; it finds the repository's modules.
        arguments: its `sys.argv[1:]`.
    """
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def wait_until_ready(child: Child) -> None:
    """Wait until a child is at `READY`; fail if it dies before or takes too long."""
    assert child.stdout is not None
    answers, _, _ = select.select([child.stdout], [], [], PATIENCE_S)
    assert answers, f"the child was not ready within {PATIENCE_S} s"
    line = child.stdout.readline()
    assert line == b"ready\n", f"the child died before it was ready, with code {exit_code(child)}"


def let_go(children: Sequence[Child]) -> None:
    """Wait until all of these are at `READY`, then let them go on at once."""
    for child in children:
        wait_until_ready(child)
    for child in children:
        assert child.stdin is not None
        child.stdin.close()


def exit_code(child: Child) -> int:
    """Wait for the end of a child; `subprocess.TimeoutExpired` if it takes too long."""
    return child.wait(PATIENCE_S)
