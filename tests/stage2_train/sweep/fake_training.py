"""Stands in for `train-stage2` in tests of a sweep: what it does is in the name of its run."""

import os
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    folder = Path(arguments[arguments.index("--out") + 1])
    kind = folder.name.partition("-")[0]
    assert Path(arguments[arguments.index("--recipe") + 1].removesuffix(":recipe")).is_file()
    with (folder.parent / "starts.txt").open("a") as file:
        file.write(f"{folder.name} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
    print("training", *arguments, flush=True)
    if kind == "fails":
        print("error: it does not fit", flush=True)
        return 1
    if kind == "worsens":  # a message at its first start, a traceback from then on
        is_first = not (folder / "started").exists()
        (folder / "started").touch()
        print("error: the disk is full" if is_first else "ValueError: a bug", flush=True)
        return 1
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "waits" and not (folder / "saved").exists():
        wait_for_sigterm(folder)
    (folder / "log.csv").write_text("step,loss\n1,2.5\n2,1.25\n")
    time.sleep(0.3)
    return 0


def wait_for_sigterm(folder: Path) -> None:
    def save(*_: object) -> None:
        (folder / "saved").touch()
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, save)
    (folder / "waiting").touch()
    time.sleep(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
