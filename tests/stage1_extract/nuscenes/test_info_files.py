"""Info files of every dialect give the same records as the nuScenes tables."""

import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from shared.config.classes import CLASS_NAMES
from shared.config.preset_catalogue import tiny
from shared.errors import DatasetError
from stage1_extract.extraction.extraction_identity import inputs_digest
from stage1_extract.nuscenes.annotations import annotations_of
from stage1_extract.nuscenes.box_convention import CONVENTIONS, BoxConvention
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.info_paths import file_below
from stage1_extract.nuscenes.info_v2 import boxes_v2, record_v2
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import Camera, SampleRecord, Sweep
from stage1_extract.nuscenes.safe_pickle import load_pickle
from stage1_extract.nuscenes.transforms import rigid, rotation_matrix

NINETY_DEGREES = [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]
AHEAD = [1.0, 0.0, 0.0, 0.0]
CAMERA_AXES = [0.5, -0.5, 0.5, -0.5]
V2_LABELS = {"pedestrian": 0, "truck": 1, "car": 2, "animal": -1}


def v1_of(record: SampleRecord) -> dict[str, Any]:
    """Write a made-up record as mmdet3d's converter would, with a foreign machine's prefix."""

    def ego2global(timestamp_us: int) -> list[float]:
        return [10.0, 4.0 + (timestamp_us - 1_500_000_000_000_000) / 250_000, 0.0]

    def sensor(source: Any, timestamp_us: int, axes: list[float]) -> dict[str, Any]:
        return {
            "data_path": "./data/nuscenes/" + record.relative(source.file),
            "timestamp": timestamp_us,
            "sensor2ego_rotation": axes,
            "sensor2ego_translation": [1.0, 0.0, 2.0],
            "ego2global_rotation": NINETY_DEGREES,
            "ego2global_translation": ego2global(timestamp_us),
            "sensor2lidar_rotation": source.rotation,
            "sensor2lidar_translation": source.translation_m,
        }

    boxes = record.annotations.boxes_lidar.astype(np.float64)
    names = [CLASS_NAMES[label] if label >= 0 else "animal" for label in record.annotations.labels]
    return {
        "token": record.token,
        "timestamp": record.timestamp_us,
        "lidar_path": "/somewhere/data/nuscenes/" + record.relative(record.lidar_file),
        "sweeps": [sensor(sweep, sweep.timestamp_us, AHEAD) for sweep in record.sweeps],
        "cams": {
            camera.name: sensor(camera, record.timestamp_us, CAMERA_AXES)
            | {"cam_intrinsic": camera.intrinsics}
            for camera in record.cameras
        },
        "lidar2ego_rotation": AHEAD,
        "lidar2ego_translation": [1.0, 0.0, 2.0],
        "ego2global_rotation": NINETY_DEGREES,
        "ego2global_translation": ego2global(record.timestamp_us),
        "gt_boxes": boxes[:, :7],
        "gt_velocity": boxes[:, 7:],
        "gt_names": np.array(names),
        "num_lidar_pts": record.annotations.lidar_points,
        "num_radar_pts": record.annotations.radar_points,
    }


def old_boxes(info: dict[str, Any]) -> dict[str, Any]:
    """Convert a v1 info's boxes to what mmdet3d < 1.0 wrote."""
    boxes = info["gt_boxes"][:, [0, 1, 2, 4, 3, 5, 6]].copy()
    boxes[:, 6] = -boxes[:, 6] - np.pi / 2
    return info | {"gt_boxes": boxes}


