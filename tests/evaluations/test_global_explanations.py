"""Global explanations of models that are known, on tables, images, signals and texts; and what they read of whom."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset, Tokens
from assay.data.features import Feature
from assay.errors import UserError
from assay.evaluations.explained_records import reference_of
from assay.evaluations.global_explanations import GlobalExplanations
from assay.evaluations.global_units import units_of, words_of_texts
from assay.evaluations.subject import Subject
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.scalars import log_odds
from assay.models.black_box import WithoutGradient
from assay.recipes import Privacy, Recipe
from assay.results import Finding, Measurement
from assay.tasks.classification import Classification
from tests.mistakes import refused

Make = Callable[..., Subject]
One = Callable[..., Measurement]

QUICK = GlobalExplanations(draws=50, pair_records=10, counterfactual_records=20)
NAMES = ("pulse", "sex", "pressure", "noise")
WEIGHTS = [2.0, 1.0, -1.0, 0.0]
OPEN = {"licence": "CC BY 4.0"}


def linear(weights: Sequence[float]) -> nn.Module:
    model = nn.Linear(len(weights), 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)]))
    return model


def rows_of(found: Sequence[Finding], name: str, **about: Any) -> list[Measurement]:
    return [
        one
        for one in found
        if isinstance(one, Measurement) and one.name == name and about.items() <= dict(one.conditions).items()
    ]


@pytest.fixture
def ward(make: Make) -> Subject:
    x = np.random.default_rng(0).normal(size=(160, 4)).clip(-4, 4)
    y = x @ WEIGHTS > 0
    about = {"low": np.full(4, -5.0), "high": np.full(4, 5.0), **OPEN}
    subject = make(linear(WEIGHTS), x, y, train=np.arange(80), about=about)
    return replace(subject, dataset=replace(subject.dataset, feature_names=NAMES))


@pytest.fixture
def found(ward: Subject) -> list[Finding]:
    return list(QUICK.measure(ward))


def test_features_of_a_linear_model_have_the_means_of_its_terms(ward: Subject, found: list[Finding], one: One) -> None:
    x, _ = ward.records(ward.split.test)
    baseline = ward.records(ward.split.train)[0].mean(0)
    target = ward.model(x).argmax(1)
    terms = (x - baseline) * torch.tensor(WEIGHTS) * torch.where(target == 1, 1.0, -1.0)[:, None]
    for place, name in enumerate(NAMES):
        for number in (0, 1):
            own = terms[target == number, place]
            about = {"feature": name, "class": f"class {number}", "method": "integrated_gradients"}
            strength, direction = (one(found, f"attribution_{kind}", **about) for kind in ("strength", "direction"))
            assert strength.value == pytest.approx(float(own.abs().mean().detach()), abs=1e-5)
            assert direction.value == pytest.approx(float(own.mean().detach()), abs=1e-5)
            assert strength.n == int((target == number).sum())
            assert strength.conditions["baseline"] == "50 training records, or the mean of all"


def test_every_attribution_states_its_interval_and_its_numerical_error(found: list[Finding], one: One) -> None:
    rows = [*rows_of(found, "attribution_strength"), *rows_of(found, "attribution_direction")]
    assert len(rows) == 16
    assert all(row.low <= row.value <= row.high for row in rows)
    # On a linear model every rule is right.
    assert all(0 <= row.conditions["numerical_error"] < 1e-5 for row in rows)
    for name in ("attribution_sum_error", "attribution_value_error"):
        row = one(found, name)
        assert row.status == "measured" and row.n == 80 and row.value < 1e-5


class Bent(nn.Module):
    """A step at a place between two points of a rule: no rule of few points has it right."""

    def forward(self, x: Tensor) -> Tensor:
        score = (50 * x[:, 0]).tanh() + (x[:, 1] - 0.3).relu()
        return torch.stack([-score, score], dim=1)


def test_the_numerical_error_is_the_difference_of_two_rules(ward: Subject, one: One) -> None:
    found = QUICK.measure(replace(ward, model=Bent()))
    x, _ = ward.records(ward.split.test)
    target = Bent()(x).argmax(1)
    explained = IntegratedGradients().explain(Bent(), x, target, reference_of(ward))
    assert explained.second is not None
    own = target == 1
    about = {"feature": "pulse", "class": "class 1"}
    for name, sizes in (("strength", torch.abs), ("direction", torch.clone)):
        row = one(found, f"attribution_{name}", **about)
        figures = [float(sizes(values[own, 0].double()).mean()) for values in (explained.values, explained.second)]
        assert row.value == pytest.approx(figures[0], abs=1e-6)
        assert row.conditions["numerical_error"] == pytest.approx(abs(figures[0] - figures[1]), abs=1e-6)
        assert row.conditions["numerical_error"] > 1e-5
    assert one(found, "attribution_value_error").value == pytest.approx(float(explained.value_error.mean()), rel=1e-5)


def test_an_exact_method_has_no_second_rule_and_says_so(ward: Subject, one: One) -> None:
    found = QUICK.measure(replace(ward, model=WithoutGradient(linear(WEIGHTS))))
    assert one(found, "attribution_value_error").status == "not_applicable"
    assert one(found, "attribution_sum_error").value < 1e-5
    assert all("numerical_error" not in row.conditions for row in rows_of(found, "attribution_strength"))


def test_patients_are_drawn_whole(ward: Subject, one: One) -> None:
    people = replace(ward, dataset=replace(ward.dataset, groups=np.arange(160) // 8))
    about = {"feature": "pulse", "class": "class 1"}
    alone, together = (one(QUICK.measure(subject), "attribution_strength", **about) for subject in (ward, people))
    assert alone.value == together.value
    assert (alone.low, alone.high) != (together.low, together.high)


def test_a_model_that_adds_up_has_no_interactions(found: list[Finding]) -> None:
    pairs = rows_of(found, "interaction_strength")
    assert len(pairs) == 6
    assert max(pair.value for pair in pairs) < 1e-5
    assert {pair.n for pair in pairs} == {10}


def test_fidelity_is_measured_on_records_that_taught_nothing_beside_that_of_one_answer(
    ward: Subject, found: list[Finding], one: One
) -> None:
    fidelity, baseline, gain = (one(found, f"surrogate_{name}") for name in ("fidelity", "baseline", "gain"))
    answers = ward.logits(ward.split.test).argmax(1)
    taught = ward.logits(ward.split.train).argmax(1)
    assert baseline.value == pytest.approx((answers == np.bincount(taught).argmax()).mean())
    assert gain.value == pytest.approx(fidelity.value - baseline.value)
    assert (fidelity.n, fidelity.conditions["learnt_from"]) == (80, 80)
    assert fidelity.value > baseline.value + 0.2
    assert fidelity.conditions["rules"]["lines"][0].startswith("if pulse ≤")


def test_a_tree_of_a_model_that_is_no_tree_gains_nothing_and_says_so(make: Make, one: One) -> None:
    class Parity(nn.Module):
        """The sign of a product of four inputs: no question about one of them helps."""

        def forward(self, x: Tensor) -> Tensor:
            score = 50 * x.prod(1)
            return torch.stack([-score, score], dim=1)

    x = np.random.default_rng(1).normal(size=(400, 4))
    subject = make(Parity(), x, np.arange(400) % 2, train=np.arange(200))
    gain = one(QUICK.measure(subject), "surrogate_gain")
    assert gain.low <= 0.05


def test_counterfactuals_are_found_and_the_shown_ones_change_few_inputs(found: list[Finding], one: One) -> None:
    whole, few = (
        one(found, "counterfactual_validity", change=change) for change in ("any inputs", "at most 3 numbers")
    )
    assert whole.value == 1.0 and whole.conditions["not_found"] == 0
    assert whole.conditions["immutable"] == ["sex"]
    assert whole.n == few.n == 20
    nearest, sparse = (
        one(found, "counterfactual_distance", change=change) for change in ("any inputs", "at most 3 numbers")
    )
    assert nearest.value <= sparse.value + 1e-9
    shown = one(found, "counterfactual_examples").conditions["shown"]["examples"]
    assert len(shown) == 5
    assert {len(example["changes"]) for example in shown} <= {1, 2, 3}
    assert all(change["feature"] != "sex" for example in shown for change in example["changes"])
    assert {(example["from"], example["to"]) for example in shown} == {("class 0", "class 1"), ("class 1", "class 0")}


@pytest.mark.parametrize("licence", ["unknown", "research use", ""])
def test_no_record_of_a_patient_is_shown(ward: Subject, licence: str, one: One) -> None:
    closed = replace(ward, dataset=replace(ward.dataset, licence=licence))
    found = QUICK.measure(closed)
    example = one(found, "counterfactual_examples")
    assert (example.status, example.reason) == ("not_applicable", "not_public")
    assert "changes" not in repr([dict(row.conditions) for row in found if isinstance(row, Measurement)])
    assert one(found, "counterfactual_validity", change="any inputs").status == "measured"


def test_what_cannot_be_flipped_is_counted(make: Make, one: One) -> None:
    # All answers lie far on one side; the inputs may move by a thousandth.
    x = 5 + 1e-3 * np.random.default_rng(0).random((40, 3))
    subject = make(linear([1.0, 1.0, 1.0]), x, np.arange(40) % 2, train=np.arange(20), about=OPEN)
    found = QUICK.measure(subject)
    rate = one(found, "counterfactual_validity", change="any inputs")
    assert (rate.value, rate.conditions["not_found"], rate.n) == (0.0, 20, 20)
    assert one(found, "counterfactual_distance", change="any inputs").reason == "no_records"
    assert one(found, "counterfactual_examples").reason == "no_records"
    assert one(found, "attribution_contrast").reason == "too_few_records"
    assert one(found, "attribution_strength", **{"class": "class 0"}).reason == "too_few_records"


def test_an_unknown_immutable_column_is_refused(ward: Subject) -> None:
    with refused(UserError, "immutable", "height"):
        GlobalExplanations(immutable=("height",)).measure(ward)


@pytest.mark.parametrize(("inputs", "method"), [(4, "exact_shapley"), (20, "permutation_shapley")])
def test_a_model_without_a_gradient_is_explained_by_its_answers(make: Make, one: One, inputs: int, method: str) -> None:
    weights = [float(place % 3 - 1) for place in range(inputs)]
    x = np.random.default_rng(0).normal(size=(80, inputs))
    subject = make(WithoutGradient(linear(weights)), x, x @ weights > 0, train=np.arange(40))
    with_gradient = make(linear(weights), x, x @ weights > 0, train=np.arange(40))
    blind, seeing = QUICK.measure(subject), QUICK.measure(with_gradient)
    assert {row.conditions["method"] for row in rows_of(blind, "attribution_contrast")} == {method}
    for row in rows_of(blind, "attribution_strength"):
        about = {key: row.conditions[key] for key in ("feature", "class")}
        assert one(seeing, "attribution_strength", **about).value == pytest.approx(row.value, abs=1e-4)
    rate = one(blind, "counterfactual_validity", change="any inputs")
    assert rate.conditions["search"] == "from other records" and rate.value > 0.9


def test_a_model_with_more_outputs_than_the_data_have_classes_is_explained_too(ward: Subject, one: One) -> None:
    model = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0] * 4, WEIGHTS, [9.0, 0.0, 0.0, 0.0]]))
    found = QUICK.measure(replace(ward, model=model))
    assert one(found, "attribution_strength", **{"class": "output 2", "feature": "pulse"}).value > 0
    assert any("output 2" in line for line in one(found, "surrogate_fidelity").conditions["rules"]["lines"])


def test_a_threshold_of_the_decision_is_part_of_what_is_explained(ward: Subject, one: One) -> None:
    task = Classification(decide_at="operating_point", sensitivity=0.5)
    held = replace(ward.split, validation=np.arange(40, 80), train=np.arange(40))
    subject = replace(ward, task=task, split=held)
    found = QUICK.measure(subject.decided)
    answers = subject.decisions(subject.logits(held.test))
    assert (answers != subject.logits(held.test).argmax(1)).any()
    about = {"class": "class 1", "feature": "pulse"}
    assert one(found, "attribution_strength", **about).n == int((answers == 1).sum())


def test_a_model_that_answers_nan_is_explained_by_nothing(ward: Subject) -> None:
    broken = linear(WEIGHTS)
    nn.init.constant_(broken.weight, float("nan"))
    found = QUICK.measure(replace(ward, model=broken))
    assert {row.reason for row in found if isinstance(row, Measurement)} == {"no_finite_answers"}


def test_images_are_explained_by_patches_and_asked_nothing_about_columns(make: Make, one: One) -> None:
    x = np.random.default_rng(0).normal(size=(24, 1, 8, 8))
    weights = np.zeros((8, 8))
    weights[:4, 4:] = 1.0
    model = nn.Sequential(nn.Flatten(), linear(weights.ravel().tolist()))
    subject = make(model, x, np.arange(24) % 2, train=np.arange(8), about={"modality": "image"})
    found = GlobalExplanations(draws=50, groups=4).measure(subject)
    strengths = {
        row.conditions["feature"]: row.value for row in rows_of(found, "attribution_strength", **{"class": "class 1"})
    }
    assert max(strengths, key=strengths.__getitem__) == "rows 1 to 4, columns 5 to 8"
    assert sum(value > 1e-6 for value in strengths.values()) == 1
    for name in ("interaction_strength", "surrogate_fidelity", "counterfactual_validity"):
        assert one(found, name).reason == "other_kind_of_records"


def test_signals_are_explained_by_windows(make: Make) -> None:
    x = np.random.default_rng(0).normal(size=(24, 2, 12))
    weights = np.zeros((2, 12))
    weights[:, 3:6] = 1.0
    model = nn.Sequential(nn.Flatten(), linear(weights.ravel().tolist()))
    subject = make(model, x, np.arange(24) % 2, train=np.arange(8), about={"modality": "signal"})
    found = GlobalExplanations(draws=50, groups=4).measure(subject)
    strengths = {
        row.conditions["feature"]: row.value for row in rows_of(found, "attribution_strength", **{"class": "class 0"})
    }
    assert max(strengths, key=strengths.__getitem__) == "samples 4 to 6"


class FirstNumbers(nn.Module):
    """Answers by the sum of the first number of each word's vector."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[..., 0].sum(1)
        return torch.stack([-score, score], dim=1)


