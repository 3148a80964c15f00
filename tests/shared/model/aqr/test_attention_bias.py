"""The bias is scale x weight, and the scale never leaves its bounds nor gets stuck at one."""

import pytest
import torch

from shared.config.aqr_config import AqrConfig
from shared.errors import ConfigError
from shared.model.aqr.bias_generator import AttentionBiasGenerator
from tests.shared.model.attention.scenes import B, Q, drawn, random_windows


def test_the_bias_is_the_initial_scale_times_the_weight() -> None:
    weights = drawn(B, Q, 2).detach()
    bias = AttentionBiasGenerator(AqrConfig())(weights, random_windows())
    torch.testing.assert_close(bias.per_sensor, 2.5 * weights)


@pytest.mark.parametrize("logit", [-50.0, -3.0, 0.0, 3.0, 50.0])
def test_the_scale_stays_inside_its_bounds(logit: float) -> None:
    generator = AttentionBiasGenerator(AqrConfig(min_scale=0.5, max_scale=5.0))
    with torch.no_grad():
        generator.bias_scale_logit.fill_(logit)
    assert 0.5 <= generator.scale.item() <= 5.0


def test_a_scale_near_its_bound_still_learns() -> None:
    generator = AttentionBiasGenerator(AqrConfig(initial_scale=4.99))
    generator.scale.backward()
    assert generator.bias_scale_logit.grad is not None
    assert generator.bias_scale_logit.grad > 0


def test_the_name_of_the_parameter_has_the_key_of_its_learning_rate() -> None:
    (name,) = dict(AttentionBiasGenerator(AqrConfig()).named_parameters())
    assert "bias_scale" in name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bev_window": 4}, "bev_window 4 has no cell in its middle"),
        ({"camera_window": 8}, "camera_window 8 has no cell in its middle"),
        ({"initial_scale": 5.0}, "must lie between min_scale 0.5 and max_scale 5.0"),
        ({"residual": 1.5}, "residual 1.5 must be 0 to 1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AqrConfig(**wrong)  # type: ignore[arg-type]


def test_the_published_camera_windows_follow_from_the_map() -> None:
    config = AqrConfig()
    assert (config.camera_side(columns=100), config.camera_side(columns=50)) == (15, 9)
    assert AqrConfig(camera_window=7).camera_side(columns=100) == 7
