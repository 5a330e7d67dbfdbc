"""What private training spends, by three accountants, and the noise that a budget demands.

The mechanism is the Poisson-subsampled Gaussian; neighbours differ by adding or removing one unit: a record, or a
patient with all of its records.

* RDP: Mironov et al. 2019 (arXiv:1908.10530), in Opacus, converted by Balle et al. 2020. An upper bound: the claim.
* PRV: Gopi et al. 2021 (arXiv:2106.02848), in Opacus. An upper bound within a stated numerical error.
* PLD: Google's dp-accounting, pessimistic discretisation. An upper bound by an independent implementation.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from scipy.optimize import brentq

from assay.errors import UserError
from assay.privacy.unit import Unit

# Opacus' own orders stop at 63 and give up at small ε; the optimal order grows as ε falls. At small sample rates ε has
# a cliff above the best order, so that a wide gap between two costs several per cent.
ORDERS = [1 + x / 10 for x in range(1, 110)] + [
    *range(12, 128),
    *range(128, 256, 2),
    *range(256, 512, 4),
    *range(512, 1025, 8),
]
"""Orders of Rényi divergence that the accountant tries."""
BEYOND = 500.0
"""ε from which on RDP alone is asked: the others take long, and no such ε promises anything."""
LEAST_DELTA = 1e-12
"""δ below which RDP alone is asked: the others add up probabilities, whose rounding is as large."""
_FINEST = 1e-9
"""Least width, in ε, of a grid of privacy losses: below, rounding of the losses themselves would fill it."""
_PRV_POINTS = 2**21
_PLD_POINTS = 2**19
"""Points of a grid of privacy losses, about, that PRV and PLD may have: memory and time are bounded by them."""
PRV_ERROR = 0.01
"""Least stated error of the PRV accountant, in ε; see ``Spent.prv_error``."""
_TOLERANCE = 1e-3
"""Relative tolerance of calibrated noise."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """A run of private updates, as the accountants see it."""

    noise_multiplier: float
    """Standard deviation of the noise, in clipping norms."""
    sample_rate: float
    """Probability with which each unit enters a step."""
    steps: int
    delta: float
    unit: Unit = "record"
    """What is sampled, clipped and protected: a record, or a patient with all of its records."""

    def then(self, other: "Mechanism") -> "Mechanism":
        """Both runs on the same records, one after the other: the account of both together.

        Raises:
            ValueError: they differ in more than their number of steps.
        """
        if replace(other, steps=self.steps) != self:
            raise ValueError(f"{self} and {other} are no runs of one mechanism")
        return replace(self, steps=self.steps + other.steps)


def impossible(mechanism: Mechanism) -> tuple[str, object, str] | None:
    """Returns the first figure that no mechanism can have, as its name, its value and what is allowed; None if all can.

    No noise is possible, and spends infinitely much.
    """
    whole = isinstance(mechanism.steps, int | np.integer) and not isinstance(mechanism.steps, bool)
    for name, given, allowed, fine in (
        ("noise_multiplier", mechanism.noise_multiplier, "a finite number of at least 0", lambda x: 0 <= x < math.inf),
        ("sample_rate", mechanism.sample_rate, "a number from 0 to 1", lambda x: 0 <= x <= 1),
        ("steps", mechanism.steps, "a whole number of at least 0", lambda x: whole and x >= 0),
        ("delta", mechanism.delta, "a number above 0 and below 1", lambda x: 0 < x < 1),
        ("unit", mechanism.unit, "patient or record", lambda x: x in ("patient", "record")),
    ):
        try:
            possible = bool(fine(given))
        except (TypeError, ValueError):
            possible = False
        if not possible:
            return name, given, allowed
    return None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The ε of one mechanism at its δ, by each accountant."""

    rdp: float
    prv: float
    """NaN where ``why_no_prv`` says why."""
    pld: float
    """NaN where ``why_no_pld`` says why."""
    why_no_prv: str = ""
    why_no_pld: str = ""

    @property
    def prv_error(self) -> float:
        """Stated error of the PRV accountant, in ε: a thousandth of a large one is fine enough, and takes less long."""
        return _prv_error(self.rdp)

    @property
    def disagreement(self) -> str:
        """Why the accountants contradict each other, so that none can be believed; empty if they agree."""
        if not self.why_no_pld and not self.pld <= self.rdp + 1e-6:
            return f"PLD says ε = {self.pld:.4f}, above RDP's upper bound {self.rdp:.4f}"
        # PRV reports its upper bound, which lies within twice the stated error of the truth.
        both = not self.why_no_prv and not self.why_no_pld
        if both and not abs(self.prv - self.pld) <= 2 * self.prv_error + 1e-3 * self.pld:
            return (
                f"PRV says ε = {self.prv:.4f} and PLD {self.pld:.4f}, further apart than PRV's stated error "
                f"{self.prv_error:.4g}"
            )
        return ""


