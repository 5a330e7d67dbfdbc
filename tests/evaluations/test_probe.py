"""A stronger look that could not be taken is no pass."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import nn

from assay.attacks.apgd import APGD
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.attacks.targeted_pgd import TargetedPGD
from assay.evaluations.attack_runs import AttackTarget
from assay.evaluations.probe import attack_survivors
from assay.evaluations.subject import Subject
from assay.results import Check

Make = Callable[..., Subject]

STRONG = (TargetedPGD, APGD, FAB)


def refuses(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("needs images")


def linear(make: Make, epsilon: float) -> AttackTarget:
    """A linear model with records at a distance of 1 from its boundary, attacked within one radius."""
    model = nn.Linear(4, 2).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        model.bias.zero_()
    y = np.arange(12) % 2
    return AttackTarget.of(
        make(model, np.tile(2.0 * y[:, None] - 1, 4), y), norm="linf", epsilons=(epsilon,), records=None
    )


def after(target: AttackTarget, *, fallen: int) -> dict[str, Check]:
    """The checks by rule, where the attacks before fooled the first so many of the records."""
    return {one.rule: one for one in attack_survivors(target, dict.fromkeys(target.radii, torch.arange(12) < fallen))}


@pytest.fixture
def checks(make: Make) -> dict[str, Check]:
    """Of records that withstood everything before, far from the boundary."""
    return after(linear(make, 0.1), fallen=0)


@pytest.fixture
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for attack in request.param:
        monkeypatch.setattr(attack, "run", refuses)


def test_what_ran_and_found_nothing_passes(checks: dict[str, Check]) -> None:
    assert {rule: check.verdict for rule, check in checks.items()} == {
        "stronger_attack": "pass",
        "black_box_on_survivors": "pass",
    }


@pytest.mark.parametrize("fallen", [0, 6])
def test_records_that_only_seemed_to_withstand_are_found_with_and_without_gradients(make: Make, fallen: int) -> None:
    found = after(linear(make, 1.5), fallen=fallen)
    assert (found["stronger_attack"].verdict, found["black_box_on_survivors"].verdict) == ("warn", "fail")
    for one in found.values():
        assert one.figure == (12 - fallen) / 12, "of all records, not of those that are asked"


@pytest.mark.parametrize("broken", [(Square,)], indirect=True)
@pytest.mark.usefixtures("broken")
def test_a_blind_search_that_could_not_run_is_inconclusive(checks: dict[str, Check]) -> None:
    found = checks["black_box_on_survivors"]
    assert found.verdict == "warn"
    assert found.conditions["failed"] == ["square_100: TypeError: needs images"]
    assert "inconclusive" in found.message
    assert "needs images" in found.message
    assert checks["stronger_attack"].verdict == "pass"


@pytest.mark.parametrize(("broken", "ran"), [(STRONG, 0), (STRONG[1:], 1), (STRONG[:1], 2)], indirect=["broken"])
@pytest.mark.usefixtures("broken")
def test_stronger_attacks_that_could_not_all_run_are_inconclusive(checks: dict[str, Check], ran: int) -> None:
    found = checks["stronger_attack"]
    assert found.verdict == "warn"
    assert (len(found.conditions["attacks"]), len(found.conditions["failed"])) == (ran, 3 - ran)
    assert "inconclusive" in found.message
    assert "needs images" in found.message
    assert checks["black_box_on_survivors"].verdict == "pass"
