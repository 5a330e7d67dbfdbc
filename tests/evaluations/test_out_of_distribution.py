"""What is foreign is told apart as well as the model's own score does, and drawn as what it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from assay import intervals
from assay.data.base import Dataset, Source
from assay.errors import DataError
from assay.evaluations.out_of_distribution import SCORES, Others, OutOfDistribution, adapt_records, shuffled, why_not
from assay.evaluations.subject import Subject
from assay.results import Measurement
from assay.tasks.classification import CLASSIFICATION

Make = Callable[..., Subject]
One = Callable[..., Measurement]


def data(x: Any, modality: str = "image", **settings: Any) -> Dataset:
    x = np.asarray(x)
    about: dict[str, Any] = {
        "name": "other",
        "y": np.arange(len(x)) % 2,
        "class_names": ("a", "b"),
        "feature_names": (),
        "low": np.zeros(1, np.float32),
        "high": np.ones(1, np.float32),
        "units": "share of the range of a pixel",
        "epsilons": (0.0, 0.1),
    }
    return Dataset(x=x, modality=modality, **{**about, **settings})  # type: ignore[arg-type]


class Elsewhere(Source):
    """Another data set; ``empty`` is one that is not here."""

    name: Literal["elsewhere"] = "elsewhere"
    modality: str = "image"
    size: int = 6
    empty: bool = False

    def load(self) -> Dataset:
        if self.empty:
            raise DataError("elsewhere: it is not here; fetch it")
        shape = {"image": (3, self.size, self.size), "signal": (1, self.size), "tabular": (self.size,)}[self.modality]
        x = np.full((40, *shape), 0.5, np.float32)
        return data(x, self.modality, official=np.repeat(["train", "test"], 20))


class Edges(nn.Module):
    """Sure of images whose left half is dark or bright, and unsure of grey ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = 20 * (x[:, 0, :, : x.shape[3] // 2].mean((1, 2)) - 0.5)
        return torch.stack([-left, left], 1)


@pytest.fixture
def halves(make: Make) -> Subject:
    """40 images of 8 × 8, one half dark and one bright."""
    y = np.arange(40) % 2
    x = np.zeros((40, 1, 8, 8), np.float32)
    x[y == 1, :, :, :4] = 1.0
    x[y == 0, :, :, 4:] = 1.0
    made = make(Edges(), x, y)
    # Bounds and units are those of images.
    return replace(made, dataset=replace(data(x, y=y), name="halves"))


def measured(subject: Subject, **settings: Any) -> list[Measurement]:
    return list(OutOfDistribution(draws=50, **settings).measure(subject))  # type: ignore[arg-type]


def test_scores_are_those_of_the_papers() -> None:
    logits = np.array([[3.0, 1.0], [0.5, 0.4], [9.0, 9.0]])
    softmax = np.exp(logits).max(1) / np.exp(logits).sum(1)
    assert np.argsort(SCORES["max softmax"](CLASSIFICATION, logits)).tolist() == np.argsort(-softmax).tolist()
    assert SCORES["energy"](CLASSIFICATION, logits) == pytest.approx(-np.log(np.exp(logits).sum(1)))
    # Two high logits are an unsure answer to a familiar record: the scores disagree.
    assert SCORES["max softmax"](CLASSIFICATION, logits).argmax() == 2
    assert SCORES["energy"](CLASSIFICATION, logits).argmin() == 2


def test_without_another_data_set_pixels_are_shuffled(halves: Subject, one: One) -> None:
    found = measured(halves)
    row = one(found, "ood_auroc", score="max softmax", against="shuffled pixels")
    assert row.value > 0.99
    assert row.low <= row.value <= row.high
    assert row.n == 80
    assert one(found, "ood_auroc", score="energy", against="shuffled pixels").value > 0.99


def test_every_corruption_is_asked_for_at_its_severity(halves: Subject, one: One) -> None:
    found = measured(halves, severity=2, corruptions=("contrast",))
    assert {m.conditions["against"] for m in found} == {"contrast, severity 2", "shuffled pixels"}
    assert len(found) == 4
    every = {m.conditions["against"] for m in measured(halves)}
    assert len(every) > 3
    assert {"contrast, severity 5", "shuffled pixels"} < every
    weak, strong = (
        one(measured(halves, severity=s, corruptions=("contrast",)), "ood_auroc", score="energy", against=against)
        for s, against in ((1, "contrast, severity 1"), (5, "contrast, severity 5"))
    )
    assert weak.value <= strong.value == 1.0


def test_records_of_another_data_set_are_told_apart(halves: Subject, one: One) -> None:
    found = measured(halves, foreign=Elsewhere(), corruptions=("contrast",))
    row = one(found, "ood_auroc", score="max softmax", against="foreign: other")
    # Grey images: the model is sure of none. Only the test part of that data set is asked.
    assert (row.value, row.n) == (1.0, 60)
    assert not [m for m in found if "shuffled" in m.conditions["against"]]


def test_the_limit_holds_for_either_kind(halves: Subject, one: One) -> None:
    found = measured(halves, foreign=Elsewhere(), records=10, corruptions=("contrast",))
    assert {m.n for m in found} == {20}


@pytest.mark.parametrize(
    ("foreign", "why"),
    [
        ({"modality": "signal"}, "other holds records of modality signal, halves of image"),
        ({"modality": "tabular"}, "other holds records of modality tabular, halves of image"),
    ],
)
def test_records_of_another_kind_cannot_be_shown(halves: Subject, foreign: dict[str, Any], why: str, one: One) -> None:
    row = one(measured(halves, foreign=Elsewhere(**foreign)), "ood_auroc", against="foreign: other")
    assert (row.status, row.warnings) == ("not_applicable", (why,))


def test_features_of_another_table_mean_nothing() -> None:
    tables = [data(np.random.default_rng(0).random((4, 3)).astype(np.float32), "tabular") for _ in range(2)]
    assert "mean nothing in another" in why_not(*tables)


def test_a_data_set_that_is_not_here_fails_alone(halves: Subject, one: One) -> None:
    found = measured(halves, foreign=Elsewhere(empty=True), corruptions=("contrast",))
    row = one(found, "ood_auroc", against="foreign: elsewhere")
    assert (row.status, row.warnings) == ("failed", ("elsewhere: it is not here; fetch it",))
    assert one(found, "ood_auroc", score="energy", against="contrast, severity 5").status == "measured"


def test_a_study_names_the_other_data_set() -> None:
    asked = OutOfDistribution(foreign="wdbc")  # type: ignore[arg-type]
    assert OutOfDistribution(**asked.model_dump(mode="json")) == asked
    assert OutOfDistribution().model_dump()["foreign"] is None
    with pytest.raises(ValidationError, match="unknown dataset 'wdbk'"):
        OutOfDistribution(foreign="wdbk")  # type: ignore[arg-type]


def test_a_record_and_its_changed_self_are_drawn_together() -> None:
    changed = Others(logits=np.zeros((4, 2)))
    assert changed.drawn_with(np.array([7, 3, 9, 5]), None).tolist() == [2, 0, 3, 1, 2, 0, 3, 1]
    assert changed.drawn_with(np.arange(4), np.array(["b", "a", "b", "a"])).tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    foreign = Others(logits=np.zeros((3, 2)), groups=np.array(["x", "y", "x"]))
    assert foreign.drawn_with(np.arange(2), None).tolist() == [0, 1, 2, 3, 2]


def test_pairing_narrows_the_interval() -> None:
    generator = np.random.default_rng(0)
    known = generator.normal(size=200)
    score = np.concatenate([known, known + 0.3])
    strange = np.arange(400) >= 200

    def width(groups: np.ndarray) -> float:
        found = intervals.bootstrap(
            lambda i: intervals.auroc(strange[i], score[i]), 400, generator=np.random.default_rng(1), groups=groups
        )
        return found.high - found.low

    paired = Others(logits=np.zeros((200, 2))).drawn_with(np.arange(200), None)
    assert width(paired) < 0.5 * width(np.arange(400))


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 9), (7,)])
def test_shuffling_keeps_what_a_record_holds(shape: tuple[int, ...]) -> None:
    modality = {3: "image", 2: "signal", 1: "tabular"}[len(shape)]
    x = np.random.default_rng(0).random((20, *shape)).astype(np.float32)
    mixed = shuffled(data(x, modality), np.arange(5, 15), generator=np.random.default_rng(0))
    assert mixed.shape == (10, *shape)
    assert mixed.dtype == np.float32
    assert not (mixed == x[5:15]).all(axis=tuple(range(1, len(shape) + 1))).any()
    wide = (10, -1) if len(shape) == 1 else (10, shape[0], -1)
    for before, after in zip(x[5:15].reshape(wide), mixed.reshape(wide), strict=True):
        # Channels stay together: what moves is a pixel with all of them.
        assert sorted(map(tuple, np.atleast_2d(before).T)) == sorted(map(tuple, np.atleast_2d(after).T))


