"""Concepts of networks that are known: what they use is found, what they do not use is not, in any order."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

from assay.errors import SpecError, UserError
from assay.evaluations.concept_changes import compared_with_changes
from assay.evaluations.global_concepts import Concepts
from assay.evaluations.subject import Subject
from assay.explain.base import ExplanationError
from assay.explain.concepts.base import PlantedConcept, Pool
from assay.explain.global_.concept_layers import layer_for_concepts
from assay.models.black_box import WithoutGradient
from assay.recipes import Privacy, Recipe
from assay.registry import build, names
from assay.results import Check, Finding, Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]
SIDE = 14
QUICK: dict[str, Any] = {"size": 20, "random_sets": 60, "records": 30}


class Corner(nn.Module):
    """Answers by the upper right corner, through a layer of four numbers that everything passes and that is bent."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Conv2d(1, 4, SIDE // 2, stride=SIDE // 2, bias=False)
        nn.init.constant_(self.parts.weight, 4 / SIDE**2)
        self.corners = nn.Flatten()
        self.seen = nn.Linear(16, 8, bias=False)
        with torch.no_grad():
            # One number for each quarter of the image, from the first channel of the parts, and four that never vary.
            self.seen.weight.copy_(torch.eye(8, 16))
            self.seen.weight[4:] = 0

    def forward(self, x: Tensor) -> Tensor:
        seen = self.seen(self.corners(self.parts(x)))
        score = (3 * (seen[:, 1] - 0.5)).tanh() + 0.02 * (5 * seen[:, [0, 2, 3]]).sin().sum(1)
        return torch.stack([-score, score], dim=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    draw = np.random.default_rng(0)
    level = draw.uniform(0.3, 0.6, (160, 1, 2, 2)).repeat(SIDE // 2, 2).repeat(SIDE // 2, 3)
    return (level + 0.1 * draw.uniform(-1, 1, (160, 1, SIDE, SIDE))).clip(0, 1).astype(np.float32)


@pytest.fixture
def xrays(make: Make, images: np.ndarray) -> Subject:
    about = {"modality": "image", "low": np.zeros((1, 1, 1), np.float32), "high": np.ones((1, 1, 1), np.float32)}
    return make(Corner().eval(), images, np.arange(160) % 2, about=about)


def scores(found: Sequence[Finding]) -> dict[str, Measurement]:
    rows = [one for one in found if isinstance(one, Measurement) and one.name == "concept_score"]
    return {row.conditions["concept"]: row for row in rows}


USED = {"name": "marker", "label": "used", "size": 0.4, "corner": "upper_right"}
UNUSED = {"name": "marker", "label": "unused", "size": 0.4, "corner": "lower_left"}


def test_a_planted_concept_that_decides_scores_one_and_another_corner_does_not(xrays: Subject, one: One) -> None:
    found = Concepts(concepts=(USED, UNUSED), **QUICK).measure(xrays)
    used, unused = scores(found)["used"], scores(found)["unused"]
    assert used.value == 1.0 and used.n == 30 and used.high == 1.0 and 0.85 < used.low < 1
    assert used.conditions["p"] == pytest.approx(1 / 61) and used.conditions["p_holm"] == pytest.approx(2 / 61)
    assert used.conditions["alignment"] > 0.5 and used.conditions["effect"] > 0.3
    assert unused.conditions["p_holm"] > 0.05
    assert used.conditions["layer"] == "seen" and used.conditions["linear_behind"] is False
    assert used.conditions["class"] == "class 1"
    assert used.conditions["means"].startswith("a white square in the upper right corner")


def test_random_concepts_are_even_within_the_binomial_interval(xrays: Subject, one: One) -> None:
    found = Concepts(concepts=(USED,), **QUICK).measure(xrays)
    row = one(found, "random_concept_score")
    low, high = stats.binom.interval(0.95, 60, 0.5)
    assert (row.conditions["binomial_low"] * 60, row.conditions["binomial_high"] * 60) == pytest.approx((low, high))
    (check,) = [each for each in found if isinstance(each, Check) and each.rule == "random_concepts_are_even"]
    inside = row.conditions["binomial_low"] <= row.value <= row.conditions["binomial_high"]
    assert (check.verdict == "pass") == inside and check.figure == row.value and inside


def test_the_vector_of_the_paper_can_be_asked(xrays: Subject) -> None:
    found = scores(Concepts(concepts=(USED, UNUSED), vector="logistic", **QUICK).measure(xrays))
    assert found["used"].value == 1.0 and found["used"].conditions["vector"] == "logistic"
    assert found["used"].conditions["p_holm"] < 0.05 < found["unused"].conditions["p_holm"]


def test_neither_the_order_of_concepts_nor_a_second_call_changes_a_score(xrays: Subject) -> None:
    blur = {"name": "blur"}
    forwards = scores(Concepts(concepts=(USED, UNUSED, blur), **QUICK).measure(xrays))
    backwards = scores(Concepts(concepts=(blur, UNUSED, USED), **QUICK).measure(xrays))
    assert forwards == backwards
    torch.manual_seed(5)
    np.random.seed(5)
    again = scores(Concepts(concepts=(USED, UNUSED, blur), **QUICK).measure(xrays))
    assert repr(again) == repr(forwards)
    alone = scores(Concepts(concepts=(USED,), **QUICK).measure(xrays))["used"]
    assert (alone.value, alone.conditions["p"]) == (forwards["used"].value, forwards["used"].conditions["p"])
    assert alone.conditions["p_holm"] == alone.conditions["p"]
    assert forwards["used"].conditions["p_holm"] == pytest.approx(3 * alone.conditions["p"])


def test_the_usual_concepts_of_images_are_asked_where_none_is_named(xrays: Subject) -> None:
    found = scores(Concepts(**QUICK).measure(xrays))
    assert set(found) == {"marker", "border", "blur", "bright stripe", "opacity"}
    assert {row.status for row in found.values()} == {"measured"}


def test_no_training_record_is_read_and_examples_are_not_examined(xrays: Subject) -> None:
    held = replace(xrays.split, train=np.arange(60), test=np.arange(60, 160))
    x = xrays.dataset.x.copy()
    x[:60] = np.random.default_rng(9).random((60, 1, SIDE, SIDE))
    asked = Concepts(concepts=(USED,), **QUICK)
    assert not asked.of_training_records
    mine = replace(xrays, split=held, recipe=Recipe(privacy=Privacy(epsilon=1)))
    assert scores(asked.measure(mine))["used"].status == "measured"
    assert repr(asked.measure(mine)) == repr(asked.measure(replace(mine, dataset=replace(xrays.dataset, x=x))))
    assert len(asked.sample(mine)) == 30
    assert len(Concepts(records=500).sample(mine)) == 50, "half of the test records must serve as examples"


def test_of_many_classes_each_is_explained_and_holm_counts_them(make: Make, images: np.ndarray) -> None:
    class Three(Corner):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return torch.cat([out, 0 * out[:, :1]], dim=1)

    about = {"modality": "image", "low": np.zeros((1, 1, 1), np.float32), "high": np.ones((1, 1, 1), np.float32)}
    subject = make(Three().eval(), images, np.arange(160) % 3, classes=3, about=about)
    rows = [
        one
        for one in Concepts(concepts=(USED, UNUSED), **QUICK).measure(subject)
        if isinstance(one, Measurement) and one.name == "concept_score"
    ]
    assert {(row.conditions["concept"], row.conditions["class"]) for row in rows} == {
        (name, f"class {number}") for name in ("used", "unused") for number in range(3)
    }
    best = min(row.conditions["p"] for row in rows)
    assert min(row.conditions["p_holm"] for row in rows) == pytest.approx(min(1.0, 6 * best))
    told = {row.conditions["class"]: row.value for row in rows if row.conditions["concept"] == "used"}
    assert told["class 1"] == 1.0 and told["class 0"] == 0.0


@pytest.mark.parametrize(("random_sets", "warned"), [(39, True), (40, False)])
def test_random_sets_that_are_too_few_for_any_concept_to_be_significant_are_told(
    xrays: Subject, random_sets: int, warned: bool
) -> None:
    found = scores(Concepts(concepts=(USED, UNUSED), **{**QUICK, "random_sets": random_sets}).measure(xrays))
    for row in found.values():
        assert any("no concept can be significant" in one and "to 40 or more" in one for one in row.warnings) is warned
    assert (found["used"].conditions["p_holm"] < 0.05) is not warned


@pytest.mark.parametrize("name", ["marker", "border", "blur", "bright_stripe", "opacity"])
def test_planted_concepts_stay_in_bounds_change_every_image_and_none_of_the_pool(name: str, images: np.ndarray) -> None:
    x = torch.from_numpy(images).double()
    pool = Pool(x=x.clone(), modality="image", low=torch.zeros(1, 1, 1), high=torch.ones(1, 1, 1))
    one: Any = build("concept", name)
    assert isinstance(one, PlantedConcept)
    found = one.examples(pool, 25, np.random.default_rng(0))
    assert found.shape == (25, 1, SIDE, SIDE) and torch.equal(pool.x, x)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    rows = np.random.default_rng(0).permutation(len(x))[:25]
    assert bool((found != x[rows]).flatten(1).any(1).all())
    assert torch.equal(found, one.examples(pool, 25, np.random.default_rng(0)))


def test_marker_and_border_lie_where_they_are_said_to_lie() -> None:
    pool = Pool(x=torch.zeros(1, 3, 20, 40), modality="image", low=torch.zeros(1), high=torch.full((1,), 2.0))
    marker: Any = build("concept", {"name": "marker", "corner": "lower_left", "size": 0.2})
    (found,) = marker.examples(pool, 1, np.random.default_rng(0))
    rows, columns = np.nonzero(found[0].numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 18, 1, 8)
    assert float(found.max()) == 2.0 and torch.equal(found[0], found[2])
    border: Any = build("concept", {"name": "border", "width": 0.1})
    (framed,) = border.examples(pool, 1, np.random.default_rng(0))
    assert bool((framed[0, 2:18, 4:36] == 0).all()) and int((framed[0] > 0).sum()) == 20 * 40 - 16 * 32


class FirstNumbers(nn.Module):
    """Answers by a bent sum of the mean of the words' vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Linear(6, 6, bias=False)
        with torch.no_grad():
            self.words.weight.copy_(torch.eye(6))

    def forward(self, x: Tensor) -> Tensor:
        vectors = self.words(x.mean(1))
        score = (vectors[:, 0] + 0.05 * (3 * vectors[:, 1:]).sin().mean(1)).tanh()
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def sentences(make: Make) -> Subject:
    draw = np.random.default_rng(1)
    words = ("", "not", "never", *(f"word{number}" for number in range(30)))
    vectors = draw.normal(size=(len(words), 6)).astype(np.float32)
    vectors[0], vectors[1:3, 0] = 0, -3.0
    written = draw.integers(3, len(words), (200, 8)).astype(np.int32)
    written[::4, 2] = 1
    written[:, 6:] *= (draw.random(200) < 0.5)[:, None]
    about = {
        "modality": "text", "low": np.full(6, -9.0), "high": np.full(6, 9.0), "words": words, "written": written,
        "licence": "CC0",
    }  # fmt: skip
    return make(FirstNumbers().eval(), vectors[written], np.arange(200) % 2, about=about)


def test_lists_of_words_are_concepts_of_texts(sentences: Subject) -> None:
    negation = {"name": "words", "label": "negation", "words": ["NOT", "never"]}
    rare = {"name": "words", "words": ["absent"]}
    found = scores(Concepts(concepts=(negation, rare), **QUICK).measure(sentences))
    row = found["negation"]
    assert row.value == 0.0 and row.conditions["alignment"] < -0.5 and row.conditions["p_holm"] < 0.05
    assert row.conditions["means"] == "texts with one of: NOT, never"
    assert (found["absent"].status, found["absent"].reason) == ("not_applicable", "too_few_records")
    assert "0 texts hold one of the words absent" in found["absent"].warnings[0]


def test_a_concept_with_fewer_examples_is_compared_with_random_sets_of_its_size(sentences: Subject) -> None:
    negation = {"name": "words", "label": "negation", "words": ["not"]}
    usual = {"name": "words", "label": "usual", "words": [f"word{number}" for number in range(30)]}
    found = scores(Concepts(concepts=(negation, usual), size=80, random_sets=40, records=30).measure(sentences))
    assert found["usual"].conditions["examples"] == 80
    assert 10 <= found["negation"].conditions["examples"] < 80


def test_examples_of_the_user_are_read_from_a_folder_and_from_an_array(
    xrays: Subject, images: np.ndarray, tmp_path: Path
) -> None:
    marked = images[:40].copy()
    marked[..., 1:7, 7:13] = 1.0
    np.save(tmp_path / "tubes.npy", marked)
    folder = tmp_path / "tubes"
    folder.mkdir()
    for number, image in enumerate(marked[:15]):
        Image.fromarray((255 * image[0]).astype(np.uint8)).resize((56, 56)).save(folder / f"{number:02}.png")
    array = {"name": "files", "label": "array", "path": str(tmp_path / "tubes.npy")}
    asked = Concepts(concepts=(array, {"name": "files", "label": "folder", "path": str(folder)}), **QUICK)
    found = scores(asked.measure(xrays))
    assert found["array"].value == found["folder"].value == 1.0
    assert found["array"].conditions["examples"] == 20 and found["folder"].conditions["examples"] == 15
    assert max(row.conditions["p_holm"] for row in found.values()) < 0.05
    before = asked.fingerprint()
    np.save(tmp_path / "tubes.npy", images[:40])
    assert asked.fingerprint() != before and Concepts(concepts=(USED,)).fingerprint() == ""


def why_refused(xrays: Subject, path: Path) -> str:
    """Asks for examples in files that cannot be used, beside a concept that can be asked."""
    found = scores(Concepts(concepts=({"name": "files", "path": str(path)}, USED), **QUICK).measure(xrays))
    assert found["used"].status == "measured", "one broken concept leaves the others as they are"
    row = found[path.stem]
    assert (row.status, row.reason) == ("failed", "error")
    (why,) = row.warnings
    assert why.startswith(f"concept '{path.stem}': ") and str(path) in why
    return why


def test_files_that_are_no_examples_are_refused_and_named(xrays: Subject, tmp_path: Path) -> None:
    assert "there is no" in why_refused(xrays, tmp_path / "none")
    np.save(tmp_path / "flat.npy", np.zeros((20, 5)))
    assert "holds float64 of shape (20, 5)" in why_refused(xrays, tmp_path / "flat.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "nothing.npy").write_bytes(b"")
    for name in ("objects", "text", "nothing"):
        why = why_refused(xrays, tmp_path / f"{name}.npy")
        assert "cannot be read as an array of numbers (.npy): write finite numbers" in why and "pickle" not in why
    np.save(tmp_path / "few.npy", np.zeros((3, 1, SIDE, SIDE)))
    few = Concepts(concepts=({"name": "files", "path": str(tmp_path / "few.npy")},), **QUICK)
    assert scores(few.measure(xrays))["few"].reason == "too_few_records"


def test_examples_outside_the_valid_bounds_are_refused_with_value_limit_and_fix(
    xrays: Subject, images: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "bytes.npy", np.full((20, 1, SIDE, SIDE), 255, np.uint8))
    why = why_refused(xrays, tmp_path / "bytes.npy")
    assert "holds 255 (record 0, entry (0, 0, 0)), and valid values there are 0 to 1" in why and "array / 255" in why
    below = images[:20].copy()
    below[3, 0, 2, 1] = -0.5
    np.save(tmp_path / "below.npy", below)
    assert "holds -0.5 (record 3, entry (0, 2, 1))" in why_refused(xrays, tmp_path / "below.npy")


def test_a_broken_file_is_named_before_anything_is_trained(xrays: Subject, images: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "tubes"
    folder.mkdir()
    for number, image in enumerate(images[:12]):
        Image.fromarray((255 * image[0]).astype(np.uint8)).save(folder / f"{number:02}.png")
    asked = Concepts(concepts=({"name": "files", "path": str(folder)},), **QUICK)
    assert asked.fingerprint()
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:60])
    with pytest.raises(
        UserError, match=r"concept 'tubes': the file .*05\.png' cannot be read as an image.*take it out"
    ):
        asked.fingerprint()
    assert "05.png" in why_refused(xrays, folder)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(UserError, match="cannot be read as an array of numbers"):
        Concepts(concepts=({"name": "files", "path": str(tmp_path / "text.npy")},)).fingerprint()


class OneQuarter(nn.Module):
    """A convolution whose places a linear head weighs, all with 0 outside the lower left quarter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.Conv2d(1, 6, 3, padding=1)
        heard = torch.zeros(1, SIDE, SIDE)
        heard[:, 8:, :6] = 1
        self.head = torch.randn(6, SIDE, SIDE) * heard

    def forward(self, x: Tensor) -> Tensor:
        score = (self.parts(x).relu() * self.head).sum((1, 2, 3))
        return torch.stack([-score, score], dim=1)


def test_a_layer_with_places_has_no_score_and_planting_tells_what_is_ignored(make: Make, images: np.ndarray) -> None:
    about = {"modality": "image", "low": np.zeros((1, 1, 1), np.float32), "high": np.ones((1, 1, 1), np.float32)}
    subject = make(OneQuarter().eval(), images, np.arange(160) % 2, about=about)
    for named in ({}, {"layer": "parts"}):
        found = Concepts(concepts=(USED, UNUSED), **QUICK, **named).measure(subject)
        for row in scores(found).values():
            assert row.status == "not_applicable" and "places" in row.warnings[0] and "parts" in row.warnings[0]
        used, unused = (changes(found)[name] for name in ("used", "unused"))
        assert (used.value, used.low, used.high) == (0, 0, 0), "the upper right corner is ignored"
        assert abs(unused.value) > 0.1 and unused.unit == "log-odds"


def changes(found: Sequence[Finding]) -> dict[str, Measurement]:
    rows = [one for one in found if isinstance(one, Measurement) and one.name == "concept_change"]
    return {row.conditions["concept"]: row for row in rows}


def test_the_change_by_planting_is_that_of_the_answers(xrays: Subject) -> None:
    asked = Concepts(concepts=(USED, UNUSED), **QUICK)
    found = asked.measure(xrays)
    x = torch.from_numpy(xrays.dataset.x[asked.sample(xrays)])
    marked = x.clone()
    marked[..., 0:6, 8:14] = 1
    assert isinstance(xrays.model, nn.Module)
    with torch.no_grad():
        before, after = (2 * xrays.model(each)[:, 1] for each in (x, marked))
    row = changes(found)["used"]
    assert row.value == pytest.approx(float((after - before).mean()), rel=1e-5) and row.n == 30
    assert row.low < row.value < row.high and row.conditions["class"] == "class 1"
    (check,) = [one for one in found if isinstance(one, Check) and one.rule == "planting_agrees_with_scores"]
    assert (check.verdict, check.figure) == ("pass", 0)


@pytest.mark.parametrize(
    ("score", "p_holm", "change", "wrong"),
    [
        (1.0, 0.01, 0.3, False),
        (1.0, 0.01, -0.3, True),
        (0.0, 0.01, 0.3, True),
        (0.0, 0.01, -0.3, False),
        (1.0, 0.01, 0.0, True),
        (1.0, 0.2, -0.3, False),
    ],
)
def test_a_significant_score_that_planting_contradicts_is_warned_of(
    score: float, p_holm: float, change: float, wrong: bool
) -> None:
    about = {"concept": "marker", "class": "ill"}
    row = Measurement(name="concept_score", value=score, n=9, conditions={**about, "p_holm": p_holm})
    changed = Measurement(name="concept_change", value=change, n=9, conditions=about)
    (told,), (check,) = compared_with_changes([row], [changed])
    assert bool(told.warnings) is wrong
    assert (check.verdict, check.figure) == (("warn", 1) if wrong else ("pass", 0))
    assert not wrong or "'marker'" in check.message
    assert compared_with_changes([row], []) == ([row], [])


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)),
        nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2),
        ),
    ],
)  # fmt: skip
def test_trained_weights_do_not_move_the_layer(network: nn.Sequential) -> None:
    """A network whose units are all on, and so linear on these records, is measured where the others are."""
    x, ones = torch.rand(8, 1, 6, 6), torch.ones(8, dtype=torch.long)
    torch.manual_seed(0)
    expected = layer_for_concepts(network.eval(), x, ones)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    on = deepcopy(network)
    for layer in on.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.constant_(layer.bias, 1e3)
    assert expected.curved and layer_for_concepts(on, x, ones) == expected
    assert expected.name == str(len(network) - 3), "in front of the last bend"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_cannot_be_asked_says_why(xrays: Subject, sentences: Subject, make: Make) -> None:
    quick = Concepts(**QUICK)
    (blind,) = {row.reason for row in scores(quick.measure(replace(xrays, model=WithoutGradient(Corner())))).values()}
    assert blind == "no_gradient"
    (unnamed,) = quick.measure(sentences)
    assert (
        isinstance(unnamed, Measurement) and unnamed.reason == "not_asked" and "lists of words" in unnamed.warnings[0]
    )
    table = make(nn.Linear(4, 2), np.random.default_rng(0).normal(size=(80, 4)), np.arange(80) % 2)
    (column,) = quick.measure(table)
    assert isinstance(column, Measurement) and column.reason == "other_kind_of_records"
    words = {"name": "words", "words": ["not"]}
    mixed = scores(Concepts(concepts=(USED, words), **QUICK).measure(xrays))
    assert mixed["used"].status == "measured" and mixed["not"].reason == "other_kind_of_records"
    few = replace(xrays, split=replace(xrays.split, test=np.arange(24)))
    assert {row.reason for row in scores(quick.measure(few)).values()} == {"too_few_records"}


