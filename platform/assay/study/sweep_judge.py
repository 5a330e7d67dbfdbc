"""Measures the points that a sweep chose, once, on the test records, which chose nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.executors import ByDevice, Executor
from assay.store.folder import JUDGED, Store
from assay.study.run import about_run
from assay.study.runner import RemainingWork, Runner, TrialObserver, evaluate_work, record_of, remaining_work
from assay.study.sweep_file import study_file
from assay.study.sweep_goals import Goal, values_stored
from assay.study.sweep_prepare import PreparedSweep
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of


@dataclass(frozen=True, kw_only=True)
class ChosenPoint:
    """The point that was chosen in a fold, on validation and on test records."""

    fold: int
    recipe: str
    goal: Goal
    chosen_by: float
    """Its value on the validation records: the best of many."""
    judged: float
    """Its value on the test records; NaN if it was not measured."""
    looks: int
    """Points of this sweep that were measured on the test records of the fold so far, this one included."""


def judged_store(store: Store) -> Store:
    """Returns the store of what was measured on test records.

    Args:
        store: of the sweep.

    Returns:
        The store, which may not exist.
    """
    return Store(f"{store.location}/{JUDGED}")


def judge_chosen(
    prepared: PreparedSweep,
    store: Store,
    executor: Executor,
    *,
    observer: TrialObserver | None = None,
    environment: Mapping[str, Any] | None = None,
) -> list[ChosenPoint]:
    """Chooses the best point of each fold by its validation records, and measures it on the fold's test records.

    The choice is nested: a fold's test records never take part in the choice for that fold, so the mean over the folds
    is an estimate for the whole procedure, search and choice included. Nothing is trained. What was judged before is
    not measured again; each further point that is judged is one more look at the test records, and is counted.

    Args:
        prepared: the sweep, evaluated on validation records.
        store: of its results.
        executor: whose workers measure.
        observer: such as the keeper of the ledger.
        environment: where this runs.

    Returns:
        One entry a fold that has a finished trial.
    """
    assert prepared.sweep.study.split.tested == "validation"
    target, goal = judged_store(store), prepared.goals[0]
    chosen = _best_by_fold(prepared, store)
    with target.locked():
        runner, known = Runner(observer, environment), target.finished()
        trials = {fold: _on_test(prepared, settings, fold) for fold, (settings, _) in chosen.items()}
        work = [_remaining(store, target, trial) for trial in trials.values() if trial.id not in known]
        for item in work:
            runner.begin(item, prepared.dataset)
        items, datasets = ByDevice(**{prepared.device: work}), {prepared.sweep.cohort_name: prepared.dataset}
        for outcome in executor.map(evaluate_work, items, datasets):
            item = work[outcome.index]
            record = replace(record_of(outcome, item.trial), artefact=_artefact(item))
            target.write(runner.end(item.trial, replace(record, weights=b""), prepared.dataset))
        about = about_run(target, environment or {}, fresh=bool(work))
        points = [settings for settings, _ in chosen.values()]
        target.write_text("study.yaml", study_file(prepared, points, about, tested="test"))
        values = values_stored(target.columns(), [goal], prepared.radius)
        looks = target.columns().select(["fold"]).to_pydict()["fold"]
    return [
        ChosenPoint(
            fold=fold,
            recipe=trial.recipe_name,
            goal=goal,
            chosen_by=chosen[fold][1],
            judged=values.get(trial.id, [math.nan])[0],
            looks=looks.count(fold),
        )
        for fold, trial in trials.items()
    ]


def _best_by_fold(prepared: PreparedSweep, store: Store) -> dict[int, tuple[Mapping[str, Any], float]]:
    """Returns settings and value of each fold's best point by the first goal; of equal ones the first name."""
    goal, columns = prepared.goals[0], store.columns()
    values = values_stored(columns, [goal], prepared.radius)
    best: dict[int, tuple[float, str, str]] = {}
    places = columns.select(["trial", "recipe", "fold"]).to_pydict()
    for trial, recipe, fold in zip(places["trial"], places["recipe"], places["fold"], strict=True):
        value = -goal.sign * values.get(trial, [math.nan])[0]
        if math.isfinite(value):
            best[fold] = min(best.get(fold, (math.inf, "", "")), (value, recipe, trial))
    asked = store.asked()
    return {
        fold: (prepared.sweep.settings_in(asked[trial]), -goal.sign * value)
        for fold, (value, _, trial) in sorted(best.items())
    }


def _on_test(prepared: PreparedSweep, settings: Mapping[str, Any], fold: int) -> Trial:
    """Returns the trial of a point that is evaluated on the test records; its model is the same."""
    trials = prepared.sweep.trials(settings, prepared.dataset, folds=prepared.folds)
    (trial,) = [one for one in trials if one.fold == fold]
    return replace(trial, splitting=trial.splitting.model_copy(update={"tested": "test"}))


def _remaining(store: Store, target: Store, trial: Trial) -> RemainingWork:
    """Returns a trial with its model, which the sweep has trained, and with what was judged of it before."""
    work = remaining_work(store, trial)
    assert work.trained is not None, "a finished trial has a model"
    return replace(work, known={**work.known, **target.answers(trial.training, _artefact(work))})


def _artefact(work: RemainingWork) -> str:
    assert work.trained is not None
    return artefact_of(work.trained.checkpoint)
