"""Groups with names: what they hold, that values add up within them, and the mistakes that are refused."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from assay.data.base import Modality
from assay.errors import SpecError
from assay.explain.base import Explainer, ExplanationError
from assay.explain.groups import by_group, grouped
from assay.explain.methods.kernel_shap import KernelShap
from assay.explain.methods.lime import Lime
from assay.explain.methods.occlusion import Occlusion
from assay.explain.methods.permutation import PermutationShapley
from assay.explain.methods.shapley import ExactShapley
from assay.explain.named_groups import Groups, NamedGroups, correlated_columns, named_after_columns, named_places, told
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.registry import build
from tests.mistakes import refused

COLUMNS = ("radius", "area", "texture", "pain", "pain", "age")
NAMED = {"size": ("radius", "area"), "pain": ("pain",)}
METHODS: list[type[Explainer]] = [ExactShapley, PermutationShapley, KernelShap, Lime, Occlusion]


def groups(given: Any) -> Groups:
    read: Groups = TypeAdapter(Groups).validate_python(given)
    return read


def places(given: Any, shape: tuple[int, ...], modality: Modality) -> tuple[list[Any], tuple[str, ...]]:
    named = groups(given)
    assert isinstance(named, NamedGroups)
    place, names = named_places(named, shape, modality, COLUMNS[: shape[0]] if modality == "tabular" else ())
    return place.tolist(), names


def reference(background: Tensor, correlated: tuple[tuple[str, ...], ...] | None = None) -> Reference:
    return Reference(modality="tabular", background=background, source="a test", columns=COLUMNS, correlated=correlated)


class Products(nn.Module):
    """Log-odds with a product across groups and one within a group."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0] * x[:, 1] + x[:, 0] * x[:, 2] + 2 * x[:, 3] - x[:, 4] * x[:, 5]
        return torch.stack([-score / 2, score / 2], dim=1)


X = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 1, 0, 1])
BACKGROUND = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_columns_that_are_in_no_group_are_others_and_a_category_stays_together() -> None:
    assert places(NAMED, (6,), "tabular") == ([0, 0, 2, 1, 1, 2], ("size", "pain", "others"))
    everything = {"all": list(dict.fromkeys(COLUMNS))}
    assert places(everything, (6,), "tabular") == ([0] * 6, ("all",)), "nothing is left for others"


def test_rectangles_are_fractions_of_rows_and_columns_in_every_channel() -> None:
    found, names = places({"left": [[0, 1], [0, 0.5]], "corner": [[0, 0.25], [0.75, 1]]}, (2, 4, 4), "image")
    assert names == ("left", "corner", "others")
    one = [[0, 0, 2, 1], [0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]]
    assert found == [one, one]


@pytest.mark.parametrize("side", [4, 7, 28])
def test_a_grid_of_names_covers_the_image_once(side: int) -> None:
    found, names = places([["upper left", "upper right"], ["lower left", "lower right"]], (1, side, side), "image")
    assert names == ("upper left", "upper right", "lower left", "lower right")
    place = np.array(found)[0]
    half = round(side / 2)
    assert (place[:half, half:] == 1).all() and (place[half:, :half] == 2).all()
    assert np.bincount(place.ravel()).tolist() == [
        half**2,
        half * (side - half),
        half * (side - half),
        (side - half) ** 2,
    ]


def test_windows_of_a_signal_are_samples_in_every_lead() -> None:
    found, names = places({"qrs": [2, 5]}, (2, 8), "signal")
    assert names == ("qrs", "others")
    assert found == [[1, 1, 0, 0, 0, 1, 1, 1]] * 2


def test_groups_are_the_same_after_json_and_can_be_a_key() -> None:
    method = build("explainer", {"name": "exact_shapley", "groups": NAMED})
    again = build("explainer", method.model_dump(mode="json"))
    assert again == method and hash(again) == hash(method)
    assert method.model_dump(mode="json")["groups"] == {"size": ["radius", "area"], "pain": ["pain"]}
    assert told(again.groups) == told(method.model_dump(mode="json")["groups"]) == "groups size, pain"  # type: ignore[attr-defined]
    assert told(8) == "groups 8"


@pytest.mark.parametrize("method", METHODS)
def test_named_groups_have_the_values_of_the_same_numbered_ones(method: type[Explainer]) -> None:
    """Two columns of one size, in the order in which numbers group them."""
    named = {"a": ["radius", "area"], "b": ["texture", "pain"], "c": ["age"]}
    columns = ("radius", "area", "texture", "pain", "age")
    x, known = X[:, :5], BACKGROUND[:, :5]

    class Five(Products):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.cat([x, x[:, :1]], dim=1))

    one = Reference(modality="tabular", background=known, source="a test", columns=columns)

    by_name = method(groups=named).explain(Five(), x, TARGET, one)  # type: ignore[call-arg]
    by_number = method(groups=3).explain(Five(), x, TARGET, one)  # type: ignore[call-arg]
    assert torch.allclose(by_name.values, by_number.values, atol=1e-12)


