"""The ε of several private trainings on the same records together, by two accountants.

* RDP at one order that is fixed in advance is a *filter* (Feldman and Zrnic 2021, arXiv:2008.11193): each release may
  be chosen after seeing the ones before, and the sum stays an upper bound.
* PLD composes a plan that was declared beforehand. It is tighter, but no bound if a release was chosen because of an
  earlier one.

Neighbours differ by one unit, a patient or a record. A unit belongs to one spender: each client of a federated
training protects its own records, so the client with the greatest ε counts. Every unit is charged, whether a fold
trained on it or not.

Where some charges protect patients and others single records, all together protect a single record. Removing a record
from a patient with further records replaces that patient by another one. So a charge of a patient counts as a removal
and an addition, by the weak triangle inequality of Rényi divergences (Mironov 2017, arXiv:1702.07476, Proposition 11).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

from assay.privacy.accounting import (
    ORDERS,
    Mechanism,
    argmin_order,
    pld_epsilon,
    rdp_of_step,
    rdp_to_epsilon_term,
)
from assay.privacy.unit import Unit

Charge = Mapping[str, tuple[Mechanism, ...]]
"""Mechanisms of one training by spender: ``central``, or the number of a client. Those of one spender add up."""
UNBOUNDED: Charge = {"central": (Mechanism(noise_multiplier=0.0, sample_rate=1.0, steps=1, delta=1e-5),)}
"""Charge of a training without privacy, whose ε is infinite."""
_MOST_COMBINATIONS = 8
"""Greatest number of combinations of clients that PLD composes one by one; for more, one bound over all is composed."""


def spends(charge: Charge) -> bool:
    """Returns whether a charge contains any step; if not, its ε of 0 only means that nothing is known.

    Args:
        charge: of one training.

    Returns:
        Whether records were used.
    """
    return any(m.steps > 0 and m.sample_rate > 0 for mechanisms in charge.values() for m in mechanisms)


def unit_of(charges: Iterable[Charge]) -> Unit | None:
    """Returns the unit that charges protect together; None if nothing is spent.

    It is a patient if all of them protect patients, else a record.

    Args:
        charges: of several trainings.

    Returns:
        The unit, or None.
    """
    units = {m.unit for charge in charges for mechanisms in charge.values() for m in mechanisms if m.steps}
    if not units:
        return None
    return "patient" if units == {"patient"} else "record"


def charge_to_json(charge: Charge) -> str:
    """Returns a charge as JSON, as a ledger stores it; ``charge_from_json`` reads it.

    Args:
        charge: of one training.

    Returns:
        The text.
    """
    return json.dumps({name: [asdict(mechanism) for mechanism in mechanisms] for name, mechanisms in charge.items()})


def charge_from_json(text: str) -> Charge:
    """Reads a charge that ``charge_to_json`` wrote.

    Args:
        text: JSON.

    Returns:
        The charge.
    """
    return {
        name: tuple(Mechanism(**settings) for settings in mechanisms) for name, mechanisms in json.loads(text).items()
    }


def filter_epsilon(charges: Iterable[Charge], *, order: float, delta: float) -> float:
    """Returns the ε of all charges together at one RDP order, for the unit that ``unit_of`` names.

    An upper bound under adaptive choice of releases if the order was fixed in advance.

    Args:
        charges: of all trainings.
        order: of the Rényi divergence.
        delta: of the claim.

    Returns:
        ε; 0 without charges.
    """
    total = _divergence(tuple(charges), order)
    return max(0.0, total + rdp_to_epsilon_term(order, delta)) if total else 0.0


def filter_order(charges: Sequence[Charge], *, epsilon: float, delta: float) -> float | None:
    """Returns the RDP order at which a budget covers the most of such charges; None if it covers them at no order.

    It depends on the mechanisms only and not on their results, so it may be fixed before the first release.

    Args:
        charges: that are planned.
        epsilon: the budget.
        delta: of the budget.

    Returns:
        The order, or None.
    """

    def share(place: int) -> float:
        """Returns the share of the budget that the charges take at an order."""
        return _divergence(charges, ORDERS[place]) / (epsilon - rdp_to_epsilon_term(ORDERS[place], delta))

    first = next((place for place, order in enumerate(ORDERS) if epsilon > rdp_to_epsilon_term(order, delta)), None)
    if first is None:
        return None
    candidates = {argmin_order(share, first), argmin_order(lambda place: _at(charges, place, delta))}
    best = min((place for place in candidates if place >= first), key=share, default=first)
    return ORDERS[best] if share(best) <= 1 + 1e-9 else None


def rdp_epsilon_of(charges: Sequence[Charge], *, delta: float) -> float:
    """Returns the ε of a set of charges that was fixed beforehand, by RDP at the best order.

    Args:
        charges: of all trainings.
        delta: of the claim.

    Returns:
        ε; 0 without charges.
    """
    if not any(mechanisms for charge in charges for mechanisms in charge.values()):
        return 0.0
    return max(0.0, _at(charges, argmin_order(lambda place: _at(charges, place, delta)), delta))


def pld_epsilon_of(charges: Sequence[Charge], *, delta: float) -> float:
    """Returns the ε of a set of charges that was fixed beforehand, by privacy loss distributions.

    Of each federated training the client with the greatest ε counts. Where there are many different clients, one
    mechanism that spends at least as much as each of them is composed instead; this is still an upper bound. Where some
    charges protect patients and others records, the result is the ε by RDP.

    Args:
        charges: of all trainings.
        delta: of the claim.

    Returns:
        ε, an upper bound.
    """
    if _is_mixed(charges):
        return rdp_epsilon_of(charges, delta=delta)
    choices = [_maximal(charge) for charge in charges if charge]
    if math.prod(len(choice) for choice in choices) > _MOST_COMBINATIONS:
        choices = [[_bounding(choice)] for choice in choices]
    # Composition does not depend on the order of the mechanisms.
    chosen = {
        tuple(sorted((m for spender in combination for m in spender), key=repr)) for combination in product(*choices)
    }
    return max(pld_epsilon(*(replace(m, delta=delta) for m in mechanisms)) for mechanisms in chosen)


def _maximal(charge: Charge) -> list[tuple[Mechanism, ...]]:
    """Returns the spenders that may have the greatest ε: those that no other one dominates."""
    distinct = list(dict.fromkeys(charge.values()))
    return [
        mechanisms
        for mechanisms in distinct
        if not any(other != mechanisms and _outdoes(other, mechanisms) for other in distinct)
    ]


def _outdoes(one: tuple[Mechanism, ...], other: tuple[Mechanism, ...]) -> bool:
    """Returns whether one certainly spends at least as much: less noise, a higher sample rate, more steps."""
    return len(one) == len(other) and all(
        a.noise_multiplier <= b.noise_multiplier and a.sample_rate >= b.sample_rate and a.steps >= b.steps
        for a, b in zip(one, other, strict=True)
    )


def _bounding(spenders: list[tuple[Mechanism, ...]]) -> tuple[Mechanism, ...]:
    """Returns mechanisms that spend at least as much as each of the spenders."""
    longest = max(len(mechanisms) for mechanisms in spenders)
    everything = [mechanism for mechanisms in spenders for mechanism in mechanisms]
    return (
        Mechanism(
            noise_multiplier=min(m.noise_multiplier for m in everything),
            sample_rate=max(m.sample_rate for m in everything),
            steps=max(m.steps for m in everything),
            delta=everything[0].delta,
        ),
    ) * longest


def _divergence(charges: Sequence[Charge], order: float) -> float:
    """Returns the Rényi divergence of all charges together: of each charge that of its worst spender."""
    mixed = _is_mixed(charges)
    return sum(
        max((_spent_at(mechanisms, order, mixed=mixed) for mechanisms in charge.values()), default=0.0)
        for charge in charges
    )


def _is_mixed(charges: Iterable[Charge]) -> bool:
    """Returns whether some charges protect a patient, and others a record."""
    return len({m.unit for charge in charges for mechanisms in charge.values() for m in mechanisms if m.steps}) > 1


def _spent_at(mechanisms: tuple[Mechanism, ...], order: float, *, mixed: bool) -> float:
    return sum(m.steps * _of_step(m, order, replaced=mixed and m.unit == "patient") for m in mechanisms if m.steps)


def _of_step(mechanism: Mechanism, order: float, *, replaced: bool) -> float:
    """Returns the Rényi divergence of one step, for a unit that is added, or that replaces another."""

    def at(order: float) -> float:
        return rdp_of_step(mechanism.sample_rate, mechanism.noise_multiplier, order)

    if not replaced:
        return at(order)
    return (order - 0.5) / (order - 1) * at(2 * order) + at(2 * order - 1)


def _at(charges: Sequence[Charge], place: int, delta: float) -> float:
    return _divergence(charges, ORDERS[place]) + rdp_to_epsilon_term(ORDERS[place], delta)
