"""What several releases spend together: by an RDP filter, by PLD, and at the worst client."""

import math

import pytest

from assay.privacy.accounting import Mechanism, calibrate, pld_epsilon, rdp_epsilon
from assay.privacy.composition import (
    UNBOUNDED,
    Charge,
    filter_epsilon,
    filter_order,
    pld_epsilon_of,
    rdp_epsilon_of,
)

DELTA = 1e-5


def mechanism(noise: float = 1.5, rate: float = 0.04, steps: int = 2250) -> Mechanism:
    return Mechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=DELTA)


def central(**settings: float) -> Charge:
    return {"central": (mechanism(**settings),)}  # type: ignore[arg-type]


def test_one_release_spends_what_its_training_spent() -> None:
    """The reference values: σ = 1.5, q = 0.04, 2250 steps."""
    assert rdp_epsilon_of([central()], delta=DELTA) == rdp_epsilon(mechanism()) == pytest.approx(7.329, abs=1e-3)
    assert pld_epsilon_of([central()], delta=DELTA) == pld_epsilon(mechanism()) == pytest.approx(6.769, abs=1e-3)


def test_two_releases_of_one_mechanism_are_one_of_twice_the_steps() -> None:
    twice, half = [central(steps=20)], [central(steps=10), central(steps=10)]
    assert rdp_epsilon_of(half, delta=DELTA) == pytest.approx(rdp_epsilon_of(twice, delta=DELTA), rel=1e-9)
    assert pld_epsilon_of(half, delta=DELTA) == pytest.approx(pld_epsilon_of(twice, delta=DELTA), rel=1e-6)
    assert filter_epsilon(half, order=9.0, delta=DELTA) == pytest.approx(
        filter_epsilon(twice, order=9.0, delta=DELTA), rel=1e-9
    )


def test_pld_is_below_rdp_and_rdp_below_any_filter() -> None:
    charges = [central(noise=2.0, steps=30), central(noise=4.0, rate=0.2, steps=30)]
    pld, rdp = pld_epsilon_of(charges, delta=DELTA), rdp_epsilon_of(charges, delta=DELTA)
    assert pld < rdp
    assert all(rdp <= filter_epsilon(charges, order=order, delta=DELTA) + 1e-9 for order in (2.0, 5.0, 12, 40))


def test_a_budget_holds_exactly_the_training_that_was_calibrated_to_it() -> None:
    noise = calibrate(epsilon=1.0, delta=DELTA, sample_rate=0.2, steps=40)
    charge = central(noise=noise, rate=0.2, steps=40)
    order = filter_order([charge], epsilon=1.0, delta=DELTA)
    assert order is not None
    assert filter_epsilon([charge], order=order, delta=DELTA) <= 1.0
    assert filter_order([charge, charge], epsilon=1.0, delta=DELTA) is None
    assert filter_order([charge], epsilon=0.001, delta=DELTA) is None


def test_of_several_clients_the_worst_counts_at_each_order() -> None:
    quiet, loud = mechanism(noise=4.0, rate=1.0, steps=8), mechanism(noise=2.0, rate=0.3, steps=12)
    both: Charge = {"1": (quiet,), "2": (loud,), "3": (quiet,)}
    for order in (3.0, 8.0, 30):
        alone = [filter_epsilon([{"1": (one,)}], order=order, delta=DELTA) for one in (quiet, loud)]
        assert filter_epsilon([both], order=order, delta=DELTA) == max(alone)
    # A record may lie at the quiet client of one training and the loud one of another.
    pairs = ((quiet, quiet), (quiet, loud), (loud, loud))
    worst = max(pld_epsilon_of([{"1": (a,)}, {"1": (b,)}], delta=DELTA) for a, b in pairs)
    assert pld_epsilon_of([both, both], delta=DELTA) == pytest.approx(worst)
    assert rdp_epsilon_of([both, both], delta=DELTA) >= worst


def test_many_unlike_clients_are_bounded_by_one_that_outdoes_them() -> None:
    clients: Charge = {str(k): (mechanism(noise=2.0 + k / 10, rate=0.1, steps=10 + k),) for k in range(3)}
    each = [{"1": own} for own in clients.values()]
    bound = pld_epsilon_of([clients] * 3, delta=DELTA)
    assert bound >= pld_epsilon_of([each[1]] * 3, delta=DELTA)
    assert bound == pytest.approx(pld_epsilon_of([central(noise=2.0, rate=0.1, steps=12)] * 3, delta=DELTA))


def test_several_mechanisms_of_one_client_add_up() -> None:
    both: Charge = {"1": (mechanism(steps=10), mechanism(noise=3.0, steps=5))}
    apart = [central(steps=10), central(noise=3.0, steps=5)]
    assert rdp_epsilon_of([both], delta=DELTA) == pytest.approx(rdp_epsilon_of(apart, delta=DELTA), rel=1e-9)
    assert pld_epsilon_of([both], delta=DELTA) == pytest.approx(pld_epsilon_of(apart, delta=DELTA), rel=1e-6)


def test_nothing_spends_nothing_and_no_privacy_spends_everything() -> None:
    assert rdp_epsilon_of([], delta=DELTA) == pld_epsilon_of([], delta=DELTA) == 0.0
    assert filter_epsilon([], order=8.0, delta=DELTA) == 0.0
    for epsilon in (
        rdp_epsilon_of([UNBOUNDED, central()], delta=DELTA),
        pld_epsilon_of([UNBOUNDED, central()], delta=DELTA),
        filter_epsilon([UNBOUNDED, central()], order=8.0, delta=DELTA),
    ):
        assert epsilon == math.inf
    assert filter_order([UNBOUNDED], epsilon=100.0, delta=DELTA) is None
