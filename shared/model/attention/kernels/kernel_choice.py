"""Whether the Triton kernels run on a tensor's device; if not, the log says why, once.

Triton may be missing, have no C compiler for its launcher, or the GPU may be too old. Whether it
works as a whole shows only when a kernel is compiled and started, so a small one is tried.
"""

import logging
import os

import torch
from torch import Tensor

from shared.config.aqr_config import Implementation
from shared.errors import ConfigError

log = logging.getLogger(__name__)

OLDEST_CAPABILITY = (7, 5)  # Turing; Triton has no tensor core code for older GPUs
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST_HEAD = 256  # tiles of wider heads do not fit a GPU's shared memory


def takes_kernels(implementation: Implementation, tensor: Tensor) -> bool:
    """Return whether attention is computed by the Triton kernels.

    Args:
        implementation: asked for.
        tensor: (..., E) on the device and of the dtype in question.

    Raises:
        ConfigError: if the kernels were asked for by name and do not run here.
    """
    if implementation not in ("auto", "kernels"):
        return False
    if implementation == "auto" and tensor.device.type != "cuda":
        return False
    kind = (tensor.device, tensor.dtype, tensor.shape[-1])
    if kind not in _reasons:
        _reasons[kind] = reason_against(tensor)
    reason = _reasons[kind]
    if reason is not None and implementation == "auto" and (tensor.device, reason) not in _warned:
        _warned.add((tensor.device, reason))
        log.warning(
            "AQR's kernels do not run on %s, so its attention is computed in pieces, which takes "
            "longer: %s", tensor.device, reason,
        )  # fmt: skip
    if reason is not None and implementation == "kernels":
        raise ConfigError(
            f"AqrConfig.attention is 'kernels', which do not run on {tensor.device}: {reason}. "
            "Choose 'auto'"
        )
    return reason is None


_reasons: dict[tuple[torch.device, torch.dtype, int], str | None] = {}
_warned: set[tuple[torch.device, str]] = set()


def reason_against(tensor: Tensor) -> str | None:
    """Return why the kernels do not run on the tensor's device, or None if they do."""
    device, dtype, width = tensor.device, tensor.dtype, tensor.shape[-1]
    if dtype not in DTYPES:
        return f"they take float32, float16 and bfloat16, not {dtype}"
    if width > WIDEST_HEAD:
        return f"they take heads of up to {WIDEST_HEAD}, not {width}"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_CAPABILITY:
            return f"the GPU's compute capability is {capability}, below {OLDEST_CAPABILITY}"
    elif device.type != "cpu" or os.environ.get("TRITON_INTERPRET") != "1":
        return "they are for CUDA (and for a CPU in Triton's interpreter, TRITON_INTERPRET=1)"
    try:
        from shared.model.attention.kernels.kernel_probe import probe

        probe(device)
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler or driver raises
        return " ".join(f"{type(error).__name__}: {error}".splitlines()[:2])
    return None
