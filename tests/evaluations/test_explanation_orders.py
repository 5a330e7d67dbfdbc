"""The order of methods counts where scores show it, and replacements disagree where they show opposite orders."""

import numpy as np
import pytest

from assay.evaluations.explanation_orders import Orders, orders

N, MARGIN = 40, 0.03


def scores(*means: tuple[float, float], noise: float = 0.02, alike: float = 1.0) -> list[dict[str, np.ndarray]]:
    """Scores of methods by two replacements; those of a record have much in common."""
    draw = np.random.default_rng(0)
    common = alike * draw.normal(size=N)
    return [
        {name: common + mean + noise * draw.normal(size=N) for name, mean in zip("ab", each, strict=True)}
        for each in means
    ]


def test_methods_that_differ_by_a_rounding_have_no_order() -> None:
    common = np.random.default_rng(0).normal(size=N)
    given = [{"a": common + shift, "b": common - shift} for shift in (0.0, 1e-9, 2e-9)]
    found = orders(given, None, margin=MARGIN)
    assert found == Orders(separated=(), contradicted=()) and found.agreement == 1


def test_equal_methods_have_no_order() -> None:
    given = [{"a": np.ones(N), "b": np.ones(N)}] * 3
    assert orders(given, None, margin=MARGIN).separated == ()


def test_methods_that_differ_by_less_than_their_uncertainty_have_no_order() -> None:
    assert orders(scores((0.0, 0.02), (0.02, 0.0), (0.01, 0.01), noise=0.5), None, margin=MARGIN).separated == ()


def test_opposite_orders_by_what_is_worth_nothing_are_none() -> None:
    given = scores((0.0, 0.02), (0.02, 0.0), noise=1e-3)
    assert orders(given, None, margin=MARGIN).separated == ()
    assert orders(given, None, margin=0.01).contradicted == ((0, 1),)


def test_opposite_orders_are_contradicted_at_each_pair() -> None:
    found = orders(scores((0.1, 0.3), (0.2, 0.2), (0.3, 0.1)), None, margin=MARGIN)
    assert found.contradicted == found.separated == ((0, 1), (0, 2), (1, 2))
    assert found.agreement == 0


def test_an_order_that_one_replacement_alone_shows_is_not_contradicted() -> None:
    found = orders(scores((0.0, 0.2), (0.2, 0.2), (0.4, 0.2)), None, margin=MARGIN)
    assert (len(found.separated), found.contradicted, found.agreement) == (3, (), 1)


@pytest.mark.parametrize("count", [3, 6, 10])
def test_two_near_equal_methods_beside_others_change_nothing(count: int) -> None:
    means = [(0.2 * place, 0.2 * place) for place in range(count)]
    found = orders(scores(*means, (0.001, -0.001)), None, margin=MARGIN)
    assert (0, count) not in found.separated and found.agreement == 1


@pytest.mark.parametrize("count", [4, 8])
def test_one_contradicted_pair_is_its_share_of_the_pairs(count: int) -> None:
    means = [(0.4 * place, 0.4 * place) for place in range(count)]
    means[0], means[1] = (0.0, 0.4), (0.4, 0.0)
    found = orders(scores(*means), None, margin=MARGIN)
    assert found.contradicted == ((0, 1),)
    assert found.agreement == pytest.approx(1 - 2 / (count * (count - 1)))


def test_records_of_one_patient_count_as_one() -> None:
    given = scores((0.0, 0.1), (0.1, 0.0), noise=0.05)
    assert orders(given, None, margin=MARGIN).contradicted == ((0, 1),)
    assert orders(given, np.zeros(N), margin=MARGIN).separated == ()
