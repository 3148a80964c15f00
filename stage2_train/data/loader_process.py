"""Batches read ahead by the threads of a process of its own.

On a GPU, threads of the same process take Python's lock away from the thread that queues work, more
than a thousand times in a step (docs/speed.md). Here they are in a child process, which decodes
into memory that both map; a thread of this process copies whole batches from there to where the
other loader would have put them: with a GPU page-locked memory of PyTorch, which then knows when a
copy out of it has ended.

The child reads only, so it is killed to end it: even a read that hangs does not keep it. It ends by
itself when its parent has gone. Ctrl-C and SIGTERM, which terminals and job schedulers send to all
processes, do not reach it: its parent may want to save a checkpoint first.
"""

import contextlib
import multiprocessing
import os
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain, count, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

import numpy as np

from shared.data.batch_slots import batch_slots, slot_arrays
from shared.data.map_arrays import MapArrays
from shared.errors import FrozenCmtError, TrainingError
from shared.process.child_process import children_without_signals, end_with_parent
from shared.process.memory.shared_slots import SharedSlots
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader_threads import LoaderThreads
from stage2_train.data.reading_ahead import awaited, batches_ahead, read_ahead
from stage2_train.data.sampler import Place

if TYPE_CHECKING:
    from shared.data.batch import Batch, BatchBuffer

ENDING_S = 1.0  # how long a killed process may take to end
FAILED = 1  # exit code of Python after an error that nobody caught: `_serve` catches all

NewBuffer = Callable[[Sequence[Place]], "BatchBuffer"]


def process_batches(
    dataset: StoreDataset,
    batches: Iterable[Sequence[Place]],
    workers: int,
    new_buffer: NewBuffer,
) -> "Iterator[Batch]":
    """Yield the batches of a dataset, read by a process that ends with this iterator.

    Args:
        dataset: what to read from; sent to the process, which opens the store again.
        batches: places of each batch, none larger than the first; may be endless.
        workers: threads of that process.
        new_buffer: returns memory for the batch of these places.

    Raises:
        TrainingError: if the process dies.
        And whatever reading raises, in its turn.
    """
    places = iter(batches)
    first = next(places, None)
    if first is None:
        return
    slots = batches_ahead(workers, len(first)) + 2  # one is being copied, one being asked for
    process = _LoaderProcess(dataset, workers, batch_slots(dataset.blank_maps, len(first), slots))
    copier = LoaderThreads(1)
    answers: deque[Future[Batch]] = deque()

    def ask(wanted: Sequence[Place]) -> None:
        process.ask(wanted)
        answers.append(copier.submit(partial(process.answer, wanted, new_buffer(wanted))))

    def next_answer(wanted: Sequence[Place]) -> "Batch":
        batch = awaited(answers.popleft())
        ask(wanted)  # into the slot that was copied
        return batch

    try:
        for wanted in islice(chain([first], places), slots):
            ask(wanted)
        for wanted in places:
            yield next_answer(wanted)
        process.ask(None)
        while answers:
            yield awaited(answers.popleft())
    finally:
        process.close()  # ends what the copier waits for
        copier.close()


class _LoaderProcess:
    """The child, asked for batches and answering in their order.

    Args:
        dataset, workers: see `process_batches`.
        slots: where the answers are; a batch may be asked for when that of its slot was copied.
    """

    def __init__(self, dataset: StoreDataset, workers: int, slots: SharedSlots) -> None:
        self._like, self._slots, self._answered = dataset.blank_maps, slots, 0
        context = multiprocessing.get_context("spawn")  # a fork would copy CUDA's state
        self._connection, theirs = context.Pipe()
        # As bytes: a store that cannot be opened again is an error of `_serve`, which reports it.
        arguments = (theirs, pickle.dumps(dataset), workers, slots)
        self._process = context.Process(target=_serve, args=arguments, name="loader", daemon=True)
        resource_tracker.ensure_running()  # else the first child starts it, which lifts the mask
        with children_without_signals():
            self._process.start()
        # At exit, before `multiprocessing` sends SIGTERM to its children and waits for them.
        self._kill_at_exit = Finalize(None, self._process.kill, exitpriority=0)
        theirs.close()
        slots.close_file()

    def ask(self, places: Sequence[Place] | None) -> None:
        """Ask for a batch, or say that there are no more."""
        with contextlib.suppress(OSError):  # it has died, which the next answer says
            self._connection.send(places)

    def answer(self, places: Sequence[Place], buffer: "BatchBuffer") -> "Batch":
        """Wait for the next batch and copy it."""
        try:
            answer = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(answer, BaseException):
            raise answer
        source = slot_arrays(self._slots, self._answered, self._like, len(places))
        self._answered += 1
        for target, array in zip(buffer.arrays, source.arrays, strict=True):
            np.copyto(target, array)  # without Python's lock
        return buffer.batch(answer, [place.label for place in places])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._kill_at_exit()
        self._process.join(ENDING_S)
        self._connection.close()

    def _death(self) -> TrainingError:
        self._process.join(ENDING_S)
        code = self._process.exitcode
        if code == FAILED:
            return TrainingError(
                "the loader process could not start; what it wrote above says why. It imports the "
                "program that trains: a script of your own needs to be a file that does its work "
                'below `if __name__ == "__main__":`. Loader threads (--loader threads) do not need '
                "that"
            )
        return TrainingError(
            f"the loader process died (exit code {code}; -9 usually means that memory ran out). "
            "Run the same command again to resume, with fewer --workers or with --loader threads, "
            "which needs half the memory"
        )


def _serve(connection: Connection, pickled: bytes, workers: int, slots: SharedSlots) -> None:
    """Read what the parent asks for; the child's main function."""
    end_with_parent()
    numbers = count()
    try:
        dataset: StoreDataset = pickle.loads(pickled)

        def slot(places: Sequence[Place]) -> MapArrays:
            return slot_arrays(slots, next(numbers), dataset.blank_maps, len(places))

        for _, _, frames in read_ahead(dataset, iter(connection.recv, None), workers, slot):
            connection.send_bytes(pickle.dumps(frames))
    except (EOFError, BrokenPipeError):
        os._exit(1)  # the parent has gone
    except BaseException as error:
        connection.send_bytes(_portable(error))


def _portable(error: BaseException) -> bytes:
    """Return the error for the parent; one that is no user's comes with its traceback."""
    if not isinstance(error, FrozenCmtError):
        error.add_note("in the loader process:\n" + "".join(traceback.format_exception(error)))
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:
        content = pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))
    return content
