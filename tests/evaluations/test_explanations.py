"""Explanations are judged against a random map, their own completeness and random weights."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.errors import SpecError
from assay.evaluations.explained_maps import settings_of
from assay.evaluations.explained_records import measured_records, reference_of
from assay.evaluations.explanation_gains import ExplainedMap, Gains
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.base import Explained, Explainer
from assay.explain.measures.base import MeasuredMap, MeasuredRecords
from assay.explain.measures.panel import Panel
from assay.explain.measures.randomisation import rank_agreement
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.recipes import Recipe
from assay.registry import build, register
from assay.results import RAISED, Check, Finding, Measurement, judged
from tests.explaining import curves, integrated_gradients, reference

Make = Callable[..., Subject]
One = Callable[..., Measurement]


@register("explainer")
class Constant(Explainer):
    """The same value everywhere."""

    name: Literal["constant"] = "constant"
    title = "Constant"
    adds_up = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=torch.ones_like(x))


def asked(**settings: Any) -> Explanations:
    """The evaluation with few records and draws."""
    return Explanations(draws=50, measured=30, control_draws=3, **settings)


QUICK = asked()
METHOD = "integrated_gradients"
PANEL = ("conditional", "donor", "marginal")


@pytest.fixture
def patients(make: Make, trained: nn.Module, wdbc: Dataset) -> Subject:
    train = np.arange(0, 95, 2)
    return make(trained.eval(), wdbc.x[::6], wdbc.y[::6], train=train)


def test_a_trained_network_is_explained_better_than_by_chance(patients: Subject, one: One) -> None:
    found = judged(QUICK.measure(patients))
    assert one(found, "insertion_gain", method=METHOD).low > 0
    assert one(found, "deletion_gain", method=METHOD).low > 0
    assert one(found, "completeness_error").value < 0.05
    assert one(found, "check.completeness").verdict == "pass"


def test_a_map_is_placed_between_its_strongest_control_and_the_oracle(patients: Subject, one: One) -> None:
    found = judged(QUICK.measure(patients))
    own = one(found, "area_between", method=METHOD, replacement="panel").value
    controls = {
        m.conditions["control"]: m.value for m in found if m.name == "control_area" and m.conditions["method"] == METHOD
    }
    best, strongest = one(found, "oracle_area").value, max(controls.values())
    assert set(controls) == {"deviation", "global_ranking", "other_record", "shuffled"}
    row = one(found, "faithfulness", method=METHOD)
    # The oracle of a record is the search, or the map itself where that is better: at least the search, on average.
    assert (own - strongest) / (max(best, own) + 0.3 - strongest) < row.value <= (own - strongest) / (best - strongest)
    assert 0 < row.low < row.value < row.high <= 1
    parts = [one(found, "area_between", method=METHOD, replacement=name).value for name in PANEL]
    assert own == pytest.approx(np.mean(parts), abs=1e-6)
    assert own == pytest.approx(
        one(found, "insertion", method=METHOD, replacement="panel").value
        - one(found, "deletion", method=METHOD, replacement="panel").value,
        abs=1e-6,
    )
    assert one(found, "check.better_than_controls", method=METHOD).verdict == "pass"


def test_areas_do_not_depend_on_who_stands_beside_a_record(patients: Subject) -> None:
    x, _ = patients.records(patients.split.test)
    pool = patients.records(patients.split.train)[0]
    target = patients.model(x).argmax(1)
    values = integrated_gradients(patients.model, x, target, baseline=pool.mean(0, keepdim=True)).values

    def raw(rows: Tensor) -> Tensor:
        records = MeasuredRecords(
            model=patients.model, x=x[rows], target=target[rows], reference=reference(pool), pool=pool, seed=3
        )
        return torch.stack([area.between for area in Panel(records=records).raw(values[rows]).values()])

    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    whole = raw(torch.arange(len(x)))
    torch.testing.assert_close(raw(order), whole[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(raw(order[:1]), whole[:, order[:1]], rtol=0, atol=1e-5)


class Drawn(Explainer):
    """Another map for each record, which knows nothing of the model."""

    name: Literal["drawn"] = "drawn"
    title = "Drawn"
    adds_up = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        numbers = (x * 1000).sin() * 43758.5453
        return Explained(values=numbers - numbers.floor())


register("explainer")(Drawn)


@pytest.mark.parametrize("method", ["drawn", "constant"])
def test_a_map_that_knows_nothing_beats_no_control(patients: Subject, one: One, method: str) -> None:
    found = judged(QUICK.model_copy(update={"methods": (build("explainer", method),)}).measure(patients))
    check = one(found, "check.better_than_controls", method=method)
    assert (check.verdict, check.value > 0.05) == ("warn", True)
    row = one(found, "faithfulness", method=method)
    assert row.value < 0.2 and any("no better than" in flag.message for flag in row.flags)


def test_methods_that_replacements_rank_differently_are_inconclusive(patients: Subject, one: One) -> None:
    found = judged(QUICK.model_copy(update={"methods": (build("explainer", "saliency"),)}).measure(patients))
    agreement = one(found, "panel_agreement")
    check = one(found, "check.panel_agrees")
    assert (agreement.n, check.value) == (3, agreement.value)
    assert check.verdict == ("pass" if agreement.value >= 0.7 else "warn")
    few = judged(QUICK.measure(patients))
    assert one(few, "panel_agreement").status == "not_applicable"


def test_a_model_that_answers_at_random_is_not_explained(make: Make, wdbc: Dataset, one: One) -> None:
    class Dice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(30, 2)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.layer(x) + torch.randn(len(x), 2)
            return answer

    found = judged(QUICK.measure(make(Dice(), wdbc.x[::30], wdbc.y[::30])))
    row = one(found, "faithfulness", method=METHOD)
    assert (row.status, row.reason) == ("not_applicable", "random_answers")


def test_a_constant_model_has_nothing_to_explain(make: Make, wdbc: Dataset, one: One) -> None:
    model = nn.Linear(30, 2)
    with torch.no_grad():
        model.weight.zero_()
    found = judged(QUICK.measure(make(model, wdbc.x[::30], wdbc.y[::30])))
    row = one(found, "faithfulness", method=METHOD)
    assert (row.status, row.reason) == ("not_applicable", "inconclusive")


def test_private_records_are_neither_baseline_nor_replacement(patients: Subject, one: One) -> None:
    recipe = Recipe.model_validate({"privacy": {"epsilon": 1.0}})
    about = replace(patients, recipe=recipe)
    held = reference_of(about)
    assert not held.background.any() and not held.baseline(torch.ones(2, 30)).any()
    pool = measured_records(about, patients.split.test, held).pool
    trained = patients.records(patients.split.train)[0]
    assert not (pool[:, None] == trained[None]).all(-1).any()
    row = one(judged(QUICK.measure(about)), "faithfulness", method=METHOD)
    assert "zeros" in row.conditions["reference"]


def test_maps_that_are_the_same_for_all_records_are_no_better_than_each_other(make: Make, one: One) -> None:
    # All of one class, by a linear model: all gradients are alike.
    x = np.random.default_rng(0).choice([1.0, 2.0], size=(40, 6)).astype(np.float32)
    subject = make(linear([3.0, -2.0, 1.0, 0.5, 0.2, -0.1]), x, np.arange(40) % 2)
    measures = tuple(build("explanation_measure", name) for name in ("infidelity", "correlation_of_sums"))
    found = judged(asked(methods=(build("explainer", "saliency"),), measures=measures).measure(subject))
    for measure in ("infidelity", "correlation_of_sums"):
        own, other = (m.value for m in found if m.name == measure and m.conditions["method"] == "saliency")
        assert own == pytest.approx(other, abs=1e-5), measure
        assert one(found, "measure_p", method="saliency", endpoint=measure).value > 0.05


def test_further_measures_stand_beside_another_records_map(patients: Subject, one: One) -> None:
    measures = tuple(build("explanation_measure", name) for name in ("infidelity", "sparseness", "cascade"))
    found = judged(asked(measures=measures).measure(patients))
    rows = [m for m in found if m.name == "infidelity" and m.conditions["method"] == METHOD]
    assert [m.conditions.get("control") for m in rows] == [None, "other_record"]
    assert rows[0].value < rows[1].value
    p = one(found, "measure_p", method=METHOD, endpoint="infidelity")
    assert p.value < 0.05
    # What does not decide has no p, and what explains again has no control.
    assert not [m for m in found if m.conditions.get("endpoint") in {"sparseness", "cascade"}]
    assert len([m for m in found if m.name == "cascade" and m.conditions["method"] == METHOD]) == 1


def test_without_training_records_the_reference_says_so(make: Make, trained: nn.Module, wdbc: Dataset) -> None:
    found = judged(QUICK.measure(make(trained.eval(), wdbc.x[::30], wdbc.y[::30])))
    said = {m.conditions["reference"] for m in found if "method" in m.conditions and not m.name.startswith("check.")}
    assert said == {"19 given records, or the mean of all"}


def linear(weights: list[float]) -> nn.Module:
    model = nn.Linear(len(weights), 2)
    with torch.no_grad():
        model.weight.copy_(torch.outer(torch.tensor([-1.0, 1.0]), torch.tensor(weights)))
        model.bias.zero_()
    return model


def test_a_map_that_survives_random_weights_is_caught(make: Make, one: One) -> None:
    # Inputs of such different sizes that the weights hardly matter to their ranking.
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 6)) * 100.0 ** np.arange(6)
    found = judged(QUICK.measure(make(linear([1.0] * 6), x, np.arange(40) % 2)))
    check = one(found, "check.randomised_weights")
    assert (check.verdict, check.value > 0.95) == ("warn", True)
    assert any("random weights" in flag.message for flag in one(found, "insertion_gain", method=METHOD).flags)


@pytest.mark.parametrize("seed", range(6))
def test_a_map_of_learned_weights_passes_the_random_weights_test(make: Make, one: One, seed: int) -> None:
    # Weights and inputs of one scale: nothing but the weights ranks the inputs.
    generator = np.random.default_rng(seed)
    x, weights = generator.normal(size=(40, 30)), generator.normal(size=30).tolist()
    found = judged(QUICK.measure(make(linear(weights), x, np.arange(40) % 2, seed=seed)))
    assert one(found, "check.randomised_weights").verdict == "pass"


def test_attributions_that_miss_the_change_are_caught(make: Make, one: One) -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.tanh(30 * x).sum(1), self.layer(x).sum(1)], dim=1)

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(40, 3))
    subject = make(Steep().eval(), x, np.arange(40) % 2)
    coarse = judged(Explanations(points=3, draws=50).measure(subject))
    assert one(coarse, "check.completeness").verdict == "warn"
    assert any("raise points" in flag.message for flag in one(coarse, "insertion_gain", method=METHOD).flags)
    fine = judged(Explanations(points=729, draws=50).measure(subject))
    assert one(fine, "completeness_error").value < 0.1 * one(coarse, "completeness_error").value


def test_the_model_is_left_as_it_was(patients: Subject) -> None:
    before = {name: tensor.clone() for name, tensor in patients.model.state_dict().items()}
    one, again = ([m for m in judged(QUICK.measure(patients)) if m.unit != "seconds"] for _ in range(2))
    assert one == again
    assert all(torch.equal(tensor, before[name]) for name, tensor in patients.model.state_dict().items())


def test_patients_are_drawn_whole(make: Make, trained: nn.Module, wdbc: Dataset, one: One) -> None:
    x, y = np.repeat(wdbc.x[::20], 6, axis=0), np.repeat(wdbc.y[::20], 6)
    # Nearly the same: exact copies count as one record whoever they are of.
    x = x + 1e-4 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    coarse = QUICK.model_copy(update={"points": 3})
    widths = []
    for groups in (np.arange(len(y)) // 6, None):
        # The error of single values: with kinks averaged, that of their sum is rounding, which knows no patients.
        row = one(judged(coarse.measure(make(trained.eval(), x, y, groups=groups))), "value_error")
        assert row.value > 0.01
        widths.append(row.high - row.low)
    assert widths[0] > 1.5 * widths[1]


class FirstWord(nn.Module):
    """Answers by the sum of the first word's vector, and attends to that word alone."""

    attention = True

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0].sum(-1)
        return torch.stack([-score, score], 1)

    def attention_weights(self, x: Tensor) -> Tensor:
        weights = torch.zeros(x.shape[:2])
        weights[:, 0] = 1
        return weights


