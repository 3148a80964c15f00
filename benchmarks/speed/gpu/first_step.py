"""One start of training, in a process of its own: how long until the first step is done.

    python -m benchmarks.speed.gpu.first_step STORE RECIPE BATCH PRECISION OUT

Prints JSON. Called by the section `start`, which decides where kernels are cached.
"""

import json
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()


def main() -> None:
    """Train six steps and print when they began."""
    # Imported here, because their time is measured.
    from benchmarks.speed.gpu.step_probe import StepProbe, Stretches
    from benchmarks.speed.gpu.training_case import (
        run_training,
        short_recipe,
        store_batches,
        store_detector,
    )
    from cache.reader import CachedFeatures
    from stage2_train.data.loader import default_workers

    imported = time.perf_counter()
    path, name, batch_size, precision, out = sys.argv[1:]
    store = CachedFeatures(Path(path))
    recipe = short_recipe(name, int(batch_size), precision)
    probe = StepProbe(Stretches(warm_up=2, measured=1, profiled=0))
    row = run_training(
        store,
        store_detector(store, recipe),
        recipe,
        Path(out),
        probe,
        lambda places: store_batches(store, places, default_workers()),
    )
    times = {
        "imports_s": imported - STARTED,
        "model_and_data_s": probe.times[0] - imported,
        "first_step_s": row["first_step_s"],
        "later_step_s": row["step_s"],
    }
    print(json.dumps(times))


if __name__ == "__main__":
    main()
