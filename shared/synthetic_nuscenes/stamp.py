"""Whether a folder is ours, complete, and as requested. Nothing in it is ever deleted."""

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from shared.errors import DatasetError
from shared.synthetic_nuscenes.world.synthetic_config import VERSION, SyntheticConfig

STAMP_FILE = "synthetic_nuscenes.json"
UNFINISHED_FILE = "synthetic_nuscenes.unfinished.json"
GENERATOR = 1  # raise when the same config gives other bytes than before
DATA_FOLDERS = (VERSION, "samples", "sweeps", "maps")


class FolderState(Enum):
    """What a folder holds before anything is written."""

    EMPTY = "empty"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


def folder_state(out: Path, config: SyntheticConfig) -> FolderState:
    """Look at the target folder.

    Args:
        out: folder, which may not exist.
        config: what it is to hold in the end.

    Raises:
        DatasetError: if the folder holds anything but that data set, complete or not.
    """
    if not out.exists():
        return FolderState.EMPTY
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; choose a folder that is new or empty")
    if not any(out.iterdir()):
        return FolderState.EMPTY
    for name, state in (
        (STAMP_FILE, FolderState.COMPLETE),
        (UNFINISHED_FILE, FolderState.UNFINISHED),
    ):
        if (out / name).exists():
            stamp = _read(out / name)
            _check_same(out, stamp, config)
            if state is FolderState.COMPLETE:
                _check_complete(out, stamp)
            return state
    raise DatasetError(
        f"{out} is not empty and holds no {STAMP_FILE}, so it is not a synthetic nuScenes of this "
        "project; nothing was written. Choose a folder that is new or empty."
    )


def mark_unfinished(out: Path, config: SyntheticConfig) -> None:
    """Record, before anything else is written, what the folder is going to hold."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / UNFINISHED_FILE, _identity(config))


def mark_complete(out: Path, config: SyntheticConfig) -> tuple[int, int]:
    """Replace the mark with the stamp, atomically and as the last step.

    Returns:
        Number of files and bytes of the data set, without the stamp.
    """
    files, size = _measure(out)
    _write(out / UNFINISHED_FILE, {**_identity(config), "files": files, "bytes": size})
    (out / UNFINISHED_FILE).replace(out / STAMP_FILE)
    return files, size


def _identity(config: SyntheticConfig) -> dict[str, Any]:
    return {"generator": GENERATOR, "config": asdict(config)}


def _write(path: Path, stamp: dict[str, Any]) -> None:
    path.write_text(json.dumps(stamp, indent=2, sort_keys=True) + "\n", encoding="ascii")


def _read(path: Path) -> dict[str, Any]:
    try:
        stamp = json.loads(path.read_text(encoding="ascii"))
    except ValueError as error:
        raise DatasetError(
            f"{path} is damaged ({error}); remove the folder and run again, or choose another"
        ) from error
    if not isinstance(stamp, dict):
        raise DatasetError(f"{path} is not a stamp; choose a folder that is new or empty")
    return stamp


def _check_same(out: Path, stamp: dict[str, Any], config: SyntheticConfig) -> None:
    wanted = {"generator": GENERATOR, **asdict(config)}
    stored = {"generator": stamp.get("generator"), **stamp.get("config", {})}
    differences = [
        f"{name} {stored.get(name)} there, {wanted.get(name)} requested"
        for name in sorted(wanted.keys() | stored.keys())
        if stored.get(name) != wanted.get(name)
    ]
    if differences:
        raise DatasetError(
            f"{out} holds a different synthetic nuScenes ({'; '.join(differences)}); nothing was "
            "written. Choose another folder, or remove this one and run again."
        )


def _check_complete(out: Path, stamp: dict[str, Any]) -> None:
    files, size = _measure(out)
    expected = (stamp.get("files"), stamp.get("bytes"))
    if (files, size) != expected:
        raise DatasetError(
            f"{out} was complete with {expected[0]} files of {expected[1]} bytes; now there are "
            f"{files} files of {size} bytes. Remove the folder and run again."
        )


def _measure(out: Path) -> tuple[int, int]:
    sizes = [
        path.stat().st_size
        for folder in DATA_FOLDERS
        for path in (out / folder).rglob("*")
        if path.is_file()
    ]
    return len(sizes), sum(sizes)