class Letters:
    """A language of three words, by position; what is unknown is 9."""

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        found = np.zeros((len(sentences), 6), np.int64)
        for row, sentence in zip(found, sentences, strict=True):
            row[: len(sentence)] = [{"a": 1, "b": 2, "c": 3}.get(word, 9) for word in sentence]
        return found


def text(lines: list[list[int]], words: tuple[str, ...], **settings: Any) -> Dataset:
    written = np.array(lines, np.int32)
    return data(written, "text", words=words, written=written, high=np.array([9], np.float32), **settings)


def test_words_are_shuffled_and_padding_is_not() -> None:
    dataset = text([[1, 2, 3, 3, 2, 1], [3, 2, 0, 0, 0, 0]], ("", "a", "b", "c"), language=Letters())
    mixed = shuffled(dataset, np.arange(2), generator=np.random.default_rng(1))
    assert sorted(mixed[0]) == [1, 1, 2, 2, 3, 3]
    assert mixed[0].tolist() != [1, 2, 3, 3, 2, 1]
    assert sorted(mixed[1, :2]) == [2, 3]
    assert not mixed[1, 2:].any()


def test_sentences_of_another_data_set_are_read_in_this_ones_language() -> None:
    dataset = text([[1, 2], [3, 0]], ("", "a", "b", "c"), language=Letters())
    foreign = text([[1, 2, 2], [2, 0, 0]], ("", "x", "c"))
    assert why_not(foreign, dataset) == ""
    assert adapt_records(foreign, np.arange(2), dataset).tolist() == [[9, 3, 3, 0, 0, 0], [3, 0, 0, 0, 0, 0]]


