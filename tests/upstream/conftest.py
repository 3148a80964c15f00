"""Golden sets: found in folders, told apart by content, and built into our modules."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.config.head_config import Denoising, HeadConfig
from shared.config.preset_catalogue import GRID_0100
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.detector import build_head
from shared.model.head import CmtHead
from shared.model.outputs import HeadOutputs

# Of the largest value of a tensor. In float64 the goldens move by 2e-6, as do our numbers.
FORWARD = 1e-5
DEFAULT_DIRECTORIES = ("tests/upstream/goldens", "../shared/golden")


@dataclass(frozen=True)
class GoldenSet:
    """A JSON file, `path`, and the arrays of the same name beside it, if there are any."""

    path: Path
    document: dict[str, Any]

    @property
    def kind(self) -> str:
        """What the set is about, or "unknown"."""
        if "head_cfg" in self.document:
            return "head"
        if {"cpfpn", "secondfpn"} & set(self.document.get("cfg", ())):
            return "neck"
        if {"recipe", "keys"} <= set(self.document):
            return "vovnet"
        if "samples" in self.document:
            return "preprocessing"
        if "augmentation" in self.document:
            return "augmentation"
        return "keys" if {"config", "keys"} <= set(self.document) else "unknown"

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """Every array by its key."""
        with np.load(self.path.with_suffix(".npz")) as stored:
            return {key: torch.from_numpy(stored[key]) for key in stored.files}

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays whose keys begin with `prefix`, by the rest of the key."""
        return {
            key.removeprefix(prefix): value
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }


