"""Verdicts on maps follow from scores alone, and keep their error rates over methods and controls."""

import numpy as np
import pytest

from assay import intervals
from assay.evaluations.explanation_secondary import ScorePair, corrected
from assay.evaluations.explanation_verdicts import LEAST_ROOM, Scores, placed, strongest, verdicts
from assay.statistics import holm
from tests.benchmarks.known_answers.null_chain import NullScores, chain, false_family

N = 40


def scores(place: float, *, controls: int = 1, spread: float = 0.3, seed: int = 0, n: int = N) -> Scores:
    """A map at a place between controls at 0 and an oracle at 1."""
    draw = np.random.default_rng(seed)
    others = {f"control {number}": spread * draw.normal(size=n) for number in range(controls)}
    return Scores(own=place + spread * draw.normal(size=n), controls=others, searched=np.full(n, 1.0))


def level(place: float) -> Scores:
    """A map whose mean is exactly the place, beside a control of 0: its t is the place by 0.3 / √40."""
    own = place + 0.3 * np.where(np.arange(N) % 2, 1.0, -1.0)
    return Scores(own=own, controls={"control": np.zeros(N)}, searched=np.full(N, 1.0))


def test_a_map_at_the_height_of_a_control_is_no_better_and_one_above_is_better() -> None:
    low, middle, high = verdicts([level(-0.3), level(0.05), level(0.8)], None)
    assert (low.no_better, low.better) == (True, False)
    assert (middle.no_better, middle.better) == (False, False)
    assert (high.no_better, high.better) == (False, True)


def test_a_map_that_equals_a_control_is_no_better_than_it() -> None:
    given = scores(0.3, controls=3)
    same = Scores(own=given.controls["control 1"], controls=given.controls, searched=given.searched)
    found = verdicts([same], None)[0]
    assert (found.no_better, found.worst) == (True, "control 1")


def test_a_map_that_beats_a_control_with_certainty_by_next_to_nothing_is_not_better() -> None:
    given = scores(0.3)
    (control,) = given.controls.values()
    near = Scores(own=control + 0.03, controls=given.controls, searched=given.searched)
    beyond = Scores(own=control + 0.3, controls=given.controls, searched=given.searched)
    found = verdicts([near, beyond], None)
    assert intervals.mean(near.own - control).p_above < 1e-6
    assert [(one.better, one.no_better) for one in found] == [(False, True), (True, False)]


def test_a_control_to_which_honest_maps_are_near_keeps_a_map_from_being_better_and_shows_none_to_be_no_better() -> None:
    given = scores(0.0, controls=2)
    near = given.controls["control 0"] + 1.0
    own = near + 0.01
    for names, no_better in ((frozenset(), True), (frozenset({"control 0"}), False)):
        controls = {"control 0": near, "control 1": given.controls["control 1"]}
        found = verdicts([Scores(own=own, controls=controls, searched=own + 1, near_honest=names)], None)[0]
        assert (found.better, found.no_better) == (False, no_better)
    alone = Scores(own=own, controls={"control 0": near}, searched=own + 1, near_honest=frozenset({"control 0"}))
    assert not verdicts([alone], None)[0].no_better


def test_p_values_are_those_of_means_by_holm_over_maps() -> None:
    maps = [scores(0.2, controls=3, seed=1), scores(0.05, controls=3, seed=2)]
    above = [
        max(
            intervals.mean(one.own - LEAST_ROOM * one.best - (1 - LEAST_ROOM) * other).p_above
            for other in one.controls.values()
        )
        for one in maps
    ]
    below = [
        min(
            intervals.mean(LEAST_ROOM * one.best + (1 - LEAST_ROOM) * other - one.own).p_above
            for other in one.controls.values()
        )
        for one in maps
    ]
    found = verdicts(maps, None)
    assert [one.p for one in found] == pytest.approx(holm(above))
    assert [one.p_no_better for one in found] == pytest.approx(holm([min(1.0, 3 * p) for p in below]))


def test_fewer_than_ten_records_or_patients_show_no_map_to_be_no_better() -> None:
    assert not verdicts([scores(-3.0, n=9)], None)[0].no_better
    assert not verdicts([scores(-3.0)], np.arange(N) % 9)[0].no_better
    assert verdicts([scores(-3.0)], np.arange(N) % 10)[0].no_better


def test_too_few_records_or_patients_are_told() -> None:
    of_nine, of_patients = verdicts([scores(0.0, n=9)], None)[0], verdicts([scores(0.0)], np.arange(N) % 9)[0]
    assert "9 records or patients count, and 10 are needed" in of_nine.why_undecided == of_patients.why_undecided
    assert verdicts([scores(0.0)], np.arange(N) % 10)[0].why_undecided == ""


def test_a_place_is_a_ratio_of_means_beside_the_strongest_control() -> None:
    given = scores(0.5, controls=3)
    control = given.controls[strongest(given)].mean()
    place = placed(given, None, generator=np.random.default_rng(0), draws=200)
    assert place.value == pytest.approx((given.own.mean() - control) / (given.best.mean() - control))
    assert place.low < place.value < place.high


def nulls(draws: int = 12, n: int = 80) -> NullScores:
    draw = np.random.default_rng(5)
    own = 0.4 * draw.normal(size=(draws, n))
    return NullScores(own=own, controls={"edges": 0.4 * draw.normal(size=(draws, n)) - 2}, searched=np.full(n, 1.5))


def test_maps_that_know_nothing_are_rarely_called_better_or_useless() -> None:
    found = chain(nulls(), experiments=300, of_each=40)
    assert found["false_better"] <= found["false_better_one_control"]
    # Three standard errors of 300 experiments at 5 %.
    assert max(value for name, value in found.items() if name.startswith("false_")) < 0.05 + 3 * 0.0126
    assert found["place_coverage"] > 0.95 - 3 * 0.0126


def test_without_holm_the_family_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.evaluations.explanation_verdicts.holm", list)
    assert chain(nulls(), experiments=300, of_each=40)["false_better_one_control"] > 0.064


def test_further_measures_are_corrected_together() -> None:
    draw = np.random.default_rng(0)
    drawn = {name: draw.normal(size=(80, 12)) for name in ("high", "low")}
    better = {"high": "higher", "low": "lower"}
    assert false_family(drawn, better, experiments=300, of_each=40) < 0.05 + 3 * 0.0126
    own, other = draw.normal(size=(2, 30))
    ps = corrected([ScorePair(own=own, control=other, better=one) for one in ("higher", "lower")], None)
    p = intervals.mean(own - other).p_above
    assert sorted(ps) == pytest.approx(sorted(holm([p, 1 - p])))
