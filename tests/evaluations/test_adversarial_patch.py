"""The evaluation of a patch: what is measured, against what, and what must be said of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.adversarial_patch import AdversarialPatch
from assay.evaluations.adversarial_patch import PatchRobustness, patch_beats_noise
from assay.evaluations.subject import Subject
from assay.registry import build
from assay.results import Measurement, judged

Make = Callable[..., Subject]
One = Callable[..., Measurement]
QUICK = AdversarialPatch(share=0.1, steps=40, batch=20)


class Bright(nn.Module):
    """Class 1 where the brightest 3×3 square is brighter than 0.6."""

    def forward(self, x: Tensor) -> Tensor:
        brightest = torch.nn.functional.avg_pool2d(x, 3, stride=1).amax((1, 2, 3))
        return torch.stack([0 * brightest, 10 * (brightest - 0.6)], 1)


def images(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Dim images, every second one with a bright square; the last is labelled wrongly."""
    generator = np.random.default_rng(0)
    x = 0.3 * generator.random((n, 1, 16, 16), dtype=np.float32)
    y = np.arange(n) % 2
    x[y == 1, :, 4:8, 4:8] = 0.9
    y[-1] = 0
    return x, y


def subject(make: Make, model: nn.Module | None = None, **about: Any) -> Subject:
    x, y = images()
    settings = {"modality": "image", "low": np.zeros(1, np.float32), "high": np.ones(1, np.float32), **about}
    return make(model or Bright(), x, y, train=np.arange(40), about=settings)


@pytest.fixture(scope="module")
def found(make: Make) -> list[Measurement]:
    return judged(PatchRobustness(patch=QUICK, target=1).measure(subject(make)))


def test_a_patch_that_sends_all_to_one_class_leaves_that_class_alone(found: list[Measurement], one: One) -> None:
    clean = one(found, "patch_accuracy", attack="none")
    under = one(found, "patch_accuracy", attack="adversarial_patch")
    success = one(found, "patch_success", attack="adversarial_patch")
    assert (clean.value, clean.n, clean.conditions["share"]) == (39 / 40, 40, 0.0)
    assert (under.value, under.n) == (19 / 40, 40)
    assert (success.value, success.n) == (1.0, 20)
    assert under.low < under.value < under.high


def test_the_random_patch_does_less_at_the_same_places(found: list[Measurement], one: One) -> None:
    assert one(found, "patch_success", attack="random_patch").value < 0.5
    check = one(found, "check.patch_beats_noise")
    assert check.verdict == "pass"
    assert check.value > 0.5


def test_every_figure_says_how_it_was_found(found: list[Measurement], one: One) -> None:
    about = one(found, "patch_accuracy", attack="adversarial_patch").conditions
    wanted = {**QUICK.model_dump(), "target": "class 1", "places": "drawn uniformly for each record"}
    assert wanted.items() <= dict(about).items()


def test_without_a_target_each_class_has_a_patch_of_its_own(make: Make, one: One) -> None:
    """One that darkens cannot hide the square at a place that it does not reach: class 1 mostly stands."""
    found = judged(PatchRobustness(patch=QUICK).measure(subject(make)))
    success = one(found, "patch_success", attack="adversarial_patch")
    assert success.n == 39
    assert success.value >= 20 / 39
    assert success.conditions["target"] == "any wrong class"


def test_an_optimiser_that_finds_nothing_is_named(make: Make, one: One) -> None:
    idle = AdversarialPatch(share=0.01, steps=1, learning_rate=1e-9)
    found = judged(PatchRobustness(patch=idle, target=1).measure(subject(make)))
    assert one(found, "check.patch_beats_noise").verdict == "warn"
    beside = one(found, "patch_accuracy", attack="adversarial_patch")
    assert any("the optimiser found nothing" in flag.message for flag in beside.flags)
    assert not one(found, "patch_accuracy", attack="none").warnings


