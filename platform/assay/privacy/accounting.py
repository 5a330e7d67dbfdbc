"""The ε of private training, by three accountants, and the noise multiplier that a target ε requires.

The mechanism is the Poisson-subsampled Gaussian; neighbours differ by adding or removing one unit: a record, or a
patient with all of its records.

* RDP: Mironov et al. 2019 (arXiv:1908.10530), in Opacus, converted by Balle et al. 2020. An upper bound: the claim.
* PRV: Gopi et al. 2021 (arXiv:2106.02848), in Opacus. An upper bound within a stated numerical error.
* PLD: Google's dp-accounting, pessimistic discretisation. An upper bound by an independent implementation.

Example::

    mechanism = Mechanism(noise_multiplier=1.1, sample_rate=0.01, steps=1_000, delta=1e-5)
    spent(mechanism).rdp  # the ε that is claimed
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
"""ε above which only RDP is computed: PRV and PLD take long there, and such an ε gives no protection."""
LEAST_DELTA = 1e-12
"""δ below which only RDP is computed: PRV and PLD add up probabilities, whose rounding error is as large."""
_FINEST = 1e-9
"""Least width, in ε, of a grid of privacy losses; the losses themselves are rounded by about as much."""
_PRV_POINTS = 2**21
_PLD_POINTS = 2**19
"""Greatest number of points, roughly, of the grids of privacy losses of PRV and PLD; it bounds memory and time."""
PRV_ERROR = 0.01
"""Least stated error of the PRV accountant, in ε; see ``Spent.prv_error``."""
_TOLERANCE = 1e-3
"""Relative tolerance of calibrated noise."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """A sequence of private updates with the same parameters, as the accountants need it."""

    noise_multiplier: float
    """Standard deviation of the noise, in clipping norms."""
    sample_rate: float
    """Probability with which each unit enters a step."""
    steps: int
    delta: float
    unit: Unit = "record"
    """The unit that is sampled, clipped and protected: a record, or a patient with all of its records."""

    def then(self, other: "Mechanism") -> "Mechanism":
        """Returns the mechanism of both runs on the same records, one after the other.

        Args:
            other: the later run.

        Returns:
            A mechanism with the steps of both.

        Raises:
            ValueError: they differ in more than their number of steps.
        """
        if replace(other, steps=self.steps) != self:
            raise ValueError(f"{self} and {other} are no runs of one mechanism")
        return replace(self, steps=self.steps + other.steps)


def impossible(mechanism: Mechanism) -> tuple[str, object, str] | None:
    """Returns the first parameter with an impossible value; None if all values are possible.

    A noise multiplier of 0 is possible; its ε is infinite.

    Args:
        mechanism: the one to check.

    Returns:
        Name, value and allowed range, or None.
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
    """NaN where ``why_no_prv`` gives a reason."""
    pld: float
    """NaN where ``why_no_pld`` gives a reason."""
    why_no_prv: str = ""
    why_no_pld: str = ""

    @property
    def prv_error(self) -> float:
        """Stated error of the PRV accountant, in ε: 0.01, or a thousandth of a large ε, which is faster to compute."""
        return _prv_error(self.rdp)

    @property
    def disagreement(self) -> str:
        """Why the accountants contradict each other, so that none can be trusted; empty if they agree."""
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
    """Returns the ε of a mechanism by all three accountants.

    It takes seconds at worst. Results are cached, since folds of one size have equal mechanisms.

    Args:
        mechanism: what was done to the records.

    Returns:
        ε at the mechanism's δ, by each accountant.

    Raises:
        UserError: a parameter of the mechanism is impossible, such as a noise multiplier of NaN.
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
    """Raises if a parameter of a mechanism has an impossible value.

    Args:
        mechanism: the one to check.

    Raises:
        UserError: names the first such parameter, with what is allowed.
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
    """Returns the ε of an accountant and no reason; NaN and the reason where its numerics fail."""
    try:
        epsilon = count()
    except (ArithmeticError, ValueError, RuntimeError, MemoryError, IndexError) as error:
        lines = str(error).splitlines()
        return math.nan, f"the accountant gave up ({type(error).__name__}: {lines[0] if lines else 'no reason given'})"
    return (epsilon, "") if math.isfinite(epsilon) else (math.nan, "the accountant found no finite ε")


