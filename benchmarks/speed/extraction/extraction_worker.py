"""A worker process of a timed extraction: started by `worker_processes`, with a task as JSON.

Its loader processes import this module, too, so it imports next to nothing, as the module of
`extract-features`.
"""

import json
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> None:
    """Do the task."""
    from benchmarks.speed.extraction.timed_extraction import WorkerTask, timed_extraction

    timed_extraction(WorkerTask(**json.loads(argv[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