def test_exact_values_and_interactions_of_named_groups_are_those_of_brute_force() -> None:
    model, ref = Products(), reference(BACKGROUND)
    method = ExactShapley(groups=NAMED)  # type: ignore[arg-type]
    place = grouped(X, ref, method.groups)
    found = by_group(method.explain(model, X, TARGET, ref).values, place, 3)
    pairs = method.interactions(model, X, TARGET, ref)

    def answer(present: set[int]) -> Tensor:
        shown = torch.tensor([int(one) in present for one in place[0]])
        return log_odds(model(torch.where(shown, X, BACKGROUND.mean(0))), TARGET)

    for group in range(3):
        others = [one for one in range(3) if one != group]
        total = torch.zeros(5, dtype=torch.float64)
        for size, weight in ((0, 1 / 3), (1, 1 / 6), (2, 1 / 3)):
            for some in combinations(others, size):
                total += weight * (answer({*some, group}) - answer(set(some)))
        assert torch.allclose(found[:, group], total)
    for one, other in combinations(range(3), 2):
        (left,) = {0, 1, 2} - {one, other}
        whole = sum(
            (answer({one, other, *some}) - answer({one, *some}) - answer({other, *some}) + answer({*some})) / 2
            for some in ((), (left,))
        )
        assert torch.allclose(pairs[:, one, other], whole) and torch.equal(pairs, pairs.transpose(1, 2))
    assert set(method.group_names(ref, (6,))) == {"size", "pain", "others"}


def test_columns_that_go_together_are_found_with_either_sign() -> None:
    draw = np.random.default_rng(0)
    size, other = draw.normal(size=(2, 300))
    x = np.stack([size, 2 - size + 0.1 * draw.normal(size=300), other, size, -size, draw.normal(size=300)], axis=1)
    # The two inputs of pain are one category, which is left as it is.
    assert correlated_columns(x, COLUMNS) == (("radius", "area"), ("texture",), ("pain",), ("age",))
    named = named_after_columns((("a", "b", "c", "d"), ("e", "f"), ("g",)))
    assert named.names == ("a and 3 more", "e, f", "g")


def test_any_two_columns_of_a_found_group_are_correlated() -> None:
    draw = np.random.default_rng(1)
    steps = draw.normal(size=(200, 12)).cumsum(1)  # neighbours go together, the ends do not
    columns = tuple(f"c{place}" for place in range(12))
    found = correlated_columns(steps, columns)
    assert sorted(name for group in found for name in group) == sorted(columns) and len(found) > 1
    r = np.abs(np.corrcoef(steps.T))
    for group in found:
        places = [columns.index(name) for name in group]
        assert r[np.ix_(places, places)].min() >= 0.9 - 1e-9
    assert max(map(len, found)) > 1


def test_a_column_of_one_value_and_few_records_stand_alone() -> None:
    x = np.ones((50, 6))
    x[:, 0] = x[:, 1] = np.arange(50)
    assert correlated_columns(x, COLUMNS) == (("radius", "area"), ("texture",), ("pain",), ("age",))
    assert len(correlated_columns(x[:1], COLUMNS)) == 5


def test_correlated_groups_are_those_of_the_reference_or_none() -> None:
    known = (("radius", "area"), ("texture",), ("pain",), ("age",))
    found = grouped(X, reference(BACKGROUND, known), "correlated")
    assert found[0].tolist() == [0, 0, 1, 2, 2, 3]
    with pytest.raises(ExplanationError, match="name the groups instead"):
        grouped(X, reference(BACKGROUND), "correlated")


