"""A machine that only trains needs no detection framework, and of Lightning only Fabric."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BLOCKED = (
    *("mmdet3d", "mmdet", "mmcv", "mmengine", "spconv", "cumm", "nuscenes", "cv2", "open3d"),
    # Beside `lightning` Fabric imports torchmetrics, and that matplotlib: a second of every start.
    *("lightning", "pytorch_lightning", "torchmetrics", "matplotlib"),
)

RUNNER = """
import importlib
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
        return None

sys.meta_path.insert(0, Wall())
for module, *arguments in {commands!r}:
    status = importlib.import_module(module).main(arguments)
    if status:
        sys.exit(status)
"""


def run_walled(*commands: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run commands, a module and its arguments each, in a process until one fails."""
    code = RUNNER.format(blocked=set(BLOCKED), commands=commands)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_wall_stops_stage_1() -> None:
    nowhere = ("--nuscenes", "nowhere", "--store", "none.zarr")
    done = run_walled(("stage1_extract.__main__", "tiny", *nowhere))

    assert done.returncode != 0
    assert "blocked: " in done.stderr


def test_training_evaluation_and_the_store_work_behind_the_wall(
    tiny_store: Path, tiny_val_store: Path, tmp_path: Path
) -> None:
    store, run = str(tiny_store), str(tmp_path / "run")
    (tmp_path / "mine.py").write_text(
        "from stage2_train.recipes.recipe import Recipe\n"
        "def short():\n"
        "    return Recipe(name='short', steps=1, batch_size=1)\n"
    )
    validation = ("--recipe", f"{tmp_path / 'mine.py'}:short", "--val", str(tiny_val_store))

    done = run_walled(
        ("cache.__main__", "show", store),
        ("cache.__main__", "verify", store),
        ("stage2_train.__main__", store, "--out", run, *validation),
        ("stage2_train.evaluate", store, run, "--out", str(tmp_path / "val"), "--drop", "lidar"),
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "val" / "no_lidar" / "results_nusc.json").exists()


def test_metrics_behind_the_wall_say_what_they_need(tmp_path: Path) -> None:
    box_free = tmp_path / "results.json"
    box_free.write_text('{"meta": {}, "results": {"a": []}}')
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "sample.json").write_text('[{"token": "a"}]')
    given = ("--results", str(box_free), "--nuscenes", str(tmp_path), "--plot", "0")

    done = run_walled(("stage2_train.evaluate", *given, "--out", str(tmp_path / "out")))

    assert done.returncode == 1
    assert "official metrics need nuscenes-devkit: pip install" in done.stderr
