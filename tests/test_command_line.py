"""Commands and options are promises: a change here breaks users' scripts."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

DATASET = {"--nuscenes", "--version", "--split", "--infos", "--box-convention", "--existing-only"}
OPTIONS = {
    "extract-features": DATASET
    | {"--config", "--cut", "--variants", "--store", "--checkpoint", "--codec", "--batch-size"}
    | {
        "--shard-mib",
        "--workers",
        "--slice",
        "--ray",
        "--ray-workers",
        "--gpus-per-worker",
        "--cpus-per-worker",
        "--condition",
        "--base",
    },
    "check-parity": DATASET
    | {"--checkpoint", "--head", "--samples", "--detector-samples", "--seed", "--json"}
    | {"--base", "--condition"},
    "plot-samples": DATASET
    | {"--out", "--results", "--sensor-weights", "--condition", "--samples", "--min-score"},
    "train-stage2": {
        *("--out", "--recipe", "--checkpoint", "--stop-after"),
        *("--workers", "--loader", "--devices", "--nodes"),
        *("--config", "--set", "--seed", "--samples", "--scenes", "--subset-seed"),
        *("--val", "--nuscenes", "--conditions", "--val-conditions"),
    },
    "sweep-stage2": {
        *("--out", "--recipe", "--seeds", "--set", "--checkpoint", "--val", "--nuscenes"),
        *("--jobs", "--workers", "--samples", "--scenes", "--subset-seed", "--optuna", "--trials"),
        *("--conditions", "--val-conditions"),
    },
    "compare-runs": {"--nuscenes", "--out", "--evaluation"},
    "plot-sensor-weights": {"--out", "--samples", "--plot", "--min-score", "--workers"},
    "evaluate-stage2": {"--out", "--nuscenes", "--results", "--drop", "--plot", "--workers"}
    | {"--conditions", "--baseline"},
    "export-checkpoint": {"--out", "--checkpoint"},
}


def scripts(root: Path) -> dict[str, str]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    commands: dict[str, str] = project["scripts"]
    return commands


def test_the_commands_are_these(request: pytest.FixtureRequest) -> None:
    assert set(scripts(request.config.rootpath)) == {*OPTIONS, "feature-cache"}


@pytest.mark.parametrize("command", OPTIONS)
def test_a_command_has_these_options(
    command: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, function = scripts(request.config.rootpath)[command].partition(":")
    main = getattr(importlib.import_module(module), function)

    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    listed = re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert set(listed) == OPTIONS[command] | {"--help"}
