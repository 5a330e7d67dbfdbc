"""All checks, in the order in which they run: those that find most come first."""

from tests.device import attacks, bounds, explanations, training
from tests.device.check import Check


def all_checks() -> list[Check]:
    """Returns all checks.

    Returns:
        The checks.
    """
    return [*training.checks(), *attacks.checks(), *explanations.checks(), *bounds.checks()]
