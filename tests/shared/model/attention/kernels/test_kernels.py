"""The Triton kernels mean what their readable twins say, forward and backward, on small shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the kernels need Triton: `pip install triton`")

ROOT = Path(__file__).parents[5]
RELATIVE = 1e-5  # of the largest value
HALF_STEP = 2.0**-10  # relative, of float16


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, dict[str, float]]]:
    """Run all cases in Triton's interpreter."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "tests.shared.model.attention.kernels.kernel_cases"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, dict[str, dict[str, float]]] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize(
    "case",
    [
        "heads of the decoder",
        "gaussian",
        "one camera, odd width, few queries",
        "whole blocks of queries, wide heads",
        "no window anywhere",
        "windows everywhere",
    ],
)
def test_attention_with_a_bias_equals_the_dense_reference(
    errors: dict[str, dict[str, dict[str, float]]], case: str
) -> None:
    assert len(errors["biased"][case]) == 5  # the output, and four gradients
    assert max(errors["biased"][case].values()) < RELATIVE


def test_in_float16_attention_with_a_bias_stays_within_a_few_roundings(
    errors: dict[str, dict[str, dict[str, float]]],
) -> None:
    assert max(errors["biased"]["float16"].values()) < 4 * HALF_STEP


@pytest.mark.parametrize(
    "case", ["heads of the generator", "three heads, odd width, one camera", "no window anywhere"]
)
def test_attention_inside_windows_equals_gathered_tokens(
    errors: dict[str, dict[str, dict[str, float]]], case: str
) -> None:
    assert len(errors["inside"][case]) == 5
    assert max(errors["inside"][case].values()) < RELATIVE