def texts(make: Make, licence: str) -> Subject:
    """Texts of three words, which stand beside their vectors: the first says which class."""
    words = ("", "fine", "bad", "the", "smith")
    vectors = np.array([[0, 0], [2, 1], [-2, 1], [0.1, 1], [8, 8]], np.float32)
    written = np.array([[1, 3, 0], [2, 3, 3]] * 8 + [[1, 4, 3]], np.int32)
    about = {
        "modality": "text",
        "low": np.full(2, -9.0),
        "high": np.full(2, 9.0),
        "words": words,
        "written": written,
        "licence": licence,
    }
    # Exact copies of a text would count as one.
    x = vectors[written] * (1 + 1e-3 * np.arange(17, dtype=np.float32))[:, None, None]
    return make(FirstNumbers(), x, np.arange(17) % 2, about=about)


def test_texts_are_explained_by_words_that_many_of_them_hold(make: Make, one: One) -> None:
    subject = texts(make, "CC0")
    found = QUICK.measure(subject)
    told = {(row.conditions["class"], row.conditions["word"]): row for row in rows_of(found, "word_attribution")}
    assert set(told) == {("class 0", "bad"), ("class 0", "the"), ("class 1", "fine"), ("class 1", "the")}
    assert told["class 1", "fine"].value > told["class 1", "the"].value > 0
    assert told["class 0", "bad"].value > 0 > told["class 0", "the"].value
    assert one(found, "surrogate_fidelity").reason == "other_kind_of_records"