def v2_of(info: dict[str, Any], labels: dict[str, int]) -> dict[str, Any]:
    """Write a v1 info as mmdet3d 1.4's update_infos_to_v2.py does: through float32."""

    def inverse(sensor: dict[str, Any]) -> list[list[float]]:
        matrix = np.eye(4)
        rotation = sensor["sensor2lidar_rotation"]
        translation = sensor["sensor2lidar_translation"]
        matrix[:3, :3] = rotation.T
        matrix[:3, 3:] = -rotation.T @ translation.reshape(3, 1)
        listed: list[list[float]] = matrix.astype(np.float32).tolist()
        return listed

    def pose(rotation: list[float], translation: list[float]) -> list[list[float]]:
        listed: list[list[float]] = (
            rigid(rotation_matrix(rotation), translation).astype(np.float32).tolist()
        )
        return listed

    return {
        "token": info["token"],
        "timestamp": info["timestamp"] / 1e6,
        "ego2global": pose(info["ego2global_rotation"], info["ego2global_translation"]),
        "lidar_points": {
            "lidar_path": Path(info["lidar_path"]).name,
            "lidar2ego": pose(info["lidar2ego_rotation"], info["lidar2ego_translation"]),
        },
        "lidar_sweeps": [
            {
                "timestamp": sweep["timestamp"] / 1e6,
                "lidar_points": {
                    "lidar_path": sweep["data_path"],
                    "lidar2sensor": inverse(sweep),
                },
            }
            for sweep in info["sweeps"]
        ],
        "images": {
            name: {
                "img_path": Path(camera["data_path"]).name,
                "cam2img": camera["cam_intrinsic"].tolist(),
                "lidar2cam": inverse(camera),
            }
            for name, camera in info["cams"].items()
        },
        "instances": [
            {
                "bbox_3d": box.tolist(),
                "velocity": velocity.tolist(),
                "bbox_label_3d": labels.get(str(name), -1),
                "num_lidar_pts": lidar,
                "num_radar_pts": radar,
            }
            for box, velocity, name, lidar, radar in zip(
                info["gt_boxes"],
                info["gt_velocity"],
                info["gt_names"],
                info["num_lidar_pts"],
                info["num_radar_pts"],
                strict=True,
            )
        ],
    }


def worst_gap(ours: list[SampleRecord], theirs: list[SampleRecord]) -> float:
    """Compare what must be equal; return the largest gap of matrices and translations."""
    gaps = [0.0]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.token, a.scene, a.timestamp_us) == (b.token, b.scene, b.timestamp_us)
        assert a.keyframe_files == b.keyframe_files
        for name in ("ego_from_lidar", "global_from_ego"):
            gaps.append(np.abs(getattr(a, name) - getattr(b, name)).max())
        records: list[list[Sweep | Camera]] = [[*r.sweeps, *r.cameras] for r in (a, b)]
        for mine, their in zip(*records, strict=True):
            assert mine.file == their.file
            gaps.append(np.abs(mine.rotation - their.rotation).max())
            gaps.append(np.abs(mine.translation_m - their.translation_m).max())
        assert [s.timestamp_us for s in a.sweeps] == [s.timestamp_us for s in b.sweeps]
        for camera, same in zip(a.cameras, b.cameras, strict=True):
            assert camera.name == same.name
            np.testing.assert_array_equal(camera.intrinsics, same.intrinsics)
        for name in ("boxes_lidar", "labels", "lidar_points", "radar_points"):
            np.testing.assert_array_equal(
                getattr(a.annotations, name), getattr(b.annotations, name), strict=True
            )
    return float(max(gaps))


@pytest.fixture
def records(made_up_nuscenes: Path) -> list[SampleRecord]:
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


@pytest.fixture
def infos(records: list[SampleRecord]) -> list[dict[str, Any]]:
    return [v1_of(record) for record in records]


def save(root: Path, document: object) -> Path:
    path = root / "infos.pkl"
    path.write_bytes(pickle.dumps(document))
    return path


def test_v1_gives_the_records_of_the_tables_bit_for_bit(
    made_up_nuscenes: Path, records: list[SampleRecord], infos: list[dict[str, Any]]
) -> None:
    path = save(made_up_nuscenes, {"infos": infos[::-1], "metadata": {"version": "v1.0-mini"}})
    read = read_infos(path, made_up_nuscenes)
    assert worst_gap(read, records) == 0
    assert inputs_digest(read, tiny()) == inputs_digest(records, tiny())


def test_old_boxes_are_recognised_and_give_the_same_records(
    made_up_nuscenes: Path, records: list[SampleRecord], infos: list[dict[str, Any]]
) -> None:
    path = save(made_up_nuscenes, {"infos": [old_boxes(info) for info in infos]})
    for convention in ("auto", "mmdet3d<1.0"):
        read = read_infos(path, made_up_nuscenes, box_convention=convention)
        for ours, theirs in zip(read, records, strict=True):
            np.testing.assert_allclose(
                ours.annotations.boxes_lidar, theirs.annotations.boxes_lidar, atol=1e-6
            )


