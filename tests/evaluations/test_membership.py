"""A network that learned its records by heart betrays them; a fresh one knows nobody."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from assay import intervals
from assay.errors import SpecError
from assay.evaluations.membership import Membership
from assay.evaluations.roc import ladder, threshold
from assay.evaluations.subject import Subject
from assay.recipes import EarlyStopping, Privacy, Recipe, Training
from assay.registry import build
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]

MEMBERS, OTHERS = 100, 1000


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))


@pytest.fixture(scope="module")
def records() -> tuple[np.ndarray, np.ndarray]:
    """Records whose labels are chance: only memory can tell them."""
    generator = np.random.default_rng(0)
    n = MEMBERS + OTHERS
    return generator.normal(size=(n, 20)).astype(np.float32), generator.integers(2, size=n)


@pytest.fixture(scope="module")
def overfitted(records: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    model = network()
    x, y = (torch.from_numpy(column[:MEMBERS]) for column in records)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert bool((model(x).argmax(1) == y).all())
    return model.requires_grad_(False)


@pytest.fixture
def measure(make: Make, records: tuple[np.ndarray, np.ndarray], log: Callable[..., Any]) -> Callable[..., Any]:
    def run(model: nn.Module, others: int = OTHERS, **settings: Any) -> list[Measurement]:
        x, y = (column[: MEMBERS + others] for column in records)
        return Membership(draws=50).measure(make(model, x, y, train=np.arange(MEMBERS), log=log(), **settings))

    return run


def losses(model: nn.Module, records: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(records[0])).double()
        return nn.functional.cross_entropy(logits, torch.from_numpy(records[1]), reduction="none").numpy()


IS_MEMBER = np.arange(MEMBERS + OTHERS) < MEMBERS


def test_a_network_that_learned_by_heart_leaks(
    measure: Callable[..., Any], overfitted: nn.Module, records: tuple[np.ndarray, np.ndarray], one: One
) -> None:
    found = measure(overfitted)
    auc = one(found, "membership_auc")
    assert auc.value > 0.8
    assert auc.low > 0.5
    assert auc.value == pytest.approx(roc_auc_score(IS_MEMBER, -losses(overfitted, records)), abs=1e-9)


def test_a_fresh_network_knows_nobody(measure: Callable[..., Any], one: One) -> None:
    found = measure(network())
    auc = one(found, "membership_auc")
    assert auc.low < 0.5 < auc.high
    assert one(found, "membership_tpr", false_positive_rate=0.1).low < 0.1


def test_the_rate_is_the_best_point_of_the_curve(
    measure: Callable[..., Any], overfitted: nn.Module, records: tuple[np.ndarray, np.ndarray], one: One
) -> None:
    found = measure(overfitted)
    false_positives, true_positives, _ = roc_curve(IS_MEMBER, -losses(overfitted, records), drop_intermediate=False)
    for rate in (0.1, 0.01):
        best = true_positives[false_positives <= rate].max()
        tpr = one(found, "membership_tpr", false_positive_rate=rate)
        assert tpr.value == pytest.approx(best)
        assert (tpr.n, tpr.conditions["non_members"]) == (MEMBERS, OTHERS)


def test_rates_that_the_non_members_do_not_support_are_named_and_between_the_others_lies_a_curve(
    measure: Callable[..., Any], overfitted: nn.Module
) -> None:
    rates = [m for m in measure(overfitted) if m.name == "membership_tpr"]
    by_status = {
        status: [m.conditions["false_positive_rate"] for m in rates if m.status == status]
        for status in ("measured", "not_applicable")
    }
    assert by_status == {"measured": [0.5, 0.2, 0.1, 0.05, 0.02, 0.01], "not_applicable": [0.001]}
    values = [m.value for m in rates if m.status == "measured"]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("others", "least"), [(9, None), (19, None), (20, 0.5), (99, 0.2), (100, 0.1), (10_000, 1e-3)])
def test_a_curve_goes_as_far_as_ten_accused_non_members(others: int, least: float | None) -> None:
    rates = ladder(others)
    assert (min(rates) if rates else None) == least
    assert all(rate * others >= 10 for rate in rates)


@pytest.mark.parametrize(("others", "status"), [(1000, "measured"), (999, "not_applicable")])
def test_a_rate_of_one_per_cent_needs_a_thousand_others(
    measure: Callable[..., Any], overfitted: nn.Module, one: One, others: int, status: str
) -> None:
    found = measure(overfitted, others)
    assert one(found, "membership_tpr", false_positive_rate=0.1).status == "measured"
    rare = one(found, "membership_tpr", false_positive_rate=0.01)
    assert rare.status == status
    if status == "not_applicable":
        assert rare.warnings == ("TPR at 1.0% FPR needs at least 1000 non-members, there are 999",)


def test_confidence_without_bound_hides_nobody(measure: Callable[..., Any], overfitted: nn.Module, one: One) -> None:
    class Shouting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return overfitted(x) * 2.0**20

    honest, saturated = measure(overfitted), measure(Shouting())
    assert one(saturated, "membership_auc").value == one(honest, "membership_auc").value
    for rate in (0.1, 0.01):
        same = [one(found, "membership_tpr", false_positive_rate=rate).value for found in (honest, saturated)]
        assert same[0] == same[1]


def test_the_interval_knows_that_the_threshold_is_uncertain_too(make: Make, log: Callable[..., Any], one: One) -> None:
    """Twice a hundred and fifty records, whose scores are normal, the members' one deviation higher."""
    true, n = norm.sf(norm.isf(0.1) - 1), 150
    held, alone = [], []
    for seed in range(60):
        score = np.random.default_rng(seed).normal(size=2 * n) + (np.arange(2 * n) < n)
        y = np.arange(2 * n) % 2
        x = np.stack([0 * score, (2 * y - 1) * score], 1)
        subject = make(nn.Identity(), x, y, train=np.arange(n), log=log())
        found = Membership(draws=50, false_positive_rates=(0.1,)).measure(replace(subject, seed=seed))
        row = one(found, "membership_tpr", false_positive_rate=0.1)
        held.append(row.low <= true <= row.high)
        of_members = intervals.proportion(round(row.value * n), n)
        alone.append(of_members.low <= true <= of_members.high)
    assert np.mean(held) > 0.9
    assert np.mean(alone) < 0.85