def test_words_of_patients_stand_in_no_report(make: Make, one: One) -> None:
    found = QUICK.measure(texts(make, "research use"))
    assert one(found, "word_attribution").reason == "not_public"
    assert "fine" not in repr(found)


def test_words_of_positions_in_a_vocabulary_are_told(make: Make) -> None:
    subject = texts(make, "CC0")
    tokens = Tokens(words=("", "<unknown>", "heart"), vectors=np.zeros((3, 2), np.float32), trainable=True)
    data = replace(
        subject.dataset, x=np.array([[2, 1, 0]] * 17, np.int32), written=None, tokens=tokens,
        low=np.zeros(3), high=np.full(3, 9),
    )  # fmt: skip
    assert words_of_texts(replace(subject, dataset=data), np.array([3])) == [["heart", "<unknown>"]]
    assert words_of_texts(replace(subject, dataset=replace(data, tokens=None)), np.array([3])) is None


def test_inputs_of_a_category_are_one_feature(wdbc: Dataset) -> None:
    columns = ("age", "pain", "pain")
    features = tuple(Feature(name=f"{name}{place}", column=name, kind="number") for place, name in enumerate(columns))
    data = replace(
        wdbc, x=wdbc.x[:, :3], low=wdbc.low[:3], high=wdbc.high[:3], features=features, feature_names=("a", "b", "c")
    )
    units = units_of(data, 9)
    assert units is not None and units.names == ("age", "pain")
    assert units.summed(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[1.0, 5.0]]


