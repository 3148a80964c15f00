"""What writes the rows of an extraction: processes, or threads of its own."""

from contextlib import ExitStack
from typing import Any

from cache.writer import StoreWriter
from stage1_extract.extraction.stages.shard_writers import EncodingThreads, RowSink
from stage1_extract.extraction.stages.stage_widths import Widths
from stage1_extract.extraction.stages.writer_processes import WriterProcesses


def row_sink(writer: StoreWriter, widths: Widths, stack: ExitStack) -> RowSink[Any]:
    """Return what writes rows: processes, which the stack ends, or the threads that put them."""
    if widths.loaders:
        return stack.enter_context(WriterProcesses(writer.store, widths))
    return EncodingThreads(writer)
