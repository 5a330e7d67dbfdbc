"""Whose model is measured at a client, whether joining is worth it, and AUROC within hospitals and pooled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from assay.evaluations.clients import Clients
from assay.evaluations.subject import Subject
from assay.recipes import Federation, Recipe
from assay.results import Check, Measurement
from assay.training.log import TrainingLog

Make = Callable[..., Subject]
One = Callable[..., Measurement]


class Columns(nn.Module):
    """Reads its answer from the record: column ``place`` is the score of class 1."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, self.place]
        return nn.functional.pad(score[:, None], (1, 0))


SHARED, OWN, ALONE, TOGETHER = range(4)
"""The column that each model reads."""


def hospitals(
    make: Make, sites: Sequence[str], y: np.ndarray, scores: np.ndarray, *, personal: Any = None, **settings: Any
) -> Subject:
    """Test records of these sites and labels, with a score a model; one training record of each class at each site."""
    names = sorted(set(sites))
    site = np.array([*np.repeat(names, 2), *sites])
    labels = np.concatenate([np.tile([0, 1], len(names)), y])
    x = np.concatenate([np.zeros((2 * len(names), scores.shape[1])), scores])
    train = np.arange(2 * len(names))

    def again(rows: np.ndarray, name: str, recipe: Any = None) -> nn.Module:
        return Columns(TOGETHER if name == "centralised" else ALONE)

    federation = Federation(partition="natural", personalisation=personal)
    subject = make(Columns(SHARED), x, labels, train=train, recipe=Recipe(federation=federation), **settings)
    own = {name: Columns(OWN) for name in names} if personal else {}
    return replace(subject, dataset=replace(subject.dataset, site=site), train=again, personal=own)


