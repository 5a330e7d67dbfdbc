"""Accuracy and calibration under corruption: every corruption, every severity, and what they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from assay import seeds
from assay.data.corruptions.base import SEVERITIES, corrupted, names_for
from assay.errors import SpecError
from assay.evaluations.shift import Shift, accuracy_falls_with_severity
from assay.evaluations.subject import Subject
from assay.registry import build
from assay.results import Check, Measurement, judged
from assay.tasks.class_scores import calibration_error

Make = Callable[..., Subject]
One = Callable[..., Measurement]


class Level(nn.Module):
    """Of class 1 as far as the mean of a record lies above a threshold; random where ``noise`` is given."""

    def __init__(self, threshold: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        self.threshold, self.noise = threshold, noise

    def forward(self, x: Tensor) -> Tensor:
        level = 20 * (x.flatten(1).mean(1) - self.threshold)
        level = level + self.noise * torch.randn_like(level)
        return torch.stack([-level, level], dim=1)


class BrokenAbove(Level):
    """Answers NaN to records whose extremes exceed a limit."""

    def forward(self, x: Tensor) -> Tensor:
        broken = x.flatten(1).amax(1) > 1.5
        return torch.where(broken[:, None], torch.nan, super().forward(x))


def signals(n: int = 60, *, gap: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Waves around a level that tells their class."""
    generator = np.random.default_rng(n)
    y = np.arange(n) % 2
    wave = np.sin(np.arange(90) / 7 + generator.uniform(0, 6, (n, 1, 1)))
    level = (2 * y - 1)[:, None, None] * gap
    return wave - wave.mean(2, keepdims=True) + level + generator.normal(0, 0.1, (n, 1, 1)), y


def subject_of(make: Make, model: nn.Module, *, n: int = 60, modality: str = "signal", **settings: Any) -> Subject:
    x, y = signals(n)
    wide = {"low": np.full((1, 1), -5, np.float32), "high": np.full((1, 1), 5, np.float32)}
    return make(model, x, y, about={"modality": modality, **wide}, **settings)


def measure(subject: Subject, **settings: Any) -> list[Measurement]:
    return judged(Shift(**{"draws": 50, **settings}).measure(subject))


def answers(subject: Subject, name: str, severity: int) -> np.ndarray:
    """What the model says, by hand."""
    generator = seeds.stream(subject.seed, "corruption", name)
    x = corrupted(subject.dataset, subject.split.test, name, severity, generator=generator)
    with torch.no_grad():
        return subject.model(torch.from_numpy(x)).double().numpy()


def test_every_corruption_is_measured_at_every_severity(make: Make, one: One) -> None:
    subject = subject_of(make, Level())
    found = measure(subject)
    y = subject.dataset.y
    errors = []
    for name in names_for("signal"):
        for severity in SEVERITIES:
            logits = answers(subject, name, severity)
            accuracy = one(found, "shifted_accuracy", corruption=name, severity=severity)
            calibration = one(found, "shifted_calibration_error", corruption=name, severity=severity)
            assert accuracy.value == pytest.approx((logits.argmax(1) == y).mean())
            assert calibration.value == pytest.approx(calibration_error(y, softmax(logits, axis=1), 10))
            assert accuracy.n == calibration.n == 60
            assert accuracy.low <= accuracy.value <= accuracy.high
            errors.append(1 - accuracy.value)
    clean = 1 - (answers(subject, "lead_off", 0).argmax(1) == y).mean()
    assert one(found, "mean_corruption_error").value == pytest.approx(np.mean(errors))
    assert one(found, "relative_corruption_error").value == pytest.approx(np.mean(errors) - clean)
    assert np.mean(errors) - clean > 0


def test_conditions_say_all_that_the_value_depends_on(make: Make, one: One) -> None:
    hum = {"name": "powerline", "mains": 60, "strengths": [0, 1, 2, 3, 4]}
    found = measure(subject_of(make, Level()), corruptions=[hum], severities=[2])
    row = one(found, "shifted_accuracy")
    assert dict(row.conditions) == {
        "corruption": "powerline",
        "severity": 2,
        "strength": 1.0,
        "mains": 60.0,
        "sampling_rate": 360.0,
    }
    mean = one(found, "mean_corruption_error")
    assert mean.conditions["corruptions"] == ["powerline"]
    assert mean.conditions["severities"] == [2]
    assert mean.conditions["normalised"].startswith("no")