def test_ties_accuse_nobody(measure: Callable[..., Any], one: One) -> None:
    same = nn.Linear(20, 2)
    for weights in same.parameters():
        nn.init.zeros_(weights)
    row = one(measure(same), "membership_tpr", false_positive_rate=0.1)
    assert row.value == 0
    assert row.high < 0.05


def test_a_model_that_answers_nan_has_no_figure(measure: Callable[..., Any]) -> None:
    broken = nn.Linear(20, 2)
    nn.init.constant_(broken.bias, torch.nan)
    found = measure(broken)
    assert [m.status for m in found] == ["not_applicable"] * 4


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
def test_no_more_non_members_lie_above_the_threshold_than_allowed(rate: float) -> None:
    scores = np.random.default_rng(0).integers(0, 30, size=200).astype(float)
    limit = threshold(scores, rate)
    assert (scores > limit).mean() <= rate
    lower = [score for score in scores if score < limit]
    assert all((scores > score).mean() > rate for score in lower)


def test_unknown_training_records_are_not_guessed(make: Make, one: One) -> None:
    found = Membership().measure(make(network(), np.zeros((4, 20)), [0, 1, 0, 1]))
    assert [m.name for m in found] == ["membership_auc", *["membership_tpr"] * 3]
    assert all(m.status == "not_applicable" for m in found)