@lru_cache(maxsize=256)
def spent(mechanism: Mechanism) -> Spent:
    """ε by all three accountants. Seconds at worst; remembered, since folds of one size spend alike.

    Raises:
        UserError: a figure of the mechanism is none, such as a noise multiplier of NaN.
    """
    require_possible_mechanism(mechanism)
    if mechanism.steps == 0 or mechanism.sample_rate == 0:
        return Spent(rdp=0.0, prv=0.0, pld=0.0)
    rdp = rdp_epsilon(mechanism)
    if rdp > BEYOND or mechanism.delta < LEAST_DELTA:
        why = f"ε = {rdp:.4g} is above {BEYOND:g}, where no ε says anything"
        if mechanism.delta < LEAST_DELTA:
            why = (
                f"δ = {mechanism.delta:g} is below {LEAST_DELTA:g}, which sums of floating-point numbers do not resolve"
            )
        return Spent(rdp=rdp, prv=math.nan, pld=math.nan, why_no_prv=why, why_no_pld=why)
    points = _prv_points(mechanism, rdp)
    prv, why_no_prv = math.nan, f"its grid would need {points:.2g} points, which are too many for time and memory"
    if points <= _PRV_POINTS:
        prv, why_no_prv = _told(partial(prv_epsilon, mechanism))
    pld, why_no_pld = _told(partial(pld_epsilon, mechanism))
    if not why_no_pld and pld > rdp:
        # A grid may be too coarse for a very small ε, and RDP is a bound as well.
        pld, why_no_pld = (pld, "") if pld > rdp + _grid_error(mechanism) else (rdp, "")
    return Spent(rdp=rdp, prv=prv, pld=pld, why_no_prv=why_no_prv, why_no_pld=why_no_pld)


def require_possible_mechanism(mechanism: Mechanism) -> None:
    """Raises where a figure of a mechanism is none that it can have.

    Raises:
        UserError: names the first that is none, with what is allowed.
    """
    if wrong := impossible(mechanism):
        setting, given, allowed = wrong
        raise UserError(
            f"{setting} is {given}, and {allowed} is needed to say what a training spends",
            setting=setting,
            given=given,
            allowed=allowed,
        )


def _told(count: Callable[[], float]) -> tuple[float, str]:
    """What an accountant says; NaN where its numerics give up, with how."""
    try:
        found = count()
    except (ArithmeticError, ValueError, RuntimeError, MemoryError, IndexError) as error:
        told = str(error).splitlines()
        return math.nan, f"the accountant gave up ({type(error).__name__}: {told[0] if told else 'no reason given'})"
    return (found, "") if math.isfinite(found) else (math.nan, "the accountant found no finite ε")


def unsafe_delta(delta: float, units: int, *, unit: Unit = "record") -> str:
    """Why δ is too large for this many records, or patients (δ ≥ 1/n), in a sentence; empty if it is small enough."""
    if delta < 1 / units:
        return ""
    published = "the record of some patient" if unit == "record" else "all records of some patient"
    return f"δ = {delta:g} is not below 1/n = {1 / units:g}, so a training may simply publish {published}"


def rdp_epsilon(*mechanisms: Mechanism) -> float:
    """ε of runs on the same records at the same δ, by RDP at the best of ``ORDERS``, as Opacus' accountant finds it."""

    def at(place: int) -> float:
        order = ORDERS[place]
        spent_at = sum(m.steps * rdp_of_step(m.sample_rate, m.noise_multiplier, order) for m in mechanisms)
        return spent_at + rdp_to_epsilon_term(order, mechanisms[0].delta)

    # At an order that tells little the bound may be negative, and ε is not.
    return max(0.0, at(argmin_order(at)))