def test_recipes_meet_the_same_corrupted_records(make: Make) -> None:
    seen: list[list[bytes]] = []

    class Watching(Level):
        def forward(self, x: Tensor) -> Tensor:
            seen[-1].append(x.numpy().tobytes())
            return super().forward(x)

    for threshold in (0.0, 0.3):
        seen.append([])
        measure(subject_of(make, Watching(threshold)), severities=[1, 4])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 1 + 2 * 4


def test_a_subset_is_stratified_and_its_size_told(make: Make, one: One) -> None:
    subject = subject_of(make, Level())
    found = measure(subject, records=20, severities=[1])
    assert {m.n for m in found if m.name.startswith(("shifted", "mean", "relative"))} == {20}
    rows = subject.chosen(subject.split.test, 20)
    assert subject.dataset.y[rows].sum() == 10


def test_only_test_records_are_asked_about(make: Make, one: One) -> None:
    found = measure(subject_of(make, Level(), train=range(40)), severities=[1])
    assert one(found, "mean_corruption_error").n == 20


def test_patients_are_drawn_whole(make: Make, one: One) -> None:
    alone = measure(subject_of(make, Level()), severities=[5])
    patients = measure(subject_of(make, Level(), groups=np.arange(60) // 20), severities=[5])
    for name, about in (("shifted_accuracy", {"corruption": "baseline_wander"}), ("mean_corruption_error", {})):
        both = [one(found, name, **about) for found in (alone, patients)]
        assert both[0].value == both[1].value
        assert (both[0].low, both[0].high) != (both[1].low, both[1].high)


@pytest.mark.parametrize("noise", [0.0, 30.0])
def test_severity_zero_is_clean_unless_the_model_is_random(make: Make, one: One, noise: float) -> None:
    found = measure(subject_of(make, Level(noise=noise)), severities=[1])
    check = one(found, "check.clean_at_severity_zero")
    assert check.verdict == ("fail" if noise else "pass")
    assert (check.value > 0) == bool(noise)
    flags = one(found, "shifted_accuracy", corruption="lead_off").flags
    assert any("at severity 0" in flag.message for flag in flags) == bool(noise)


def test_answers_that_are_no_numbers_count_as_wrong_and_sure(make: Make, one: One) -> None:
    subject = subject_of(make, BrokenAbove())
    found = measure(subject, corruptions=["powerline"], severities=[3])
    logits = answers(subject, "powerline", 3)
    broken = np.isnan(logits).any(1)
    right = (logits.argmax(1) == subject.dataset.y) & ~broken
    assert 0 < broken.sum() < 60
    accuracy, calibration = one(found, "shifted_accuracy"), one(found, "shifted_calibration_error")
    assert accuracy.value == pytest.approx(right.mean())
    told = f"the model answers NaN or infinity to {broken.sum()} of 60 records"
    assert all(any(told in flag.message for flag in row.flags) for row in (accuracy, calibration))
    # Level is sure of nearly all of its answers, so the gap is the share of the wrong ones.
    assert calibration.value == pytest.approx(1 - right.mean(), abs=0.05)
    assert np.isfinite(one(found, "mean_corruption_error").value)


def test_a_model_that_answers_no_record_is_wrong_everywhere(make: Make, one: One) -> None:
    class Mute(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2), torch.inf)

    found = measure(subject_of(make, Mute()), severities=[1])
    assert one(found, "mean_corruption_error").value == 1
    assert one(found, "shifted_calibration_error", corruption="lead_off").value == 1


def hits(*shares: float) -> list[np.ndarray]:
    """Which of 400 records were right at each severity, the same ones first."""
    return [np.arange(400) < share * 400 for share in shares]


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.9, 0.8, 0.7), "pass"),
        ((0.8, 0.8, 0.8), "pass"),
        ((0.8, 0.805, 0.7), "pass"),  # less than a point
        ((0.8, 0.82, 0.7), "pass"),  # 8 records more: 2.8 standard errors
        ((0.8, 0.7, 0.75), "warn"),
    ],
)
def test_accuracy_that_rises_by_more_than_noise_is_warned_of(shares: tuple[float, ...], verdict: str) -> None:
    check = accuracy_falls_with_severity("blur", hits(*shares), [1, 3, 5])
    assert check.verdict == verdict
    if verdict == "warn":
        assert check.figure == pytest.approx(0.05)
        assert "blur rises by 5.0% towards severity 5" in check.message


def test_noise_of_pairs_is_no_rise() -> None:
    before, after = np.arange(400) < 200, np.arange(400) >= 190
    # 210 gained, 200 lost: 10 of 400, against a standard error of 20.
    assert accuracy_falls_with_severity("blur", [before, after], [1, 2]).verdict == "pass"