def test_a_network_without_a_suitable_layer_says_so(xrays: Subject) -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).sum(1)
            return torch.stack([-score, score], dim=1)

    row = scores(Concepts(concepts=(USED,), **QUICK).measure(replace(xrays, model=Bare())))["used"]
    assert row.status == "not_applicable" and "no layer of this network is suitable" in row.warnings[0]
    row = scores(Concepts(concepts=(USED,), layer="sen", **QUICK).measure(xrays))["used"]
    assert "'sen' is not suitable" in row.warnings[0] and "seen" in row.warnings[0]
    assert scores(Concepts(concepts=(USED,), layer="corners", **QUICK).measure(xrays))["used"].status == "measured"


def test_the_layer_is_passed_by_everything_and_bends_behind_where_there_is_such_a_one() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.side, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            first = self.first(x)
            return self.last(first.tanh() + self.side(first.relu()).sin())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    x = torch.randn(8, 6)
    ones = torch.ones(8, dtype=torch.long)
    found = layer_for_concepts(Branches(), x, ones)
    assert (found.name, found.curved) == ("first", True)
    straight = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    with pytest.raises(ExplanationError, match=r"\(0\) the answer is linear.*set layer: 0"):
        layer_for_concepts(straight, x, ones)
    linear = layer_for_concepts(straight, x, ones, wanted="0")
    assert (linear.name, linear.curved) == ("0", False)
    network = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    with pytest.raises(ExplanationError, match=r"\(2, 3\) the answer is linear.* outputs have places"):
        layer_for_concepts(network, torch.randn(8, 1, 9, 9), ones)


def test_two_concepts_of_one_name_and_two_words_in_one_are_refused() -> None:
    with pytest.raises(SpecError, match="two concepts are called 'marker': give each a label"):
        build("evaluation", {"name": "concepts", "concepts": ["marker", "marker"]})
    with pytest.raises(SpecError, match="'not good' is no single word"):
        build("concept", {"name": "words", "words": ["not good"]})
    assert set(names("concept")) >= {"blur", "border", "bright_stripe", "files", "marker", "opacity", "words"}
