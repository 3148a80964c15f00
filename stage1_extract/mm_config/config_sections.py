"""The sections of a config that several readers use, opened once."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.config.classes import CLASS_NAMES
from shared.config.mm_config.config_faults import Report
from shared.config.mm_config.config_reader import Section
from stage1_extract.mm_config.pipeline import Steps, read_test_pipeline

# By whether the model has an image backbone and a point backbone.
HEADS = {
    (True, True): ("CmtHead", "CmtTransformer"),
    (False, True): ("CmtLidarHead", "CmtLidarTransformer"),
    (True, False): ("CmtImageHead", "CmtImageTransformer"),
}
MODEL_FIXED = {"pts_fusion_layer": None, "img_roi_head": None, "img_rpn_head": None}
MODEL_SKIPPED = {
    "pretrained": "the weights come from the checkpoint",
    "init_cfg": "the weights come from the checkpoint",
}
PREPROCESSOR_FIXED = {
    "bgr_to_rgb": False,
    "rgb_to_bgr": False,
    "batch_first": True,
    "max_voxels": None,
    "batch_augments": None,
}
PREPROCESSOR_SKIPPED = {
    "pad_value": "nothing is padded",
    "pad_mask": "there are no masks",
    "mask_pad_value": "there are no masks",
    "pad_seg": "there is no segmentation",
    "seg_pad_value": "there is no segmentation",
    "boxtype2tensor": "boxes are read from the nuScenes tables",
    "non_blocking": "affects speed only",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigSections:
    """Sections of one config.

    Args:
        config: all its top-level names.
        model: the model.
        preprocessor: `data_preprocessor` of mmdet3d 1.x, if present.
        head, coder: `pts_bbox_head` and its `bbox_coder`.
        transformer: the type of transformer that belongs to the head's type.
        train, assigner: `train_cfg.pts` and its `assigner`.
        test: `test_cfg.pts`, if present.
        steps: what the test pipeline does, by type of step.
        has_camera, has_lidar: which branches the model has.
    """

    config: Mapping[str, object]
    model: Section
    preprocessor: Section | None
    head: Section
    coder: Section
    transformer: str
    train: Section
    assigner: Section
    test: Section | None
    steps: Steps
    has_camera: bool
    has_lidar: bool

    @property
    def report(self) -> Report:
        """Collects the faults."""
        return self.model.report


def open_sections(config: Mapping[str, object], report: Report) -> ConfigSections:
    """Open the sections and check the fields that say which detector this is."""
    whole = Section(config, "", report)
    # A label is the position of the class in this list, which CMT's single task repeats.
    whole.fixed({"class_names": CLASS_NAMES})
    model = whole.section("model")
    model.kind("CmtDetector", covers=False)
    model.fixed(MODEL_FIXED)
    model.skip(MODEL_SKIPPED)
    preprocessor = model.optional_section("data_preprocessor")
    if preprocessor is not None:
        preprocessor.kind("Det3DDataPreprocessor")
        preprocessor.fixed(PREPROCESSOR_FIXED)
        preprocessor.skip(PREPROCESSOR_SKIPPED)
    has_camera, has_lidar = model.has("img_backbone"), model.has("pts_backbone")
    if not has_camera and not has_lidar:
        report.add(model.path, ": has neither img_backbone nor pts_backbone")
    head_kind, transformer = HEADS.get((has_camera, has_lidar), HEADS[True, True])
    head = model.section("pts_bbox_head")
    head.kind(head_kind)
    train = model.section("train_cfg").section("pts")
    test = model.optional_section("test_cfg")
    return ConfigSections(
        config=config,
        model=model,
        preprocessor=preprocessor,
        head=head,
        coder=head.section("bbox_coder"),
        transformer=transformer,
        train=train,
        assigner=train.section("assigner"),
        test=None if test is None else test.section("pts"),
        steps=read_test_pipeline(config, report),
        has_camera=has_camera,
        has_lidar=has_lidar,
    )
