"""A search by Optuna: it says what to try next, `SweepRunner` trains it, validation judges it.

What was tried is in Optuna's own storage, a journal in the folder of the sweep, for its dashboard
and its other tools.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.config.named_config import function_of_file, users_program
from shared.errors import ConfigError, TrainingError, UsersProgramError
from shared.process.folder_lock import locked_folder
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_files import BEST_SCORES
from stage2_train.sweep.run_process import RunProcess
from stage2_train.sweep.run_sweep import LOCK, Options, SweepRunner
from stage2_train.sweep.sweep_plan import PlannedRun, record_plan

if TYPE_CHECKING:
    from optuna import Study, Trial

JOURNAL = "optuna.journal"

log = logging.getLogger(__name__)

MakeRecipe = Callable[["Trial"], Recipe]


class SearchRunner(SweepRunner):
    """Trains one trial after the other on every device.

    Args:
        folder: of the sweep.
        study: says what to try, and is told what came of it.
        make: the recipe of a trial.
        trials: how many in all, those of earlier calls included.
        options: see `SweepRunner`.
        slots: see `SweepRunner`.
        metric: to maximise, among the scores of the last validation.
    """

    def __init__(
        self,
        folder: Path,
        study: "Study",
        make: MakeRecipe,
        trials: int,
        options: Options,
        slots: Sequence[Mapping[str, str]],
        metric: str,
    ) -> None:
        super().__init__(folder, [], options, slots)
        self.study, self.make, self.total, self.metric = study, make, trials, metric
        self._trials: dict[str, Trial] = {}
        self._resume()

    @property
    def finished(self) -> int:
        """How many trials have ended, failed ones included."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _resume(self) -> None:
        """Go on with the trials that an earlier call has left; values drawn for them stay."""
        from optuna import Trial
        from optuna.trial import TrialState

        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._plan(Trial(self.study, left._trial_id))

    def _has_work(self) -> bool:
        while len(self._pending) + len(self._running) < len(self.slots):
            if len(self.study.get_trials(deepcopy=False)) >= self.total:
                break
            self._plan(self.study.ask())
        return super()._has_work()

    def _plan(self, trial: "Trial") -> None:
        name = f"trial-{trial.number:03d}"
        self._trials[name], self._number[name] = trial, trial.number + 1
        try:
            recipe = self.make(trial)
        except UsersProgramError:  # it would fail in every trial
            raise
        except ConfigError as error:  # values that do not go together are no reason to stop
            self._fail(name, error)
            return
        if not isinstance(recipe, Recipe):
            raise ConfigError(f"the function of --optuna returned {recipe!r:.80}, not a Recipe")
        run = PlannedRun(name=name, recipe=recipe)
        if self._is_finished(run):
            self._tell(run)
        else:
            self._pending.append(run)

    def _ended(self, process: RunProcess, code: int) -> None:
        if code == 0:
            self._tell(process.run)
        else:
            self._fail(process.run.name, process.reason())

    def _tell(self, run: PlannedRun) -> None:
        file = self.folder / run.name / BEST_SCORES
        score = json.loads(file.read_bytes())[self.metric] if file.exists() else None
        if score is None:
            self._fail(
                run.name, f"its validation has no {self.metric}, since losses are not finite"
            )
            return
        self.study.tell(self._trials[run.name], score)
        self._say(run.name, f"finished, {self.metric} {score:.4f}")

    def _fail(self, name: str, reason: object) -> None:
        from optuna.trial import TrialState

        self.study.tell(self._trials[name], state=TrialState.FAIL)
        self._say(name, f"failed: {reason}")


def search(
    folder: Path,
    function: str,
    trials: int,
    inputs: Mapping[str, Any],
    options: Options,
    slots: Sequence[Mapping[str, str]],
    *,
    metric: str = "NDS",
) -> None:
    """Let Optuna look for the recipe with the best detector, or continue doing so.

    Args:
        folder: of the sweep.
        function: "path/to/file.py:function", which takes a trial and returns a Recipe.
        trials: how many in all.
        inputs: see `record_plan`.
        options: see `SweepRunner`; with a validation store and tables.
        slots: see `SweepRunner`.
        metric: see `SearchRunner`.

    Raises:
        ConfigError: if Optuna or the function is missing, or the folder holds a different sweep.
        TrainingError: if no trial has succeeded.
        InterruptedWorkError: see `SweepRunner.run_all`.
    """
    _require_optuna()
    make = _recipe_function(function)
    with locked_folder(folder, LOCK):
        record_plan(folder, [], {**inputs, "search": Path(function).name})
        study = _study(folder)
        SearchRunner(folder, study, make, trials, options, slots, metric).run_all()
    succeeded = [trial for trial in study.get_trials() if trial.value is not None]
    if not succeeded:
        raise TrainingError(
            f"all {len(study.get_trials())} trials in {folder} have failed; train.log in each "
            "trial's folder says why"
        )
    best = study.best_trial
    log.info(
        "best of %d trials: trial-%03d, %s %.4f, %s",
        *(len(succeeded), best.number, metric, best.value, json.dumps(best.params)),
    )


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--optuna needs Optuna, which is not installed here: pip install 'frozen-cmt[optuna]'"
        ) from error


def _recipe_function(function: str) -> MakeRecipe:
    file, _, name = function.rpartition(":")
    make = function_of_file(Path(file), name) if file.endswith(".py") else None
    if not callable(make):
        raise ConfigError(
            f"--optuna {function}: expected path/to/file.py:function, a function that takes an "
            "optuna.Trial and returns a Recipe"
        )

    def recipe_of(trial: "Trial") -> Recipe:
        with users_program(Path(file)):
            recipe: Recipe = make(trial)
        return recipe

    return recipe_of


def _study(folder: Path) -> "Study":
    """Open the study of a sweep, or begin it."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
    )
    # A resumed search must not draw what it has drawn before.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.get_trials(deepcopy=False)))
    return study
