"""Pairs by record hold what they promise: against known tests, against simulated studies, and never too narrow."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special, stats

from assay.design import Design, Runs, weighed
from assay.intervals import proportion, proportion_of_clusters
from assay.outcomes import Outcomes
from assay.paired import PairedReach, differing_share, paired_reach

Z_975 = 1.9599639845
GIVEN = Design(folds=1, repeats=1)
"""Given models: one run, judged by its records alone."""


def official(seeds: int) -> Design:
    return Design(folds=1, repeats=seeds, official=True)


def runs(hits: np.ndarray, clusters: np.ndarray | None = None) -> Runs:
    """The runs of a share, (seeds, n) bool, as the results hold them."""
    ends = [proportion(int(o.sum()), o.size) if clusters is None else proportion_of_clusters(o, clusters) for o in hits]
    low, high = (np.array([getattr(one, end) for one in ends]) for end in ("low", "high"))
    return replace(of_outcomes(hits, clusters), low=low, high=high)


def of_outcomes(hits: np.ndarray, clusters: np.ndarray | None = None) -> Runs:
    """The same without intervals of their own: pairs need none."""
    rows, none = np.arange(hits.shape[1]), np.full(len(hits), np.nan)
    outcomes = tuple(Outcomes.of(own, rows, clusters) for own in hits)
    return Runs(values=hits.mean(1), low=none, high=none, outcomes=outcomes)


def reach_of(one: np.ndarray, other: np.ndarray, clusters: np.ndarray | None = None) -> PairedReach:
    found = weighed((runs(one, clusters), runs(other, clusters)), (1, -1)).paired
    assert found is not None
    return found


def discordant(n: int, better: int, worse: int) -> tuple[np.ndarray, np.ndarray]:
    """One seed of two recipes that differ on so many records."""
    one, other = np.ones((1, n), bool), np.ones((1, n), bool)
    other[0, :better], one[0, better : better + worse] = False, False
    return one, other


# One seed: the tests of the textbooks.


@pytest.mark.parametrize(("better", "worse"), [(30, 12), (25, 25), (5, 18)])
def test_of_one_seed_the_test_against_zero_is_the_paired_t_test(better: int, worse: int) -> None:
    one, other = discordant(400, better, worse)
    found = GIVEN.against_limit(runs(one), 0.0, less=runs(other))
    expected = stats.ttest_rel(one[0] * 1.0, other[0] * 1.0, alternative="greater").pvalue
    assert found.by_record and found.p_above == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("better", "worse"), [(30, 12), (60, 33)])
def test_of_one_seed_and_many_records_it_is_mcnemars(better: int, worse: int) -> None:
    one, other = discordant(20_000, better, worse)
    found = GIVEN.against_limit(runs(one), 0.0, less=runs(other))
    z = (better - worse) / math.sqrt(better + worse)
    assert found.p_above == pytest.approx(stats.norm.sf(z), rel=0.02)


@pytest.mark.parametrize("worse", [0, 3, 20])
def test_records_that_all_differ_one_way_reach_as_far_as_a_poisson_count(worse: int) -> None:
    n = 20_000
    one, other = discordant(n, 0, worse)
    found = GIVEN.against_limit(runs(one), 0.0, less=runs(other))
    exact = stats.chi2.ppf(0.975, 2 * (worse + 1)) / 2
    # Score limits lie within a unit of the exact ones: z² = 3.84 for none, where the exact limit is 3.69.
    assert -found.low * n == pytest.approx(exact, abs=1.0)
    assert -found.low * n > exact - 0.3


def test_recipes_that_agree_everywhere_leave_the_doubt_of_what_was_not_seen() -> None:
    one = np.random.default_rng(0).random((3, 500)) < 0.9
    found = official(3).compare(runs(one), runs(one))
    assert (found.difference, found.p, found.by_record) == (0.0, 1.0, True)
    z = stats.t.ppf(0.975, 499)
    assert (found.low, found.high) == pytest.approx((-(z**2) / 500, z**2 / 500))


# Clusters.


@given(st.integers(1, 12), st.integers(0, 12), st.integers(2, 6))
def test_copies_that_are_a_cluster_change_nothing(better: int, worse: int, copies: int) -> None:
    one, other = discordant(60, better, worse)
    alone = reach_of(one, other)
    many = [np.repeat(hits, copies, axis=1) for hits in (one, other)]
    together = reach_of(many[0], many[1], np.repeat(np.arange(60), copies))
    for z in (1.0, Z_975, 3.0):
        assert together.below(z) == pytest.approx(alone.below(z))
        assert together.above(z) == pytest.approx(alone.above(z))
    as_if_apart = reach_of(many[0], many[1])
    assert as_if_apart.below(Z_975) < alone.below(Z_975)


def test_patients_whose_records_differ_alike_are_less_sure_than_as_many_records() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(100), 5)
    moved = np.repeat(generator.random(100) < 0.1, 5)
    one, other = ~moved[None], np.ones((1, 500), bool)
    assert reach_of(one, other, patients).above(Z_975) > 1.8 * reach_of(one, other).above(Z_975)


# The interval as a whole.


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Studies whose recipes mostly fail on the same records, so that what they share tells nothing of the difference.

    A record is answered rightly where a sum of normal effects is high: of the patient (deviation 1), of patient and
    recipe, of seed and recipe, and of all three. The shares over all patients and seeds are then those that are given.
    """

    seeds: int
    records: int
    shares: tuple[float, ...]
    differs: float = 0.3
    """Deviation of what one recipe makes of a patient."""
    by_seed: float = 0.05
    rest: float = 0.3
    """Of a record in one seed of one recipe."""
    size: int = 1
    """Records of each patient."""

    @property
    def patients(self) -> np.ndarray | None:
        return np.repeat(np.arange(self.records // self.size), self.size) if self.size > 1 else None

    def draw(self, generator: np.random.Generator) -> list[np.ndarray]:
        """Which records each recipe answers rightly, (seeds, records) bool."""
        scale = math.sqrt(1 + self.differs**2 + self.by_seed**2 + self.rest**2)
        count = self.records // self.size
        patient = generator.normal(0, 1, count)
        return [
            special.ndtri(share) * scale
            + np.repeat(patient + generator.normal(0, self.differs, count), self.size)
            + generator.normal(0, self.by_seed, (self.seeds, 1))
            + generator.normal(0, self.rest, (self.seeds, self.records))
            > 0
            for share in self.shares
        ]

    def runs(self, rounds: int, *, kept: bool = True) -> Iterator[tuple[Runs, ...]]:
        """The runs of each recipe, study by study; the same ones whether outcomes are kept or not."""
        generator = np.random.default_rng(1)
        for _ in range(rounds):
            hits = self.draw(generator)
            if kept:
                yield tuple(of_outcomes(own, self.patients) for own in hits)
            else:
                yield tuple(replace(runs(own, self.patients), outcomes=()) for own in hits)


USUAL = Simulation(seeds=5, records=500, shares=(0.90, 0.88))
SETTINGS = {
    "five seeds": USUAL,
    "three seeds": replace(USUAL, seeds=3),
    "seeds alike": replace(USUAL, seeds=3, by_seed=0.0, rest=0.0),
    "recipes alike but for seeds": replace(USUAL, seeds=3, differs=0.0, by_seed=0.0, rest=0.5),
    "few records differ": Simulation(seeds=3, records=200, shares=(0.99, 0.98), differs=0.05, by_seed=0.0, rest=0.01),
    "far apart": replace(USUAL, seeds=3, shares=(0.85, 0.10), by_seed=0.1),
    "patients of five records": replace(USUAL, records=600, size=5, rest=0.1),
}
ROUNDS = 1000
LEAST = 0.95 - 2 * math.sqrt(0.95 * 0.05 / ROUNDS)
"""Of so many studies that may hold the truth, at least, where 95 % do: two standard errors below."""


@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_hold_the_truth_as_often_as_they_say(setting: str) -> None:
    simulation = SETTINGS[setting]
    truth = simulation.shares[0] - simulation.shares[1]
    design = official(simulation.seeds)
    found = [design.compare(*both) for both in simulation.runs(ROUNDS)]
    assert all(one.by_record for one in found)
    assert np.mean([one.low <= truth <= one.high for one in found]) >= LEAST


def test_with_the_truth_at_the_margin_no_more_than_the_level_is_shown_to_be_no_worse() -> None:
    simulation = replace(USUAL, shares=(0.87, 0.90))
    shown = [
        official(5).against_limit(one, -0.03, less=other).p_above <= 0.025 for one, other in simulation.runs(ROUNDS)
    ]
    assert np.mean(shown) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / ROUNDS)


STUDIES = 2000
GAINS = {
    "one seed, few records differ": Simulation(
        seeds=1, records=200, shares=(0.99, 0.97), differs=0.05, by_seed=0.0, rest=0.0
    ),
    "one seed": replace(USUAL, seeds=1, shares=(0.90, 0.87), by_seed=0.0, rest=0.0),
    "two seeds that agree": Simulation(seeds=2, records=500, shares=(0.90, 0.87), differs=0.05, by_seed=0.0, rest=0.0),
    "five seeds that agree": Simulation(seeds=5, records=300, shares=(0.90, 0.87), differs=0.05, by_seed=0.0, rest=0.0),
    "five seeds": replace(USUAL, shares=(0.90, 0.87)),
}


@pytest.mark.parametrize("setting", GAINS)
def test_with_the_truth_at_a_required_gain_no_more_than_the_level_is_shown_to_reach_it(setting: str) -> None:
    simulation = GAINS[setting]
    gain, design = simulation.shares[0] - simulation.shares[1], official(simulation.seeds)
    design = GIVEN if simulation.seeds == 1 else design
    shown = [design.against_limit(one, gain, less=other).p_above <= 0.025 for one, other in simulation.runs(STUDIES)]
    assert np.mean(shown) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / STUDIES)


