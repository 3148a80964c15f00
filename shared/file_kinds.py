"""What a file is that is not what its name says: recognised from its first bytes, for messages.

Downloads leave such files behind: the page of a link, the pointer of Git LFS, an archive that was
never unpacked. Imports nothing of ours.
"""

import zipfile
from pathlib import Path

HEAD_BYTES = 1024
SHOWN_CHARACTERS = 40

PAGE = (
    "a web page or an error message of a server: the link did not lead to the file, so open it in "
    "a browser and download the file that it offers"
)
LFS = (
    "a Git LFS pointer, three lines that stand for the file: run `git lfs pull` where it was "
    "cloned, or download the file itself"
)
# Offset, bytes there, name of the archive.
ARCHIVES = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "rar"),
    (257, b"ustar", "tar"),
)
OTHERS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"%PDF", "a PDF document"),
)
TORCH_ENTRY, SCRIPT_ENTRY = "data.pkl", "constants.pkl"


def foreign_kind(path: Path) -> str | None:
    """Return what a file is and what to do, in words that follow "it is"; None if unknown.

    Files of torch and pickles are no foreign kinds; neither are files of raw numbers.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"version https://git-lfs"):
        return LFS
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return PAGE
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path, head)
    for offset, magic, name in ARCHIVES:
        if head[offset:].startswith(magic):
            return f"a {name} archive: unpack it and name the file inside"
    for magic, name in OTHERS:
        if head.startswith(magic):
            return f"{name}: name the right file"
    return _text_kind(head)


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors files do: a length, then that much JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _zip_kind(path: Path, head: bytes) -> str | None:
    """Return what a zip archive holds, None for one that torch.save wrote, or part of one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
        torch_part = first.endswith(TORCH_ENTRY)
        return None if torch_part else "an incomplete zip archive: copy or download it again"
    ends = {name.rpartition("/")[2] for name in names}
    if SCRIPT_ENTRY in ends:
        return (
            "a TorchScript program, which can only be run: save the state_dict of the model that "
            "it was made from"
        )
    if TORCH_ENTRY in ends:
        return None
    listed = ", ".join(names[:3]) or "nothing"
    return f"a zip archive ({len(names)} files: {listed}): unpack it and name the file inside"


def _text_kind(head: bytes) -> str | None:
    """Return the beginning of a text; None for anything else, and for an empty file."""
    try:
        text = head[:SHOWN_CHARACTERS].decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if not text or not text.replace("\n", " ").replace("\r", " ").replace("\t", " ").isprintable():
        return None
    return f"a text that begins with {text!r}: name the right file, or download it again"
