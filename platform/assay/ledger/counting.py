"""Composition of the charges of a ledger: which ones count, and their total ε."""

from collections.abc import Sequence

from assay.ledger.account import ChargeOnRecord
from assay.privacy.composition import filter_epsilon, pld_epsilon_of, rdp_epsilon_of


def charges_that_count(charges: Sequence[ChargeOnRecord]) -> tuple[str, list[ChargeOnRecord]]:
    """Selects the charges that count.

    Dropped charges do not count, unless they belong to a plan of which something was released. Which other members are
    released may depend on that, so only the whole plan is bounded.

    Args:
        charges: all charges of a ledger.

    Returns:
        The one declared plan to which all counting charges belong, empty if there is none; and the counting charges.
    """
    begun = {record.plan for record in charges if record.plan and record.released}
    active = [record for record in charges if record.state != "dropped" or record.plan in begun]
    plans = {record.plan for record in active}
    return plans.pop() if len(plans) == 1 else "", active


def epsilon(held: Sequence[ChargeOnRecord], *, order: float | None, delta: float, planned: bool) -> float:
    """Returns the total ε of charges: by PLD for one declared plan, otherwise by the RDP filter at its order.

    Args:
        held: the charges.
        order: of the RDP filter; None uses the best order, which gives the smallest ε.
        delta: δ of the ε.
        planned: whether they are one declared plan.

    Returns:
        The ε.
    """
    charges = [record.charge for record in held]
    if planned:
        return pld_epsilon_of(charges, delta=delta)
    if order is None:
        # No order fits the budget, or there is no budget: the smallest ε over all orders is reported, and a request
        # is refused if even that is too large.
        return rdp_epsilon_of(charges, delta=delta)
    return filter_epsilon(charges, order=order, delta=delta)


def filter_text(order: float | None) -> str:
    """Returns the name of the accountant for releases that are chosen one after the other.

    Args:
        order: of the RDP filter; None before it is fixed.

    Returns:
        The name.
    """
    return "RDP" if order is None else f"the RDP filter at order {order:g}"


def spent_text(before: Sequence[ChargeOnRecord], spent: float) -> str:
    """Returns a phrase for error messages: the spent ε and the number of charges in each state.

    Args:
        before: the charges.
        spent: their ε.

    Returns:
        The phrase.
    """
    counts = [(sum(record.state == state for record in before), state) for state in ("trained", "reserved")]
    released = sum(bool(record.released) for record in before)
    others = "".join(f", {count} {state}" for count, state in counts if count)
    return f"ε = {spent:.4g} is spent ({released} released{others})"


def labels(held: Sequence[ChargeOnRecord]) -> str:
    """Returns the label of a single charge, or the number of charges.

    Args:
        held: the charges.

    Returns:
        A phrase for error messages.
    """
    return held[0].label if len(held) == 1 else f"{len(held)} trials"
