"""Distances between clients, against closed forms and a second implementation."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from assay.data.heterogeneity import class_counts, hellinger, heterogeneity, jensen_shannon


@pytest.mark.parametrize(
    ("p", "q", "distance", "divergence"),
    [
        ([0.5, 0.5], [0.5, 0.5], 0.0, 0.0),
        ([1.0, 0.0], [0.0, 1.0], 1.0, 1.0),
        # H² = 1 - √½; JS = ½ [log2(4/3)] + ½ [½ log2(2/3) + ½ log2 2].
        ([1.0, 0.0], [0.5, 0.5], np.sqrt(1 - np.sqrt(0.5)), 0.5 * np.log2(4 / 3) + 0.25 * np.log2(2 / 3) + 0.25),
    ],
)
def test_distances_have_their_closed_forms(p: list[float], q: list[float], distance: float, divergence: float) -> None:
    for one, other in ((p, q), (q, p)):
        assert hellinger(np.array(one), np.array(other)) == pytest.approx(distance, abs=1e-12)
        assert jensen_shannon(np.array(one), np.array(other)) == pytest.approx(divergence, abs=1e-12)


def test_the_divergence_is_the_square_of_scipys_distance() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.full(6, 0.4), (2, 50))
    np.testing.assert_allclose(jensen_shannon(p, q), jensenshannon(p, q, base=2, axis=1) ** 2, atol=1e-12)


def test_clients_with_one_class_each_are_as_far_as_they_can_be() -> None:
    labels = np.repeat(np.arange(4), 25)
    found = heterogeneity(class_counts(labels, np.split(np.arange(100), 4), classes=4), seed=0)
    np.testing.assert_allclose(found.hellinger, np.sqrt(1 - 0.5), atol=1e-12)
    assert found.size_hellinger == 0 == found.size_jensen_shannon


def test_equal_clients_are_at_no_distance_and_sizes_are_compared_with_equal_ones() -> None:
    found = heterogeneity(np.array([[90, 270], [10, 30]]), seed=0)
    np.testing.assert_allclose(found.hellinger, 0, atol=1e-7)
    np.testing.assert_allclose(found.jensen_shannon, 0, atol=1e-12)
    shares = np.array([0.9, 0.1])
    assert found.size_hellinger == pytest.approx(np.sqrt(1 - np.sqrt(shares * 0.5).sum()))
    assert found.size_jensen_shannon == pytest.approx(jensenshannon(shares, [0.5, 0.5], base=2) ** 2)


def test_small_clients_dealt_at_random_are_as_far_as_chance_says() -> None:
    generator, labels = np.random.default_rng(1), np.repeat([0, 1, 2], [60, 30, 10])
    distances = []
    for _ in range(400):
        parts = np.split(generator.permutation(100), [5, 15])
        distances.append(heterogeneity(class_counts(labels, parts, classes=3), seed=0).hellinger.mean())
    found = heterogeneity(class_counts(labels, parts, classes=3), seed=0)
    assert found.hellinger_by_chance == pytest.approx(np.mean(distances), rel=0.05)
    assert found.hellinger_by_chance > 0.15
