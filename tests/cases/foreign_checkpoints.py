"""Files that are named as a checkpoint and are something else."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes

from tests.cases.damaged_files import LFS_POINTER, WEB_PAGE

WEIGHTS = {"img_backbone.a": torch.arange(3.0), "pts_neck.b": torch.ones(2, 2, dtype=torch.half)}


@dataclass(frozen=True)
class ForeignFile:
    """A file that is no checkpoint.

    Args:
        content: makes its bytes.
        message: regular expression that the refusal matches, after the file's name.
    """

    content: Callable[[], bytes]
    message: str


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": WEIGHTS}, buffer)
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def torch_script() -> bytes:
    """Return a zip with the entries that tell TorchScript from torch.save."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("model/data.pkl", "model/constants.pkl", "model/code/__torch__.py"):
            archive.writestr(name, b"")
    return buffer.getvalue()


def numpy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def whole_model() -> bytes:
    """Return a module saved as a whole, which needs its class to be imported."""
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    return buffer.getvalue()


FOREIGN_CHECKPOINTS = {
    "a web page": ForeignFile(lambda: WEB_PAGE, r"it is a web page.*open it in a browser"),
    "an XML error": ForeignFile(
        lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        r"it is a web page or an error message of a server",
    ),
    "a Git LFS pointer": ForeignFile(lambda: LFS_POINTER, r"it is a Git LFS pointer.*git lfs pull"),
    "a JSON index": ForeignFile(
        lambda: b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
        r"it is a text that begins with '\{\"weight_map",
    ),
    "a zip archive": ForeignFile(
        lambda: zipped("weights/cmt.pth", torch_file()),
        r"it is a zip archive \(1 files: weights/cmt",
    ),
    "a NumPy archive": ForeignFile(
        lambda: zipped("a.npy", numpy_file()), r"it is a zip archive \(1 files: a\.npy\)"
    ),
    "a zip archive, cut": ForeignFile(
        lambda: zipped("weights/cmt.pth", torch_file())[:-300], r"it is an incomplete zip archive"
    ),
    "a tar archive": ForeignFile(
        lambda: tarred("cmt.pth", torch_file()), r"it is a tar archive: unpack it and name the file"
    ),
    "a gzip archive": ForeignFile(
        lambda: gzip.compress(tarred("cmt.pth", torch_file())), r"it is a gzip archive: unpack it"
    ),
    "TorchScript": ForeignFile(torch_script, r"it is a TorchScript program.*save the state_dict"),
    "a NumPy array": ForeignFile(numpy_file, r"it is a NumPy array"),
    "an image": ForeignFile(lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), r"it is a PNG image"),
    "a pickle": ForeignFile(
        lambda: pickle.dumps({"state_dict": {"a": 1}}), r"not a readable torch or safetensors file"
    ),
    "zeros": ForeignFile(lambda: bytes(4096), r"not a readable torch or safetensors file"),
    "nothing": ForeignFile(lambda: b"", r"\(0 bytes\) is not a readable .*truncated"),
    "a torch file, cut": ForeignFile(
        lambda: torch_file()[:-100], r"not a readable torch or safetensors file .*truncated"
    ),
    "safetensors, cut": ForeignFile(
        lambda: safetensors_bytes(WEIGHTS)[:-3], r"begins as a safetensors file does, but is not a"
    ),
    "safetensors, head cut": ForeignFile(
        lambda: safetensors_bytes(WEIGHTS)[:20], r"begins as a safetensors file does, but is not a"
    ),
    "a whole model": ForeignFile(
        whole_model,
        r"needs torch\.nn\.modules\.linear\.Linear besides .*not loaded.*state_dict\(\)",
    ),
}
