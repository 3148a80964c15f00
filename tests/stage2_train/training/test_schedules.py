"""Learning rates over a run, by hand."""

import pytest

from shared.errors import ConfigError
from stage2_train.recipes.recipe import Recipe
from stage2_train.training.schedules import cosine_ratio, cyclic_ratio, rate_ratio


def test_the_cyclic_schedule_rises_to_its_peak_and_falls_to_its_end() -> None:
    recipe = Recipe(name="x", steps=100, batch_size=1)

    ratio = [cyclic_ratio(step, 100, recipe) for step in range(101)]

    assert ratio[0] == 1.0
    assert ratio[20] == pytest.approx(3.5)  # half way up from 1 to 6 on a cosine
    assert ratio[40] == pytest.approx(6.0)
    assert ratio[70] == pytest.approx((6.0 + 1e-4) / 2)
    assert ratio[100] == pytest.approx(1e-4)


def test_the_cosine_schedule_rises_on_a_line_and_falls_on_a_cosine() -> None:
    recipe = Recipe(
        name="x", steps=24, batch_size=1, schedule="cosine", warmup_steps=4, final_ratio=0.2
    )

    ratio = [rate_ratio(step, 24, recipe) for step in range(25)]

    assert ratio[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert ratio[9] == pytest.approx(0.2 + 0.8 * 0.8535534)  # cos(45 degrees) = 0.7071068
    assert ratio[14] == pytest.approx(0.6)  # half way
    assert ratio[24] == pytest.approx(0.2)


def test_a_run_shorter_than_its_warm_up_only_rises() -> None:
    recipe = Recipe(name="x", steps=2, batch_size=1, schedule="cosine", warmup_steps=500)

    assert [cosine_ratio(step, 2, recipe) for step in range(2)] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"learning_rate": -1e-4}, r"learning_rate must be above 0, it is -0\.0001"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, it is nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be at least 0"),
        ({"lr_multipliers": (("img_neck", -1.0),)}, "at least 0 .that of 'img_neck' is not"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"seed": -1}, "seed must be from 0 to 4294967295"),
        ({"schedule": "cosin"}, "schedule must be cyclic or cosine, it is 'cosin'"),
        ({"precision": "fp16"}, "precision must be auto or 32-true or .*, it is 'fp16'"),
        ({"keep_last": 0}, "keep_last must be at least 1"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number, it is 2\.5"),
        ({"frozen": "img_neck"}, r"frozen must be several names, as in \('img_neck',\), it is 'im"),
        ({"lr_multipliers": (("a", 1.0), ("a", 0.1))}, "lr_multipliers must be .* different keys"),
        ({"ema_decay": 1.0}, "ema_decay must be between 0 and 1"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**({"name": "x", "steps": 1, "batch_size": 1} | wrong))  # type: ignore[arg-type]
