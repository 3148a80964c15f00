"""An info file whose numbers cannot be nuScenes' is refused, naming file, frame and number."""

import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.config.classes import OTHER_CLASS
from shared.errors import DatasetError
from stage1_extract.__main__ import main as extract_features
from stage1_extract.nuscenes.annotations import CLASS_OF_CATEGORY, class_name, refuse_unknown_names
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from tests.cases.damaged_files import LFS_POINTER, WEB_PAGE
from tests.cases.right_infos import Info, document
from tests.cases.wrong_infos import CATEGORY, DIALECTS, WRONG_INFOS, WrongInfo


@pytest.fixture(scope="module")
def records(synthetic_root: Path) -> list[SampleRecord]:
    """Frames with sweeps: the first of a scene has none."""
    return read_tables(synthetic_root, "v1.0-mini", "mini_train")[1:]


def saved(folder: Path, content: Info) -> Path:
    path = folder / "infos.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("v2", [False, True])
def test_the_right_file_is_accepted(
    records: list[SampleRecord], synthetic_root: Path, tmp_path: Path, v2: bool
) -> None:
    read = read_infos(saved(tmp_path, document(records, v2)), synthetic_root)
    for record, original in zip(read, records, strict=True):
        np.testing.assert_array_equal(record.annotations.labels, original.annotations.labels)
        assert [record.lag_s(s) for s in record.sweeps] == [
            original.lag_s(s) for s in original.sweeps
        ]


@pytest.mark.parametrize("case", WRONG_INFOS.values(), ids=WRONG_INFOS)
@pytest.mark.parametrize("convention", ["auto", "mmdet3d>=1.0"])
def test_a_wrong_file_names_itself_and_the_frame(
    records: list[SampleRecord],
    synthetic_root: Path,
    tmp_path: Path,
    case: WrongInfo,
    convention: str,
) -> None:
    path = saved(tmp_path, case.of(records))
    with pytest.raises(DatasetError, match=re.escape(str(path)) + case.message) as caught:
        read_infos(path, synthetic_root, box_convention=convention)
    assert "convention" not in str(caught.value)


@pytest.mark.parametrize("name", ["v1, seconds", "a NaN height", "unknown names"])
def test_the_extraction_ends_with_status_1_before_anything_is_written(
    records: list[SampleRecord],
    synthetic_root: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    path = saved(tmp_path, WRONG_INFOS[name].of(records))
    where = ["--nuscenes", str(synthetic_root), "--infos", str(path)]
    assert extract_features(["tiny", *where, "--store", str(tmp_path / "store")]) == 1
    printed = capfd.readouterr().err
    assert re.search(re.escape(str(path)) + WRONG_INFOS[name].message, printed)
    assert "Traceback" not in printed
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("change", DIALECTS.values(), ids=DIALECTS)
def test_class_names_of_a_known_dialect_are_mapped(
    records: list[SampleRecord],
    synthetic_root: Path,
    tmp_path: Path,
    change: Callable[[Info], None],
) -> None:
    content = document(records, v2=False)
    change(content)
    read = read_infos(saved(tmp_path, content), synthetic_root)
    for record, original in zip(read, records, strict=True):
        np.testing.assert_array_equal(record.annotations.labels, original.annotations.labels)


def test_the_mapping_is_the_devkits() -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name

    for category, name in CLASS_OF_CATEGORY.items():
        assert category_to_detection_name(category) == name == class_name(category)
    assert {class_name(category) for category in CATEGORY.values()} == set(CATEGORY)
    for category in ("animal", "static_object.bicycle_rack", "vehicle.emergency.police"):
        assert category_to_detection_name(category) is None
        assert class_name(category) == category


def test_a_few_unknown_names_are_logged_and_become_other(
    records: list[SampleRecord],
    synthetic_root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = document(records * 5, v2=False)
    for number, info in enumerate(content["infos"]):
        info["token"] = f"token {number}"
    boxes = sum(len(info["gt_names"]) for info in content["infos"])
    assert boxes >= 200
    content["infos"][0]["gt_names"][0] = "rickshaw"
    path = saved(tmp_path, content)
    with caplog.at_level(logging.WARNING):
        read = {record.token: record for record in read_infos(path, synthetic_root)}
    assert read["token 0"].annotations.labels[0] == OTHER_CLASS
    assert f"1 of {boxes} boxes have names that are no class: 'rickshaw' (1)" in caplog.text


@pytest.mark.parametrize(("unknown", "refused"), [(5, False), (6, True)])
def test_the_limit_of_unknown_names_is_a_share(unknown: int, refused: bool) -> None:
    counts = {"car": 1000 - unknown, "Car of mine": unknown, "animal": 0}
    if not refused:
        refuse_unknown_names(counts, "infos.pkl")
        return
    with pytest.raises(DatasetError, match=r"6 of 1000 .*'Car of mine' \(6\).*Rename them"):
        refuse_unknown_names(counts, "infos.pkl")


@pytest.mark.parametrize(
    ("content", "words"), [(LFS_POINTER, "Git LFS pointer"), (WEB_PAGE, "a web page")]
)
def test_a_file_that_is_no_pickle_is_named_for_what_it_is(
    synthetic_root: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"infos\.pkl .*not a complete pickle.*{words}"):
        read_infos(path, synthetic_root)


@pytest.mark.real
def test_real_info_files_are_accepted(nuscenes_real: Path) -> None:
    files = sorted((nuscenes_real / "infos").glob("*.v[12].*pkl")) + sorted(
        (nuscenes_real / "infos").glob("*.v[12].pkl")
    )
    assert files
    for file in files:
        assert read_infos(file, nuscenes_real)
