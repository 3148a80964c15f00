"""A child process that is killed leaves nothing behind."""

import multiprocessing
import subprocess
import sys
from multiprocessing.connection import Connection

from shared.process.child_process import end_with_parent
from tests.child_processes import PATIENCE_S, REPOSITORY

SCRIPT = """
import multiprocessing
from tests.shared.process.test_child_process import hold_a_lock

context = multiprocessing.get_context("spawn")
ours, theirs = context.Pipe()
child = context.Process(target=hold_a_lock, args=(theirs,))
child.start()
print(ours.recv())
child.kill()
child.join()
"""


def hold_a_lock(connection: Connection) -> None:
    """Make a lock as numcodecs does for Blosc, and wait to be killed."""
    end_with_parent()
    lock = multiprocessing.Lock()
    with lock:
        connection.send("locked")
        connection.recv()


def test_python_warns_of_no_lock_of_a_child_that_was_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("locked\n", "")
