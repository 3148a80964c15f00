"""The test pipeline of a config: the steps from raw files to the network's input."""

from collections.abc import Mapping

from shared.config.mm_config.config_faults import Report, shown
from shared.config.mm_config.config_reader import Section

RESIZE_STEPS = ("ResizeCropFlipImage", "ImageAug3D")
IMAGE_STEPS = (
    "LoadMultiViewImageFromFiles",
    "BEVLoadMultiViewImageFromFiles",
    *RESIZE_STEPS,
    "NormalizeMultiviewImage",
    "PadMultiViewImage",
)  # in the order in which they must run
POINT_STEPS = ("LoadPointsFromFile", "LoadPointsFromMultiSweeps", "PointsRangeFilter")

WITHOUT_EFFECT = {
    "LoadAnnotations3D": "boxes are read from the nuScenes tables",
    "DefaultFormatBundle3D": "packs what the other steps made",
    "Collect3D": "packs what the other steps made",
    "Pack3DDetInputs": "packs what the other steps made",
}
WRAPPER = "MultiScaleFlipAug3D"
WRAPPER_FIXED = {
    "pts_scale_ratio": 1,
    "flip": False,
    "pcd_horizontal_flip": False,
    "pcd_vertical_flip": False,
}
WRAPPER_SKIPPED = {
    "img_scale": "the resize step decides the size",
    "flip_direction": "nothing is flipped",
}
# Steps that move points and boxes may be in a test pipeline only if they move nothing. For each,
# the fields whose defaults would move them, and the fields whose defaults would not.
MOVING: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "GlobalRotScaleTrans": (
        {"rot_range": [0, 0], "scale_ratio_range": [1, 1]},
        {"translation_std": [0, 0, 0], "shift_height": False},
    ),
    "RandomFlip3D": ({}, {"flip_ratio_bev_horizontal": 0, "flip_ratio_bev_vertical": 0}),
}
MOVING_SKIPPED = {"sync_2d": "nothing is flipped"}

Steps = dict[str, Section]


def read_test_pipeline(config: Mapping[str, object], report: Report) -> Steps:
    """Return the relevant steps of the test pipeline by type, in their order.

    mm runs the pipeline inside `data.test` or `test_dataloader`; a `test_pipeline` beside it is
    only the variable from which it was made, and must agree.
    """
    pipelines = _pipelines(config, "test")
    if not pipelines:
        report.add("test_pipeline", ": missing, and neither data.test nor test_dataloader has one")
        return {}
    (place, steps), *copies = pipelines
    for copy_place, copied_steps in copies:
        if copied_steps != steps:
            report.add(
                copy_place,
                f": differs from {place}, which mm runs: a config that overrides only {copy_place} "
                "changes nothing",
            )
    relevant: Steps = {}
    _collect(steps, place, report, relevant)
    order = [IMAGE_STEPS.index(kind) for kind in relevant if kind in IMAGE_STEPS]
    if order != sorted(order):
        report.add(place, f": images must be processed in the order {', '.join(IMAGE_STEPS)}")
    return relevant


def training_resize_lim(config: Mapping[str, object], kind: str) -> tuple[float, float] | None:
    """Return `resize_lim` of the training pipeline's step of this type, or None."""
    for _, steps in _pipelines(config, "train"):
        for step in steps if isinstance(steps, list | tuple) else []:
            if not isinstance(step, Mapping) or not str(step.get("type")).endswith(kind):
                continue
            match step.get("data_aug_conf", step):
                case {"resize_lim": [int() | float() as low, int() | float() as high]}:
                    return low, high
    return None


def _pipelines(config: Mapping[str, object], split: str) -> list[tuple[str, object]]:
    """Return every pipeline of a split with its path, first the pipeline that mm runs."""
    pipelines = []
    for place in (("data", split), (f"{split}_dataloader", "dataset")):
        path, inside = list(place), _descend(config, place)
        while isinstance(inside, Mapping) and "pipeline" not in inside and "dataset" in inside:
            path, inside = [*path, "dataset"], inside["dataset"]
        if isinstance(inside, Mapping) and "pipeline" in inside:
            pipelines.append((".".join([*path, "pipeline"]), inside["pipeline"]))
    name = f"{split}_pipeline"
    return [*pipelines, (name, config[name])] if name in config else pipelines


def _descend(config: Mapping[str, object], names: tuple[str, ...]) -> object:
    value: object = config
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _collect(steps: object, place: str, report: Report, relevant: Steps) -> None:
    """Add the relevant steps to `relevant`; check that the others change nothing."""
    if not isinstance(steps, list | tuple):
        report.add(place, f" = {shown(steps)}: a list of steps is expected")
        return
    for index, step in enumerate(steps):
        where = f"{place}[{index}]"
        section = Section(step if isinstance(step, Mapping) else {}, where, report)
        kind = section.kind(*IMAGE_STEPS, *POINT_STEPS, WRAPPER, *MOVING, *WITHOUT_EFFECT)
        if report.covers(where) or kind in WITHOUT_EFFECT:
            continue
        if kind in relevant:
            report.add(where, f": there is a second {kind}")
        elif kind in (*IMAGE_STEPS, *POINT_STEPS):
            relevant[kind] = section
        elif kind == WRAPPER:
            section.fixed(WRAPPER_FIXED)
            section.skip(WRAPPER_SKIPPED)
            _collect(section.value("transforms"), f"{where}.transforms", report, relevant)
            section.finish()
        else:
            required, fixed = MOVING[kind]
            section.must_be(required)
            section.fixed(fixed)
            section.skip(MOVING_SKIPPED)
            section.finish()
