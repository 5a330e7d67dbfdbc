"""Accuracy under changed words: asked of text alone, judged by the model, compared with chance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.splits import Split
from assay.evaluations.accuracy import Accuracy
from assay.evaluations.certificates import Certificates
from assay.evaluations.explanations import Explanations
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.evaluations.words import WordSubstitution
from assay.models.front import behind, front_of
from assay.registry import build
from assay.results import Check, Measurement
from assay.study.asking import on_sample

GOOD, BAD = ["good", "great", "fine", "nice"], ["bad", "poor", "dull", "weak"]


class MeanOfWords(nn.Module):
    """The first entry of the mean vector decides."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        held = (vectors != 0).any(-1, keepdim=True).sum(1).clamp_min(1)
        first = (vectors.sum(1) / held)[:, 0]
        return torch.stack([-first, first], dim=1)


@pytest.fixture
def of_texts(tmp_path: Path) -> Callable[[np.ndarray], Subject]:
    """A model of texts whose words have the given vectors, by the order of GOOD + BAD + film."""

    def make(vectors: np.ndarray) -> Subject:
        generator = np.random.default_rng(0)
        lines = []
        for i in range(60):
            own = (BAD, GOOD)[i % 2]
            lines.append(" ".join([*generator.choice(own, 3), "film"]) + f",{i % 2}")
        path = tmp_path / "texts.csv"
        path.write_text("text,label\n" + "\n".join(lines))
        dataset = build("dataset", {"name": "text_file", "path": str(path)}).load().prepared(np.arange(30), seed=0)
        model = behind(front_of(dataset.form), MeanOfWords()).eval()
        words = [*GOOD, *BAD, "film"]
        with torch.no_grad():
            for place, word in enumerate(dataset.tokens.words):
                if word in words:
                    model.front.table.weight[place] = torch.from_numpy(vectors[words.index(word)])
        rows = Split(train=np.arange(30), validation=np.arange(0), calibration=np.arange(0), test=np.arange(30, 60))
        return Subject(model=model, dataset=dataset, split=rows, recipe=None, log=None, seed=0)

    return make


def vectors(side: np.ndarray) -> np.ndarray:
    """Vectors of dimension 100 that all point the same way, but for a first entry of the given sign and size."""
    found = np.full((9, 100), 0.1, np.float32)
    found[:, 0] = side
    return found


def measured(found: Any) -> list[Measurement]:
    return [finding for finding in found if isinstance(finding, Measurement)]


def test_a_model_whose_words_are_neighbours_of_their_opposites_is_broken(of_texts: Any, one: Any) -> None:
    side = np.array([0.1] * 4 + [-0.3] * 4 + [0.0])
    found = WordSubstitution(shares=(0.5,), similarity=0.5, records=None).measure(of_texts(vectors(side)))
    greedy = one(measured(found), "word_substitution_accuracy", attack="greedy", share_of_words=0.5)
    assert greedy.n == 30
    assert greedy.value < 0.6


def test_where_no_word_has_a_neighbour_nothing_is_said(of_texts: Any) -> None:
    apart = np.eye(9, 100, dtype=np.float32)
    apart[:, 0] = [1] * 4 + [-1] * 4 + [0]
    (found,) = WordSubstitution(shares=(0.5,), similarity=0.99, records=None).measure(of_texts(apart))
    assert found.status == "abstained"
    assert "only 0.0% of the words have a neighbour at similarity 0.99" in found.warnings[0]


def test_neighbours_that_change_nothing_leave_the_model_standing(of_texts: Any, one: Any) -> None:
    side = np.array([5.0] * 4 + [-5.0] * 4 + [0.0])
    found = WordSubstitution(shares=(0.5,), similarity=0.9, records=None).measure(of_texts(vectors(side)))
    greedy = one(measured(found), "word_substitution_accuracy", attack="greedy", share_of_words=0.5)
    assert greedy.value == 1.0
    assert greedy.conditions["words_with_neighbours"] > 0.5


def test_more_words_never_help_the_model_and_chance_never_beats_the_attack(of_texts: Any) -> None:
    side = np.array([0.2, 0.1, 0.05, 0.01, -0.2, -0.1, -0.05, -0.01, 0.0])
    found = WordSubstitution(shares=(0.25, 0.5, 0.75), records=None).measure(of_texts(vectors(side)))
    greedy = [m.value for m in measured(found) if m.conditions["attack"] == "greedy"]
    random = [m.value for m in measured(found) if m.conditions["attack"] == "random"]
    assert greedy == sorted(greedy, reverse=True)
    assert all(g <= r for g, r in zip(greedy, random, strict=True))
    (check,) = [finding for finding in found if isinstance(finding, Check)]
    assert check.verdict == "pass"


def test_what_is_no_text_is_not_applicable(make: Any, trained: nn.Module) -> None:
    x = np.zeros((4, 30))
    (found,) = WordSubstitution().measure(make(trained, x, [0, 1, 0, 1]))
    assert found.status == "not_applicable"
    assert "tabular, not words" in found.warnings[0]


def test_of_many_texts_a_costly_question_looks_at_some_and_of_few_at_all(
    of_texts: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.evaluations.attack_runs import AttackTarget

    subject = of_texts(vectors(np.zeros(9)))
    assert subject.examined(subject.split.test, None).tolist() == list(range(30, 60))
    monkeypatch.setattr("assay.evaluations.subject.TEXT_WORDS", 48)
    monkeypatch.setattr("assay.evaluations.subject.FEWEST_TEXTS", 10)
    some = subject.examined(subject.split.test, None)
    # Texts of four words each; stratified, and in order.
    assert len(some) == 12
    assert subject.dataset.y[some].sum() == 6
    assert (np.diff(some) > 0).all()
    assert len(subject.examined(subject.split.test, 25)) == 25
    target = AttackTarget.of(subject, norm="linf", epsilons=[0.1], records=None)
    assert sorted(target.rows.tolist()) == some.tolist()
    assert (np.diff(subject.words(target.rows)) >= 0).all()


def test_accuracy_is_told_of_the_texts_that_a_costly_question_took_unasked(
    of_texts: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, one: Any
) -> None:
    subject = of_texts(vectors(np.array([0.1] * 4 + [-0.3] * 4 + [0.0])))
    questions = [Robustness(), Explanations(), Certificates(), WordSubstitution(records=None), Accuracy()]
    assert [row for one in questions for row in on_sample(one, subject)] == []
    monkeypatch.setattr("assay.evaluations.subject.TEXT_WORDS", 48)
    monkeypatch.setattr("assay.evaluations.subject.FEWEST_TEXTS", 10)
    found = [row for one in questions for row in on_sample(one, subject)]
    assert [(row.conditions["evaluation"], row.n) for row in found] == [("robustness", 12), ("explanations", 12)]
    some = subject.examined(subject.split.test, None)
    right = subject.logits(some).argmax(1) == subject.dataset.y[some]
    assert found[0].value == right.mean()
