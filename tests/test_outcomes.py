"""What is kept of each record comes back as it was, and tells whether two figures are of the same records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.outcomes import Outcomes

ROWS = np.array([3, 7, 9, 12])
HITS = np.array([True, False, True, True])


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_records_come_back_as_they_were(hits: list[bool]) -> None:
    found = Outcomes(Outcomes.of(np.array(hits), np.arange(len(hits))).packed)
    assert found.hits.tolist() == hits
    assert found.sizes.tolist() == [1] * len(hits)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=70))
def test_clusters_come_back_with_their_sizes(records: list[tuple[bool, int]]) -> None:
    hits, patients = (np.array(column) for column in zip(*records, strict=True))
    found = Outcomes.of(hits, np.arange(len(hits)), patients)
    held = [patients == patient for patient in np.unique(patients)]
    assert found.sizes.tolist() == [own.sum() for own in held]
    assert found.hits.tolist() == [hits[own].sum() for own in held]


def test_the_order_in_which_records_were_asked_does_not_matter() -> None:
    turned, patients = np.array([2, 0, 3, 1]), np.array(["a", "b", "a", "b"])
    assert Outcomes.of(HITS, ROWS) == Outcomes.of(HITS[turned], ROWS[turned])
    assert Outcomes.of(HITS, ROWS, patients) == Outcomes.of(HITS[turned], ROWS[turned], patients[turned])


def test_only_figures_of_the_same_records_and_patients_have_the_same_name() -> None:
    name = Outcomes.of(HITS, ROWS).records
    assert Outcomes.of(~HITS, ROWS).records == name
    assert Outcomes.of(HITS, ROWS + 1).records != name
    assert Outcomes.of(HITS[:3], ROWS[:3]).records != name
    together = Outcomes.of(HITS, ROWS, np.array([0, 0, 1, 1])).records
    assert together not in (name, Outcomes.of(HITS, ROWS, np.array([0, 1, 1, 0])).records)


def test_ten_thousand_records_take_less_than_a_bit_each() -> None:
    hits = np.random.default_rng(0).random(10_000) < 0.95
    assert len(Outcomes.of(hits, np.arange(10_000)).packed) < 10_000 / 8


def test_outcomes_of_other_records_are_refused() -> None:
    with pytest.raises(ValueError, match="4 outcomes, 3 records and 3 clusters: give one each a record"):
        Outcomes.of(HITS, ROWS[:3])
    with pytest.raises(ValueError, match="4 outcomes, 4 records and 2 clusters"):
        Outcomes.of(HITS, ROWS, np.zeros(2))