def test_a_number_of_groups_leaves_a_category_together() -> None:
    assert grouped(X, reference(BACKGROUND), 5)[0].tolist() == [0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no group is named"),
        ({"others": ["age"]}, "'others' is the name of what is in no group"),
        ({"size": []}, "group 'size' is empty"),
        ({"size": ["radius"], "other": ["area", "radius"]}, "'radius' is in two groups, 'size' and 'other'"),
        ({"size": ["radius"], "qrs": [1, 2]}, "of different kinds"),
        ({"left": [[0, 1], [0.5, 0.5]]}, "reaches from 0.5 to 0.5"),
        ({"left": [[0, 2], [0, 0.5]]}, "0 ≤ start < end ≤ 1"),
        ({"qrs": [5, 2]}, "reaches from 5 to 2"),
        ({"qrs": [1.5, 4]}, "whole samples"),
        ([["a", "b"], ["c", "a"]], "two cells 'a'"),
        ("clusters", "says no groups"),
        (2.5, "says no groups"),
        (True, "says no groups"),
        ({"a": "age"}, r"group 'a' is 'age': give .*names of columns, as \{size: .*; for one column, \[age\]"),
        ({"a": 3}, r"group 'a' is 3: give .*as \{qrs: \[70, 110\]\}"),
        ({"a": [1, 2, 3]}, r"group 'a' is \[1, 2, 3\]: give .*as \{left: "),
        ({"a": None}, r"group 'a' is None: give "),
        ({"a": [True, False]}, r"group 'a' is \[True, False\]: give "),
        ({"a": [["b"], 1]}, "group 'a' is .*: give "),
        ({"": ["age"]}, "'' is no name of a group: give a text"),
        ({3: ["age"]}, "3 is no name of a group"),
        ({"a": ["age", " "]}, "empty name of a column"),
        ([["a", ["b"]]], r"cell \['b'\] of the grid is no name: give rows of names"),
        ([[0, 1], [0, 0.5]], r"cell 0 of the grid is no name.* as \{left: \[\[0, 1\], \[0, 0.5\]\]\}"),
        ([["a", "b"], ["c"]], "rows of the grid have 2, 1 cells: give rows of names, all of one length"),
        ([[], []], "have 0, 0 cells"),
        (["a", "b"], "'a' is no row of a grid"),
        ([["a", ""]], "'' is no name of a group"),
    ],
)
def test_mistakes_of_the_setting_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        groups(given)
    assert caught.value.error_count() == 1, "one message, and none of the types that a setting could have"


@pytest.mark.parametrize(
    ("given", "shape", "modality", "said"),
    [
        (
            {"left": [[0, 1], [0, 0.5]], "top": [[0, 0.5], [0, 1]]},
            (1, 4, 4),
            "image",
            "'left' and 'top' overlap.*: end one",
        ),
        ({"a": [0, 3], "b": [2, 5]}, (1, 8), "signal", "'a' and 'b' overlap.*: end one"),
        ({"qrs": [3, 9]}, (1, 8), "signal", "ends at sample 9; a record has 8"),
        ({"thin": [[0, 0.01], [0, 1]]}, (1, 4, 4), "image", r"'thin', .*0\.01.*, holds no entry .*: make it wider"),
        ({"size": ["radius"]}, (1, 4, 4), "image", "rows and columns as fractions"),
        ({"qrs": [0, 2]}, (6,), "tabular", "names of columns"),
        ({"size": ["radius"]}, (3, 2), "text", "words of a text are groups already"),
    ],
)
def test_groups_that_do_not_fit_the_records_are_refused(
    given: Any, shape: tuple[int, ...], modality: Modality, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        places(given, shape, modality)


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with refused(SpecError, "groups", "raduis", ["radius", "area", "texture", "pain", "age"]):
        places({"size": ["raduis"]}, (6,), "tabular")


def test_all_unknown_columns_of_all_groups_are_named_at_once() -> None:
    with pytest.raises(SpecError, match=r"unknown columns 'raduis', 'aera', 'agee'; known: radius, area"):
        places({"size": ["raduis", "aera"], "other": ["agee", "pain"]}, (6,), "tabular")


def test_more_groups_than_a_method_takes_are_refused() -> None:
    with pytest.raises(SpecError, match="15 groups: give 1 to 14"):
        build("explainer", {"name": "exact_shapley", "groups": 15})
    with pytest.raises(SpecError, match="0 groups: give 1 or more"):
        build("explainer", {"name": "lime", "groups": 0})
    columns = tuple(f"c{place}" for place in range(15))
    ref = Reference(modality="tabular", background=torch.zeros(1, 15), source="", columns=columns)
    method = ExactShapley(groups={name: [name] for name in columns[:14]})  # type: ignore[arg-type]
    with pytest.raises(ExplanationError, match="takes 14 groups, and there are 15"):
        method.explain(nn.Linear(15, 2), torch.zeros(2, 15), torch.tensor([0, 1]), ref)


def test_groups_after_columns_drop_none_whatever_columns_are_called() -> None:
    clusters = (("others",), ("a", "b"), ("a, b",), ("c", "d", "e", "f"), ("c and 3 more",), ("others (column)",))
    named = named_after_columns(clusters)
    assert tuple(named.root.values()) == clusters
    assert named.names[:3] == ("others (column)", "a, b", "a, b (2)")