def unsafe_delta(delta: float, units: int, *, unit: Unit = "record") -> str:
    """Returns why δ is too large for n records, or patients (δ ≥ 1/n), as a sentence; empty if it is small enough.

    Args:
        delta: of the claim.
        units: n, the number of protected records or patients.
        unit: which of them is protected.

    Returns:
        The sentence, or an empty string.
    """
    if delta < 1 / units:
        return ""
    published = "the record of some patient" if unit == "record" else "all records of some patient"
    return f"δ = {delta:g} is not below 1/n = {1 / units:g}, so a training may simply publish {published}"


def rdp_epsilon(*mechanisms: Mechanism) -> float:
    """Returns the ε of runs on the same records, by RDP at the best of ``ORDERS``, as Opacus' accountant does.

    Args:
        mechanisms: the runs, all with the same δ.

    Returns:
        ε at that δ; an upper bound.
    """

    def at(place: int) -> float:
        order = ORDERS[place]
        spent_at = sum(m.steps * rdp_of_step(m.sample_rate, m.noise_multiplier, order) for m in mechanisms)
        return spent_at + rdp_to_epsilon_term(order, mechanisms[0].delta)

    # At a poor order the bound may be negative, but ε cannot be.
    return max(0.0, at(argmin_order(at)))


def argmin_order(height: Callable[[int], float], first: int = 0) -> int:
    """Returns the index into ``ORDERS``, at or after ``first``, that minimises a function which falls and then rises.

    ε falls with the order up to the best one and rises from there. So bisection evaluates about a dozen of some four
    hundred orders; this matters because orders take long at small sample rates and much noise. Every order gives an
    upper bound, so the result is valid even if ε should behave otherwise.

    Args:
        height: the function, of an index into ``ORDERS``.
        first: the least index that is allowed.

    Returns:
        The index of the minimum.
    """
    low, high = first, len(ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if height(middle) <= height(middle + 1) else (middle + 1, high)
    return low


@lru_cache(maxsize=1 << 16)
def rdp_of_step(sample_rate: float, noise_multiplier: float, order: float) -> float:
    """Returns the Rényi divergence of one step, by Opacus.

    Args:
        sample_rate: probability with which each unit enters the step.
        noise_multiplier: standard deviation of the noise, in clipping norms.
        order: of the divergence, above 1.

    Returns:
        The divergence, in ε; infinite without noise.
    """
    from opacus.accountants.analysis.rdp import compute_rdp

    return float(compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=[order])[0])


@lru_cache(maxsize=1 << 12)
def rdp_to_epsilon_term(order: float, delta: float) -> float:
    """Returns the term that turns a Rényi divergence into ε (Balle et al. 2020, arXiv:1905.09982, Theorem 21).

    Args:
        order: of the divergence, above 1.
        delta: of the claim.

    Returns:
        The term, in ε, to be added to the divergence.
    """
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with warnings.catch_warnings():
        # Opacus warns if the best order is the first or the last of the list; a single order is both.
        warnings.simplefilter("ignore", UserWarning)
        return float(get_privacy_spent(orders=[order], rdp=[0.0], delta=delta)[0])


def prv_epsilon(mechanism: Mechanism) -> float:
    """Returns ε by numerical composition of privacy loss random variables; an upper bound within ``Spent.prv_error``.

    Args:
        mechanism: with noise, at least one step and a positive sample rate.

    Returns:
        ε at the mechanism's δ.
    """
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(mechanism.noise_multiplier, mechanism.sample_rate, mechanism.steps)]
    with warnings.catch_warnings():
        # Opacus warns of RDP orders that only size its grid, and of a logarithm of 0 at sample rate 1.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        error = _prv_error(rdp_epsilon(mechanism))
        # If the mechanism leaks less than δ alone allows, the loss at δ is negative, but ε cannot be.
        return max(0.0, float(accountant.get_epsilon(delta=mechanism.delta, eps_error=error)))