class HeadGolden:
    """A head set: its numbers as our config, its weights in our head, its inputs.

    A set of one sensor has no `bev`, or no `camera` and no `image_px`.
    """

    def __init__(self, golden: GoldenSet) -> None:
        self.golden, self.arrays, self.document = golden, golden.arrays, golden.document
        self.cfg = golden.document["head_cfg"]
        self.point_range_m = tuple(self.cfg["bbox_coder"]["pc_range"])
        self.config = self._config()
        self.bev = self.arrays.get("in/bev")
        self.camera = self.image_px = None
        if "in/img" in self.arrays:
            height_px, width_px, _ = self.arrays["in/pad_shape"].tolist()
            self.image_px = height_px, width_px
            self.img_from_lidar = self.arrays["in/lidar2img"]
            self.camera = self.arrays["in/img"].unflatten(0, self.img_from_lidar.shape[:2])
        else:
            self.img_from_lidar = torch.empty(len(self.bev), 0, 4, 4, dtype=torch.float64)
        self.samples = len(self.img_from_lidar)

    def _config(self) -> HeadConfig:
        (task,) = self.cfg["tasks"]
        decoder = self.cfg["transformer"]["decoder"]
        layer = decoder["transformerlayers"]
        self_attention, _ = layer["attn_cfgs"]
        loss, coder = self.cfg["loss_cls"], self.cfg["bbox_coder"]
        return HeadConfig(
            queries=self.cfg["num_query"],
            width=self.cfg["hidden_dim"],
            heads=self_attention["num_heads"],
            layers=decoder["num_layers"],
            ffn_width=layer["ffn_cfgs"]["feedforward_channels"],
            dropout=self_attention["dropout"],
            depths=self.cfg["depth_num"],
            task_width=self.cfg["separate_head"].get("head_conv", 64),
            task_kernel=self.cfg["separate_head"].get("final_kernel", 1),
            classes=len(task["class_names"]),
            denoising=Denoising(
                groups=self.cfg["scalar"],
                noise_scale=self.cfg["noise_scale"],
                noise_offset_m=self.cfg["noise_trans"],
                split=self.cfg["split"],
                weight=self.cfg["dn_weight"],
            ),
            class_weight=loss["loss_weight"],
            box_weight=self.cfg["loss_bbox"]["loss_weight"],
            focal_alpha=loss["alpha"],
            focal_gamma=loss["gamma"],
            code_weights=tuple(self.cfg["train_cfg"]["code_weights"]),
            max_boxes=coder["max_num"],
            kept_range_m=tuple(coder["post_center_range"]),
        )

    @property
    def matching_config(self) -> HeadConfig:
        """The config with the weights of the matching cost in place of those of the losses."""
        assigner = self.cfg["train_cfg"]["assigner"]
        cost = assigner["cls_cost"]
        return HeadConfig(
            classes=self.config.classes,
            class_weight=cost["weight"],
            box_weight=assigner["reg_cost"]["weight"],
            focal_alpha=cost.get("alpha", 0.25),
            focal_gamma=cost.get("gamma", 2),
            code_weights=tuple(assigner.get("code_weights") or [1.0] * 10),
        )

    def build(self) -> CmtHead:
        """Return our head with the golden's weights, in eval mode."""
        head = build_head(
            self.config,
            bev_channels=None if self.bev is None else self.cfg["in_channels"],
            image_px=self.image_px,
            # Without AQR, only the range of the grid matters.
            grid=replace(GRID_0100, point_range_m=self.point_range_m),
        )
        head.load_state_dict(self.golden.state("sd/pts_bbox_head."), strict=True)
        return head.eval()

    def run(self, head: CmtHead, denoising: DenoisingQueries | None = None) -> HeadOutputs:
        """Return what our head makes of the golden's inputs."""
        outputs: HeadOutputs = head(self.bev, self.camera, self.img_from_lidar, denoising)
        return outputs

    def check(self, ours: Tensor, key: str, tolerance: float = FORWARD) -> None:
        """Compare with the array at `key`; the tolerance is relative to its largest value."""
        official = self.arrays[key]
        assert ours.shape == official.shape, key
        atol = tolerance * official.abs().max().item() if official.numel() else 0.0
        torch.testing.assert_close(
            ours.detach(), official, rtol=0, atol=atol, msg=lambda text: f"{key}: {text}"
        )

    def ground_truth(
        self, *, without_sample: int | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes and labels of each sample; `without_sample` loses its own."""
        rows_of = [
            slice(0) if sample == without_sample else slice(None) for sample in range(self.samples)
        ]
        boxes = [self.arrays[f"gt/{b}/boxes_gravity"][rows] for b, rows in enumerate(rows_of)]
        labels = [self.arrays[f"gt/{b}/labels"][rows] for b, rows in enumerate(rows_of)]
        return boxes, labels

    def denoising(self, boxes: list[Tensor], labels: list[Tensor], leg: str) -> DenoisingQueries:
        """Return the queries made with the stored noise of `leg` (train or edge_nogt1)."""
        noise = self.arrays.get(f"{leg}/dn/rand_prob")
        queries = make_denoising_queries(
            boxes,
            labels,
            self.config,
            self.point_range_m,
            noise=noise,
            generator=torch.Generator() if noise is None else None,
        )
        assert queries is not None
        return queries


def _directories(config: pytest.Config) -> Iterator[Path]:
    options = config.getoption("--golden-dir")
    if not options:
        defaults = (config.rootpath / folder for folder in DEFAULT_DIRECTORIES)
        yield from (folder for folder in defaults if folder.is_dir())
        return
    for option in options:
        folder = config.invocation_params.dir / option
        if not folder.is_dir():
            raise pytest.UsageError(f"--golden-dir {option}: no such folder")
        yield folder


def _golden_sets(config: pytest.Config) -> list[GoldenSet]:
    """Return every set once, even if its JSON is in two of the folders."""
    paths = [path for folder in _directories(config) for path in sorted(folder.glob("*.json"))]
    unique = {path.read_bytes(): path for path in reversed(paths)}
    return [GoldenSet(path, json.loads(text)) for text, path in reversed(unique.items())]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture in metafunc.fixturenames:
        kind, separator, rest = fixture.partition("_golden")
        if separator and not rest:
            sets = [golden for golden in _golden_sets(metafunc.config) if golden.kind == kind]
            metafunc.parametrize(
                fixture, sets, ids=[golden.path.stem for golden in sets], scope="session"
            )


@pytest.fixture(scope="session")
def head(head_golden: GoldenSet) -> HeadGolden:
    return HeadGolden(head_golden)
