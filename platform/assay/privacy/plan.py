"""The one forecast of what a private training spends: for dry runs, for budgets, and for the training itself."""

from assay.privacy.accounting import Mechanism, calibrate
from assay.privacy.unit import Unit
from assay.recipes import Privacy, Recipe


def steps_per_epoch(records: int, batch_size: int) -> int:
    """Updates that see each record once (under Poisson sampling: once in expectation)."""
    return -(-records // batch_size)


def forecast_mechanism(recipe: Recipe, *, units: int, unit: Unit) -> Mechanism:
    """What one stage of a private recipe spends; each of its stages spends the same, under one budget.

    Args:
        units: records, or patients, that it is trained on.
        unit: which of them it protects.

    Raises:
        UserError: no noise reaches its ε.
    """
    privacy, size = recipe.stages()[-1].privacy, recipe.training.batch_size
    assert privacy is not None
    steps = recipe.passes * steps_per_epoch(units, size)
    return planned(privacy, units=units, batch_size=size, steps=steps, unit=unit)


def planned(privacy: Privacy, *, units: int, batch_size: int, steps: int, unit: Unit = "record") -> Mechanism:
    """One private training as it will be accounted for, its noise calibrated for all that share its budget.

    Args:
        units: records, or patients, that it draws from.
        batch_size: expected number of them in a step.
        steps: that it takes.

    Raises:
        UserError: no noise reaches its ε.
    """
    rate, together = min(1.0, batch_size / units), steps * privacy.trainings
    noise = calibrate(epsilon=privacy.epsilon, delta=privacy.delta, sample_rate=rate, steps=together)
    return Mechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=privacy.delta, unit=unit)