@pytest.fixture
def sentences(make: Make) -> Subject:
    x = np.random.default_rng(0).normal(size=(12, 4, 3)).astype(np.float32)
    x[:, 3] = 0
    y = x[:, 0].sum(-1) > 0
    return make(FirstWord(), x, y, about={"modality": "text", "low": np.full(3, -9.0), "high": np.full(3, 9.0)})


def test_a_word_is_one_feature(sentences: Subject, one: One) -> None:
    found = judged(QUICK.measure(sentences))
    row = one(found, "insertion", method=METHOD, replacement="mean_word")
    # Three words, the first of which decides: restored first, the change is whole from the first of three steps on.
    assert row.value == pytest.approx(1 / 3 / 2 + 2 / 3, abs=0.2)
    assert one(found, "deletion", method=METHOD, replacement="mean_word").value == pytest.approx(1 / 3 / 2, abs=0.2)


def test_weights_of_attention_are_judged_as_an_explanation(sentences: Subject, one: One) -> None:
    found = judged(QUICK.measure(sentences))
    attention = one(found, "insertion_gain", method="attention")
    assert attention.value == pytest.approx(one(found, "insertion_gain", method=METHOD).value, abs=1e-5)
    assert attention.value > 0.05


def test_a_network_without_attention_is_not_asked_for_its_weights(patients: Subject) -> None:
    found = judged(QUICK.measure(patients))
    assert "attention" not in {m.conditions.get("method") for m in found}