def test_the_variance_is_never_less_than_measured_towards_zero() -> None:
    found = reach_of(*discordant(2000, 20, 0))
    assert found.below(Z_975) == pytest.approx(stats.t.ppf(0.975, 1999) * math.sqrt(found.variance))


def test_pairs_show_what_records_counted_apart_do_not() -> None:
    """Two recipes that are equally good, and a loss of three points that is to be ruled out."""
    simulation = replace(USUAL, shares=(0.90, 0.90), records=1000)
    power, width = {}, {}
    for kept in (True, False):
        tests = [official(5).against_limit(one, -0.03, less=less) for one, less in simulation.runs(200, kept=kept)]
        power[kept] = np.mean([one.p_above <= 0.025 for one in tests])
        width[kept] = np.mean([one.high - one.low for one in tests])
    assert power[True] > 0.8 and power[False] < 0.6
    assert width[True] < 0.6 * width[False]


def test_seeds_are_counted_as_anywhere() -> None:
    """Seeds that differ by much more than records: their spread decides."""
    generator = np.random.default_rng(0)
    other = np.repeat(generator.random((1, 20_000)) < 0.9, 4, axis=0)
    one = other.copy()
    for seed, share in enumerate((0.2, 0.4, 0.6, 0.8)):
        one[seed] |= generator.random(20_000) < share
    found = official(4).compare(runs(one), runs(other))
    alone = stats.ttest_rel(one.mean(1), other.mean(1)).confidence_interval()
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=0.05)


