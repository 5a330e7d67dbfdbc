"""Each client and the worst, between training alone and all data in one place."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations.base import Subject
from assay.evaluations.clients import Clients
from assay.federated.partition import partition
from assay.recipes import Federation, Recipe
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]

NAMES = ("client_accuracy", "worst_client_accuracy", "local_only_accuracy", "centralised_accuracy")
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
        row = one(found, "client_accuracy", client=number)
        assert (row.value, row.n) == ((rows < 57).mean(), len(rows))
        values.append(row.value)
    worst = one(found, "worst_client_accuracy")
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
        (
            Recipe(federation=Federation(clients=31)),
            Trainings(),
            "test records: 30 records cannot be shared among 31 clients; use fewer clients",
        ),
    ],
)
def test_what_cannot_be_asked_says_why(
    subject: Callable[..., Subject], recipe: Recipe | None, train: Any, why: str
) -> None:
    found = Clients().measure(replace(subject(recipe=recipe, train=np.arange(70)), train=train))
    assert tuple(m.name for m in found) == NAMES
    assert {(m.status, m.warnings) for m in found} == {("not_applicable", (why,))}
