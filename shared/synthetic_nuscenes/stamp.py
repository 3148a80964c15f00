"""Is this folder ours, complete, and what was asked for? Nothing is ever deleted to make it so."""

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


class Found(Enum):
    """What a folder holds before anything is written."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


def inspect(out: Path, config: SyntheticConfig) -> Found:
    """Look at the target folder.

    Args:
        out: folder, which may not exist.
        config: what is to be there in the end.

    Raises:
        DatasetError: if the folder holds anything else than (a part of) just that.
    """
    if not out.exists():
        return Found.NOTHING
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; choose a folder that is new or empty")
    if not any(out.iterdir()):
        return Found.NOTHING
    for name, found in ((STAMP_FILE, Found.COMPLETE), (UNFINISHED_FILE, Found.UNFINISHED)):
        if (out / name).exists():
            stamp = _read(out / name)
            _check_same(out, stamp, config)
            if found is Found.COMPLETE:
                _check_whole(out, stamp)
            return found
    raise DatasetError(
        f"{out} is not empty and holds no {STAMP_FILE}, so it is not a synthetic nuScenes of this "
        "program; nothing was written. Choose a folder that is new or empty."
    )


def mark_unfinished(out: Path, config: SyntheticConfig) -> None:
    """Say, before anything else is written, what the folder is going to hold."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / UNFINISHED_FILE, _identity(config))


def mark_complete(out: Path, config: SyntheticConfig) -> tuple[int, int]:
    """Replace the mark by the stamp, in one step and last of all.

    Returns:
        Files and bytes of the data set, the stamp not counted.
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
            f"{path} is torn ({error}); remove the folder and run again, or choose another"
        ) from error
    if not isinstance(stamp, dict):
        raise DatasetError(f"{path} is not a stamp; choose a folder that is new or empty")
    return stamp


def _check_same(out: Path, stamp: dict[str, Any], config: SyntheticConfig) -> None:
    wanted = {"generator": GENERATOR, **asdict(config)}
    there = {"generator": stamp.get("generator"), **stamp.get("config", {})}
    differences = [
        f"{name} {there.get(name)} there, {wanted.get(name)} asked for"
        for name in sorted(wanted.keys() | there.keys())
        if there.get(name) != wanted.get(name)
    ]
    if differences:
        raise DatasetError(
            f"{out} holds another synthetic nuScenes ({'; '.join(differences)}); nothing was "
            "written. Choose another folder, or remove this one and run again."
        )


def _check_whole(out: Path, stamp: dict[str, Any]) -> None:
    found = _measure(out)
    expected = (stamp.get("files"), stamp.get("bytes"))
    if found != expected:
        raise DatasetError(
            f"{out} was complete with {expected[0]} files of {expected[1]} bytes; now there are "
            f"{found[0]} files of {found[1]} bytes. Remove the folder and run again."
        )


def _measure(out: Path) -> tuple[int, int]:
    sizes = [
        path.stat().st_size
        for folder in DATA_FOLDERS
        for path in (out / folder).rglob("*")
        if path.is_file()
    ]
    return len(sizes), sum(sizes)
