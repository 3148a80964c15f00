"""What the first process does alone may take long, and ends the others if it fails.

What it gets from the others may come late, too.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.child_processes import PATIENCE_S, REPOSITORY

# Two processes whose collective calls give up after 3 s. Each writes what it got.
TWO = """
import os, sys, time
from datetime import timedelta
from types import SimpleNamespace

from torch import distributed
from torch.distributed import distributed_c10d

from shared.errors import ConfigError
from stage2_train.training.distributed import from_first_process, gathered_in_first

folder = sys.argv[1]

def raising(error):
    raise error

def broadcast(value):
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]

def run(rank):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    fabric = SimpleNamespace(world_size=2, global_rank=rank, broadcast=broadcast)
    distributed.barrier()
    distributed_c10d._set_pg_timeout(timedelta(seconds=3))
    works = (
        lambda: (time.sleep(5), "result")[1],
        lambda: raising(ConfigError("of the user")),
        lambda: raising(ValueError("of ours")),
    )
    with open(f"{folder}/{rank}", "w") as said:
        for work in works:
            try:
                print(from_first_process(fabric, work), file=said)
            except Exception as error:
                print(type(error).__name__, error, file=said)
        time.sleep(5 * rank)
        print(gathered_in_first(fabric, [f"a{rank}", f"b{rank}"]), file=said)

children = []
for rank in range(2):
    child = os.fork()
    if not child:
        run(rank)
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    folder: Path = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-c", TWO, str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return [(folder / str(rank)).read_text().splitlines() for rank in range(2)]


def test_the_others_wait_for_the_first_longer_than_a_collective_call_may_take(
    said: list[list[str]],
) -> None:
    assert [of_process[0] for of_process in said] == ["result", "result"]


def test_an_error_of_a_users_is_raised_in_every_process(said: list[list[str]]) -> None:
    assert [of_process[1] for of_process in said] == ["ConfigError of the user"] * 2


def test_any_other_error_keeps_its_kind_in_the_first_and_ends_the_others(
    said: list[list[str]],
) -> None:
    first, second = (of_process[2] for of_process in said)
    assert first == "ValueError of ours"
    assert second == "TrainingError the first process failed: ValueError('of ours')"


def test_what_all_have_is_gathered_by_the_first_however_late_it_comes(
    said: list[list[str]],
) -> None:
    assert [of_process[3] for of_process in said] == ["['a0', 'b0', 'a1', 'b1']", "[]"]
