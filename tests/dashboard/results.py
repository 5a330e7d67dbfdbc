"""A study whose trials are stored, with made-up figures: one private recipe, one that failed in its second fold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.results import TELLS_OF, Check, Measurement
from assay.store.folder import Store
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from assay.study.trial import Trial

RECIPES: dict[str, Any] = {
    "standard": {},
    "slow": {"training": {"learning_rate": 0.001}},
    "private": {"privacy": {"epsilon": 4.0}},
}


def trials_of(raw: Callable[..., dict[str, Any]], **settings: Any) -> tuple[Any, list[Trial]]:
    """The study, and its trials as they are planned."""
    study = build_study(raw(RECIPES, **settings), "tiny.yaml")
    return study, plan(study, load_datasets(study))


def measured(trial: Trial) -> tuple[Measurement, ...]:
    """Figures that differ by recipe and fold, with an interval; a private recipe has one of training records too."""
    value = {"standard": 0.9, "slow": 0.8, "private": 0.7}[trial.recipe_name] + 0.01 * trial.fold
    found = [
        Measurement(name="accuracy", value=value, n=30, low=value - 0.05, high=value + 0.05),
        Measurement(name="training_seconds", value=1.5, unit="seconds"),
        Measurement(name="epsilon", status="not_applicable", warnings=("not private",)),
        Check(
            rule="stronger_attack", concerns="accuracy", verdict="warn", figure=0.1, message="look closer"
        ).measurement(),
    ]
    if trial.recipe.privacy is not None:
        found[2] = Measurement(name="epsilon", value=4.0, unit="epsilon")
    of_training = {TELLS_OF: "training records", "false_positive_rate": 0.1}
    share = 0.1234 if trial.recipe.privacy is not None else 0.4 + 0.01 * trial.fold
    found.append(Measurement(name="membership_tpr", value=share, n=30, conditions=of_training))
    return tuple(found)


def stored(folder: Path, raw: Callable[..., dict[str, Any]], **settings: Any) -> list[Trial]:
    """Writes the study with its results; returns its trials."""
    study, trials = trials_of(raw, **settings)
    store = Store(str(folder))
    with store.locked():
        for trial in trials:
            broken = (trial.recipe_name, trial.fold) == ("slow", 1)
            found = {"error": "ValueError: odd\n  line 3"} if broken else {"measurements": measured(trial)}
            store.write(trial.record(**found, seconds=2.0, weights=b"" if broken else b"weights"))
        write_study(study, store, {trial.id: trial.label for trial in trials}, {})
    return trials