def test_text_that_nobody_can_read_is_not_asked(make: Make) -> None:
    made = make(nn.Identity(), np.eye(4), np.arange(4) % 2)
    dataset = text([[1, 2], [3, 0], [1, 1], [2, 2]], ("", "a", "b", "c"))
    found = measured(replace(made, dataset=dataset, model=Lambda(lambda x: x.float())))
    assert [m.status for m in found] == ["not_applicable"]


class Lambda(nn.Module):
    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rule(x)


def test_images_are_resized_their_channels_averaged_and_their_units_met() -> None:
    colour = np.zeros((2, 3, 12, 12), np.float32)
    colour[0, 0] = 255.0
    colour[1] = 255.0
    foreign = data(colour, units="grey levels", high=np.array([255], np.float32))
    grey = data(np.zeros((2, 1, 4, 4), np.float32))
    found = adapt_records(foreign, np.arange(2), grey)
    assert found.shape == (2, 1, 4, 4)
    assert found[:, 0, 0, 0] == pytest.approx([1 / 3, 1.0])
    many = adapt_records(grey, np.arange(2), data(colour / 255))
    assert many.shape == (2, 3, 12, 12)
    same = data(colour[:, :1, :4, :4] / 255)
    assert (adapt_records(same, np.arange(2), grey) == same.x).all()


def test_a_resized_image_looks_the_same() -> None:
    ramp = np.linspace(0, 1, 32, dtype=np.float32) * np.ones((2, 1, 32, 1), np.float32)
    small = adapt_records(data(ramp), np.arange(2), data(np.zeros((2, 1, 8, 8), np.float32)))
    assert small[0, 0, 3] == pytest.approx(ramp[0, 0, 0].reshape(8, 4).mean(1), abs=0.02)


def test_fine_lines_are_averaged_and_not_passed_over() -> None:
    lines = np.zeros((2, 1, 32, 32), np.float32)
    lines[..., ::4] = 1.0
    small = adapt_records(data(lines), np.arange(2), data(np.zeros((2, 1, 8, 8), np.float32)))
    assert small[0, 0, 4, 2:6] == pytest.approx(np.full(4, 0.25), abs=0.06)


def test_signals_are_stretched() -> None:
    beat = np.sin(np.linspace(0, np.pi, 200, dtype=np.float32)) * np.ones((2, 1, 1), np.float32)
    found = adapt_records(data(beat, "signal"), np.arange(2), data(np.zeros((2, 2, 50), np.float32), "signal"))
    assert found.shape == (2, 2, 50)
    assert found[0, 0] == pytest.approx(np.sin(np.linspace(0, np.pi, 50)), abs=0.03)
    assert (found[:, 0] == found[:, 1]).all()


def test_an_answer_of_nan_tells_nothing_apart(halves: Subject) -> None:
    broken = measured(replace(halves, model=Lambda(lambda x: Edges()(x) * float("nan"))))
    assert [m.status for m in broken] == ["not_applicable"]
    # Finite on clean records alone: only what is corrupted or foreign has no figure.
    whole = lambda x: torch.where((x > 0.01) & (x < 0.99), float("nan"), x)
    half = measured(replace(halves, model=Lambda(lambda x: Edges()(whole(x)))), corruptions=("contrast",))
    assert {m.conditions["against"]: m.status for m in half} == {
        "contrast, severity 5": "not_applicable",
        "shuffled pixels": "measured",
    }
