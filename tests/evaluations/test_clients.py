"""Each client and the worst, between training alone and all data in one place."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.partition import partition
from assay.evaluations.clients import OF_TEST_RECORDS, Clients
from assay.evaluations.subject import Subject
from assay.recipes import Federation, Recipe
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]

ALL = tuple(metric.name for metric in Clients.metrics)
FEDERATION = Federation(clients=4)
TRAIN, TEST = np.arange(40), np.arange(40, 100)
LABELS = (np.arange(100) % 3 == 0).astype(int)


class Always(nn.Module):
    """Answers one class whatever it is asked."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.full((len(x),), self.answer), 2).float()


class Trainings(list[tuple[list[int], str]]):
    """Remembers what was trained; alone a client learns to say 0, together they learn to say 1."""

    def __call__(self, rows: np.ndarray, name: str) -> nn.Module:
        self.append((rows.tolist(), name))
        return Always(int(len(rows) == len(TRAIN)))


@pytest.fixture
def subject(make: Make) -> Callable[..., Subject]:
    """The federated model reads the label from the record, except from record 57 on, where it is wrong."""

    def build(**settings: Any) -> Subject:
        y = np.arange(100) % 3 == 0
        logits = np.eye(2)[np.where(np.arange(100) < 57, y, ~y).astype(int)]
        return make(nn.Identity(), logits, y, **{"train": TRAIN, "recipe": Recipe(federation=FEDERATION), **settings})

    return build


def test_each_client_is_measured_on_its_own_test_records(subject: Callable[..., Subject], one: One) -> None:
    found = Clients().measure(replace(subject(), train=Trainings()))
    values = []
    for number, rows in enumerate(partition(TEST, LABELS[TEST], FEDERATION, seed=0), start=1):
        row = one(found, "client_accuracy", client=number, arrangement="federated")
        assert (row.value, row.n) == ((rows < 57).mean(), len(rows))
        values.append(row.value)
    worst = one(found, "worst_client_accuracy", arrangement="federated")
    assert worst.value == min(values)
    assert worst.conditions["client"] == 1 + values.index(min(values))
    assert "least of several small samples" in worst.warnings[0]


def test_both_ends_are_trained_anew_and_tested_on_every_record(subject: Callable[..., Subject], one: One) -> None:
    trainings = Trainings()
    found = Clients().measure(replace(subject(), train=trainings))
    ill = (np.arange(100) % 3 == 0)[TEST]
    for number in range(1, 5):
        row = one(found, "local_only_accuracy", client=number)
        assert (row.value, row.n) == (pytest.approx((~ill).mean()), len(TEST))
    assert one(found, "centralised_accuracy").value == pytest.approx(ill.mean())
    *alone, together = trainings
    assert [rows for rows, _ in alone] == [
        rows.tolist() for rows in partition(TRAIN, LABELS[TRAIN], FEDERATION, seed=0)
    ]
    assert together[0] == TRAIN.tolist()
    assert len({name for _, name in trainings}) == 5


def test_patients_are_dealt_whole(subject: Callable[..., Subject]) -> None:
    trainings, patients = Trainings(), np.arange(100) // 4
    Clients().measure(replace(subject(groups=patients), train=trainings))
    held = [set(patients[rows].tolist()) for rows, _ in trainings[:4]]
    assert sum(len(own) for own in held) == len(set.union(*held)) == 10


@pytest.mark.parametrize(
    ("recipe", "train", "why"),
    [
        (Recipe(), Trainings(), "the recipe is not federated"),
        (None, Trainings(), "the recipe is not federated"),
        (Recipe(federation=FEDERATION), None, "nothing can be trained here"),
    ],
)
def test_what_cannot_be_asked_says_why(
    subject: Callable[..., Subject], recipe: Recipe | None, train: Any, why: str
) -> None:
    found = Clients().measure(replace(subject(recipe=recipe, train=np.arange(70)), train=train))
    assert tuple(m.name for m in found) == ALL
    assert {(m.status, m.warnings) for m in found} == {("not_applicable", (why,))}


def test_too_few_test_records_leave_what_is_known_of_the_training_records(subject: Callable[..., Subject]) -> None:
    recipe = Recipe(federation=Federation(clients=31))
    found = Clients().measure(replace(subject(recipe=recipe, train=np.arange(70)), train=Trainings()))
    refused, measured = found[: len(OF_TEST_RECORDS)], found[len(OF_TEST_RECORDS) :]
    assert tuple(m.name for m in refused) == OF_TEST_RECORDS
    why = "test records: 30 records cannot be shared among 31 clients; use fewer clients"
    assert {(m.status, m.reason, m.warnings) for m in refused} == {("not_applicable", "too_few_records", (why,))}
    assert {m.name for m in measured} == set(ALL) - set(OF_TEST_RECORDS)
    assert {m.status for m in measured} == {"measured"}


def test_clients_that_are_sites_are_tested_on_their_own_records(subject: Callable[..., Subject], one: One) -> None:
    given = subject(recipe=Recipe(federation=Federation(partition="natural")))
    site = np.array(["south", "inner"])[np.arange(100) % 2]
    site[:4] = "north"
    found = Clients().measure(replace(given, dataset=replace(given.dataset, site=site), train=Trainings()))
    for number, name in enumerate(("inner", "north", "south"), start=1):
        rows = TEST[site[TEST] == name]
        row = one(found, "client_accuracy", client=number, arrangement="federated")
        assert row.conditions["site"] == name
        if name == "north":
            assert (row.status, row.reason) == ("not_applicable", "no_records")
        else:
            assert (row.value, row.n) == ((rows < 57).mean(), len(rows))
        assert one(found, "client_records", client=number).value == (site[TRAIN] == name).sum()
    assert "clients: 10 is not used" in one(found, "mean_label_hellinger").warnings[0]


def test_without_a_client_that_has_test_records_none_is_the_worst(subject: Callable[..., Subject], one: One) -> None:
    given = subject(recipe=Recipe(federation=Federation(partition="natural")))
    site = np.where(np.isin(np.arange(100), TEST), "unseen", np.array(["a", "b"])[np.arange(100) % 2])
    found = Clients().measure(replace(given, dataset=replace(given.dataset, site=site), train=Trainings()))
    assert one(found, "worst_client_accuracy", arrangement="federated").reason == "no_records"
    assert one(found, "centralised_accuracy").status == "measured"


def test_labels_of_clients_are_counted_and_compared(subject: Callable[..., Subject], one: One) -> None:
    federation = Federation(clients=3, partition="dirichlet", alpha=0.5, smallest_client=2)
    given = subject(recipe=Recipe(federation=federation))
    found = Clients().measure(replace(given, train=Trainings()))
    parts = partition(TRAIN, LABELS[TRAIN], federation, seed=0)
    pool = np.bincount(LABELS[TRAIN]) / len(TRAIN)
    distances = []
    for number, rows in enumerate(parts, start=1):
        counts = np.bincount(LABELS[rows], minlength=2)
        for name, count in zip(given.dataset.class_names, counts.tolist(), strict=True):
            row = one(found, "client_class_records", client=number, **{"class": name})
            assert (row.value, row.n) == (count, len(rows))
        distances.append(np.sqrt(1 - np.sqrt(counts / len(rows) * pool).sum()))
        assert one(found, "label_hellinger", client=number).value == pytest.approx(distances[-1])
    assert one(found, "mean_label_hellinger").value == pytest.approx(np.mean(distances))
    assert one(found, "worst_label_hellinger").value == pytest.approx(max(distances))