def ranked(positives: int, negatives: int, right: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores above ``base`` of which this number of pairs of a positive and a negative are in order."""
    above = np.full(negatives, right // negatives)
    above[: right % negatives] += 1
    scores = np.concatenate([np.arange(1, positives + 1), positives - above + 0.5])
    return np.repeat([1, 0], [positives, negatives]), base + scores / 100


def test_auroc_within_hospitals_and_pooled_stand_each_under_its_name(make: Make, one: One) -> None:
    """One hospital treats the ill, the other the well: within them the model ranks far worse than over both."""
    first, second = ranked(30, 3, 74, 1.0), ranked(7, 75, 396, -1.0)
    y = np.concatenate([first[0], second[0]])
    score = np.concatenate([first[1], second[1]])
    subject = hospitals(make, ["a"] * 33 + ["b"] * 82, y, np.tile(score[:, None], 4))
    found = Clients(draws=20).measure(subject)
    about = {"arrangement": "federated"}
    within = [one(found, "client_auroc", site=site, **about) for site in ("a", "b")]
    mean, pooled = (one(found, f"{name}_client_auroc", **about) for name in ("mean", "pooled"))
    assert [round(row.value, 3) for row in (*within, mean, pooled)] == [0.822, 0.754, 0.788, 0.942]
    assert {row.unit for row in (*within, mean, pooled)} == {"AUROC"}
    assert (mean.n, pooled.n, mean.conditions["clients"]) == (115, 115, 2)
    assert "includes differences between clients" in pooled.warnings[0]
    assert mean.warnings == () and mean.low < mean.value < mean.high
    names = [row.name for row in found if isinstance(row, Measurement) and row.name.endswith("client_auroc")]
    assert names[:4] == ["client_auroc", "client_auroc", "mean_client_auroc", "pooled_client_auroc"]


def test_a_hospital_of_one_class_is_left_out_of_the_mean(make: Make, one: One) -> None:
    y = np.array([0, 1, 0, 1, 1, 1])
    subject = hospitals(make, list("aaaabb"), y, np.tile(np.array([0.1, 0.9, 0.3, 0.2, 0.5, 0.6])[:, None], 4))
    found = Clients(draws=20).measure(subject)
    absent = one(found, "client_auroc", site="b", arrangement="federated")
    assert (absent.status, absent.reason) == ("not_applicable", "no_records")
    assert one(found, "mean_client_auroc", arrangement="federated").value == 0.75


@pytest.fixture
def four(make: Make) -> Subject:
    """At ``a`` the own model is right for 40 of 40 and that trained alone for 20; at ``b`` the other way round.

    At ``c`` they differ in one record. The shared model is right for a quarter, the centralised one always."""
    right = np.zeros((100, 4), bool)
    right[::4, SHARED], right[:, TOGETHER] = True, True
    right[:40, OWN], right[:20, ALONE] = True, True
    right[40:60, OWN], right[40:80, ALONE] = True, True
    right[80:98, OWN], right[80:99, ALONE] = True, True
    y = np.arange(100) % 2
    scores = np.where(right == (y == 1)[:, None], 1.0, -1.0)
    return hospitals(make, ["a"] * 40 + ["b"] * 40 + ["c"] * 20, y, scores, personal="ditto")


def test_each_arrangement_is_measured_on_the_records_of_each_client(four: Subject, one: One) -> None:
    found = Clients(draws=20).measure(four)
    expected = {
        "federated": (0.25, 0.25, 0.25),
        "personal": (1.0, 0.5, 0.9),
        "local only": (0.5, 1.0, 0.95),
        "centralised": (1.0, 1.0, 1.0),
    }
    for arrangement, values in expected.items():
        about = {"arrangement": arrangement}
        rows = [one(found, "client_accuracy", site=site, **about) for site in "abc"]
        assert [(row.value, row.n) for row in rows] == list(zip(values, (40, 40, 20), strict=True))
        assert one(found, "worst_client_accuracy", **about).value == min(values)
        pooled = one(found, "pooled_client_accuracy", **about)
        assert pooled.value == pytest.approx(np.average(values, weights=[40, 40, 20]))
    checks = [row for row in found if isinstance(row, Check) and row.rule == "pooled_is_the_mean_of_clients"]
    assert [(check.verdict, check.figure < 1e-12) for check in checks] == [("pass", True)] * 4


def test_joining_is_judged_for_each_client_by_paired_tests_with_holm(four: Subject, one: One) -> None:
    found = Clients(draws=20).measure(four)
    gains = [one(found, "joining_gain", site=site) for site in "abc"]
    assert [gain.value for gain in gains] == pytest.approx([0.5, -0.5, -0.05])
    assert all(gain.conditions["arrangement"] == "personal" for gain in gains)
    assert gains[0].low > 0 > gains[1].high and gains[2].low < 0 < gains[2].high
    ps = [one(found, "joining_p", site=site).value for site in "abc"]
    assert ps[0] < 1e-3 and ps[1] < 1e-3 and ps[2] > 0.2
    assert [flag.rule for flag in gains[1].flags] == ["joining_is_worth_it"]
    assert gains[0].flags == gains[2].flags == ()
    counts = {name: one(found, f"clients_{name}").value for name in ("that_gain", "that_lose", "inconclusive")}
    assert counts == {"that_gain": 1, "that_lose": 1, "inconclusive": 1}
    (check,) = (row for row in found if isinstance(row, Check) and row.rule == "joining_is_worth_it")
    assert (check.verdict, check.figure) == ("warn", 1.0)
    assert check.message.endswith("losing: b")


def test_holm_counts_all_clients(make: Make, one: One) -> None:
    """A difference that one hospital alone would show is inconclusive among eight."""
    right = np.ones((240, 4), bool)
    right[:7, ALONE] = False
    y = np.arange(240) % 2
    scores = np.where(right == (y == 1)[:, None], 1.0, -1.0)
    alone = hospitals(make, ["a"] * 30, y[:30], scores[:30])
    many = hospitals(make, [name for name in "abcdefgh" for _ in range(30)], y, scores)
    p = one(Clients(draws=20).measure(alone), "joining_p").value
    found = Clients(draws=20).measure(many)
    assert one(found, "joining_p", site="a").value == pytest.approx(8 * p)
    assert p < 0.05 < 8 * p
    assert one(found, "clients_inconclusive").value == 8


def test_a_client_without_a_model_of_its_own_says_why(four: Subject, one: One) -> None:
    log = TrainingLog(
        seconds=1.0,
        worker_seconds=1.0,
        workers=1,
        federation={
            "without_model": {"2": "took part in no round"},
        },
    )
    given = replace(four, log=log, personal={name: own for name, own in four.personal.items() if name != "b"})
    found = Clients(draws=20).measure(given)
    row = one(found, "client_accuracy", site="b", arrangement="personal")
    assert (row.status, row.reason) == ("not_applicable", "never_trained")
    assert "took part in no round" in row.warnings[0]
    assert one(found, "joining_gain", site="b").reason == "never_trained"
    assert one(found, "worst_client_accuracy", arrangement="personal").conditions["site"] == "c"
    (check,) = (
        row
        for row in found
        if isinstance(row, Check) and row.conditions == {"arrangement": "personal"} and "pooled" in row.rule
    )
    assert check.verdict == "warn" and "60 of 100 test records" in check.message


def test_where_the_shared_network_is_no_model_it_is_not_measured(four: Subject, one: One) -> None:
    federation = Federation(partition="natural", personalisation="fedper")
    found = Clients(draws=20).measure(replace(four, recipe=Recipe(federation=federation)))
    for site in "abc":
        row = one(found, "client_accuracy", site=site, arrangement="federated")
        assert (row.status, row.reason) == ("not_applicable", "no_shared_model")
        assert one(found, "client_accuracy", site=site, arrangement="personal").status == "measured"