def _prv_error(rdp: float) -> float:
    return max(PRV_ERROR, 1e-3 * rdp)


def _prv_points(mechanism: Mechanism, rdp: float) -> float:
    """Returns the number of grid points that PRV needs for its stated error; it grows with the root of the steps."""
    spread = math.sqrt(mechanism.steps / 2 * math.log(12e3 / mechanism.delta))
    return 2 * (rdp + 3) * spread / _prv_error(rdp)


@lru_cache(maxsize=256)
def pld_epsilon(*mechanisms: Mechanism) -> float:
    """Returns the ε of runs on the same records, by dp-accounting's privacy loss distributions; an upper bound.

    Above ``BEYOND`` and below ``LEAST_DELTA`` it is the ε by RDP, which is an upper bound too.

    Args:
        mechanisms: the runs, all with the same δ.

    Returns:
        ε at that δ; infinite if a run has no noise.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    steps: Counter[tuple[float, float]] = Counter()
    for mechanism in mechanisms:
        if mechanism.steps and mechanism.sample_rate:
            steps[mechanism.sample_rate, mechanism.noise_multiplier] += mechanism.steps
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
    """Returns the width, in ε, of the grid of a privacy loss distribution.

    Losses are rounded to the grid such that ε stays an upper bound at any width. But a width h adds about h²/6 to the
    variance of every step's loss, whatever the number of steps. At a sixteenth of the standard deviation of a step's
    loss this is less than the tolerance. Where ε is large, the grid may be coarser, which is faster.

    Args:
        steps: number of steps for each sample rate and noise multiplier.
        rdp: ε of all of them together, roughly.
    """
    # Variance of a step's likelihood ratio: the χ² divergence of its two distributions. exp(800) would overflow.
    variance = sum(n * rate**2 * math.expm1(min(noise**-2, 100.0)) for (rate, noise), n in steps.items())
    width = min(1e-4 * max(1.0, rdp), math.sqrt(variance / sum(steps.values())) / 16)
    # The grid must cover the loss of one step, up to ten deviations of its noise, and the sum over all steps.
    step_loss = max(_greatest_loss(rate, noise) for rate, noise in steps)
    return max(width, step_loss / _PLD_POINTS, rdp / _PLD_POINTS / 2, _FINEST)


def _greatest_loss(rate: float, noise: float) -> float:
    """Returns the privacy loss of one step, in ε, at ten standard deviations of the noise."""
    loss = min(0.5 / noise**2 + 10 / noise, 700.0) if noise > 1e-3 else 700.0
    return math.log1p(rate * math.expm1(loss))


def _grid_error(mechanism: Mechanism) -> float:
    """Returns how much, in ε, the width of the grid may raise the bound: six standard deviations of its error."""
    width = _pld_interval(
        {(mechanism.sample_rate, mechanism.noise_multiplier): mechanism.steps}, rdp_epsilon(mechanism)
    )
    return 6 * width * math.sqrt(mechanism.steps / 6) + width


@lru_cache(maxsize=256)
def calibrate(*, epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Returns the least noise multiplier, to 0.1 %, whose ε by RDP over all steps is at most a target.

    Args:
        epsilon: the target, above 0.
        delta: of the claim.
        sample_rate: probability with which each unit enters a step.
        steps: total number of steps.

    Returns:
        Standard deviation of the noise, in clipping norms.

    Raises:
        UserError: no noise multiplier up to a million suffices.
    """

    def excess(log_noise: float) -> float:
        """Returns log ε minus its target; it falls, nearly linearly, with the logarithm of the noise."""
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
    log_noise_multiplier = brentq(excess, low, high, xtol=_TOLERANCE / 4)
    while excess(log_noise_multiplier) > 0:
        log_noise_multiplier += _TOLERANCE / 2
    return math.exp(log_noise_multiplier)
