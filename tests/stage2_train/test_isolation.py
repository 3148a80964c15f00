"""A machine that only trains needs no detection framework and no sparse convolution."""

import subprocess
import sys
from pathlib import Path

BLOCKED = ("mmdet3d", "mmdet", "mmcv", "mmengine", "spconv", "cumm", "nuscenes", "cv2", "open3d")

RUNNER = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
        return None

sys.meta_path.insert(0, Wall())
from {module} import main
sys.exit(main(sys.argv[1:]))
"""


def run_walled(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = RUNNER.format(blocked=set(BLOCKED), module=module)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_wall_stops_stage_1() -> None:
    done = run_walled("stage1_extract.__main__", "--help")

    assert done.returncode != 0
    assert "blocked: " in done.stderr


def test_training_evaluation_and_the_store_work_behind_the_wall(
    tiny_store: Path, tmp_path: Path
) -> None:
    run = str(tmp_path / "run")
    options = ("--recipe", "first_steps", "--stop-after", "2")

    for module, *arguments in (
        ("cache.__main__", "show", str(tiny_store)),
        ("cache.__main__", "verify", str(tiny_store)),
        ("stage2_train.__main__", str(tiny_store), "--out", run, *options),
        ("stage2_train.evaluate", str(tiny_store), run, "--out", str(tmp_path / "val")),
    ):
        done = run_walled(module, *arguments)
        assert done.returncode == 0, done.stderr
