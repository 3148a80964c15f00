"""Join a run's necks and head with the frozen backbones into a checkpoint of the official code.

    export-checkpoint runs/a --out cmt.pth
    export-checkpoint runs/a --out cmt.pth --checkpoint official.pth

The backbones come from the checkpoint that the run started from, or from --checkpoint; either must
be the checkpoint that the store was extracted with. Load the result with the official code's
`load_from` or its test script, or with --checkpoint here. AQR's weights are in it, too; the
official code ignores them.
"""

import logging
import sys
from pathlib import Path

from shared.process.command import command_parser, ending_at_once, run_command

with ending_at_once():
    from shared.checkpoint.checkpoint_table import belongs
    from shared.checkpoint.shipped_checkpoint import checkpoint_path, require_existing
    from shared.errors import CheckpointError

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over; no work happens here."""
    parser = command_parser(__doc__, "export-checkpoint")
    parser.add_argument("run", type=Path, help="run folder or checkpoint of train-stage2")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_path,
        help="with the frozen backbones (default: the run's own start)",
    )
    args = parser.parse_args(argv)

    return run_command(lambda: _work(args.run, args.out, args.checkpoint))


def _work(run: Path, out: Path, checkpoint: Path | None) -> None:
    require_existing(run)
    require_existing(checkpoint)
    if out.exists():
        raise CheckpointError(f"{out} exists and is not overwritten; choose a different --out")
    with ending_at_once():  # only now, since torch comes with them
        from stage2_train.run.official_export import (
            official_checkpoint,
            source_of,
            write_checkpoint,
        )
        from stage2_train.run.run_checkpoint import read_run_checkpoint
    saved = read_run_checkpoint(run)
    source = source_of(saved, run, checkpoint)
    content = official_checkpoint(saved, source)
    write_checkpoint(content, out)
    state = content["state_dict"]
    count = sum(belongs(key, saved["backbones"]) for key in state)
    log.info(
        "%s: %d frozen tensors of %s and %d trained ones of step %d",
        out,
        count,
        source.name,
        len(state) - count,
        saved["step"],
    )
    if saved["aqr"] is not None:
        log.info("the official code has no AQR: it ignores AQR's weights, and detects without")


if __name__ == "__main__":
    sys.exit(main())