@pytest.mark.parametrize(
    ("hit", "blank", "verdict"),
    [
        (range(20), range(20), "pass"),  # nothing left to beat
        (range(10), range(10), "warn"),
        (range(14), range(10), "warn"),  # four of four: p = 0.06
        (range(15), range(10), "pass"),  # five of five: p = 0.03
        (range(5, 15), range(5), "warn"),  # ten of fifteen: p = 0.15
        (range(5), range(20), "pass"),
        ((), range(10), "warn"),
        ((), (), "warn"),
    ],
)
def test_a_patch_beats_noise_by_more_than_chance_or_has_nothing_to_beat(hit: Any, blank: Any, verdict: str) -> None:
    fooled = [torch.isin(torch.arange(20), torch.tensor([*records])) for records in (hit, blank)]
    check = patch_beats_noise(*fooled)
    assert (check.verdict, check.figure) == (verdict, pytest.approx((len(hit) - len(blank)) / 20))


def test_the_same_subject_is_patched_the_same_twice(make: Make) -> None:
    asked = PatchRobustness(patch=AdversarialPatch(steps=3))
    assert asked.measure(subject(make)) == asked.measure(subject(make))


def test_at_most_so_many_records_are_used(make: Make, one: One) -> None:
    asked = PatchRobustness(patch=AdversarialPatch(steps=1), records=10)
    assert one(judged(asked.measure(subject(make))), "patch_accuracy", attack="none").n == 10


def test_a_signal_has_a_segment_rewritten(make: Make, one: One) -> None:
    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            loudest = torch.nn.functional.avg_pool1d(x, 5, stride=1).amax((1, 2))
            return torch.stack([0 * loudest, 10 * (loudest - 0.6)], 1)

    x, _ = images()
    y = np.zeros(80, np.int64)
    y[:2] = 1
    about = {"modality": "signal", "low": np.zeros(1, np.float32), "high": np.ones(1, np.float32)}
    made = make(Loud(), np.where(x > 0.5, 0.2, x).reshape(80, 1, 256), y, train=np.arange(40), about=about)
    found = judged(PatchRobustness(patch=QUICK, target=1).measure(made))
    assert one(found, "patch_success", attack="adversarial_patch").value == 1


@pytest.mark.parametrize(
    ("about", "settings", "why"),
    [
        ({"modality": "tabular"}, {}, "these records are tabular: there is no place to stick a patch on"),
        ({}, {"target": 2}, "target is class 2, and the data set has 2"),
    ],
)
def test_what_cannot_be_asked_is_said(
    make: Make, one: One, about: dict[str, Any], settings: dict[str, Any], why: str
) -> None:
    found = judged(PatchRobustness(**settings).measure(subject(make, **about)))
    for name in ("patch_accuracy", "patch_success"):
        assert one(found, name).status == "not_applicable"
        assert one(found, name).warnings == (why,)


def test_without_training_records_there_is_no_patch(make: Make, one: One) -> None:
    x, y = images()
    found = judged(PatchRobustness().measure(make(Bright(), x, y, about={"modality": "image"})))
    assert "there are no training records" in one(found, "patch_accuracy").warnings[0]


def test_a_model_that_answers_nan_is_never_robust(make: Make, one: One) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] * torch.nan

    found = judged(PatchRobustness(patch=AdversarialPatch(steps=1)).measure(subject(make, Broken())))
    assert one(found, "patch_accuracy", attack="adversarial_patch").value == 0
    assert one(found, "patch_success", attack="adversarial_patch").status == "not_applicable"


def test_a_study_file_can_ask_for_it() -> None:
    asked = build("evaluation", {"name": "adversarial_patch", "patch": {"share": 0.1}, "target": 1})
    assert isinstance(asked, PatchRobustness)
    assert asked.patch.share == 0.1
    assert "200 gradient steps on 64 records in all" in asked.forecast(624)