def test_an_interaction_is_paired_over_all_four() -> None:
    generator = np.random.default_rng(0)
    easy = generator.random((1, 800)) < 0.85
    four = [runs(easy ^ (generator.random((4, 800)) < 0.03)) for _ in range(4)]
    apart = [replace(one, outcomes=()) for one in four]
    found, before = official(4).interaction(*four), official(4).interaction(*apart)
    assert found.by_record and not before.by_record
    assert found.difference == pytest.approx(before.difference)
    assert found.high - found.low < 0.8 * (before.high - before.low)


def test_four_recipes_that_agree_everywhere_may_still_differ_by_twice_as_much_on_a_record() -> None:
    same = runs(np.ones((3, 500), bool))
    z = stats.t.ppf(0.975, 499)
    assert official(3).interaction(same, same, same, same).high == pytest.approx(2 * z**2 / 500)


def test_seeds_that_err_on_other_records_each_leave_the_doubt_of_what_was_not_seen() -> None:
    """Each of two recipes is right on all records, and on half of them, others in each seed: no record is special."""
    half = np.arange(500) % 2 == 0
    found = reach_of(np.ones((2, 500), bool), np.stack([half, ~half]))
    assert (found.difference, found.variance) == pytest.approx((0.5, 0.0))
    z = stats.t.ppf(0.975, 499)
    assert found.below(Z_975) == pytest.approx(found.above(Z_975)) == pytest.approx(z**2 * found.unit)


