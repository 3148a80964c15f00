"""CMT's head: from tokens of the sensors and queries in space, through the decoder, to boxes.

B samples, V views, C channels, H W feature rows and columns, Y X BEV rows and columns, Q queries,
N memory tokens, D width, L decoder layers.

Source: CMT, cmt_head.py `CmtHead`, and `CmtLidarHead` and `CmtImageHead` for a single sensor.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.config.aqr_config import AqrConfig
from shared.model.aqr.bias_generator import AttentionBiasGenerator
from shared.model.aqr.sensor_weights import WeightedMemory, apply_sensor_weights
from shared.model.aqr.weight_generator import AqrWeightGenerator
from shared.model.attention.joined_cast import call_with_joined_cast
from shared.model.attention.windows.local_windows import QueryCells, TokenLayout, query_cells
from shared.model.decoder import Decoder
from shared.model.denoising import DenoisingQueries
from shared.model.geometry.position_embedding import PositionEmbedding
from shared.model.geometry.positions import (
    CameraGeometry,
    bev_waves,
    fractions_to_metres,
    inverse_sigmoid,
    invert_cameras,
    metres_to_fractions,
    pixel_rays_m,
    query_rays_m,
    ray_depths_m,
    sine_embedding,
)
from shared.model.outputs import HeadOutputs, split_denoising
from shared.model.task_heads import TaskHeads

RAY_EXPANSION = 4  # hidden width of the ray embedding, in multiples of D


class CmtHead(nn.Module):
    """From the necks' maps to predictions, with the official parameter names.

    Args:
        bev_channels: C of the BEV map; None without LiDAR, or if the BEV map comes from after
            `shared_conv`, which then does not exist (`bev_embedding` does: it places queries).
        image_px: (height, width) of the images that `img_from_lidar` projects into; None for a
            detector without cameras, which then has no `rv_embedding`.
        width: D.
        queries: Q.
        depths: points along a camera ray.
        point_range_m: minima, then maxima of x, y, z.
        bev_cell_m: side of a BEV cell.
        aqr: adaptive query routing, for a detector of both sensors; None is plain CMT.
        decoder: built for the same width.
        task_heads: built for the same width and number of layers.
    """

    point_range_m: Tensor
    depths_m: Tensor

    def __init__(
        self,
        *,
        bev_channels: int | None,
        image_px: tuple[int, int] | None,
        width: int,
        queries: int,
        depths: int,
        point_range_m: Sequence[float],
        bev_cell_m: float,
        aqr: AqrConfig | None,
        decoder: Decoder,
        task_heads: TaskHeads,
    ) -> None:
        super().__init__()
        self.width, self.image_px = width, image_px
        range_m = torch.tensor(point_range_m, dtype=torch.float32).view(2, 3)
        self.register_buffer("point_range_m", range_m, persistent=False)
        self.register_buffer("depths_m", ray_depths_m(depths, range_m[1, 0]), persistent=False)
        self.shared_conv = None if bev_channels is None else conv_norm_relu(bev_channels, width)
        self.transformer = nn.ModuleDict({"decoder": decoder})
        self.reference_points = nn.Embedding(queries, 3)
        self.bev_embedding = PositionEmbedding(2 * width, width, width)
        self.rv_embedding = (
            None
            if image_px is None
            else PositionEmbedding(3 * depths, RAY_EXPANSION * width, width)
        )
        self.task_heads = nn.ModuleList([task_heads])
        nn.init.uniform_(self.reference_points.weight, 0.0, 1.0)
        self.bev_cell_m, self.aqr = bev_cell_m, aqr
        # Last, so that all other weights are those of a detector without AQR.
        self.aqr_weight_generator = None if aqr is None else AqrWeightGenerator(width, aqr)
        self.attention_bias_generator = (
            AttentionBiasGenerator(aqr) if aqr is not None and aqr.effect == "bias" else None
        )

    def forward(
        self,
        bev: Tensor | None,
        camera: Tensor | None,
        img_from_lidar: Tensor,
        denoising: DenoisingQueries | None = None,
    ) -> HeadOutputs:
        """Predict boxes.

        Args:
            bev: (B, C, Y, X), square, C is D without `shared_conv`; None without LiDAR.
            camera: (B, V, D, H, W), the finest level of the camera neck; None without cameras.
            img_from_lidar: (B, V, 4, 4) float64; V is 0 without cameras.
            denoising: extra queries, decoded along with the others and split off again.
        """
        cameras = self.geometry(img_from_lidar)
        keys, values = self.memory(bev, camera, cameras)  # (B, N, D)
        references = self.references(len(values), denoising)  # (B, Q, 3)
        positions = self.query_positions(references, cameras)
        padded = 0 if denoising is None else denoising.references.shape[1]
        weighted = WeightedMemory(keys=keys, values=values)
        if self.aqr is not None and self.aqr_weight_generator is not None:
            assert bev is not None
            assert camera is not None
            layout = TokenLayout.of(bev, camera)
            weighted = apply_sensor_weights(
                self.aqr,
                self.aqr_weight_generator,
                self.attention_bias_generator,
                positions=positions,
                keys=keys,
                values=values,
                cells=self.query_cells(references, cameras, layout),
                padded=padded,
            )
        allowed = None if denoising is None else ~denoising.blocked
        memory = weighted.keys, weighted.values
        decoded = call_with_joined_cast(
            self.transformer["decoder"], positions, positions, *memory, allowed, weighted.bias
        )
        return split_denoising(self.predict(decoded, references), weighted.weights, padded)

    def query_cells(
        self, references: Tensor, cameras: CameraGeometry | None, layout: TokenLayout
    ) -> QueryCells:
        """Return where (B, Q, 3) references are on both maps, clamped as in `query_positions`."""
        assert cameras is not None
        inside = inverse_sigmoid(references).sigmoid()
        return query_cells(
            fractions_to_metres(inside, self.point_range_m),
            cameras,
            layout,
            origin_m=self.point_range_m[0, :2],
            bev_cell_m=self.bev_cell_m,
        )

    def geometry(self, img_from_lidar: Tensor) -> CameraGeometry | None:
        """Return the cameras in both directions, or None for a detector without them."""
        if self.image_px is None:
            return None
        height_px, width_px = self.image_px
        return invert_cameras(
            img_from_lidar,
            height_px=height_px,
            width_px=width_px,
            dtype=self.point_range_m.dtype,
        )

    def references(self, samples: int, denoising: DenoisingQueries | None) -> Tensor:
        """Return (B, Q, 3) fractions of the point range, denoising queries first."""
        learnt = self.reference_points.weight.expand(samples, -1, -1)
        return learnt if denoising is None else torch.cat([denoising.references, learnt], dim=1)

    def memory(
        self, bev: Tensor | None, camera: Tensor | None, cameras: CameraGeometry | None
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values (B, N, D) the queries look at: BEV cells, then pixels.

        The keys are the values plus their positions.
        """
        values, positions = [], []
        if bev is not None:
            cells = bev if self.shared_conv is None else self.shared_conv(bev)  # (B, D, Y, X)
            values.append(cells.flatten(2).transpose(1, 2))  # (B, Y * X, D)
            positions.append(self.bev_positions(*cells.shape[-2:]).expand(len(cells), -1, -1))
        if cameras is not None:
            assert camera is not None
            values.append(camera.permute(0, 1, 3, 4, 2).flatten(1, 3))  # (B, V * H * W, D)
            positions.append(self.image_positions(cameras, *camera.shape[-2:]).flatten(1, 3))
        tokens = torch.cat(values, dim=1)  # (B, N, D)
        return tokens + torch.cat(positions, dim=1), tokens

    def bev_positions(self, rows: int, columns: int) -> Tensor:
        """Return (Y * X, D)."""
        range_m = self.point_range_m
        waves = bev_waves(rows, columns, self.width, range_m.dtype, range_m.device)
        embedded: Tensor = self.bev_embedding(waves)
        return embedded

    def image_positions(self, cameras: CameraGeometry, rows: int, columns: int) -> Tensor:
        """Return (B, V, H, W, D)."""
        return self._embed_rays(pixel_rays_m(cameras, rows, columns, self.depths_m))

    def query_positions(self, references: Tensor, cameras: CameraGeometry | None) -> Tensor:
        """Return (B, Q, D): the position seen from above plus, with cameras, that in the images."""
        # Upstream: queries are placed at their references after a clamp by 1e-5, while boxes are
        # predicted relative to the references themselves (`predict`).
        inside = inverse_sigmoid(references).sigmoid()
        from_above = self.bev_query_positions(inside)
        if cameras is None:
            return from_above
        return from_above + self.ray_query_positions(inside, cameras)

    def bev_query_positions(self, fractions: Tensor) -> Tensor:
        """Return (B, Q, D) of (B, Q, 3) fractions of the point range."""
        embedded: Tensor = self.bev_embedding(sine_embedding(fractions, self.width))
        return embedded

    def ray_query_positions(self, fractions: Tensor, cameras: CameraGeometry) -> Tensor:
        """Return (B, Q, D), summed over the cameras that see a query, 0 where none does."""
        # Upstream: a sum, so the position of a query that two cameras see is a longer vector.
        points_m = fractions_to_metres(fractions, self.point_range_m)
        rays_m, visible = query_rays_m(points_m, cameras, self.depths_m)
        return (self._embed_rays(rays_m) * visible.unsqueeze(-1)).sum(dim=1)

    def predict(self, decoded: Tensor, references: Tensor) -> dict[str, Tensor]:
        """Turn the decoder's (L, B, Q, D) into predictions, centres relative to the references."""
        predictions: dict[str, Tensor] = self.task_heads[0](decoded)
        # Upstream: the log of the length, called `height` there, is scaled to the range of z and
        # starts from the reference's z. See `shared.model.outputs`.
        placed = torch.cat([predictions["center_xy_m"], predictions["log_length"]], dim=-1)
        fractions = (placed + inverse_sigmoid(references)).sigmoid()
        scaled = fractions_to_metres(fractions, self.point_range_m)
        return predictions | {"center_xy_m": scaled[..., :2], "log_length": scaled[..., 2:]}

    def _embed_rays(self, rays_m: Tensor) -> Tensor:
        """Return (..., D) from (..., depths, 3)."""
        fractions = metres_to_fractions(rays_m, self.point_range_m)
        assert self.rv_embedding is not None
        embedded: Tensor = self.rv_embedding(fractions.flatten(-2))
        return embedded


def conv_norm_relu(source: int, target: int) -> nn.Sequential:
    """Return mmcv's ConvModule: convolution, batch norm, ReLU."""
    conv = nn.Conv2d(source, target, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(
        OrderedDict(conv=conv, bn=nn.BatchNorm2d(target), activate=nn.ReLU(inplace=True))
    )
