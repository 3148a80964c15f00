"""Write every case and print what the command says: `python -m tests.cases OUT [NUSCENES]`.

NUSCENES is a synthetic root (made in OUT if it is not given). One line per case: exit status and
message of `extract-features tiny`; the status is 1 for each, and 0 for the right files.
"""

import contextlib
import io
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage1_extract.__main__ import main as extract_features
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from tests.cases.damaged_files import JPEGS, POINT_FILES, DamagedFile
from tests.cases.foreign_checkpoints import FOREIGN_CHECKPOINTS
from tests.cases.right_infos import document
from tests.cases.wrong_infos import DIALECTS, WRONG_INFOS

TABLES = ("--version", "v1.0-mini", "--split", "mini_train")


def extraction(store: Path, root: Path, *options: str) -> tuple[int, str]:
    """Return exit status and the last line that `extract-features tiny` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        status = extract_features(
            ["tiny", "--nuscenes", str(root), "--store", str(store), *options]
        )
    return status, (printed.getvalue().strip() or "nothing printed").splitlines()[-1]


def linked_copy(root: Path, to: Path) -> Path:
    """Return a copy of a dataset whose sensor files are links, so that one can be replaced."""
    for file in root.rglob("*"):
        target = to / file.relative_to(root)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.absolute())
    return to


def sensor_cases(out: Path, root: Path, record: SampleRecord) -> Iterator[tuple[str, int, str]]:
    def with_damage(file: Path, case: DamagedFile, folder: Path) -> tuple[int, str]:
        copy = linked_copy(root, folder)
        bad = copy / record.relative(file)
        bad.unlink()
        bad.write_bytes(case.damage(file.read_bytes()))
        return extraction(folder / "store", copy, *TABLES)

    for name, case in JPEGS.items():
        yield f"image: {name}", *with_damage(record.cameras[0].file, case, out / f"image {name}")
    for name, case in POINT_FILES.items():
        yield f"points: {name}", *with_damage(record.lidar_file, case, out / f"points {name}")


def info_cases(
    out: Path, root: Path, records: list[SampleRecord]
) -> Iterator[tuple[str, int, str]]:
    contents = {f"info file: {name}": case.of(records) for name, case in WRONG_INFOS.items()}
    for name, change in DIALECTS.items():
        contents[f"right info file, names {name}"] = document(records, v2=False)
        change(contents[f"right info file, names {name}"])
    for v2 in (False, True):
        contents[f"right info file, v{1 + v2}"] = document(records, v2)
    for number, (name, content) in enumerate(contents.items()):
        file = out / f"infos_{number}.pkl"
        file.write_bytes(pickle.dumps(content))
        yield name, *extraction(out / f"store_{number}", root, "--infos", str(file))


def checkpoint_cases(out: Path, root: Path) -> Iterator[tuple[str, int, str]]:
    for number, (name, case) in enumerate(FOREIGN_CHECKPOINTS.items()):
        file = out / f"checkpoint_{number}.pth"
        file.write_bytes(case.content())
        options = (*TABLES, "--checkpoint", str(file))
        yield f"checkpoint: {name}", *extraction(out / "store_without_weights", root, *options)


def main(arguments: list[str]) -> int:
    out = Path(arguments[0])
    out.mkdir(parents=True)
    root = Path(arguments[1]) if len(arguments) > 1 else out / "nuscenes"
    if not root.exists():
        config = SyntheticConfig(scenes_train=1, scenes_val=1, samples_per_scene=3)
        write_synthetic_nuscenes(root, replace(config, render_stride_px=4), workers=1)
    records = read_tables(root, "v1.0-mini", "mini_train")[1:3]
    wrong = 0
    for cases in (
        sensor_cases(out, root, records[0]),
        info_cases(out, root, records),
        checkpoint_cases(out, root),
    ):
        for name, status, message in cases:
            print(f"{name} | {status} | {message}", flush=True)
            wrong += status != (0 if name.startswith("right") else 1)
    print(f"{wrong} cases ended otherwise than they should")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
