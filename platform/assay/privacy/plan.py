"""The forecast of a private training's mechanism: for dry runs, for budgets, and for the training itself."""

from assay.privacy.accounting import Mechanism, calibrate
from assay.privacy.unit import Unit
from assay.recipes import Privacy, Recipe


def steps_per_epoch(records: int, batch_size: int) -> int:
    """Returns the number of updates that use each record once (under Poisson sampling: once in expectation).

    Args:
        records: number of records, or patients.
        batch_size: number of them in a batch.

    Returns:
        The number of steps, rounded up.
    """
    return -(-records // batch_size)


def training_steps(recipe: Recipe, units: int) -> int:
    """Returns the number of updates of one training; at one client, where the recipe is federated.

    Args:
        recipe: sets epochs, or rounds and what a client does in one.
        units: number of records, or patients, that it is trained on.

    Returns:
        The number of steps.
    """
    each = steps_per_epoch(units, recipe.training.batch_size)
    return recipe.passes * each if recipe.federation is None else recipe.federation.steps(each)


def forecast_mechanism(recipe: Recipe, *, units: int, unit: Unit) -> Mechanism:
    """Returns the mechanism of one stage of a private recipe; all of its stages have the same, under one budget.

    Args:
        recipe: with ``privacy``.
        units: number of records, or patients, that it is trained on.
        unit: which of them it protects.

    Returns:
        The mechanism of all steps of a stage; of all trainings of a client, where it also trains a model of its own.

    Raises:
        UserError: no noise reaches its ε.
    """
    privacy, size = recipe.stages()[-1].privacy, recipe.training.batch_size
    assert privacy is not None
    trainings = 1 if recipe.federation is None else recipe.federation.private_trainings
    steps = training_steps(recipe, units) * trainings
    return planned(privacy, units=units, batch_size=size, steps=steps, unit=unit)


def planned(privacy: Privacy, *, units: int, batch_size: int, steps: int, unit: Unit = "record") -> Mechanism:
    """Returns the mechanism of one private training, with noise calibrated for all trainings that share its budget.

    Args:
        privacy: ε, δ and the number of trainings that share them.
        units: number of records, or patients, that it draws from.
        batch_size: expected number of them in a step.
        steps: number of its steps.
        unit: which of them it protects.

    Returns:
        The mechanism of all steps.

    Raises:
        UserError: no noise reaches its ε.
    """
    rate, together = min(1.0, batch_size / units), steps * privacy.trainings
    noise = calibrate(epsilon=privacy.epsilon, delta=privacy.delta, sample_rate=rate, steps=together)
    return Mechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=privacy.delta, unit=unit)