@pytest.mark.parametrize("name", ["membership_auc", "membership_tpr"])
def test_repeated_records_of_a_patient_widen_the_interval(
    make: Make, log: Callable[..., Any], one: One, name: str
) -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(2, size=240)
    x = generator.normal(size=(240, 2)) + 0.5 * np.eye(2)[y] * (np.arange(240) < 120)[:, None]
    x, y, patients = (np.repeat(column, 9, axis=0) for column in (x, y, np.arange(240)))
    # Nearly the same: exact copies count as one record whoever they are of.
    x = x + 1e-6 * generator.normal(size=x.shape)
    where = {} if name == "membership_auc" else {"false_positive_rate": 0.1}
    widths = []
    for groups in (patients, None):
        subject = make(nn.Identity(), x, y, groups=groups, train=np.arange(120 * 9), log=log())
        found = one(Membership().measure(subject), name, **where)
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(SpecError, match="false_positive_rates"):
        build("evaluation", {"name": "membership", "false_positive_rates": [rate]})


def test_non_members_of_an_official_split_come_from_the_pool_of_the_members(
    make: Make, records: tuple[np.ndarray, np.ndarray], overfitted: nn.Module, log: Callable[..., Any], one: One
) -> None:
    x, y = records
    # The test records are of another kind: to tell them from members is to tell kinds apart, not members.
    x = np.concatenate([x[:600], x[600:] + 5])
    official = np.array(["train"] * 600 + ["test"] * (len(x) - 600))
    held = {"train": np.arange(MEMBERS), "log": log(), "about": {"official": official}}
    apart = Membership(draws=50).measure(make(overfitted, x, y, validation=np.arange(MEMBERS, 600), **held))
    auc = one(apart, "membership_auc")
    assert auc.conditions["non_members"] == 500
    assert not auc.warnings
    expected = roc_auc_score(np.arange(600) < MEMBERS, -losses(overfitted, (x[:600], y[:600])))
    assert auc.value == pytest.approx(expected, abs=1e-6)


def test_records_that_early_stopping_has_seen_are_no_non_members(
    make: Make, records: tuple[np.ndarray, np.ndarray], overfitted: nn.Module, log: Callable[..., Any], one: One
) -> None:
    official = np.array(["train"] * 600 + ["test"] * 500)
    recipe = Recipe(training=Training(early_stopping=EarlyStopping(epsilon=0.1)))
    held = {"train": np.arange(MEMBERS), "validation": np.arange(MEMBERS, 600), "about": {"official": official}}
    subject = make(overfitted, *records, log=log(), recipe=recipe, **held)
    auc = one(Membership(draws=50).measure(subject), "membership_auc")
    assert "another pool" in auc.warnings[0]
    split = replace(subject.split, validation=np.arange(MEMBERS, 300), calibration=np.arange(300, 600))
    auc = one(Membership(draws=50).measure(replace(subject, split=split)), "membership_auc")
    assert (auc.conditions["non_members"], auc.warnings) == (300, ())


@pytest.mark.parametrize("official", [False, True])
def test_of_grouped_records_the_patient_may_be_what_is_told(
    measure: Callable[..., Any], overfitted: nn.Module, one: One, official: bool
) -> None:
    named = np.array(["train"] * 600 + ["test"] * (MEMBERS + OTHERS - 600))
    about = {"about": {"official": named}, "validation": np.arange(MEMBERS, 600)} if official else {}
    of_records = Recipe(privacy=Privacy(epsilon=8, unit="record"))
    found = measure(overfitted, groups=np.arange(MEMBERS + OTHERS) // 2, recipe=of_records, **about)
    for row in (one(found, "membership_auc"), one(found, "membership_tpr", false_positive_rate=0.1)):
        assert row.warnings == (
            "members and non-members are different patients: what tells them apart may be the patient",
        )


def test_without_records_kept_aside_the_other_pool_is_named(
    make: Make, records: tuple[np.ndarray, np.ndarray], overfitted: nn.Module, log: Callable[..., Any], one: One
) -> None:
    official = np.array(["train"] * MEMBERS + ["test"] * OTHERS)
    about = {"official": official}
    found = Membership(draws=50).measure(make(overfitted, *records, train=np.arange(MEMBERS), log=log(), about=about))
    assert "another pool" in one(found, "membership_auc").warnings[0]
    assert "another pool" in one(found, "membership_tpr", false_positive_rate=0.1).warnings[0]
