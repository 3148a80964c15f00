"""Run one strategy from a store, in a process of its own that holds nothing of stage 1."""

import sys

from benchmarks.experiments.strategies.measured_run import (
    BATCH_SIZE,
    Order,
    Spent,
    frozen_digests,
    held_out_scores,
    measured,
    write_result,
)
from cache.reader import CachedFeatures
from shared.process.command import run_command
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.recipes.recipes import RECIPES
from stage2_train.run.run_checkpoint import read_run_checkpoint
from stage2_train.run.starting_point import starting_detector, starting_point
from stage2_train.run.trained_detector import load_detector
from stage2_train.training.build import train


def work() -> None:
    order = Order.read()
    store = CachedFeatures(order.store)
    recipe = order.shortened(RECIPES[order.strategy]())
    start = None if order.start is None else starting_point(order.start, store)
    begin = starting_detector(store, recipe, start)
    before = frozen_digests(begin.state_dict(), recipe.frozen)
    spent = Spent()
    train(store, recipe, order.out, checkpoint=order.start)
    result = spent.measured(order.steps)
    after = frozen_digests(read_run_checkpoint(order.out)["state_dict"], recipe.frozen)
    result |= measured(order.out, before=before, after=after)
    if order.held_out is not None:
        held_out = CachedFeatures(order.held_out)
        dataset = StoreDataset(held_out, held_out.tokens)
        batches = evaluation_batches(dataset, BATCH_SIZE, workers=0)
        result |= held_out_scores(order, held_out, load_detector(order.out, store), batches)
    write_result(order, result)


if __name__ == "__main__":
    sys.exit(run_command(work))