def test_a_check_of_one_corruption_stands_beside_that_one_alone() -> None:
    check = Check(
        rule="rule",
        concerns="shifted_accuracy",
        verdict="warn",
        figure=1.0,
        message="m",
        conditions={"corruption": "a"},
    )
    row = Measurement(name="shifted_accuracy", value=1.0, conditions={"corruption": "a"})
    assert check.judges(row)
    assert not check.judges(replace(row, conditions={"corruption": "b"}))


def test_corruptions_of_other_records_do_not_apply(make: Make, one: One) -> None:
    subject = subject_of(make, Level())
    found = measure(subject, corruptions=["jpeg", "lead_off"], severities=[1])
    for name in ("shifted_accuracy", "shifted_calibration_error"):
        row = one(found, name, corruption="jpeg")
        assert row.status == "not_applicable"
        assert "jpeg happens to records of modality image, these are signal" in row.warnings[0]
        assert one(found, name, corruption="lead_off").status == "measured"
    assert one(found, "mean_corruption_error").conditions["corruptions"] == ["lead_off"]
    none = measure(subject, corruptions=["jpeg"])
    assert {m.status for m in none} == {"not_applicable"}
    assert {"mean_corruption_error", "relative_corruption_error"} <= {m.name for m in none}


@pytest.mark.parametrize(("modality", "shape"), [("tabular", (9,)), ("image", (1, 9, 9)), ("image", (3, 9, 9))])
def test_every_modality_is_measured(make: Make, one: One, modality: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(20, *shape))
    found = measure(make(Level(), x, np.arange(20) % 2, about={"modality": modality}), severities=[3])
    for name in names_for(modality):  # type: ignore[arg-type]
        assert one(found, "shifted_accuracy", corruption=name).status == "measured"
    assert one(found, "check.clean_at_severity_zero").verdict == "pass"


class Vocabulary:
    """Known words by their position; 1 is any other."""

    def __init__(self, words: Sequence[str], wrong: int = 0) -> None:
        self.words, self.wrong = list(words), wrong

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        found = np.zeros((len(sentences), 3), np.int32)
        for row, sentence in enumerate(sentences):
            found[row, : len(sentence)] = [self.words.index(w) if w in self.words else 1 for w in sentence]
        return found + self.wrong


class KnowsWords(nn.Module):
    """Of class 1 where a record holds word 2; takes positions only."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.int32
        said = (x == 2).any(1).double()
        return torch.stack([1 - said, said], dim=1)


def text(make: Make, **about: Any) -> Subject:
    words = ("", "?", "ill", "well", "very")
    written = np.array([[2, 4, 0], [3, 4, 4]] * 30, np.int32)
    settings = {"modality": "text", "words": words, "written": written, "low": np.zeros(1), "high": np.full(1, 9.0)}
    subject = make(KnowsWords(), written, np.array([1, 0] * 30), about={**settings, **about})
    return replace(subject, dataset=replace(subject.dataset, x=written))


def test_text_is_misspelt_and_read_again(make: Make, one: One) -> None:
    found = measure(text(make, language=Vocabulary(("", "?", "ill", "well", "very"))))
    accuracy = [one(found, "shifted_accuracy", severity=severity).value for severity in SEVERITIES]
    # Half of the records are right because of one word, which severity 5 misspells in half of them.
    assert accuracy == sorted(accuracy, reverse=True)
    assert 0.6 < accuracy[-1] < 0.9
    assert one(found, "check.clean_at_severity_zero").verdict == "pass"


def test_text_that_reads_otherwise_when_written_anew_fails_its_check(make: Make, one: One) -> None:
    found = measure(text(make, language=Vocabulary(("", "?", "ill", "well", "very"), wrong=1)), severities=[1])
    assert one(found, "check.clean_at_severity_zero").verdict == "fail"


def test_text_whose_language_is_unknown_is_not_applicable(make: Make) -> None:
    found = measure(text(make))
    assert [(m.name, m.status) for m in found] == [
        (name, "not_applicable")
        for name in (
            "shifted_accuracy",
            "shifted_calibration_error",
            "mean_corruption_error",
            "relative_corruption_error",
        )
    ]
    assert "does not say how other words become records" in found[0].warnings[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"severities": [0]}, "severities"),
        ({"severities": [6]}, "severities"),
        ({"severities": []}, "severities"),
        ({"corruptions": ["rain"]}, "unknown corruption 'rain'"),
        ({"records": 0}, "records"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("evaluation", {"name": "shift", **settings})
