"""Where the sensor files that an info file names are below the dataset root."""

from pathlib import Path, PurePosixPath

from shared.errors import DatasetError


def file_below(root: Path, text: str, folder: str) -> Path:
    """Return the absolute path of a file that an info file names.

    Info files carry the prefix of the machine that made them ("./data/nuscenes/samples/..."), or no
    folder at all (v2 keyframes). Only what follows from samples/ or sweeps/ on counts.

    Args:
        root: absolute path of the dataset.
        text: the path as written.
        folder: "samples/CAM_FRONT" for example, where a bare file name belongs.

    Raises:
        DatasetError: if the path has folders, but neither samples/ nor sweeps/ among them.
    """
    names = PurePosixPath(text.replace("\\", "/")).parts
    starts = [index for index, name in enumerate(names) if name in ("samples", "sweeps")]
    if len(names) == 1 and not starts:
        return root / folder / names[0]
    if not starts or ".." in names[starts[-1] :]:
        raise DatasetError(
            f"the path {text!r} contains no samples/... or sweeps/..., by which files are located "
            f"below the dataset root {root}; is this an info file of nuScenes?"
        )
    return root.joinpath(*names[starts[-1] :])
