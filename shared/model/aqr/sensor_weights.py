"""AQR between memory and decoder: weigh the sensors for each query, then apply the weights.

B samples, Q queries, N memory tokens, D width.
"""

from dataclasses import dataclass

from torch import Tensor

from shared.config.aqr_config import AqrConfig
from shared.model.aqr.bias_generator import AttentionBiasGenerator
from shared.model.aqr.modulation import modulate, splat_windows, weight_map
from shared.model.aqr.weight_generator import AqrWeightGenerator
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.local_windows import LocalWindows, QueryCells


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedMemory:
    """What the decoder gets.

    Args:
        keys, values: (B, N, D) memory with and without its positions.
        bias: on the cross attention, or None.
        weights: (B, Q, 2) LiDAR, cameras, in -1..1; None without AQR.
    """

    keys: Tensor
    values: Tensor
    bias: AttentionBias | None = None
    weights: Tensor | None = None


def apply_sensor_weights(
    config: AqrConfig,
    weight_generator: AqrWeightGenerator,
    bias_generator: AttentionBiasGenerator | None,
    *,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    cells: QueryCells,
    padded: int,
) -> WeightedMemory:
    """Weigh the sensors and turn the weights into a bias, or into scaled features.

    Args:
        config: of the run.
        weight_generator: trained.
        bias_generator: trained; None for "modulation".
        positions: (B, Q, D) of the queries, denoising queries first.
        keys: (B, N, D) memory plus its positions.
        values: (B, N, D) memory.
        cells: of the queries.
        padded: number of denoising queries.
    """
    camera_side = config.camera_side(columns=cells.layout.camera[-1])
    windows = LocalWindows(cells=cells, bev_side=config.bev_window, camera_side=camera_side)
    weights = weight_generator(positions, keys, values, windows)  # (B, Q, 2)
    if bias_generator is not None:
        bias = bias_generator(weights, windows)
        return WeightedMemory(keys=keys, values=values, bias=bias, weights=weights)
    # Denoising queries stand near the true boxes: the others would see what they render.
    learnt = splat_windows(cells.of_queries(slice(padded, None)), config.splat_cells)
    rendered = weight_map(weights[:, padded:], learnt, config.splat_cells)
    keys, values = modulate(keys, values, rendered, config.residual)
    return WeightedMemory(keys=keys, values=values, weights=weights)
