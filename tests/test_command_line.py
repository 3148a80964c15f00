"""Commands and options are promises: a change here breaks users' scripts."""

import importlib
import re
import signal
import tomllib
from pathlib import Path

import pytest

from tests.child_processes import PATIENCE_S, hanging

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

# A library that takes long to import, and swallows a KeyboardInterrupt as some do.
SLOW_IMPORT = """
import importlib, sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[3]:
            print("ready", flush=True)
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Slow())
main = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
sys.exit(main(sys.argv[4:]))
"""
EXTRACTION = ("tiny", "--nuscenes", "nowhere", "--store", "nowhere.zarr")


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


@pytest.mark.parametrize(
    ("command", "library", "arguments"),
    [
        *((command, "numpy", ()) for command in (*OPTIONS, "feature-cache")),
        ("extract-features", "torch", EXTRACTION),  # which it imports once its options are read
    ],
)
def test_ctrl_c_during_a_command_s_imports_is_one_line(
    command: str, library: str, arguments: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    entry = scripts(request.config.rootpath)[command].split(":")
    with hanging(SLOW_IMPORT, *entry, library, *arguments) as child:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, said) == (128 + signal.SIGINT, "stopped before it began\n")


def test_sigterm_during_imports_ends_a_command_silently() -> None:
    with hanging(SLOW_IMPORT, "stage2_train.__main__", "main", "numpy") as child:
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, said) == (-signal.SIGTERM, "")  # 143 in a shell


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("extract-features", EXTRACTION),
        ("check-parity", ("nowhere.zarr", "--nuscenes", "nowhere")),
        ("train-stage2", ("nowhere.zarr", "--out", "nowhere")),
        ("sweep-stage2", ("nowhere.zarr", "--out", "nowhere")),
    ],
)
def test_a_checkpoint_that_is_not_there_is_said_before_anything_is_opened(
    command: str,
    arguments: tuple[str, ...],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, _, function = scripts(request.config.rootpath)[command].partition(":")
    main = getattr(importlib.import_module(module), function)
    assert main([*arguments, "--checkpoint", "cmt_r50.pth"]) == 1
    assert "cmt_r50.pth does not exist; " in capsys.readouterr().err
