"""What a private trial is going to spend, and what it has spent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.federated.partition import partition
from assay.ledger.experiments import NoiseSource
from assay.privacy.accounting import Mechanism
from assay.privacy.composition import Charge
from assay.privacy.plan import forecast_mechanism
from assay.privacy.unit import protected, protected_unit, refuse_unlikely_patients
from assay.recipes import Recipe
from assay.study.trial import Trial


def noise_source(trial: Trial) -> NoiseSource:
    """``seeded`` or ``entropy``; empty of a training without privacy."""
    return "" if trial.recipe.privacy is None else trial.recipe.privacy.noise


def forecast_charge(trial: Trial, dataset: Dataset, train: np.ndarray) -> Charge:
    """What a private training is going to spend: by its recipe and by how many patients, or records, there are, not by
    what their records say.

    Args:
        train: positions of the training records.

    Raises:
        UserError: no noise reaches its ε, or clients are more than records.
    """
    recipe, groups = trial.recipe, None if dataset.groups is None else dataset.groups[train]
    refuse_unlikely_patients(recipe.privacy, dataset.origin.groups)

    def own(rows: np.ndarray) -> tuple[Mechanism]:
        return (_forecast(recipe, len(rows), None if dataset.patients is None else dataset.patients[rows]),)

    if recipe.federation is None:
        return {"central": own(train)}
    parts = partition(train, dataset.y[train], recipe.federation, seed=trial.trial_seed, groups=groups)
    return {str(number): own(part) for number, part in enumerate(parts, start=1)}


def charge_of(log: Mapping[str, Any]) -> Charge:
    """What a training spent, from what it left behind beside its weights; empty if it was not private."""
    return {name: (Mechanism(**settings),) for name, settings in log.get("mechanisms", {}).items()}


def _forecast(recipe: Recipe, records: int, groups: np.ndarray | None) -> Mechanism:
    """All stages of a recipe on so many records.

    Args:
        groups: (records,) the patient of each; None where they have none.
    """
    unit, units = protected_unit(recipe.privacy, groups), protected(recipe.privacy, groups, records)
    each = forecast_mechanism(recipe, units=units, unit=unit)
    return replace(each, steps=each.steps * len(recipe.stages()))
