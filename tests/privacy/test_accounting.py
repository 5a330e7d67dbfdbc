"""Three accountants against known figures, against each other, and against the analytic Gaussian mechanism."""

import math
import warnings

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from opacus.accountants import RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from assay.errors import UserError
from assay.privacy.accounting import (
    ORDERS,
    PRV_ERROR,
    Mechanism,
    Spent,
    _pld_interval,
    calibrate,
    pld_epsilon,
    prv_epsilon,
    rdp_epsilon,
    spent,
    unsafe_delta,
)


def mechanism(
    noise_multiplier: float = 1.5, sample_rate: float = 0.04, steps: int = 2250, delta: float = 1e-5
) -> Mechanism:
    return Mechanism(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta)


def analytic_epsilon(noise_multiplier: float, delta: float, steps: int = 1) -> float:
    """Balle & Wang 2018, theorem 8: the exact ε of the Gaussian mechanism; steps compose as one with σ/√steps."""
    sigma = noise_multiplier / math.sqrt(steps)

    def excess(epsilon: float) -> float:
        within = norm.cdf(0.5 / sigma - epsilon * sigma)
        beyond = math.exp(epsilon + norm.logcdf(-0.5 / sigma - epsilon * sigma))
        return float(within - beyond - delta)

    return float(brentq(excess, 0, 500, xtol=1e-12))


def test_epsilon_of_a_known_mechanism() -> None:
    assert rdp_epsilon(mechanism()) == pytest.approx(7.329, abs=5e-4)
    assert pld_epsilon(mechanism()) == pytest.approx(6.769, abs=5e-4)
    assert 6.769 - 5e-4 <= prv_epsilon(mechanism()) <= 6.769 + 5e-4 + 2 * PRV_ERROR


@pytest.mark.parametrize("noise_multiplier", [0.8, 1.5, 3.0])
def test_accountants_agree_as_they_should(noise_multiplier: float) -> None:
    found = spent(mechanism(noise_multiplier, steps=500))
    assert found.pld <= found.rdp
    assert abs(found.prv - found.pld) <= 2 * PRV_ERROR
    assert found.disagreement == ""


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 50.0])
@pytest.mark.parametrize(("sample_rate", "steps"), [(1.0, 1), (0.04, 2250), (1e-3, 10_000)])
def test_accountants_are_silent_at_small_and_at_large_budgets(sample_rate: float, steps: int, epsilon: float) -> None:
    noise_multiplier = calibrate(epsilon=epsilon, delta=1e-5, sample_rate=sample_rate, steps=steps)
    found = spent(mechanism(noise_multiplier, sample_rate, steps))
    assert found.pld <= found.rdp <= epsilon
    assert found.disagreement == ""


@pytest.mark.parametrize(
    ("noise_multiplier", "sample_rate", "steps", "delta", "exact"),
    [(8.108, 5.7e-4, 35_000, 1e-6, 0.04546), (5.0, 1e-4, 100_000, 1e-5, 0.0165)],
)
def test_a_step_that_spends_less_than_a_usual_grid_resolves_is_not_overcounted(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, exact: float
) -> None:
    """One step's loss spreads 7e-5 and 2e-5; the figures are PLD's on a grid of 1e-6, within which they are exact."""
    found = spent(mechanism(noise_multiplier, sample_rate, steps, delta))
    assert found.disagreement == ""
    assert exact <= found.pld <= 1.003 * exact


@pytest.mark.parametrize(
    ("one", "fine"),
    [
        (mechanism(0.1555, sample_rate=1.0, steps=1), 1e-3),
        (mechanism(8.108, sample_rate=5.7e-4, steps=35_000), 1e-6),
        (mechanism(1.239, sample_rate=4e-3, steps=250_000), 1e-4),
    ],
)
def test_a_coarse_grid_only_ever_raises_the_bound(one: Mechanism, fine: float) -> None:
    accountant = PLDAccountant(value_discretization_interval=fine)
    step = PoissonSampledDpEvent(one.sample_rate, GaussianDpEvent(one.noise_multiplier))
    accountant.compose(step, one.steps)
    exact = accountant.get_epsilon(one.delta)
    assert exact - 1e-6 <= pld_epsilon(one) <= 1.001 * exact, "the same whatever the number of steps"


def test_a_large_epsilon_takes_a_coarser_grid_and_not_a_thousand_times_as_many_points() -> None:
    """At ε = 50 a grid of 1e-4 took ten seconds and more; its width follows ε, and the step's spread below that."""
    widths = [_pld_interval({(rate, noise): 1}, rdp) for rate, noise, rdp in ((1.0, 0.155, 50.0), (1.0, 1.0, 5.0))]
    assert widths == pytest.approx([5e-3, 5e-4])
    assert _pld_interval({(1e-5, 1.0): 1000}, 0.5) == pytest.approx(1e-5 / 16 * math.sqrt(math.e - 1))
    # Of unlike mechanisms the mean counts: one that hardly spends does not make the grid of the others endless.
    assert _pld_interval({(1.0, 0.5): 1, (1e-6, 1e3): 1}, 10.0) == pytest.approx(1e-3)


