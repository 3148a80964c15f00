"""What the backbones' maps should tell by themselves: a dense loss that ends at the backbones.

Through queries alone, backbones learn late: first attention must find what they cannot show yet.
So a convolution of one pixel predicts, from the finest map of each sensor, which class is where; it
is trained along with the detector and then thrown away.

B samples, V views, K classes, n boxes of the batch, Y X cells of a map, P pairs of box and cell.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.sensor_drop import condition
from shared.model.box_coder import CODE_SIZE, encode_boxes
from shared.model.geometry.positions import CameraGeometry, project
from shared.model.losses import focal_loss

FIRST_LOGIT = -3.0  # bias of the class logits: objects are rare
DEPTH_SCALE_M = 10.0  # depths are predicted as the logarithm of this many metres
NO_LIDAR, NO_CAMERAS = condition((LIDAR,)), condition(CAMERAS)


class DenseHeads(nn.Module):
    """A convolution per sensor, and their losses.

    Args:
        preset: a detector of both sensors.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        assert preset.camera is not None
        assert preset.lidar is not None
        self.config, self.grid = preset.head, preset.grid
        self.names = preset.lidar_maps[0].name, preset.camera_maps[0].name
        self.bev = nn.Conv2d(preset.lidar.second_channels[0], self.config.classes + CODE_SIZE, 1)
        self.camera = nn.Conv2d(preset.camera.channels[0], self.config.classes + 1, 1)
        for layer in (self.bev, self.camera):
            assert layer.bias is not None
            nn.init.constant_(layer.bias[: self.config.classes], FIRST_LOGIT)

    def forward(self, maps: dict[str, Tensor], batch: Batch, cameras: CameraGeometry) -> Tensor:
        """Return the loss of both sensors, without those that a sample lacks.

        Args:
            maps: of the backbones.
            batch: with boxes and labels on the host.
            cameras: of the batch, on the device of the maps.
        """
        bev, camera = (maps[name] for name in self.names)
        sample = torch.cat(
            [torch.full((len(own),), index) for index, own in enumerate(batch.boxes_lidar)]
        ).to(bev.device)
        boxes = torch.cat(batch.boxes_lidar).to(bev.device)
        labels = torch.cat(batch.labels).to(bev.device)
        return self._bev_loss(self.bev(bev), batch.conditions, sample, boxes, labels) + (
            self._camera_loss(
                self.camera(camera.flatten(0, 1)).unflatten(0, camera.shape[:2]),
                batch.conditions,
                cameras,
                sample,
                boxes,
                labels,
            )
        )

    def _bev_loss(
        self,
        predicted: Tensor,
        conditions: Sequence[str],
        sample: Tensor,
        boxes: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return the loss of (B, K + 10, Y, X): class and box code where a box covers a cell."""
        classes = self.config.classes
        present = torch.tensor([name != NO_LIDAR for name in conditions], device=boxes.device)
        centres_m = self._cell_centres_m(boxes)  # (Y * X, 2)
        pairs = covered(boxes, centres_m, self.grid.bev_cell_m) & present[sample, None]
        box, cell = pairs.nonzero(as_tuple=True)  # (P,)
        logits = predicted[:, :classes].flatten(2)  # (B, K, Y * X)
        targets = torch.zeros_like(logits)
        targets[sample[box], labels[box], cell] = 1.0
        focal = self._focal(logits, targets)[present].sum()
        codes = predicted[:, classes:].flatten(2)[sample[box], :, cell]  # (P, 10)
        relative = boxes[box].clone()
        relative[:, :2] -= centres_m[cell]
        gap = (codes - encode_boxes(relative)).abs() * boxes.new_tensor(self.config.code_weights)
        loss = self.config.class_weight * focal + self.config.box_weight * gap.sum()
        return loss / max(len(box), 1)

    def _camera_loss(
        self,
        predicted: Tensor,
        conditions: Sequence[str],
        cameras: CameraGeometry,
        sample: Tensor,
        boxes: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return the loss of (B, V, K + 1, H, W): class and depth at the projected centres."""
        classes, (rows, columns) = self.config.classes, predicted.shape[-2:]
        present = torch.tensor(
            [[is_present(name, view) for view in CAMERAS] for name in conditions],
            device=boxes.device,
        )  # (B, V)
        own = cameras_of(cameras, sample)
        pixels, visible = project(boxes[:, None, :3], own)
        visible = visible.squeeze(-1) & present[sample]  # (n, V)
        box, view = visible.nonzero(as_tuple=True)  # (P,)
        u_px, v_px, _ = pixels[box, view, 0].unbind(-1)
        row = (v_px * rows / cameras.height_px).long().clamp(0, rows - 1)
        column = (u_px * columns / cameras.width_px).long().clamp(0, columns - 1)
        logits = predicted[:, :, :classes]
        targets = torch.zeros_like(logits)
        targets[sample[box], view, labels[box], row, column] = 1.0
        focal = self._focal(logits, targets)[present].sum()
        homogeneous = torch.cat([boxes[box, :3], torch.ones_like(boxes[box, :1])], dim=-1)
        depth_m = (own.img_from_lidar[box, view, 2] * homogeneous).sum(dim=-1)  # (P,)
        depths = predicted[sample[box], view, classes, row, column]
        gap = (depths - (depth_m.clamp(min=1.0) / DEPTH_SCALE_M).log()).abs().sum()
        return (self.config.class_weight * focal + gap) / max(len(box), 1)

    def _focal(self, logits: Tensor, targets: Tensor) -> Tensor:
        return focal_loss(
            logits, targets, alpha=self.config.focal_alpha, gamma=self.config.focal_gamma
        )

    def _cell_centres_m(self, boxes: Tensor) -> Tensor:
        """Return x and y of the BEV cells, row by row."""
        cells, low = self.grid.bev_cells, self.grid.point_range_m
        steps = (torch.arange(cells, device=boxes.device) + 0.5) * self.grid.bev_cell_m
        y, x = torch.meshgrid(steps + low[1], steps + low[0], indexing="ij")
        return torch.stack([x, y], dim=-1).flatten(0, 1).to(boxes)


def covered(boxes: Tensor, centres_m: Tensor, cell_m: float) -> Tensor:
    """Return which cells a box covers, (n, Y * X) bool: centres inside it, and its own centre's.

    Args:
        boxes: (n, 9), see `shared.model.box_coder`.
        centres_m: (Y * X, 2) centres of the cells.
        cell_m: their side.
    """
    offsets = centres_m - boxes[:, None, :2]  # (n, Y * X, 2)
    cosine, sine = boxes[:, 6:7].cos(), boxes[:, 6:7].sin()
    along = offsets[..., 0] * cosine + offsets[..., 1] * sine
    across = offsets[..., 1] * cosine - offsets[..., 0] * sine
    inside = (along.abs() <= boxes[:, 3:4] / 2) & (across.abs() <= boxes[:, 4:5] / 2)
    return inside | (offsets.abs() <= cell_m / 2).all(dim=-1)


def is_present(named: str, view: str) -> bool:
    """Return whether a sample in this condition has this camera."""
    return named != NO_CAMERAS and view not in named.split()


def cameras_of(cameras: CameraGeometry, sample: Tensor) -> CameraGeometry:
    """Return the cameras of each box's sample, as if every box were a sample."""
    return CameraGeometry(
        img_from_lidar=cameras.img_from_lidar[sample],
        lidar_from_img=cameras.lidar_from_img[sample],
        height_px=cameras.height_px,
        width_px=cameras.width_px,
    )
