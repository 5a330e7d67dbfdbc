"""Both figures are of the same runs, and a suspicion that nobody answered is not hidden."""

import pytest

from assay import statistics
from assay.report.scorecard import Scorecard
from assay.report.tables.adaptive import adaptive
from assay.store.folder import Store


def test_before_and_after_are_taken_from_the_runs_that_have_both(card_of_arsenal: Scorecard, arsenal: Store) -> None:
    answered, alone = adaptive(card_of_arsenal, arsenal.frame())
    assert (answered.recipe, answered.epsilon, answered.runs) == ("pgd_weak", 0.3, 2)
    before = statistics.summarise([0.43, 0.43], test_share=card_of_arsenal.design.test_share)
    assert answered.before is not None and answered.after is not None
    assert answered.before.mean == pytest.approx(before.mean)
    assert answered.after.mean == pytest.approx(0.215)
    assert {name: one.mean for name, one in answered.attacks.items()} == {"pgd_straight_through": pytest.approx(0.215)}
    assert answered.rules == ("zero gradients",)
    assert (alone.recipe, alone.rules, alone.before) == ("collision", ("stronger attack",), None)


def test_where_nothing_was_answered_there_is_no_table(card: Scorecard, whole: Store) -> None:
    assert adaptive(card, whole.frame()) == []
