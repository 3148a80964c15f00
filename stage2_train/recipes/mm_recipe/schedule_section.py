"""The length of training and the learning rate over it."""

from typing import Any

from shared.config.mm_config.config_reader import Section
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig

CYCLIC_FIXED = {"cyclic_times": 1, "anneal_strategy": "cos", "by_epoch": False, "gamma": 1}
MOMENTUM = "%s is not followed: AdamW's first beta stays 0.9 throughout"
LENGTH_SKIPPED = {
    "val_interval": "validation is an option of train-stage2",
    "val_begin": "validation is an option of train-stage2",
}


def read_length(config: TrainingConfig) -> dict[str, int]:
    """Return `epochs` or `steps` of the recipe."""
    whole = config.whole
    if config.is_mmengine:
        loop = whole.section("train_cfg")
        by_step = loop.value("type") == "IterBasedTrainLoop"
        by_step |= loop.value("by_epoch") is False
    elif whole.has("runner"):
        loop = whole.section("runner")
        by_step = loop.value("type") == "IterBasedRunner"
        whole.skip({"total_epochs": "the runner says it"})
    else:
        return {"epochs": whole.integer("total_epochs")}
    loop.skip(LENGTH_SKIPPED)
    length = {"steps": loop.integer("max_iters")} if by_step else {}
    length = length or {"epochs": loop.integer("max_epochs")}
    loop.finish()
    return length


def read_schedule(config: TrainingConfig, rate: float, length: int) -> dict[str, Any]:
    """Return `schedule` and the fields of the recipe that belong to it.

    Args:
        config: to read.
        rate: the learning rate that ratios refer to.
        length: epochs or steps of the run.
    """
    if config.is_mmengine:
        return _of_schedulers(config, rate, length)
    if config.whole.value("momentum_config") is not None:
        config.note(MOMENTUM % "momentum_config")
    section = config.whole.section("lr_config")
    policy = section.value("policy")
    if policy == "cyclic":
        peak, final = section.numbers("target_ratio", 2)
        section.fixed(CYCLIC_FIXED)
        fields = _cyclic(peak, final, section.number("step_ratio_up", 0.4))
    elif policy == "CosineAnnealing":
        section.skip({"by_epoch": "the rate changes with every step"})
        warmup = 0
        if section.has("warmup"):
            section.expect("warmup", "linear")
            warmup = section.integer("warmup_iters")
            _note_warmup(config, section.at("warmup_ratio"), section.value("warmup_ratio"))
        section.fixed({"warmup_by_epoch": False})
        fields = _cosine(_least(section, "min_lr", rate), warmup)
    else:
        section.fault("policy", policy, "only 'cyclic' or 'CosineAnnealing' is supported")
        return {}
    section.finish()
    return fields


def _of_schedulers(config: TrainingConfig, rate: float, length: int) -> dict[str, Any]:
    """Read mmengine's list: two half cosines are CMT's cycle, one is a cosine."""
    schedulers = config.listed("param_scheduler")
    kinds = [str(scheduler.value("type")) for scheduler in schedulers]
    rates = [(kind, part) for kind, part in zip(kinds, schedulers, strict=True) if "LR" in kind]
    if len(rates) < len(kinds):
        config.note(MOMENTUM % "param_scheduler")
    fields: dict[str, Any] = {}
    match rates:
        case [("CosineAnnealingLR", up), ("CosineAnnealingLR", down)]:
            middle = _end(up, length, begin=0)
            if _end(down, length, begin=middle) != length:
                down.fault("end", length, f"the end of training, {length}, is expected")
            ratios = _least(up, "eta_min", rate), _least(down, "eta_min", rate)
            fields = _cyclic(*ratios, middle / length)
        case [("CosineAnnealingLR", down)]:
            _end(down, length, begin=0)
            fields = _cosine(_least(down, "eta_min", rate), 0)
        case [("LinearLR", up), ("CosineAnnealingLR", down)]:
            up.expect("by_epoch", False, required=True)
            up.fixed({"begin": 0})
            _note_warmup(config, up.at("start_factor"), up.value("start_factor"))
            warmup = up.integer("end")
            down.skip({"begin": "the cosine begins where the warm-up ends"})
            _end(down, length, begin=0)
            fields = _cosine(_least(down, "eta_min", rate), warmup)
        case _:
            named = [kind for kind, _ in rates]
            legal = "[CosineAnnealingLR] * 2, CosineAnnealingLR, or LinearLR and CosineAnnealingLR"
            config.whole.fault("param_scheduler", named, f"only {legal} is supported")
            return {}
    for _, part in rates:
        part.finish()
    return fields


def _end(section: Section, length: int, *, begin: int) -> int:
    """Return where a half cosine ends, in epochs or steps like `length`."""
    section.expect("begin", begin, of="" if begin else section.at("end"))
    end = section.integer("end", length)
    section.expect("T_max", end - begin, of=section.at("end"))
    section.skip(
        {"by_epoch": "see `length`", "convert_to_iter_based": "the rate changes with every step"}
    )
    return end


def _least(section: Section, name: str, rate: float) -> float:
    """Return a rate relative to the recipe's, given as such or as a ratio."""
    if section.has(f"{name}_ratio"):
        return section.number(f"{name}_ratio")
    return section.number(name, 0.0) / (rate or 1.0)  # a rate of 0 is refused by `Recipe`


def _note_warmup(config: TrainingConfig, path: str, value: object) -> None:
    config.note(f"{path} = {value!r}: the warm-up starts at one step's share of the rate")


def _cyclic(peak: float, final: float, share: float) -> dict[str, Any]:
    return {
        "schedule": "cyclic",
        "peak_ratio": peak,
        "final_ratio": final,
        "rising_share": share,
    }


def _cosine(final: float, warmup: int) -> dict[str, Any]:
    return {"schedule": "cosine", "final_ratio": final, "warmup_steps": warmup}
