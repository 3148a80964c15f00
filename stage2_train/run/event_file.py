"""TensorBoard's event file, written by the thread that trains.

torch's `SummaryWriter` writes in a thread of its own, which prints a traceback when the disk is
full, and reports it at some later call.
"""

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar

VERSION = "brain.Event:2"


class EventFile:
    """A new event file.

    Args:
        folder: for it, created if missing.
        first_step: TensorBoard drops what earlier files in the folder hold from this step on.

    Raises:
        OSError: here and in every method, if the disk is full, for example.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("wb"))
        self._write(file_version=VERSION)
        self._write(step=first_step, file_version=VERSION)
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, step: int) -> None:
        """Add a scalar."""
        summary = scalar(name, value)  # type: ignore[no-untyped-call]
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._records.flush()

    def close(self) -> None:
        """Hand over the rest."""
        self._records.close()

    def _write(self, **fields: object) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
