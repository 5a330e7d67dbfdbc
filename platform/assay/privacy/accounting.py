"""What private training spends, by three accountants, and the noise that a budget demands.

The mechanism is the Poisson-subsampled Gaussian; neighbours differ by adding or removing one record.

* RDP: Mironov et al. 2019 (arXiv:1908.10530), in Opacus, converted by Balle et al. 2020. An upper bound: the claim.
* PRV: Gopi et al. 2021 (arXiv:2106.02848), in Opacus. An upper bound within a stated numerical error.
* PLD: Google's dp-accounting, pessimistic discretisation. An upper bound by an independent implementation.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from scipy.optimize import brentq

from assay.errors import UserError

# Opacus' own orders stop at 63 and give up at small ε; the optimal order grows as ε falls. At small sample rates ε has
# a cliff above the best order, so that a wide gap between two costs several per cent.
ORDERS = [1 + x / 10 for x in range(1, 110)] + [
    *range(12, 128),
    *range(128, 256, 2),
    *range(256, 512, 4),
    *range(512, 1025, 8),
]
"""Of Rényi differential privacy."""
PRV_ERROR = 0.01
"""Stated error of the PRV accountant, in ε."""
_TOLERANCE = 1e-3
"""Relative tolerance of calibrated noise."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """A run of private updates, as the accountants see it."""

    noise_multiplier: float
    """Standard deviation of the noise, in clipping norms."""
    sample_rate: float
    """Probability with which each record enters a step."""
    steps: int
    delta: float

    def then(self, other: "Mechanism") -> "Mechanism":
        """Both runs on the same records, one after the other: the account of both together.

        Raises:
            ValueError: they differ in more than their number of steps.
        """
        if replace(other, steps=self.steps) != self:
            raise ValueError(f"{self} and {other} are no runs of one mechanism")
        return replace(self, steps=self.steps + other.steps)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The ε of one mechanism at its δ, by each accountant."""

    rdp: float
    prv: float
    pld: float

    @property
    def disagreement(self) -> str:
        """Why the accountants contradict each other, so that none can be believed; empty if they agree."""
        if not self.pld <= self.rdp + 1e-6:
            return f"PLD says ε = {self.pld:.4f}, above RDP's upper bound {self.rdp:.4f}"
        # PRV reports its upper bound, which lies within twice the stated error of the truth.
        if not abs(self.prv - self.pld) <= 2 * PRV_ERROR + 1e-3 * self.pld:
            return (
                f"PRV says ε = {self.prv:.4f} and PLD {self.pld:.4f}, further apart than PRV's stated error {PRV_ERROR}"
            )
        return ""


@lru_cache(maxsize=256)
def spent(mechanism: Mechanism) -> Spent:
    """ε by all three accountants. A second or less; remembered, since folds of one size spend alike."""
    if mechanism.steps == 0:
        return Spent(rdp=0.0, prv=0.0, pld=0.0)
    return Spent(rdp=rdp_epsilon(mechanism), prv=prv_epsilon(mechanism), pld=pld_epsilon(mechanism))


def unsafe_delta(delta: float, records: int) -> str:
    """Why a δ promises nothing of so many records, in words; empty if it may."""
    if delta < 1 / records:
        return ""
    return (
        f"δ = {delta:g} is not below 1/n = {1 / records:g}, so a training may simply publish the record of some patient"
    )


def rdp_epsilon(mechanism: Mechanism) -> float:
    """ε by Rényi differential privacy, the least over ``ORDERS``, as Opacus' accountant finds it."""

    def at(place: int) -> float:
        order = ORDERS[place]
        spent_at = mechanism.steps * rdp_of_step(mechanism.sample_rate, mechanism.noise_multiplier, order)
        return spent_at + conversion(order, mechanism.delta)

    # At an order that tells little the bound may be negative, and ε is not.
    return max(0.0, at(lowest(at)))


def lowest(height: Callable[[int], float], first: int = 0) -> int:
    """The place in ``ORDERS`` at which a valley is lowest, from the first that may be taken.

    ε falls with the order up to the best one and rises from there, so a dozen orders of some four hundred are asked:
    those at small sample rates and much noise take long. Every order is an upper bound, however ε behaves.
    """
    low, high = first, len(ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if height(middle) <= height(middle + 1) else (middle + 1, high)
    return low


@lru_cache(maxsize=1 << 16)
def rdp_of_step(sample_rate: float, noise_multiplier: float, order: float) -> float:
    """Rényi divergence of one step, by Opacus."""
    from opacus.accountants.analysis.rdp import compute_rdp

    return float(compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=[order])[0])


@lru_cache(maxsize=1 << 12)
def conversion(order: float, delta: float) -> float:
    """What makes a Rényi divergence an ε when it is added (Balle et al. 2020, arXiv:1905.09982, Theorem 21)."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with warnings.catch_warnings():
        # Opacus advises more orders wherever the first or the last is best: of one alone, it is both.
        warnings.simplefilter("ignore", UserWarning)
        return float(get_privacy_spent(orders=[order], rdp=[0.0], delta=delta)[0])


def prv_epsilon(mechanism: Mechanism) -> float:
    """ε by composing privacy loss random variables numerically; an upper bound within ``PRV_ERROR``."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)]
    with warnings.catch_warnings():
        # Opacus warns of RDP orders that only size its grid, and of a logarithm of 0 at sample rate 1.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(accountant.get_epsilon(delta=mechanism.delta, eps_error=PRV_ERROR))


def pld_epsilon(mechanism: Mechanism) -> float:
    """ε by the privacy loss distribution of dp-accounting, an independent implementation."""
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    step = PoissonSampledDpEvent(mechanism.sample_rate, GaussianDpEvent(mechanism.noise_multiplier))
    accountant.compose(step, mechanism.steps)
    return float(accountant.get_epsilon(mechanism.delta))


@lru_cache(maxsize=256)
def calibrate(*, epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise multiplier, to 0.1 %, whose RDP ε over all steps is at most ``epsilon``.

    Raises:
        UserError: no noise multiplier up to a million suffices.
    """

    def excess(log_noise: float) -> float:
        """How far log ε lies above its target: falls, nearly linearly, with the logarithm of the noise."""
        mechanism = Mechanism(noise_multiplier=math.exp(log_noise), sample_rate=sample_rate, steps=steps, delta=delta)
        return math.log(max(rdp_epsilon(mechanism), 1e-12) / epsilon)

    low, high = math.log(0.05), 0.0
    while excess(high) > 0:
        low, high = high, high + math.log(4)
        if high > math.log(1e6):
            raise UserError(
                f"no noise reaches ε = {epsilon} at δ = {delta} in {steps} steps at sample rate {sample_rate:.4g}: "
                "raise ε, or take fewer steps"
            )
    if excess(low) <= 0:
        return math.exp(low)
    found = brentq(excess, low, high, xtol=_TOLERANCE / 4)
    while excess(found) > 0:
        found += _TOLERANCE / 2
    return math.exp(found)
