"""What attention cannot be faster than: its exponentials, and its products on tensor cores.

Sources: CUDA C++ Programming Guide, arithmetic instructions (16 results of the exponential per
multiprocessor and clock from compute capability 7.5 to 9.0); NVIDIA's whitepapers on A100, Ada and
H100 for dense bfloat16 products.
"""

import subprocess

import torch

EXPONENTIALS_PER_CLOCK = 16  # of a multiprocessor
# Floating-point operations of bfloat16 tensor cores, dense, per multiprocessor and clock.
TENSOR_OPERATIONS = {(8, 0): 2048, (8, 6): 512, (8, 9): 1024, (9, 0): 4096}
# Products of queries, tokens and head width: forward two; backward the scores again, and four.
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5


def attention_limits(
    *, samples: int, queries: int, tokens: int, heads: int, head_width: int
) -> dict[str, float] | None:
    """Return milliseconds of one layer; None on a CPU or a GPU whose numbers are not listed here.

    Every score needs one exponential in the forward pass and one in the backward pass. Exponentials
    and products can overlap, so the larger one of the two is the limit of each pass.
    """
    clock_hz = _clock_hz()
    if clock_hz is None:
        return None
    properties = torch.cuda.get_device_properties(0)
    operations = TENSOR_OPERATIONS.get((properties.major, properties.minor))
    if operations is None:
        return None
    per_s = properties.multi_processor_count * clock_hz
    scores = samples * heads * queries * tokens
    exponentials_ms = 1e3 * scores / (per_s * EXPONENTIALS_PER_CLOCK)
    product_ms = 1e3 * scores * 2 * head_width / (per_s * operations)
    forward_ms = max(exponentials_ms, FORWARD_PRODUCTS * product_ms)
    backward_ms = max(exponentials_ms, BACKWARD_PRODUCTS * product_ms)
    return {
        "exponentials_of_a_pass": exponentials_ms,
        "products_forward": FORWARD_PRODUCTS * product_ms,
        "products_backward": BACKWARD_PRODUCTS * product_ms,
        "forward": forward_ms,
        "forward_and_backward": forward_ms + backward_ms,
    }


def nvidia_smi(field: str) -> str | None:
    """Return what nvidia-smi says of the first GPU, None where it is not installed or fails."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--id=0", f"--query-gpu={field}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().splitlines()[0]


def _clock_hz() -> float | None:
    """Return the highest clock of the multiprocessors."""
    if not torch.cuda.is_available():
        return None
    megahertz = nvidia_smi("clocks.max.sm")
    return None if megahertz is None or not megahertz.isdigit() else 1e6 * float(megahertz)
