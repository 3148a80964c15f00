"""Ways to read whole samples, row by row, in one process: our reader and its alternatives.

Every function takes the rows and a folder for its copies, and returns a function that reads a row.
h5py, tensorstore and zarrs are optional: a missing package is reported as such.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from benchmarks.speed.store.loading import checked_rows, sealed_rows
from benchmarks.speed.store.sample_rows import Rows
from cache.format.codec import CODECS
from cache.reader import CachedFeatures

ReadRow = Callable[[int], Sequence[Any]]  # the maps of the n-th row
THREAD = {"limit": 1}  # tensorstore would use a pool, and everything here uses one core


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """A way to read rows.

    Args:
        name: in the table.
        prepare: copies the rows into a folder if it needs a copy; returns a function that reads a
            row.
        package: what must be installed.
        is_raw: whether it returns bytes rather than maps.
    """

    name: str
    prepare: Callable[[Rows, Path], ReadRow]
    package: str = "numpy"
    is_raw: bool = False


def _cached_features(rows: Rows, folder: Path) -> ReadRow:
    source = CachedFeatures(rows.store.path)
    return lambda i: list(source.read([rows.tokens[i]])[0].maps.values())


def _codec(rows: Rows, folder: Path) -> ReadRow:
    sealed = sealed_rows(rows.store, rows.positions)
    count = len(rows.positions)
    return lambda i: [
        CODECS[spec.codec].decode_row(row, spec.shape, spec.dtype) for spec, row in sealed[i::count]
    ]


def _copy(rows: Rows, folder: Path) -> ReadRow:
    return lambda i: [np.array(values) for values in rows.features[i].maps.values()]


def _read_stored(rows: Rows, folder: Path) -> ReadRow:
    return lambda i: list(checked_rows(rows.store, rows.positions[i : i + 1]))


def _raw_files(rows: Rows, folder: Path) -> dict[str, Path]:
    """Write every map of all rows to a headerless file; return the files by map."""
    files = {spec.name: folder / f"{spec.name.replace('/', '_')}.raw" for spec in rows.maps}
    for name, path in files.items():
        if not path.exists():
            with path.open("wb") as file:
                file.writelines(row.maps[name].tobytes() for row in rows.features)
    return files


def _pread(rows: Rows, folder: Path) -> ReadRow:
    files = _raw_files(rows, folder)
    opened = [(os.open(files[spec.name], os.O_RDONLY), spec.row_bytes) for spec in rows.maps]
    return lambda i: [os.pread(file, size, i * size) for file, size in opened]


def _memmap(rows: Rows, folder: Path) -> ReadRow:
    files = _raw_files(rows, folder)
    count = len(rows.positions)
    opened = [
        np.memmap(files[spec.name], spec.dtype, "r", shape=(count, *spec.shape))
        for spec in rows.maps
    ]
    return lambda i: [np.array(array[i]) for array in opened]


def _torch_files(rows: Rows, folder: Path) -> ReadRow:
    for i, row in enumerate(rows.features):
        maps = {name: torch.from_numpy(np.array(values)) for name, values in row.maps.items()}
        torch.save(maps, folder / f"{i}.pt")
    return lambda i: list(torch.load(folder / f"{i}.pt", weights_only=True).values())


def _hdf5(compression: str | None, level: int | None, rows: Rows, folder: Path) -> ReadRow:
    h5py = import_module("h5py")
    path = folder / f"{compression}.h5"
    count = len(rows.positions)
    with h5py.File(path, "w") as file:
        for spec in rows.maps:
            data = file.create_dataset(
                spec.name,
                (count, *spec.shape),
                spec.dtype,
                chunks=(1, *spec.shape),
                compression=compression,
                compression_opts=level,
            )
            for i, row in enumerate(rows.features):
                data[i] = row.maps[spec.name]
    opened = h5py.File(path)
    arrays = [opened[spec.name] for spec in rows.maps]
    return lambda i: [array[i] for array in arrays]


def _zarr_python(rows: Rows, folder: Path) -> ReadRow:
    group = zarr.open_group(rows.store.path, mode="r")
    arrays = [group[spec.name] for spec in rows.maps]
    return lambda i: [array[0, rows.positions[i]] for array in arrays]


def _zarrs(rows: Rows, folder: Path) -> ReadRow:
    import_module("zarrs")
    pipeline = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    with zarr.config.set(pipeline):  # an array keeps the pipeline it was opened with
        return _zarr_python(rows, folder)


def _tensorstore(rows: Rows, folder: Path) -> ReadRow:
    tensorstore = import_module("tensorstore")
    context = tensorstore.Context({"data_copy_concurrency": THREAD, "file_io_concurrency": THREAD})
    arrays = []
    for spec in rows.maps:
        files = {"driver": "file", "path": f"{rows.store.path / spec.name}/"}
        description = {"driver": "zarr3", "kvstore": files}
        arrays.append(tensorstore.open(description, context=context, read=True).result())
    return lambda i: [array[0, rows.positions[i]].read().result() for array in arrays]


CODEC_ONLY = "codec alone, from memory"
OURS = "store, CachedFeatures.read"
ALTERNATIVES = (
    Alternative(name="copying in memory", prepare=_copy),
    Alternative(name="os.pread of float16", prepare=_pread, is_raw=True),
    Alternative(name="store, reading without decoding", prepare=_read_stored, is_raw=True),
    Alternative(name=CODEC_ONLY, prepare=_codec),
    Alternative(name=OURS, prepare=_cached_features),
    Alternative(name="store, zarr-python", prepare=_zarr_python),
    Alternative(name="store, zarrs", prepare=_zarrs, package="zarrs"),
    Alternative(name="store, tensorstore", prepare=_tensorstore, package="tensorstore"),
    Alternative(name="np.memmap of float16", prepare=_memmap),
    Alternative(name="torch.load, a file per sample", prepare=_torch_files),
    Alternative(name="HDF5, none", prepare=partial(_hdf5, None, None), package="h5py"),
    Alternative(name="HDF5, lzf", prepare=partial(_hdf5, "lzf", None), package="h5py"),
    Alternative(name="HDF5, gzip 1", prepare=partial(_hdf5, "gzip", 1), package="h5py"),
)
