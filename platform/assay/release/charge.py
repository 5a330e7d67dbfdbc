"""The charge of a private trial: forecast before training, and spent afterwards."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from assay.data.base import Dataset
from assay.data.partition import partition_dataset
from assay.evaluations.base import OwnTraining
from assay.ledger.experiments import NoiseSource
from assay.privacy.accounting import Mechanism
from assay.privacy.composition import UNBOUNDED, Charge
from assay.privacy.plan import forecast_mechanism
from assay.privacy.unit import protected, protected_unit, refuse_unlikely_patients
from assay.recipes import Recipe
from assay.study.trial import Trial


def noise_source(trial: Trial) -> NoiseSource:
    """Returns ``seeded`` or ``entropy``; empty for a training without privacy.

    Args:
        trial: the trial.

    Returns:
        The noise source.
    """
    return "" if trial.recipe.privacy is None else trial.recipe.privacy.noise


def forecast_charge(trial: Trial, dataset: Dataset, train: np.ndarray) -> Charge:
    """Returns what a private training will spend.

    The forecast depends on the recipe and the number of patients or records, not on their content.

    Args:
        trial: the trial.
        dataset: its data set.
        train: (n,) positions of the training records.

    Returns:
        Mechanisms by name: ``central``, or the number of each client.

    Raises:
        UserError: no noise level reaches its ε, or there are more clients than records.
    """
    recipe = trial.recipe
    refuse_unlikely_patients(recipe.privacy, dataset.origin.groups)

    def mechanism(rows: np.ndarray) -> tuple[Mechanism]:
        return (_forecast(recipe, len(rows), None if dataset.patients is None else dataset.patients[rows]),)

    if recipe.federation is None:
        return {"central": mechanism(train)}
    parts = partition_dataset(dataset, train, recipe.federation, seed=trial.trial_seed)
    return {str(number): mechanism(part) for number, part in enumerate(parts, start=1)}


def charge_of_own(own: OwnTraining) -> Charge:
    """Returns what a training of an evaluation spends: that of one Gaussian mechanism with its ε and δ.

    A machine whose noise is accounted by Gaussian differential privacy is no easier to attack than this mechanism.

    Args:
        own: the training.

    Returns:
        The charge; unbounded where the training is not private.
    """
    if own.epsilon is None:
        return UNBOUNDED
    noise = gaussian_noise(own.epsilon, own.delta)
    return {"central": (Mechanism(noise_multiplier=noise, sample_rate=1.0, steps=1, delta=own.delta),)}


def gaussian_noise(epsilon: float, delta: float) -> float:
    """Returns the least noise of one release with sensitivity 1 that is (ε, δ)-private.

    It solves Φ(1/2σ − εσ) − exp(ε) Φ(−1/2σ − εσ) = δ (Balle & Wang 2018, arXiv:1805.06530).

    Args:
        epsilon: above 0.
        delta: between 0 and 1.

    Returns:
        Standard deviation σ of the noise.
    """

    def beyond(noise: float) -> float:
        low, high = (sign / (2 * noise) - epsilon * noise for sign in (1, -1))
        return float(norm.cdf(low) - np.exp(epsilon + norm.logcdf(high))) - delta

    return float(brentq(beyond, 1e-3, 1e6, xtol=1e-12))


def charge_of(log: Mapping[str, Any]) -> Charge:
    """Returns what a training spent, from its log.

    Args:
        log: stored beside the weights.

    Returns:
        Mechanisms by name; empty if the training was not private.
    """
    return {name: (Mechanism(**settings),) for name, settings in log.get("mechanisms", {}).items()}


def _forecast(recipe: Recipe, records: int, groups: np.ndarray | None) -> Mechanism:
    """Returns the mechanism of all stages of a recipe on this number of records.

    Args:
        groups: (records,) the patient of each; None where they have none.
    """
    unit, units = protected_unit(recipe.privacy, groups), protected(recipe.privacy, groups, records)
    each = forecast_mechanism(recipe, units=units, unit=unit)
    return replace(each, steps=each.steps * len(recipe.stages()))
