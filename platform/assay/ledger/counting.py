"""Which charges of a ledger count, and what they spend together."""

from collections.abc import Sequence

from assay.ledger.account import ChargeOnRecord
from assay.privacy.composition import filter_epsilon, pld_epsilon_of, rdp_epsilon_of


def charges_that_count(charges: Sequence[ChargeOnRecord]) -> tuple[str, list[ChargeOnRecord]]:
    """Returns the one declared plan to which all charges belong, empty if there is none; and the charges that count.

    What was dropped does not count, but for a member of a plan of which something has left: which others leave may
    depend on what that showed, so that only the whole is bounded, whatever comes after it.
    """
    begun = {held.plan for held in charges if held.plan and held.released}
    active = [held for held in charges if held.state != "dropped" or held.plan in begun]
    plans = {held.plan for held in active}
    return plans.pop() if len(plans) == 1 else "", active


def epsilon(held: Sequence[ChargeOnRecord], *, order: float | None, delta: float, planned: bool) -> float:
    """Returns the ε of some charges: by PLD if they are one declared plan, else by the RDP filter at its order."""
    charges = [one.charge for one in held]
    if planned:
        return pld_epsilon_of(charges, delta=delta)
    if order is None:
        # No order holds the budget, or there is none: the least over all orders is told, and refused if it is asked.
        return rdp_epsilon_of(charges, delta=delta)
    return filter_epsilon(charges, order=order, delta=delta)


def filter_text(order: float | None) -> str:
    """Returns the name of the accountant of releases that are chosen one after the other."""
    return "RDP" if order is None else f"the RDP filter at order {order:g}"


def spent_text(before: Sequence[ChargeOnRecord], spent: float) -> str:
    """Returns what is spent, and by how many charges of each kind, in words."""
    counts = [(sum(held.state == state for held in before), state) for state in ("trained", "reserved")]
    released = sum(bool(held.released) for held in before)
    others = "".join(f", {count} {state}" for count, state in counts if count)
    return f"ε = {spent:.4g} is spent ({released} released{others})"


def labels(held: Sequence[ChargeOnRecord]) -> str:
    """Returns the label of a single charge, or how many there are."""
    return held[0].label if len(held) == 1 else f"{len(held)} trials"
