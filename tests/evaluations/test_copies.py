"""Test records that are training records too are counted, and warned of beside the accuracy."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.data.base import Dataset
from assay.data.images.files import Decoder, ImageFiles
from assay.data.splits import LazyRows
from assay.evaluations.copies import CopiedRecords
from assay.evaluations.subject import Subject
from assay.recipes import Privacy, Recipe
from assay.results import Check, Measurement
from assay.study.measure import ask

TRAIN, N = np.arange(300), 400
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 6)).astype(np.float32)
Y = RNG.integers(0, 2, N)
Make = Callable[..., Subject]


def asked(subject: Subject) -> tuple[dict[str, Measurement], Check]:
    found = CopiedRecords().measure(subject)
    (check,) = [one for one in found if isinstance(one, Check)]
    json.dumps([dict(one.conditions) for one in found])  # so they are stored
    rows = [one for one in found if isinstance(one, Measurement)]
    return {f"{m.name} {m.conditions.get('kind', '')}".strip(): m for m in rows}, check


def made(make: Make, x: np.ndarray, **settings: Any) -> Subject:
    return make(nn.Linear(6, 2), x, Y, train=TRAIN, **settings)


def test_records_of_their_own_pass(make: Make) -> None:
    rows, check = asked(made(make, X))
    assert (rows["copied_records exact"].value, rows["copied_records near"].value) == (0, 0)
    assert (rows["copied_records exact"].n, rows["copied_records near"].n) == (100, 100)
    assert (check.verdict, check.figure) == ("pass", 0)
    assert "accuracy_without_copies" not in rows


@pytest.mark.parametrize(("copies", "verdict"), [(1, "warn"), (9, "warn"), (12, "fail")])
def test_exact_copies_are_counted(make: Make, copies: int, verdict: str) -> None:
    x = X.copy()
    x[300 : 300 + copies] = x[:copies]
    rows, check = asked(made(make, x))
    assert rows["copied_records exact"].value == copies / 100
    assert (check.rule, check.concerns, check.verdict) == ("no_copies_across_the_split", "accuracy", verdict)
    assert check.figure == copies / 100
    assert rows["accuracy_without_copies"].n == 100 - copies


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_near_copies_are_counted(make: Make, noise: float) -> None:
    x = X.copy()
    x[300:305] = x[:5] + noise * RNG.normal(size=(5, 6))
    rows, check = asked(made(make, x))
    assert rows["copied_records near"].value == 5 / 100
    assert (check.verdict, check.figure) == ("warn", 0.05)


def test_features_of_unlike_scales_count_alike(make: Make) -> None:
    scale = np.array([1e-3, 1, 10, 100, 1e3, 1e4], np.float32)
    x = X.copy()
    x[300:305] = x[:5] + 1e-3 * RNG.normal(size=(5, 6))
    assert asked(made(make, x * scale))[1].figure == 0.05
    assert asked(made(make, X * scale))[1].verdict == "pass"


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_records_that_lie_close_by_chance_are_none(make: Make, dimensions: int) -> None:
    """On a line one record in thirty has a neighbour at a twentieth of the median distance."""
    x = RNG.normal(size=(N, dimensions)).astype(np.float32)
    rows, check = asked(make(nn.Linear(dimensions, 2), x, Y, train=TRAIN))
    assert check.verdict == "pass"
    chance = float(rows["copied_records near"].conditions["by_chance"])
    assert np.log(-np.log2(1 - chance)) / np.log(0.05) == pytest.approx(dimensions, rel=0.2)


def test_equal_records_of_few_possible_ones_must_be_expected(make: Make) -> None:
    x = RNG.integers(0, 2, (N, 6)).astype(np.float32)
    rows, check = asked(made(make, x))
    assert rows["copied_records exact"].value > 0.9
    assert (check.verdict, check.conditions["coarse"]) == ("pass", True)


def test_images_that_were_compressed_again_are_near_copies(make: Make) -> None:
    smooth = np.repeat(np.repeat(RNG.normal(size=(N, 1, 8, 8)), 4, 2), 4, 3)
    x = smooth + 0.02 * RNG.normal(size=smooth.shape)
    x[300:306] = smooth[:6] + 0.02 * RNG.normal(size=(6, 1, 32, 32))
    rows, check = asked(make(nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)), x, Y, train=TRAIN))
    assert (rows["copied_records near"].value, check.verdict) == (0.06, "warn")


ACROSS = ("copied_records", "check.no_copies_across_the_split")


def test_it_stands_beside_the_accuracy_though_nobody_asks(make: Make) -> None:
    from assay.evaluations.accuracy import Accuracy

    x = X.copy()
    x[300:320] = x[:20]
    found = ask((Accuracy(draws=50),), made(make, x))
    accuracy = next(m for m in found if m.name == "accuracy")
    assert any("exact copies of training records" in flag.message for flag in accuracy.flags)
    assert [m.name for m in found].count("check.no_copies_across_the_split") == 1
    assert not [m for m in ask((), made(make, x)) if m.name in ACROSS]


def test_of_a_private_recipe_nothing_is_told_unless_it_is_asked(make: Make) -> None:
    from assay.evaluations.accuracy import Accuracy

    x = X.copy()
    x[300:320] = x[:20]
    private = made(make, x, recipe=Recipe(privacy=Privacy(epsilon=1)))
    found = ask((Accuracy(draws=50),), private)
    assert not [m for m in found if m.name in ACROSS]
    accuracy = next(m for m in found if m.name == "accuracy")
    assert not [warning for warning in accuracy.warnings if "copies of training records" in warning]
    assert asked(private)[1].concerns == "copied_records"
    told = [m for m in ask((CopiedRecords(),), private) if m.name in ACROSS]
    assert told and all("tells_of" in m.conditions for m in told)


def test_a_given_model_has_no_training_records_to_compare_with(make: Make) -> None:
    (only,) = CopiedRecords().measure(make(nn.Linear(6, 2), X, Y))
    assert isinstance(only, Measurement) and only.status == "not_applicable"


def test_images_that_are_decoded_late_are_compared_as_files(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(40):
        pixels = RNG.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.bmp")
    for number in (30, 31):
        (tmp_path / f"{number}.bmp").write_bytes((tmp_path / f"{number - 30}.bmp").read_bytes())
    files = ImageFiles(tmp_path, [f"{number}.bmp" for number in range(40)], Decoder(height=8, width=8, channels=1))
    subject = make(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), np.zeros((40, 1, 8, 8)), Y[:40], train=np.arange(30))
    dataset: Dataset = replace(subject.dataset, x=files)
    rows, check = asked(replace(subject, dataset=dataset))
    assert rows["copied_records exact"].value == 0.2
    assert "near copies were not looked for" in str(check.conditions["how"])
    # In another order record 0 of the sample is file 39, and files 0 and 1 are tested.
    sample = replace(dataset, x=LazyRows(files, np.arange(40)[::-1].copy()))
    assert asked(replace(subject, dataset=sample))[1].figure == 0.2
    sample = replace(dataset, x=LazyRows(files, np.r_[2:32, 33:39, 32, 39, 39, 38]))
    assert asked(replace(subject, dataset=sample))[1].figure == 0.0
