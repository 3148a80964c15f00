"""Run one strategy from a store, in a process of its own that holds nothing of stage 1."""

import sys

from benchmarks.experiments.strategies.measured_run import (
    Order,
    Spent,
    finish,
    frozen_digests,
    measured,
)
from cache.reader import CachedFeatures
from shared.model.initial_detector import fresh_detector, load_checkpoint
from shared.process.command import run_command
from stage2_train.recipes.recipes import RECIPES
from stage2_train.run.run_folder import read_run_checkpoint
from stage2_train.run.starting_point import starting_point
from stage2_train.run.trained_detector import load_detector
from stage2_train.training.build import train


def work() -> None:
    order = Order.read()
    store = CachedFeatures(order.store)
    recipe = order.shortened(RECIPES[order.strategy]())
    begin = fresh_detector(store.preset, store.cut, seed=recipe.seed, aqr=recipe.aqr)
    if order.start is not None:
        start = starting_point(order.start, store)
        load_checkpoint(begin, start.state, start.path)
    before = frozen_digests(begin.state_dict(), recipe.frozen)
    spent = Spent()
    train(store, recipe, order.out, checkpoint=order.start)
    found = spent.measured(order.steps)
    after = frozen_digests(read_run_checkpoint(order.out)["state_dict"], recipe.frozen)
    found |= measured(order.out, before=before, after=after)
    held_out = None if order.held_out is None else CachedFeatures(order.held_out)
    finish(order, found, load_detector(order.out, store), held_out)


if __name__ == "__main__":
    sys.exit(run_command(work))
