"""Samples from mmdet3d's info files: v1 (`infos`, like CMT's own pickles) and v2 (`data_list`).

v1 files hold quaternions, and their records equal those of the nuScenes tables, see there. v2
files hold float32 matrices, see `info_v2`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from shared.data.features import Annotations
from shared.errors import DatasetError
from stage1_extract.nuscenes.annotations import (
    BoxTable,
    annotations_of,
    refuse_unknown_names,
)
from stage1_extract.nuscenes.box_convention import (
    CONVENTIONS,
    NEW,
    BoxConvention,
    recognise,
    to_new,
)
from stage1_extract.nuscenes.info_v1 import boxes_v1, record_v1
from stage1_extract.nuscenes.info_v2 import boxes_v2, class_names_v2, record_v2
from stage1_extract.nuscenes.record_checks import checked_boxes, checked_record
from stage1_extract.nuscenes.records import SampleRecord, arrange
from stage1_extract.nuscenes.safe_pickle import load_pickle

logger = logging.getLogger(__name__)

Info = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dialect:
    infos: Sequence[Info]
    boxes: Callable[[Info], BoxTable]
    record: Callable[[Info, Path, Annotations], SampleRecord]


def read_infos(
    path: Path,
    root: Path,
    *,
    box_convention: Literal["auto"] | BoxConvention = "auto",
    existing_only: bool = False,
) -> list[SampleRecord]:
    """Return the frames of an info file, sorted by time.

    Args:
        path: the pickle; only NumPy arrays and built-in containers are loaded from it.
        root: folder that holds samples/ and sweeps/.
        box_convention: of the file's boxes; "auto" recognises it, or fails with a request to say.
        existing_only: leave out samples and sweeps whose files are missing, and log how many.

    Raises:
        DatasetError: if the file is not an info file, is damaged or contradicts itself, has
            impossible numbers or unknown class names, or its box convention cannot be recognised.
    """
    path, root = Path(path), Path(root).absolute()
    if not root.is_dir():
        raise DatasetError(f"dataset root {root} is not a folder; name the one with samples/ in it")
    dialect = _dialect(load_pickle(path), path)
    tables = []
    for index, info in enumerate(dialect.infos):
        with _named(path, index, info):
            tables.append(checked_boxes(dialect.boxes(info)))
    refuse_unknown_names(Counter(name for table in tables for name in table.names), str(path))
    convention = _convention(tables, box_convention, path)
    records = []
    for index, (info, table) in enumerate(zip(dialect.infos, tables, strict=True)):
        with _named(path, index, info):
            annotations = annotations_of(to_new(table, convention))
            records.append(checked_record(dialect.record(info, root, annotations)))
    return arrange(records, existing_only=existing_only, source=str(path))


def infos_version(path: Path) -> str | None:
    """Return the nuScenes version an info file says it was made from, None if it does not say."""
    document = load_pickle(path)
    metadata = (
        document.get("metadata") or document.get("metainfo") if isinstance(document, dict) else {}
    )
    version = metadata.get("version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else None


def _dialect(document: object, path: Path) -> _Dialect:
    if isinstance(document, dict) and isinstance(document.get("infos"), list):
        return _Dialect(infos=document["infos"], boxes=boxes_v1, record=record_v1)
    if isinstance(document, dict) and isinstance(document.get("data_list"), list):
        with _named(path, None):
            class_names = class_names_v2(document["metainfo"])
        boxes = partial(boxes_v2, class_names=class_names)
        return _Dialect(infos=document["data_list"], boxes=boxes, record=record_v2)
    kind = type(document).__name__
    keys = f" with the keys {', '.join(map(str, document))}" if isinstance(document, dict) else ""
    raise DatasetError(
        f"{path} holds a {kind}{keys}; an mmdet3d info file is a dict with the list 'infos' (v1) "
        "or 'data_list' (v2). Pickles of other projects are not supported: use the nuScenes tables"
    )


def _convention(
    tables: Sequence[BoxTable], asked: Literal["auto"] | BoxConvention, path: Path
) -> BoxConvention:
    if asked != "auto":
        if asked not in CONVENTIONS:
            raise DatasetError(
                f"unknown box convention {asked!r}; known are auto, {', '.join(CONVENTIONS)}"
            )
        return asked
    if not any(table.names for table in tables):
        return NEW  # a test file: nothing to convert
    recognised = recognise(tables, str(path))
    logger.info("%s: boxes recognised as written by %s", path, recognised)
    return recognised


@contextmanager
def _named(path: Path, index: int | None, info: object = None) -> Iterator[None]:
    """Name the file and frame in which a fault occurs."""
    where = f"{path}, metainfo" if index is None else f"{path}, frame {index}"
    sample = f" [sample {info['token']}]" if isinstance(info, Mapping) and "token" in info else ""
    try:
        yield
    except DatasetError as fault:
        raise DatasetError(f"{where}: {fault}{sample}") from fault
    except KeyError as missing:
        raise DatasetError(
            f"{where} lacks {missing}, which mmdet3d writes; create the file again with mmdet3d, "
            f"or read the nuScenes tables instead{sample}"
        ) from missing
    except (TypeError, ValueError, IndexError, AttributeError) as fault:
        raise DatasetError(
            f"{where} has a value of an unexpected form ({type(fault).__name__}: {fault}); create "
            f"the file again with mmdet3d, or read the nuScenes tables instead{sample}"
        ) from fault