def test_runs_of_one_mechanism_are_one_longer_run() -> None:
    whole, parts = mechanism(9.0, 1.0, 30), (mechanism(9.0, 1.0, 10), mechanism(9.0, 1.0, 20))
    assert pld_epsilon(*parts) == pld_epsilon(whole)
    assert rdp_epsilon(*parts) == pytest.approx(rdp_epsilon(whole), rel=1e-12)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Spent(rdp=1.0, prv=1.1, pld=1.1), "PLD says ε = 1.1000, above RDP's upper bound 1.0000"),
        (Spent(rdp=2.0, prv=1.2, pld=1.0), "PRV says ε = 1.2000 and PLD 1.0000"),
        (Spent(rdp=60.0, prv=50.2, pld=50.0), "further apart than PRV's stated error 0.06"),
        (Spent(rdp=2.0, prv=0.8, pld=1.0), "PRV says ε = 0.8000 and PLD 1.0000"),
        (Spent(rdp=2.0, prv=float("nan"), pld=1.0), "nan"),
        (Spent(rdp=2.0, prv=1.0, pld=float("nan")), "nan"),
        (Spent(rdp=float("nan"), prv=1.0, pld=1.0), "nan"),
    ],
)
def test_contradicting_accountants_are_told_on(found: Spent, said: str) -> None:
    assert said in found.disagreement


@pytest.mark.parametrize("found", [Spent(rdp=1.1, prv=1.015, pld=1.0), Spent(rdp=1.0, prv=1.0, pld=1.0)])
def test_accountants_that_agree_are_left_in_peace(found: Spent) -> None:
    assert found.disagreement == ""


@pytest.mark.parametrize(("noise_multiplier", "steps"), [(0.8, 1), (2.0, 1), (4.0, 30)])
def test_without_sampling_the_exact_epsilon_is_met_from_above(noise_multiplier: float, steps: int) -> None:
    exact = analytic_epsilon(noise_multiplier, 1e-5, steps)
    every_record = mechanism(noise_multiplier, sample_rate=1.0, steps=steps)
    assert exact <= pld_epsilon(every_record) + 1e-9
    assert pld_epsilon(every_record) == pytest.approx(exact, abs=1e-3)
    assert exact < rdp_epsilon(every_record) < 1.1 * exact + 0.1


@pytest.mark.parametrize("noise_multiplier", [1.0, 4.0])
def test_without_sampling_prv_is_within_its_stated_error(noise_multiplier: float) -> None:
    found = prv_epsilon(mechanism(noise_multiplier, sample_rate=1.0, steps=1))
    exact = analytic_epsilon(noise_multiplier, 1e-5)
    assert exact - 1e-9 <= found <= exact + 2 * PRV_ERROR


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0, 8.0, 50.0])
@pytest.mark.parametrize(
    ("sample_rate", "steps"),
    [(1.0, 1), (1.0, 500), (0.9, 10), (0.5, 100), (0.1, 400), (0.04, 2250), (0.01, 1), (1e-3, 10_000), (1e-4, 20_000)],
)
def test_calibration_meets_the_target_from_below_within_one_per_cent(
    sample_rate: float, steps: int, epsilon: float
) -> None:
    noise_multiplier = calibrate(epsilon=epsilon, delta=1e-5, sample_rate=sample_rate, steps=steps)
    reached = rdp_epsilon(mechanism(noise_multiplier, sample_rate, steps))
    assert 0.99 * epsilon <= reached <= epsilon


@pytest.mark.parametrize(
    ("noise_multiplier", "sample_rate", "steps"),
    [
        (3.32, 0.5, 100),
        (0.588, 0.1, 400),
        (122.0, 0.04, 2250),
        (2.57, 1e-4, 20_000),
        (0.225, 1e-4, 20_000),
        (4.0, 1.0, 1),
    ],
)
def test_a_dozen_orders_find_the_least_of_all(noise_multiplier: float, sample_rate: float, steps: int) -> None:
    opacus = RDPAccountant()
    opacus.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = opacus.get_epsilon(delta=1e-5, alphas=ORDERS)
    assert rdp_epsilon(mechanism(noise_multiplier, sample_rate, steps)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("delta", "safe"), [(1e-5, True), (0.00499, True), (1 / 200, False), (0.01, False)])
def test_delta_is_below_one_in_the_number_of_records_or_promises_nothing(delta: float, safe: bool) -> None:
    assert (unsafe_delta(delta, 200) == "") == safe
    assert safe or "is not below 1/n = 0.005" in unsafe_delta(delta, 200)


def test_epsilon_grows_with_steps_and_sampling_and_falls_with_noise_and_delta() -> None:
    usual = rdp_epsilon(mechanism(steps=100))
    assert rdp_epsilon(mechanism(steps=200)) > usual
    assert rdp_epsilon(mechanism(steps=100, sample_rate=0.08)) > usual
    assert rdp_epsilon(mechanism(steps=100, noise_multiplier=2.0)) < usual
    assert rdp_epsilon(mechanism(steps=100, delta=1e-3)) < usual


def test_nothing_done_is_nothing_spent() -> None:
    assert spent(mechanism(steps=0)) == Spent(rdp=0.0, prv=0.0, pld=0.0)


def test_a_budget_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(UserError, match=r"no noise reaches ε = 1e-07 at δ = 1e-05 in 2250 steps.*raise ε"):
        calibrate(epsilon=1e-7, delta=1e-5, sample_rate=0.04, steps=2250)
