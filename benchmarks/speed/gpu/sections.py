"""The sections, and the process that measures one of them."""

import logging
import sys
import warnings
from collections.abc import Callable

from benchmarks.speed.gpu.attention_section import measure_attention
from benchmarks.speed.gpu.cases import Cases
from benchmarks.speed.gpu.live_section import measure_live
from benchmarks.speed.gpu.loader_section import measure_loader_alone
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.start_section import measure_start
from benchmarks.speed.gpu.steps_section import measure_steps

SECTIONS: dict[str, Callable[[SectionRequest, Cases], None]] = {
    "attention": measure_attention,
    "steps": measure_steps,
    "start": measure_start,
    "loader": measure_loader_alone,
    "live": measure_live,
}


def main() -> None:
    """Measure the section that the command line names."""
    request = SectionRequest.read()
    warnings.simplefilter("ignore")  # of other packages, for example about float16 in Zarr
    logging.disable(logging.INFO)  # the start of every run
    request.scratch.mkdir(parents=True, exist_ok=True)
    SECTIONS[request.section](request, Cases(request.rows, request.seconds))


if __name__ == "__main__":
    sys.exit(main())