def test_the_figures_of_others_are_the_same_whatever_the_training_records_are(ward: Subject) -> None:
    held = replace(ward.split, validation=np.arange(40, 80), train=np.arange(40))
    x, y = ward.dataset.x.copy(), ward.dataset.y.copy()
    x[:40], y[:40] = np.random.default_rng(5).normal(size=(40, 4)) / 9, 1 - y[:40]
    other = replace(ward, split=held, dataset=replace(ward.dataset, x=x, y=y))
    asked = QUICK.model_copy(update={"from_training": False})
    assert not asked.of_training_records and QUICK.of_training_records
    mine = replace(ward, split=held)
    assert repr(asked.measure(mine)) == repr(asked.measure(other))
    assert repr(QUICK.measure(mine)) != repr(QUICK.measure(other))


def test_a_private_recipe_is_explained_without_its_training_records(ward: Subject, one: One) -> None:
    private = replace(ward, recipe=Recipe(privacy=Privacy(epsilon=1)))
    x = ward.dataset.x.copy()
    x[ward.split.train] /= 9
    found, again = (QUICK.measure(one_of) for one_of in (private, replace(private, dataset=replace(ward.dataset, x=x))))
    assert repr(found) == repr(again)
    assert {row.conditions["baseline"] for row in rows_of(found, "attribution_contrast")} == {
        "a record of zeros, moved into the valid bounds: no training records"
    }
    assert one(found, "counterfactual_validity", change="any inputs").conditions["ranges"] == "bounds of a valid input"
    assert one(found, "surrogate_fidelity").conditions["learnt_on"] == "one half of the test records"
    assert one(found, "surrogate_fidelity").n + one(found, "surrogate_fidelity").conditions["learnt_from"] == 80


def test_the_decision_that_is_explained_is_that_of_the_scalar(ward: Subject) -> None:
    # Log-odds of the other class are the negative: attributions of both classes are opposite.
    x, _ = ward.records(ward.split.test[:3])
    logits = ward.model(x)
    ones, zeros = torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    assert torch.allclose(log_odds(logits, ones), -log_odds(logits, zeros))