@example(6, 0)
@example(0, 6)
@given(st.integers(0, 60), st.integers(0, 60))
def test_p_falls_below_a_twentieth_exactly_where_the_interval_leaves_zero(better: int, worse: int) -> None:
    one, other = (np.repeat(hits, 2, axis=0) for hits in discordant(200, better, worse))
    found = official(2).compare(runs(one), runs(other))
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.5, 4.0))
def test_a_surer_level_reaches_further(better: int, worse: int, z: float) -> None:
    found = reach_of(*discordant(200, better, worse))
    assert found.below(z) < found.below(z + 0.1) and found.above(z) < found.above(z + 0.1)
    assert found.below(0.0) == found.above(0.0) == 0.0


# When there are no pairs.


def test_outcomes_that_are_missing_or_of_other_records_leave_records_counted_apart() -> None:
    generator = np.random.default_rng(0)
    one, other = (runs(generator.random((3, 100)) < 0.9) for _ in range(2))
    half = replace(other, outcomes=(*other.outcomes[:2], None))
    shifted = tuple(Outcomes.of(hits, np.arange(1, 101)) for hits in np.ones((3, 100), bool))
    before = official(3).compare(replace(one, outcomes=()), replace(other, outcomes=()))
    for without in (replace(other, outcomes=()), half, replace(other, outcomes=shifted)):
        assert official(3).compare(one, without) == before
    assert not before.by_record
    assert paired_reach([one.outcomes, other.outcomes], (1, -1)) is not None


def test_folds_are_not_paired_by_record() -> None:
    generator, design = np.random.default_rng(0), Design(folds=3, repeats=1, test_share=0.5)
    rows = np.arange(300).reshape(3, 100)
    one, other = (
        replace(runs(hits), outcomes=tuple(Outcomes.of(*pair) for pair in zip(hits, rows, strict=True)))
        for hits in (generator.random((2, 3, 100)) < 0.9)
    )
    assert design.compare(one, other) == design.compare(replace(one, outcomes=()), replace(other, outcomes=()))


@pytest.mark.parametrize("records", [200, 800])
def test_the_share_of_records_that_may_differ_is_the_one_that_is_just_shown(records: int) -> None:
    share = differing_share(0.03, records, 0.025)
    found = PairedReach(difference=0.0, variance=share / (records - 1), unit=1 / records, clusters=records)
    if math.isnan(share):
        assert replace(found, variance=0.0).below(Z_975) > 0.03
    else:
        assert found.below(Z_975) == pytest.approx(0.03)
    assert math.isnan(differing_share(0.01, 200, 0.025)), "200 records that all agree leave 1.9 points"
    assert differing_share(0.5, 5000, 0.025) == 1.0
