"""Where the sensor files named in an info file lie below the dataset root."""

from pathlib import Path, PurePosixPath

from shared.errors import DatasetError


def file_below(root: Path, text: str, folder: str) -> Path:
    """Return the absolute path of a file that an info file names.

    Info files carry the prefix of the machine that made them ("./data/nuscenes/samples/..."), or no
    folder at all (v2 keyframes). What counts is the part from samples/ or sweeps/ on.

    Args:
        root: absolute path of the dataset.
        text: the path as written.
        folder: "samples/CAM_FRONT" for example, where a bare file name belongs.

    Raises:
        DatasetError: if the path has folders, but neither samples/ nor sweeps/ among them.
    """
    parts = PurePosixPath(text.replace("\\", "/")).parts
    starts = [index for index, part in enumerate(parts) if part in ("samples", "sweeps")]
    if len(parts) == 1 and not starts:
        return root / folder / parts[0]
    if not starts or ".." in parts[starts[-1] :]:
        raise DatasetError(
            f"the path {text!r} has no part samples/... or sweeps/..., by which files are found "
            f"below the dataset root {root}; is this an info file of nuScenes?"
        )
    return root.joinpath(*parts[starts[-1] :])
