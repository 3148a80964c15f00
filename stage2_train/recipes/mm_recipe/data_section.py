"""The data of a config: batch size, class balance, sensors left out."""

from collections.abc import Mapping
from typing import Any

from shared.config.mm_config.config_reader import Section
from shared.data.sensor_drop import SensorDrop
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig

CMT_GPUS = 8  # CMT's configs say "for 8gpu * 2sample_per_gpu"
MODAL_MASK = "ModalMask3D"
CBGS = "CBGSDataset"
# Steps that load, filter and collect; what they do is in the store.
PLAIN_STEPS = (
    *("LoadPointsFromFile", "LoadPointsFromMultiSweeps", "LoadMultiViewImageFromFiles"),
    *("BEVLoadMultiViewImageFromFiles", "LoadAnnotations3D", "PointsRangeFilter"),
    *("ObjectRangeFilter", "ObjectNameFilter", "PointShuffle", "NormalizeMultiviewImage"),
    *("PadMultiViewImage", "DefaultFormatBundle3D", "Collect3D", "Pack3DDetInputs"),
)


LOADER_SKIPPED = dict.fromkeys(
    (
        *("workers_per_gpu", "num_workers", "persistent_workers", "pin_memory", "prefetch_factor"),
        *("sampler", "batch_sampler", "collate_fn", "drop_last", "shuffler_sampler"),
        *("nonshuffler_sampler", "val", "test", "val_dataloader", "test_dataloader"),
    ),
    "the store is read in another way",
)
# Which samples there are: a store has all of its split.
DATASET_FIXED = {"load_interval": 1, "use_valid_flag": False, "indices": None, "test_mode": False}
DATASET_SKIPPED = dict.fromkeys(
    (
        *("data_root", "data_prefix", "ann_file", "classes", "metainfo", "modality", "version"),
        *("box_type_3d", "backend_args", "file_client_args", "filter_empty_gt", "with_velocity"),
        *(
            "type",
            "pipeline",
            "eval_version",
            "use_infos",
            "img_info_prototype",
            "lazy_init",
            "serialize_data",
        ),
    ),
    "of files; samples come from the store",
)


def read_data(config: TrainingConfig) -> dict[str, Any]:
    """Return `batch_size`, `class_balanced` and `sensor_drop` of the recipe."""
    name = "train_dataloader" if config.is_mmengine else "data"
    data = config.whole.section(name)
    per_gpu = data.integer("batch_size" if config.is_mmengine else "samples_per_gpu")
    dataset = data.section("dataset" if config.is_mmengine else "train")
    kind = str(dataset.value("type")).rpartition(".")[2]
    if kind == CBGS:
        dataset = dataset.section("dataset")
    elif dataset.has("dataset"):
        dataset.fault("type", kind, f"of the datasets around another one, only {CBGS} is supported")
    sensor_drop = _sensor_drop(config, dataset)
    data.skip(LOADER_SKIPPED)
    dataset.fixed(DATASET_FIXED)
    dataset.skip(DATASET_SKIPPED)
    data.finish()
    return {
        "batch_size": _batch_size(config, per_gpu),
        "class_balanced": kind == CBGS,
        "sensor_drop": sensor_drop,
    }


def _batch_size(config: TrainingConfig, per_gpu: int) -> int:
    scaling = config.whole.value("auto_scale_lr")
    whole = scaling.get("base_batch_size") if isinstance(scaling, Mapping) else None
    if isinstance(whole, int):
        return whole
    ids = config.whole.value("gpu_ids")
    gpus = len(ids) if isinstance(ids, list | tuple | range) and ids else CMT_GPUS
    config.note(
        f"a batch is {gpus * per_gpu} samples, {per_gpu} on each of {gpus} GPUs"
        f"{'' if ids else ', as many as CMT trains on'}; --set batch_size=N for another"
    )
    return gpus * per_gpu


def _sensor_drop(config: TrainingConfig, dataset: Section) -> SensorDrop | None:
    pipeline = dataset.value("pipeline")
    if not isinstance(pipeline, list | tuple):
        dataset.fault("pipeline", pipeline, "a list of dicts is expected")
        return None
    steps = [
        Section(step, f"{dataset.at('pipeline')}[{index}]", config.report)
        for index, step in enumerate(pipeline)
        if isinstance(step, Mapping)
    ]
    by_kind = {str(step.value("type")).rpartition(".")[2]: step for step in steps}
    ours = [kind for kind in by_kind if kind not in (*PLAIN_STEPS, MODAL_MASK)]
    if ours:
        config.note(
            f"of the training pipeline, {', '.join(ours)} have no effect: samples come from the "
            "store, augmented as it was extracted (--variants of extract-features)"
        )
    mask = by_kind.get(MODAL_MASK)
    if mask is None:
        return None
    mode = mask.value("mode")
    if mode not in ("train", "test"):
        mask.fault("mode", mode, "'train' or 'test' is expected")
    mask.finish()
    return SensorDrop() if mode == "train" else None
