"""Torch's memory-saving attention kernels with their log-sum-exp, which its public function hides.

B samples, Q queries, N tokens, E width of a head.
"""

import torch
from torch import Tensor

from shared.errors import ConfigError


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attend without keeping the scores.

    Args:
        query: (B, heads, Q, E).
        key: (B, heads, N, E).
        value: (B, heads, N, E).
        mask: (B, 1, Q, N), added to the scores, in the dtype of the query.

    Returns:
        Attended (B, heads, Q, E) and the log-sum-exp of the scores, (B, heads, Q) float32.

    Raises:
        ConfigError: if torch has no such kernel for the device.
    """
    _require_kernel(query)
    if query.is_cuda:
        mask = mask.expand(-1, query.shape[1], -1, -1)
        attended, log_sum, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, True
        )
        # The kernel pads the queries of its log-sum-exp.
        return attended, log_sum[:, :, : query.shape[2]]
    attended, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, attn_mask=mask
    )
    return attended, log_sum


def attend_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    attended: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value; arguments as `attend` took and gave them."""
    if query.is_cuda:
        mask = mask.expand(-1, query.shape[1], -1, -1)
        seed = torch.zeros((), dtype=torch.int64, device=query.device)  # of a dropout of 0
        found = torch.ops.aten._scaled_dot_product_efficient_attention_backward(
            grad, query, key, value, mask, attended, _padded(log_sum), seed, seed, 0.0,
            [True, True, True, False],
        )  # fmt: skip
    else:
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, attended, log_sum, 0.0, False, attn_mask=mask
        )
    return found[0], found[1], found[2]


LOG_SUM_ROWS = 32  # the CUDA kernel reads its log-sum-exp in rows of that many queries


def _padded(log_sum: Tensor) -> Tensor:
    missing = -log_sum.shape[2] % LOG_SUM_ROWS
    return torch.nn.functional.pad(log_sum, (0, missing)).contiguous()


def _require_kernel(query: Tensor) -> None:
    if query.device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"AQR's masked attention runs on CPU and CUDA, not on {query.device.type}; choose "
            "attention='dense' in the recipe's AqrConfig"
        )