def argmin_order(height: Callable[[int], float], first: int = 0) -> int:
    """Index into ``ORDERS``, at or after ``first``, that minimises ``height``, which falls and then rises.

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
def rdp_to_epsilon_term(order: float, delta: float) -> float:
    """What makes a Rényi divergence an ε when it is added (Balle et al. 2020, arXiv:1905.09982, Theorem 21)."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with warnings.catch_warnings():
        # Opacus advises more orders wherever the first or the last is best: of one alone, it is both.
        warnings.simplefilter("ignore", UserWarning)
        return float(get_privacy_spent(orders=[order], rdp=[0.0], delta=delta)[0])


def prv_epsilon(mechanism: Mechanism) -> float:
    """ε by composing privacy loss random variables numerically; an upper bound within ``Spent.prv_error``."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)]
    with warnings.catch_warnings():
        # Opacus warns of RDP orders that only size its grid, and of a logarithm of 0 at sample rate 1.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        error = _prv_error(rdp_epsilon(mechanism))
        # Where δ alone allows more than the mechanism tells, the loss at δ is negative, and ε is not.
        return max(0.0, float(accountant.get_epsilon(delta=mechanism.delta, eps_error=error)))


def _prv_error(rdp: float) -> float:
    return max(PRV_ERROR, 1e-3 * rdp)


def _prv_points(mechanism: Mechanism, rdp: float) -> float:
    """Points of the grid of PRV at its stated error; they grow with the root of the steps."""
    spread = math.sqrt(mechanism.steps / 2 * math.log(12e3 / mechanism.delta))
    return 2 * (rdp + 3) * spread / _prv_error(rdp)


@lru_cache(maxsize=256)
def pld_epsilon(*mechanisms: Mechanism) -> float:
    """ε of runs on the same records at the same δ, by dp-accounting's privacy loss distributions; an upper bound.

    Above ``BEYOND`` and below ``LEAST_DELTA`` it is RDP's, an upper bound too.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    steps: Counter[tuple[float, float]] = Counter()
    for one in mechanisms:
        if one.steps and one.sample_rate:
            steps[one.sample_rate, one.noise_multiplier] += one.steps
    if not steps:
        return 0.0
    if not all(noise for _, noise in steps):
        return math.inf
    rdp = rdp_epsilon(*mechanisms)
    if rdp > BEYOND or mechanisms[0].delta < LEAST_DELTA:
        return rdp
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, _pld_interval(steps, rdp))
    for (rate, noise), count in steps.items():
        accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), count)
    return float(accountant.get_epsilon(mechanisms[0].delta))


def _pld_interval(steps: Mapping[tuple[float, float], int], rdp: float) -> float:
    """Width, in ε, of the grid of a privacy loss distribution.

    Losses are moved to the grid such that the ε is a bound at any width, but a width h adds about h²/6 to the variance
    of every step's loss, however many there are: at a sixteenth of what a step spreads that is lost in the tolerance.
    Where ε is large the width need not be as fine, and takes less long.

    Args:
        steps: of each sample rate and noise multiplier.
        rdp: ε of all of them, roughly.
    """
    # A step's likelihood ratio has this variance: the χ² divergence between its two outcomes. No float holds exp(800).
    variance = sum(n * rate**2 * math.expm1(min(noise**-2, 100.0)) for (rate, noise), n in steps.items())
    width = min(1e-4 * max(1.0, rdp), math.sqrt(variance / sum(steps.values())) / 16)
    # What the grid must hold: the loss of one step, out to ten deviations of its noise, and the sum of all steps.
    one = max(_greatest_loss(rate, noise) for rate, noise in steps)
    return max(width, one / _PLD_POINTS, rdp / _PLD_POINTS / 2, _FINEST)


def _greatest_loss(rate: float, noise: float) -> float:
    """Privacy loss of one step, in ε, that noise of ten deviations gives."""
    loss = min(0.5 / noise**2 + 10 / noise, 700.0) if noise > 1e-3 else 700.0
    return math.log1p(rate * math.expm1(loss))


def _grid_error(mechanism: Mechanism) -> float:
    """By how much, in ε, a grid of the width in use may raise the bound: six deviations of what it adds."""
    width = _pld_interval(
        {(mechanism.sample_rate, mechanism.noise_multiplier): mechanism.steps}, rdp_epsilon(mechanism)
    )
    return 6 * width * math.sqrt(mechanism.steps / 6) + width


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
