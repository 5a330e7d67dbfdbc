"""The privacy account of a client, from the state that it keeps."""

import math
from dataclasses import replace

from assay.federated.client import LocalTraining
from assay.federated.state import ClientState
from assay.privacy.accounting import Mechanism
from assay.privacy.plan import planned, steps_per_epoch, training_steps
from assay.privacy.unit import protected_unit


def account_of(given: LocalTraining, number: int, state: ClientState | None) -> Mechanism | None:
    """Returns the mechanism of all that a client has drawn noise for, rounds that nobody has used included.

    Args:
        given: recipe and records.
        number: of the client.
        state: that it keeps; None if it was never asked.

    Returns:
        The mechanism; None if training is not private, or the client has drawn nothing.
    """
    privacy, federation = given.recipe.privacy, given.recipe.federation
    assert federation is not None
    if privacy is None or state is None:
        return None
    units, size = given.units(number), given.recipe.training.batch_size
    patients = None if given.patients is None else given.patients[given.parts[number - 1]]
    steps = training_steps(given.recipe, units)
    mechanism = planned(privacy, units=units, batch_size=size, steps=steps, unit=protected_unit(privacy, patients))
    # A round that was lost may have taken as many steps as the longest.
    each = math.ceil(federation.steps(steps_per_epoch(units, size)) / federation.rounds) * federation.private_trainings
    taken = sum(int(value) for name, value in state.values.items() if name.endswith("step"))
    taken += int(state.values.get("lost_rounds", 0)) * each
    return replace(mechanism, steps=taken) if taken else None
