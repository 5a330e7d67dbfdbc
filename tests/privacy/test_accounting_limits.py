"""Whatever a legal mechanism is, its ε is counted in bounded time, and lies between bounds that are known in closed
form."""

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from assay.errors import UserError
from assay.privacy.accounting import BEYOND, LEAST_DELTA, Mechanism, pld_epsilon, rdp_epsilon, spent

SECONDS = 30.0
"""Processor time that one mechanism may take."""
GRID = list(
    itertools.product(
        (1e-12, 1e-7, 1e-3, 0.3, 0.999, 1.0),
        (1e-9, 0.02, 0.3, 1.0, 50.0, 1e6, 1e12),
        (1, 1000, 10**6, 10**9),
        (1e-300, 1e-14, 1e-11, 1e-5, 0.5, 0.999),
    )
)
NAMED = [
    (1e-7, 1.0, 10**6, 1e-5),
    (0.01, 1.0, 1000, 1e-14),
    (1.0, 0.5, 1, 1e-300),
    (0.3, 1e-9, 1000, 1e-5),
]
"""Those that raised, or took minutes."""


def single_step_epsilon(rate: float, noise: float, delta: float) -> float:
    """Exact ε of one sampled step for removing a record, from the areas of two normal densities."""

    def excess(epsilon: float) -> float:
        inner = math.expm1(epsilon) / rate + 1
        edge = noise**2 * math.log(inner) + 0.5
        outside = norm.sf(edge / noise)
        return float((1 - rate) * outside + rate * norm.sf((edge - 1) / noise) - math.exp(epsilon) * outside - delta)

    return 0.0 if excess(1e-12) <= 0 else float(brentq(excess, 1e-12, 600.0, xtol=1e-10))


def unsampled_epsilon(noise: float, steps: int, delta: float) -> float:
    """Exact ε of as many steps that draw everyone (Balle & Wang 2018, theorem 8)."""
    sigma = noise / math.sqrt(steps)

    def excess(epsilon: float) -> float:
        within = norm.cdf(0.5 / sigma - epsilon * sigma)
        return float(within - math.exp(epsilon + norm.logcdf(-0.5 / sigma - epsilon * sigma)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    return math.inf if excess(BEYOND) > 0 else float(brentq(excess, 0, BEYOND, xtol=1e-10))


def check(rate: float, noise: float, steps: int, delta: float) -> None:
    started = time.process_time()
    found = spent(Mechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta))
    assert time.process_time() - started < SECONDS
    assert found.disagreement == ""
    assert found.rdp >= 0 and not math.isnan(found.rdp)
    if found.rdp > BEYOND or delta < LEAST_DELTA:
        assert found.why_no_prv and found.why_no_pld and math.isnan(found.prv) and math.isnan(found.pld)
        return
    assert bool(found.why_no_prv) == math.isnan(found.prv) and bool(found.why_no_pld) == math.isnan(found.pld)
    least = single_step_epsilon(rate, noise, delta)
    told = [(found.rdp, 0.0)]
    told += [] if found.why_no_pld else [(found.pld, 1e-6)]
    told += [] if found.why_no_prv else [(found.prv, 2 * found.prv_error)]
    for epsilon, error in told:
        assert epsilon >= least - error - 1e-9
    assert found.why_no_pld or found.pld <= found.rdp
    if rate == 1.0 and not found.why_no_pld and unsampled_epsilon(noise, steps, delta) < BEYOND:
        assert found.pld <= 1.01 * unsampled_epsilon(noise, steps, delta) + 2e-3


@pytest.mark.parametrize("point", NAMED, ids=str)
def test_what_raised_or_took_minutes_is_counted(point: tuple[float, float, int, float]) -> None:
    check(*point)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_every_legal_mechanism_is_counted_in_bounded_time_and_between_known_bounds(part: int) -> None:
    order = np.random.default_rng(0).permutation(len(GRID))
    for place in order[part * 8 : part * 8 + 8]:
        check(*GRID[place])


def test_single_steps_are_met_in_closed_form() -> None:
    """The bound that the grid is held against is itself exact where another one is known."""
    assert single_step_epsilon(1.0, 2.0, 1e-5) == pytest.approx(unsampled_epsilon(2.0, 1, 1e-5), abs=1e-6)
    one = Mechanism(noise_multiplier=1.0, sample_rate=0.3, steps=1, delta=1e-5)
    assert pld_epsilon(one) == pytest.approx(single_step_epsilon(0.3, 1.0, 1e-5), abs=1e-3)


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("noise_multiplier", math.nan),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.inf),
        ("sample_rate", 1.1),
        ("sample_rate", math.nan),
        ("steps", -1),
        ("steps", 1.5),
        ("delta", 0.0),
        ("delta", math.nan),
        ("delta", "1e-5"),
    ],
)
def test_a_figure_that_is_none_is_refused(setting: str, given: Any) -> None:
    about = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10, "delta": 1e-5, setting: given}
    with pytest.raises(UserError) as caught:
        spent(Mechanism(**about))
    assert caught.value.setting == setting


def test_a_declared_plan_of_endless_steps_is_counted_by_rdp() -> None:
    much = Mechanism(noise_multiplier=0.1, sample_rate=1.0, steps=10**6, delta=1e-5)
    assert pld_epsilon(much) == rdp_epsilon(much) > BEYOND
