"""Groups that a study names stand by name in rows, examples and global explanations."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import SpecError
from assay.evaluations.explanation_groups import described
from assay.evaluations.explanations import Explanations
from assay.evaluations.global_explanations import GlobalExplanations
from assay.evaluations.subject import Subject
from assay.explain.named_groups import NamedGroups
from assay.models.black_box import WithoutGradient
from assay.recipes import Privacy, Recipe
from assay.results import Finding, Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]
NAMES = ("radius", "area", "texture", "age", "pulse")
GROUPS = {"size": ("radius", "area"), "skin": ("texture",)}


class Together(nn.Module):
    """Log-odds of class 1: radius + area + texture · age."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0] + x[:, 1] + x[:, 2] * x[:, 3]
        return torch.stack([-score / 2, score / 2], dim=1)


@pytest.fixture
def ward(make: Make) -> Subject:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 5)).clip(-3, 3)
    x[:, 1] = x[:, 0] + 0.05 * draw.normal(size=80)
    y = (x[:, 0] + x[:, 1] + x[:, 2] * x[:, 3] > 0).astype(int)
    subject = make(Together(), x, y, train=np.arange(40), about={"licence": "CC BY 4.0"})
    return replace(subject, dataset=replace(subject.dataset, feature_names=NAMES))


def rows_of(found: Sequence[Finding], name: str) -> list[Measurement]:
    return [one for one in found if isinstance(one, Measurement) and one.name == name]


def asked(*methods: Any) -> Explanations:
    return Explanations(
        methods=methods,
        measured=8,
        records=8,
        control_draws=3,
        draws=50,
        steps=3,
        shap_background=6,
        retrained=False,
        points=3,
        examples=2,
    )


def test_values_and_interactions_of_groups_stand_by_name_with_what_they_hold(ward: Subject, one: One) -> None:
    found = asked({"name": "exact_shapley", "groups": GROUPS}).measure(ward)
    values = {row.conditions["group"]: row for row in rows_of(found, "group_value")}
    assert list(values) == ["size", "skin", "others"]
    assert [row.conditions["holds"] for row in values.values()] == ["radius, area", "texture", "age, pulse"]
    assert values["size"].conditions["groups"] == {"size": ["radius", "area"], "skin": ["texture"]}
    # Size only adds up, so its value is the sum of its columns' change in the direction of the predicted class.
    few = ward.chosen(ward.chosen(ward.split.test, 8), 8)
    x, mean = ward.dataset.x[few].astype(float), ward.dataset.x[ward.split.train].astype(float).mean(0)
    sign = np.where(ward.logits(few).argmax(1) == 1, 1, -1)
    expected = sign * (x - mean)[:, :2].sum(1)
    assert values["size"].value == pytest.approx(np.abs(expected).mean(), abs=1e-5)
    assert values["size"].conditions["direction"] == pytest.approx(expected.mean(), abs=1e-5)
    assert values["size"].low <= values["size"].value <= values["size"].high and values["size"].n == 8
    pairs = {(row.conditions["first"], row.conditions["second"]): row for row in rows_of(found, "group_interaction")}
    assert set(pairs) == {("size", "skin"), ("size", "others"), ("skin", "others")}
    both = sign * (x - mean)[:, 2] * (x - mean)[:, 3]
    assert pairs["skin", "others"].value == pytest.approx(np.abs(both).mean(), abs=1e-5)
    assert pairs["size", "skin"].value == pytest.approx(0, abs=1e-5)


def test_examples_keep_the_values_of_their_groups(ward: Subject, one: One) -> None:
    found = asked({"name": "exact_shapley", "groups": GROUPS}, {"name": "occlusion", "groups": GROUPS}).measure(ward)
    exact = one(found, "explanation_examples", method="exact_shapley").conditions["examples"]
    assert exact["groups"]["names"] == ["size", "skin", "others"]
    assert np.shape(exact["groups"]["values"]) == (2, 3)
    assert np.shape(exact["groups"]["interactions"]) == (2, 3, 3)
    occlusion = one(found, "explanation_examples", method="occlusion").conditions["examples"]
    assert "interactions" not in occlusion["groups"]
    assert "groups" not in one(found, "explanation_examples", method="integrated_gradients").conditions["examples"]


def test_numbered_groups_have_no_rows_of_groups(ward: Subject) -> None:
    found = asked({"name": "exact_shapley", "groups": 3}).measure(ward)
    assert not rows_of(found, "group_value") and not rows_of(found, "group_interaction")


def test_an_unknown_column_ends_the_evaluation_with_the_known_ones(ward: Subject) -> None:
    with pytest.raises(SpecError, match="unknown column 'raduis'; allowed: radius, area, texture, age, pulse"):
        asked({"name": "occlusion", "groups": {"size": ["raduis"]}}).measure(ward)


def test_correlated_groups_read_training_records_and_never_those_of_a_private_recipe(ward: Subject, one: One) -> None:
    method = {"name": "permutation_shapley", "groups": "correlated"}
    found = asked(method).measure(ward)
    names = [row.conditions["group"] for row in rows_of(found, "group_value")]
    assert names == ["radius, area", "texture", "age", "pulse"]
    private = asked(method).measure(replace(ward, recipe=Recipe(privacy=Privacy(epsilon=1))))
    assert not rows_of(private, "group_value")
    row = one(private, "faithfulness", method="permutation_shapley")
    assert row.status == "not_applicable" and "name the groups instead" in row.warnings[0]


def test_global_explanations_speak_of_named_groups(ward: Subject, one: One) -> None:
    quick = GlobalExplanations(draws=50, pair_records=10, counterfactual_records=10, groups=GROUPS)  # type: ignore[arg-type]
    for model in (Together(), WithoutGradient(Together())):
        found = quick.measure(replace(ward, model=model))
        features = {row.conditions["feature"] for row in rows_of(found, "attribution_strength")}
        assert features == {"size", "skin", "others"}
        pairs = {(row.conditions["first"], row.conditions["second"]): row.value
                 for row in rows_of(found, "interaction_strength")}  # fmt: skip
        assert pairs["skin", "others"] > 0.1 and pairs["size", "skin"] < 1e-5
        assert one(found, "surrogate_fidelity").status == "measured"


def test_named_parts_of_images_have_attributions_and_interactions(make: Make, one: One) -> None:
    x = np.random.default_rng(0).normal(size=(24, 1, 4, 4))

    class Corners(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x[:, 0, 0, 0] * x[:, 0, 3, 3]
            return torch.stack([-score, score], dim=1)

    subject = make(Corners(), x, np.arange(24) % 2, train=np.arange(8), about={"modality": "image"})
    grid = [["upper left", "upper right"], ["lower left", "lower right"]]
    found = GlobalExplanations(draws=50, groups=grid).measure(subject)  # type: ignore[arg-type]
    pairs = {(row.conditions["first"], row.conditions["second"]): row.value
             for row in rows_of(found, "interaction_strength")}  # fmt: skip
    assert len(pairs) == 6 and max(pairs, key=pairs.__getitem__) == ("upper left", "lower right")
    assert one(found, "counterfactual_validity").reason == "other_kind_of_records"


def test_parts_are_described_as_a_reader_counts_them() -> None:
    parts: Any = {"left": [[0.0, 1.0], [0.0, 0.5]]}
    assert described(NamedGroups(parts), "left", (1, 28, 28)) == "rows 1 to 28, columns 1 to 14"
    waves: Any = {"qrs": [70, 110]}
    assert described(NamedGroups(waves), "qrs", (1, 252)) == "samples 71 to 110"