def test_a_convention_that_the_user_names_is_not_questioned(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    path = save(made_up_nuscenes, {"infos": infos})
    _, last = read_infos(path, made_up_nuscenes, box_convention="mmdet3d<1.0")
    np.testing.assert_allclose(
        last.annotations.boxes_lidar[0, 3:7], [2, 4, 1.5, -np.pi / 2], atol=1e-6
    )


def test_an_undecidable_convention_is_asked_for(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    for info in infos:
        info["gt_names"] = np.array(["animal"] * len(info["gt_names"]))
    path = save(made_up_nuscenes, {"infos": infos})
    with pytest.raises(DatasetError, match=r"infos\.pkl.*from 0 vehicles.*say which"):
        read_infos(path, made_up_nuscenes)
    assert len(read_infos(path, made_up_nuscenes, box_convention="mmdet3d>=1.0")) == 2


def test_v2_gives_the_same_records_within_float32(
    made_up_nuscenes: Path, records: list[SampleRecord], infos: list[dict[str, Any]]
) -> None:
    document = {
        "metainfo": {"categories": V2_LABELS},
        "data_list": [v2_of(info, V2_LABELS) for info in infos],
    }
    path = save(made_up_nuscenes, document)
    assert worst_gap(read_infos(path, made_up_nuscenes), records) < 1e-6


def test_a_v2_frame_without_sweeps_or_boxes_is_read(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    info = v2_of(infos[1], V2_LABELS)
    del info["lidar_sweeps"]
    info["instances"] = []
    path = save(made_up_nuscenes, {"metainfo": {"categories": V2_LABELS}, "data_list": [info]})
    (record,) = read_infos(path, made_up_nuscenes)
    assert record.sweeps == ()
    assert record.annotations.boxes_lidar.shape == (0, 9)


def test_a_v1_test_file_has_no_boxes(made_up_nuscenes: Path, infos: list[dict[str, Any]]) -> None:
    for info in infos:
        for key in ("gt_boxes", "gt_names", "gt_velocity", "num_lidar_pts", "num_radar_pts"):
            del info[key]
    path = save(made_up_nuscenes, {"infos": infos})
    first, _ = read_infos(path, made_up_nuscenes)
    assert first.annotations.labels.shape == (0,)


def test_stored_matrices_are_used_where_quaternions_are_missing_or_coarser(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    front, back = infos[1]["cams"]["CAM_FRONT"], infos[1]["cams"]["CAM_BACK"]
    del front["sensor2ego_rotation"]
    for camera in (front, back):
        camera["sensor2lidar_translation"] = camera["sensor2lidar_translation"] + 2e-5
    path = save(made_up_nuscenes, {"infos": infos})
    _, record = read_infos(path, made_up_nuscenes)
    for index in (0, 3):
        np.testing.assert_allclose(record.cameras[index].translation_m, 2e-5, atol=1e-12)


def test_matrices_that_contradict_the_quaternions_are_refused(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    sweep = infos[1]["sweeps"][0]
    sweep["sensor2lidar_translation"] = sweep["sensor2lidar_translation"] + [0, 0.01, 0]
    path = save(made_up_nuscenes, {"infos": infos})
    with pytest.raises(
        DatasetError, match=r"frame 1: .*pcd\.bin: its sensor2lidar_\* is 0\.01 away"
    ):
        read_infos(path, made_up_nuscenes)


def test_a_missing_key_names_file_frame_and_key(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    del infos[1]["num_radar_pts"]
    path = save(made_up_nuscenes, {"infos": infos})
    with pytest.raises(DatasetError, match=r"infos\.pkl, frame 1 lacks 'num_radar_pts'"):
        read_infos(path, made_up_nuscenes)


def test_a_value_of_an_unexpected_form_names_file_and_frame(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    infos[0]["gt_velocity"] = infos[0]["gt_velocity"][:2]
    path = save(made_up_nuscenes, {"infos": infos})
    with pytest.raises(DatasetError, match=r"frame 0 has a value of an unexpected form \(ValueE"):
        read_infos(path, made_up_nuscenes)


@pytest.mark.parametrize("document", [[1, 2], {"images": []}, {"infos": 3}, "text"])
def test_a_pickle_that_is_not_an_info_file_is_refused(
    made_up_nuscenes: Path, document: object
) -> None:
    path = save(made_up_nuscenes, document)
    with pytest.raises(DatasetError, match=r"infos\.pkl holds a .*an mmdet3d info file is"):
        read_infos(path, made_up_nuscenes)


def test_a_v2_time_in_microseconds_is_refused(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    info = v2_of(infos[1], V2_LABELS)
    info["timestamp"] *= 1e6
    path = save(made_up_nuscenes, {"metainfo": {"categories": V2_LABELS}, "data_list": [info]})
    with pytest.raises(DatasetError, match=r"frame 0: timestamp .* is not in seconds"):
        read_infos(path, made_up_nuscenes)


def test_a_token_that_occurs_twice_is_refused(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    path = save(made_up_nuscenes, {"infos": [*infos, infos[0]]})
    with pytest.raises(DatasetError, match=r"1 sample tokens occur more than once.*sample-0"):
        read_infos(path, made_up_nuscenes)


def test_a_missing_root_is_an_error_that_names_it(
    made_up_nuscenes: Path, infos: list[dict[str, Any]]
) -> None:
    path = save(made_up_nuscenes, {"infos": infos})
    with pytest.raises(DatasetError, match=r"dataset root .*nowhere is not a folder"):
        read_infos(path, made_up_nuscenes / "nowhere")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./data/nuscenes/samples/CAM_FRONT/a.jpg", "samples/CAM_FRONT/a.jpg"),
        ("/samples/nuscenes/sweeps/LIDAR_TOP/b.bin", "sweeps/LIDAR_TOP/b.bin"),
        ("..\\data\\sweeps\\LIDAR_TOP\\b.bin", "sweeps/LIDAR_TOP/b.bin"),
        ("a.jpg", "samples/CAM_FRONT/a.jpg"),
    ],
)
def test_files_are_located_by_their_path_below_the_root(text: str, expected: str) -> None:
    assert file_below(Path("/root"), text, "samples/CAM_FRONT") == Path("/root") / expected


@pytest.mark.parametrize("text", ["data/kitti/a.bin", "data/samples/../../etc/passwd"])
def test_a_path_outside_samples_and_sweeps_is_refused(text: str) -> None:
    with pytest.raises(DatasetError, match="contains no samples"):
        file_below(Path("/root"), text, "samples/CAM_FRONT")


def test_the_conventions_offered_are_those_of_the_type() -> None:
    assert get_args(BoxConvention) == CONVENTIONS


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "mini_val_all81.v1.pkl",
        "nuscenes_infos_val.mini.v1.mitbevfusion.pkl",
        "nuscenes_infos_val.mini.v1.fastbev.pkl",
    ],
)
def test_real_v1_files_give_the_records_of_the_tables_bit_for_bit(
    nuscenes_real: Path, name: str
) -> None:
    """The last two are of mmdet3d < 1.0: width first, different yaw and key of the intrinsics."""
    tables = read_tables(nuscenes_real, "v1.0-mini", "mini_val")
    infos = read_infos(nuscenes_real / "infos" / name, nuscenes_real)
    assert worst_gap(infos, tables) == 0
    assert inputs_digest(infos, tiny()) == inputs_digest(tables, tiny())


@pytest.mark.real
def test_the_complete_real_frames_are_the_same_from_both(nuscenes_real: Path) -> None:
    """All but the first: the rebuilt tables lack its velocities, see the README beside them."""
    tables = read_tables(nuscenes_real, "v1.0-mini", "mini_train+mini_val", existing_only=True)
    infos = read_infos(nuscenes_real / "infos/real_complete.v1.pkl", nuscenes_real)
    assert [r.token for r in tables] == [r.token for r in infos]
    assert worst_gap(tables[1:], infos[1:]) == 0
    np.testing.assert_array_equal(
        tables[0].annotations.boxes_lidar[:, :7], infos[0].annotations.boxes_lidar[:, :7]
    )


@pytest.mark.real
def test_real_frames_through_v2_move_by_less_than_a_tenth_of_a_millimetre(
    nuscenes_real: Path,
) -> None:
    infos = load_pickle(nuscenes_real / "infos/mini_val_all81.v1.pkl")["infos"]
    labels = {name: index for index, name in enumerate(CLASS_NAMES)}
    names = {index: name for name, index in labels.items()}
    v2 = []
    for info in infos:
        frame = v2_of(info, labels)
        v2.append(record_v2(frame, nuscenes_real, annotations_of(boxes_v2(frame, names))))
    tables = read_tables(nuscenes_real, "v1.0-mini", "mini_val")
    assert worst_gap(v2, tables) < 1e-4


@pytest.mark.real
def test_real_v2_files_are_recognised_as_new(nuscenes_real: Path) -> None:
    (v2,) = read_infos(nuscenes_real / "infos/mmdet3d_demo_scene0061.v2.pkl", nuscenes_real)
    (tables,) = read_tables(nuscenes_real, "v1.0-mini", "mini_train")
    np.testing.assert_array_equal(
        v2.annotations.boxes_lidar[:, :7], tables.annotations.boxes_lidar[:, :7]
    )
    for split, boxes in (("train", 130), ("val", 413), ("test", 0)):
        file = nuscenes_real / f"infos/nuscenes_infos_{split}.trainval_first10.v2.pkl"
        records = read_infos(file, nuscenes_real)
        assert [len(record.sweeps) for record in records] == [0] + [10] * 9
        assert sum(len(record.annotations.labels) for record in records) == boxes