def test_channels_of_a_pixel_are_one_feature(make: Make, one: One) -> None:
    x = np.random.default_rng(1).random((8, 3, 4, 4)).astype(np.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    records = measured_records(*_first(make(model, x, np.arange(8) % 2, about={"modality": "image"})))
    assert records.features.shape == (8, 1, 4, 4)
    for fill in Panel(records=records).fills.values():
        removed = torch.zeros(8, 1, 4, 4, dtype=torch.bool)
        removed[:, :, 1, 2] = True
        changed = (fill(torch.arange(8), removed) != records.x).any(0)
        assert changed.nonzero().tolist() == [[channel, 1, 2] for channel in range(3)]


def _first(subject: Subject) -> tuple[Subject, np.ndarray, Reference]:
    return subject, subject.split.test, reference_of(subject)


def test_only_so_many_records_are_explained_as_are_asked_for(patients: Subject, one: One) -> None:
    found = judged(Explanations(draws=50, records=10, measured=5, control_draws=3).measure(patients))
    assert one(found, "completeness_error").n == 10
    assert one(found, "additivity_error").n == 5


class MeanWord(nn.Module):
    """Answers by the mean of all words, so that no word matters more than another."""

    def forward(self, x: Tensor) -> Tensor:
        held = (x != 0).any(-1, keepdim=True).sum(1).clamp_min(1)
        score = 3 * (x.sum(1) / held).sum(-1)
        return torch.stack([-score, score], 1)


def test_padding_lends_no_map_any_faith() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(100, 40, 2, generator=generator) + 0.5
    for row in range(100):
        x[row, 4 + row % 12 :] = 0
    real = (x != 0).any(-1, keepdim=True)
    target = torch.ones(100, dtype=torch.long)
    # Random among the words and 0 on padding, against a map that is random everywhere: neither knows anything.
    ours, theirs = (
        torch.rand(x[..., :1].shape, generator=generator) * real,
        torch.rand(x[..., :1].shape, generator=generator),
    )
    areas = [curves(MeanWord(), x, target, scores, torch.zeros(1, 40, 2), features=real) for scores in (ours, theirs)]
    assert abs(float((areas[0].insertion - areas[1].insertion).mean())) < 0.05
    assert abs(float((areas[0].deletion - areas[1].deletion).mean())) < 0.05


def test_padding_lends_no_agreement() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.zeros(50, 30, 1, dtype=torch.bool)
    real[:, :10] = True
    one_map, other = (torch.rand(50, 30, 1, generator=generator) * real for _ in range(2))
    assert abs(rank_agreement(one_map, other, real).mean()) < 0.2
    assert rank_agreement(one_map, one_map, real) == pytest.approx(1.0)


def test_a_constant_map_gains_exactly_nothing(patients: Subject, one: One) -> None:
    found = judged(asked(methods=({"name": "constant"},)).measure(patients))
    for name in ("insertion_gain", "deletion_gain"):
        row = one(found, name, method="constant")
        assert (row.value, row.low, row.high) == (0.0, 0.0, 0.0)


def test_further_methods_are_measured_like_the_usual_ones(patients: Subject, one: One) -> None:
    found = judged(asked(methods=("expected_gradients", "saliency")).measure(patients))
    assert one(found, "insertion_gain", method="expected_gradients").low > 0
    assert one(found, "value_error", method="expected_gradients").value < 0.5
    assert one(found, "explanation_agreement", method="expected_gradients").value > 0.5
    assert "completeness_error" not in {m.name for m in found if m.conditions.get("method") == "saliency"}


class Retrained:
    """Trains nothing, and returns one network after the other."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.asked = network, 0

    def __call__(self, rows: np.ndarray, name: str, recipe: Any = None) -> nn.Module:
        self.asked += 1
        return self.network


def checks(found: Sequence[Finding]) -> dict[str, str]:
    """The messages of checks by rule."""
    return {check.rule: check.message for check in found if isinstance(check, Check)}


def test_maps_of_another_seed_must_be_more_alike_than_those_of_random_weights(
    patients: Subject, trained: nn.Module, one: One
) -> None:
    again = Retrained(trained.eval())
    check = one(judged(QUICK.measure(replace(patients, train=again))), "check.randomised_weights")
    assert (check.verdict, again.asked) == ("pass", 1)
    torch.manual_seed(5)
    unlike = copy.deepcopy(trained)
    for layer in unlike.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    # Neither network has anything in common with the map: it depends on the weights, and is another with another seed.
    found = judged(QUICK.measure(replace(patients, train=Retrained(unlike.eval()))))
    assert one(found, "check.randomised_weights").verdict == "inconclusive"
    message = checks(QUICK.measure(replace(patients, train=Retrained(unlike.eval()))))["randomised_weights"]
    assert "inconclusive" in message and "another seed gives another map" in message
    again = Retrained(trained.eval())
    QUICK.model_copy(update={"retrained": False}).measure(replace(patients, train=again))
    assert again.asked == 0


def test_measures_that_train_are_not_asked_of_private_recipes(patients: Subject, trained: nn.Module, one: One) -> None:
    measures = tuple(build("explanation_measure", {"name": name}) for name in ("f_fidelity", "roar"))
    plain = Recipe.model_validate({"training": {"epochs": 2, "batch_size": 32}})
    usual = replace(patients, recipe=plain, network=lambda: copy.deepcopy(trained))
    found = judged(asked(measures=measures, retrained=False).measure(usual))
    for name in ("f_fidelity", "roar"):
        rows = [m for m in found if m.name == name and m.conditions["method"] == METHOD]
        assert rows and all(m.status == "measured" for m in rows), name
    private = replace(usual, recipe=Recipe.model_validate({"privacy": {"epsilon": 1.0}}))
    found = judged(asked(measures=measures, retrained=False).measure(private))
    for name in ("f_fidelity", "roar"):
        row = one(found, name, method=METHOD)
        assert (row.status, row.reason) == ("not_applicable", "unpaid"), name


def test_a_private_recipe_is_not_trained_once_more(patients: Subject, trained: nn.Module) -> None:
    again = Retrained(trained.eval())
    recipe = Recipe.model_validate({"privacy": {"epsilon": 1.0}})
    QUICK.measure(replace(patients, train=again, recipe=recipe))
    assert again.asked == 0


def test_methods_without_a_gradient_explain_a_model_that_has_none(make: Make, wdbc: Dataset, one: One) -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                answer = (x[:, :1] > 0.3).float() - 0.5
            return torch.cat([-answer, answer], 1)

    subject = make(Steps(), wdbc.x[::20], wdbc.y[::20])
    assert subject.why_no_gradient
    found = judged(asked(methods=("exact_shapley", "occlusion", "saliency")).measure(subject))
    assert one(found, "insertion_gain", method="exact_shapley").value > 0
    # All of its steps depend on the first column, which occlusion names; 30 columns are taken away one by one.
    assert one(found, "check.holds_on_the_data", method="occlusion").value == 1.0
    assert (
        one(found, "off_the_data", method="exact_shapley").value > one(found, "off_the_data", method="occlusion").value
    )
    for method in (METHOD, "deep_shap", "saliency"):
        row = one(found, "insertion_gain", method=method)
        assert (row.status, row.reason) == ("not_applicable", "no_gradient")


def test_a_second_network_that_diverged_costs_nothing(patients: Subject, trained: nn.Module, one: One) -> None:
    lost = copy.deepcopy(trained).eval()
    with torch.no_grad():
        for parameter in lost.parameters():
            parameter.fill_(torch.nan)
    found = judged(QUICK.measure(replace(patients, train=Retrained(lost))))
    assert "keeps a correlation" in one(found, "check.randomised_weights").warnings[0]
    assert one(found, "insertion_gain", method=METHOD).low > 0


def test_settings_of_a_method_stand_in_its_conditions_and_none_is_measured_twice(patients: Subject) -> None:
    methods = ({"name": "exact_shapley", "groups": 2}, {"name": "exact_shapley", "groups": 5}, "integrated_gradients")
    found = judged(asked(methods=methods).measure(patients))
    gains = [m for m in found if m.name == "insertion_gain"]
    assert sorted(m.conditions.get("groups", 0) for m in gains) == [0, 0, 2, 5]
    assert len([m for m in gains if m.conditions["method"] == METHOD]) == 1


# Inputs at the edge


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_figures_do_not_depend_on_the_scale_of_the_logits(make: Make, wdbc: Dataset, one: One, scale: float) -> None:
    weights = np.random.default_rng(0).normal(size=30)
    measures = tuple(build("explanation_measure", name) for name in ("infidelity", "correlation_of_sums"))
    usual, scaled = (
        judged(asked(measures=measures).measure(make(linear(list(weights * by)), wdbc.x[::12], wdbc.y[::12])))
        for by in (1.0, scale)
    )
    for name in ("faithfulness", "infidelity", "correlation_of_sums"):
        values = [[m.value for m in found if m.name == name] for found in (usual, scaled)]
        assert values[1] == pytest.approx(values[0], abs=0.02), name


def test_small_logits_that_are_drawn_are_found(make: Make, wdbc: Dataset, one: One) -> None:
    class Dice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-6 * torch.randn(len(x), 2)

    row = one(judged(QUICK.measure(make(Dice(), wdbc.x[::30], wdbc.y[::30]))), "faithfulness", method=METHOD)
    assert row.reason == "random_answers"


def test_equal_maps_have_equal_scores_whatever_method_made_them(make: Make, wdbc: Dataset) -> None:
    subject = make(linear(list(np.random.default_rng(0).normal(size=30))), wdbc.x[::12], wdbc.y[::12])
    names = ("input_times_gradient", "occlusion")
    measures = tuple(build("explanation_measure", name) for name in ("infidelity", "correlation_of_sums"))
    methods = (build("explainer", "input_times_gradient"), build("explainer", {"name": "occlusion", "groups": 30}))
    found = judged(asked(methods=methods, measures=measures).measure(subject))
    for measure, right in (("infidelity", 0.0), ("correlation_of_sums", 1.0)):
        for name in (METHOD, "deep_shap", *names):
            own = next(m for m in found if m.name == measure and m.conditions["method"] == name)
            assert own.value == pytest.approx(right, abs=1e-3), (measure, name)


def test_one_column_or_two_records_end_nothing(make: Make, one: One) -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    for records in (x, x[:2]):
        found = judged(QUICK.measure(make(linear([2.0]), records, np.arange(len(records)) % 2)))
        row = one(found, "faithfulness", method=METHOD)
        assert row.status in {"measured", "not_applicable"}
        assert one(found, "completeness_error").value < 1e-3


def test_a_model_without_numbers_for_changed_records_says_so(make: Make, one: One) -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.sum(1).masked_fill((x[:, 0] > 0.5) & (x[:, 1] < -0.5), torch.nan)
            return torch.stack([-score, score], 1)

    x = np.random.default_rng(0).normal(size=(60, 3)).clip(0.6, 2)
    x[::2] *= -1
    row = one(judged(QUICK.measure(make(Corner(), x, np.arange(60) % 2))), "faithfulness", method=METHOD)
    assert row.reason == "no_finite_answers"


def test_a_blur_that_changes_nothing_leaves_the_other_replacements(make: Make, one: One) -> None:
    flat = np.random.default_rng(0).random((30, 1, 1, 1)) * np.ones((1, 1, 6, 6))
    model = nn.Sequential(nn.Flatten(), linear([1.0] * 36))
    found = judged(QUICK.measure(make(model, flat, np.arange(30) % 2, about={"modality": "image"})))
    known = {m.conditions["replacement"] for m in found if m.name == "area_between" and m.status == "measured"}
    assert known == {"donor", "neighbours", "panel"}


def test_few_patients_accuse_no_map(make: Make, one: One) -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(4, 5)), 10, axis=0)
    x = x + 0.01 * np.random.default_rng(1).normal(size=x.shape)
    found = judged(
        QUICK.measure(make(linear([1.0, -2.0, 0.5, 3.0, 0.1]), x, np.arange(40) % 2, groups=np.arange(40) // 10))
    )
    assert one(found, "check.better_than_controls", method=METHOD).verdict not in RAISED


def test_rows_may_stand_in_any_order(patients: Subject, one: One) -> None:
    split = patients.split
    mixed = replace(patients, split=replace(split, test=np.random.default_rng(0).permutation(split.test)))
    values = [one(judged(QUICK.measure(one_of)), "faithfulness", method=METHOD).value for one_of in (patients, mixed)]
    assert values[1] > 0.2 and values[0] > 0.2


def test_a_single_replacement_that_changes_answers_has_no_order_to_agree_with(patients: Subject, one: One) -> None:
    records = measured_records(*_first(patients))
    panel = Panel(records=records, steps=5, draws=3)
    for name in ("conditional", "marginal"):
        del panel.fills[name]
    maps = [
        ExplainedMap(about={"method": name}, map=MeasuredMap(values=records.x * place))
        for place, name in enumerate(("a", "b", "c"), start=1)
    ]
    found = judged(Gains(panel=panel, clusters=None, seed=0, draws=50).findings(maps))
    row = one(found, "panel_agreement")
    assert (row.status, row.reason) == ("not_applicable", "inconclusive")


def test_the_scorecard_shows_the_default_of_the_records_and_says_why(make: Make, one: One) -> None:
    x = np.random.default_rng(0).random((60, 1, 6, 6)).astype(np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    images = make(model, x, np.arange(60) % 2, train=np.arange(30), about={"modality": "image"})
    few = Explanations(draws=50, measured=4, control_draws=3, steps=4, retrained=False)
    found = few.measure(images)
    row = one(found, "faithfulness", primary=True)
    assert row.conditions["method"] == "expected_gradients" and "explain-methods" in row.conditions["chosen"]
    assert one(found, "faithfulness", method=METHOD, primary=False).status == "measured"
    assert {m.conditions["method"] for m in found if getattr(m, "rule", "") == "randomised_weights"} == {
        "expected_gradients"
    }
    # A record of zeros is no background: then it is integrated gradients.
    for settings, recipe in (
        ({"from_training": False}, None),
        ({}, Recipe.model_validate({"privacy": {"epsilon": 1.0}})),
    ):
        found = few.model_copy(update=settings).measure(replace(images, recipe=recipe))
        row = one(found, "faithfulness", primary=True)
        assert row.conditions["method"] == METHOD and "background" in row.conditions["chosen"]


def test_settings_of_the_study_are_told_from_those_that_were_measured(make: Make, one: One) -> None:
    x = np.random.default_rng(0).random((60, 1, 6, 6)).astype(np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    images = make(model, x, np.arange(60) % 2, train=np.arange(30), about={"modality": "image"})
    for settings, own in (({}, False), ({"points": 16}, True)):
        named = (build("explainer", {"name": "expected_gradients", **settings}),)
        evaluation = Explanations(methods=named)
        default = evaluation.default(images, evaluation.reference(images))
        assert default.method == named[0] and ("the study's own" in default.reason) is own
    own_points = Explanations(from_training=False, points=7)
    assert "the study's own" in own_points.default(images, own_points.reference(images)).reason


def test_a_method_is_named_once_with_the_same_settings(patients: Subject) -> None:
    stored = Explanations.model_validate({"methods": ["occlusion", {"name": "occlusion"}]})
    with pytest.raises(SpecError, match="occlusion is named twice with the same settings"):
        stored.among([Recipe()])
    both = [{"name": "integrated_gradients", "most": most} for most in (255, 7)]
    evaluation = Explanations.model_validate({"methods": both})
    explainers = evaluation._explainers(patients, evaluation.reference(patients))[0]
    assert [one.most for one in explainers if isinstance(one, IntegratedGradients)] == [255, 7]


@pytest.mark.parametrize(("points", "used"), [(3, 3), (4, 3), (6, 3), (7, 7), (100, 63), (255, 255)])
def test_rows_state_the_points_that_are_used(patients: Subject, points: int, used: int) -> None:
    evaluation = Explanations(points=points)
    assert settings_of(evaluation.default(patients, evaluation.reference(patients)).method) == {"points": used}
