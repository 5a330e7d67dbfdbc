"""Global explanations stand by recipe and class, apart from local ones, and show no patient."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from assay.report.figures.curves import summary
from assay.report.figures.global_explanations import attributions, interactions
from assay.report.rendering import template_environment
from assay.report.scorecard import Scorecard
from assay.report.sections.global_explanations import GlobalExplanationsSection
from assay.report.tables.global_explanations import (
    counterfactuals,
    differing,
    examples,
    glass_boxes,
    number_text,
    numerical_errors,
    surrogates,
)
from assay.report.view import View
from assay.results import Measurement, not_applicable, row_of
from assay.statistics import Summary
from tests.report.views import view_of

CLASSES = ("well", "ill")
WHERE = {"method": "integrated_gradients", "baseline": "mean of the training records"}
CHANGE = {"feature": "glucose", "unit": "mmol/l", "before": 7.1, "after": 5.2}


def found(name: str, value: float, **conditions: Any) -> Measurement:
    return Measurement(name=name, value=value, low=value - 0.1, high=value + 0.1, n=20, conditions=conditions)


def measurements(recipe: str, fold: int) -> Iterator[Measurement]:
    for number, feature in enumerate(("glucose", "age <60>")):
        for place, name in enumerate(CLASSES):
            about = {**WHERE, "feature": feature, "class": name}
            off = 0.001 * (1 + fold)
            yield found("attribution_strength", 2.0 - number + place / 4 + fold / 10, **about, numerical_error=off)
            yield found("attribution_direction", (-1) ** place * 0.5, **about)
        yield found(
            "attribution_contrast",
            0.3 - number,
            **WHERE,
            **{"feature": feature, "class": "ill", "p_holm": 0.01 + number},
        )
    yield found("attribution_sum_error", 0.01, **WHERE)
    yield found("attribution_value_error", 0.02, **WHERE)
    yield found("interaction_strength", 0.5 + fold / 5, first="age <60>", second="glucose", direction=0.1)
    tree = {"learnt_on": "training records", "depth": 3}
    yield found("surrogate_fidelity", 0.9, **tree, rules={"lines": [f"if glucose ≤ {5 + fold}:", "  answer well"]})
    yield found("surrogate_baseline", 0.6, answer="well")
    yield found("surrogate_gain", 0.3, **tree)
    about = {"change": "any inputs", "ranges": "bounds of a valid input"}
    yield found("counterfactual_validity", 0.8, **about, not_found=4)
    yield found("counterfactual_distance", 1.5, **about)
    yield found("counterfactual_changes", 2.5, **about)
    shown = {"examples": [{"from": "ill", "to": "well", "distance": 1.0, "changes": [CHANGE]}]}
    yield found("counterfactual_examples", 1.0, **about, shown=shown)
    yield from glass_box(recipe)


def glass_box(recipe: str) -> Iterator[Measurement]:
    if recipe == "fed":
        yield not_applicable("glass_box_accuracy", "the library is not there", reason="not_installed")
        return
    about = {"machine": "DP-EBM" if recipe == "private" else "EBM"}
    yield found("accuracy", 0.9)
    yield found("glass_box_accuracy", 0.92, **about)
    yield found("glass_box_difference", -0.02, **about)
    yield found("glass_box_auroc", 0.95, **about)
    yield found("glass_box_auroc_difference", -0.01, **about)
    for place in range(7):
        yield found("glass_box_strength", 1.0 - place / 10, **about, feature=f"term {place}")
    if recipe == "private":
        yield Measurement(name="glass_box_epsilon", value=8.0, unit="epsilon", n=20, conditions=about)


@pytest.fixture
def view(card: Scorecard) -> Callable[..., View]:
    def make(licence: str = "CC BY 4.0", keep: Callable[[str], bool] = lambda name: True) -> View:
        rows = [
            {"trial": f"{recipe}{fold}", "recipe": recipe, "fold": fold, "repeat": 0, **row_of(one)}
            for recipe in card.recipes
            for fold in range(3)
            for one in measurements(recipe, fold)
            if keep(one.name)
        ]
        dataset: Any = SimpleNamespace(units="units", licence=licence)
        return replace(view_of(card, pd.DataFrame(rows)), dataset=dataset)

    return make


def test_each_recipe_has_its_bars_of_both_classes_the_strongest_feature_first(view: Callable[..., View]) -> None:
    figure = attributions(view())
    assert figure is not None
    assert len(figure.data) == 6
    well, ill = figure.data[:2]
    assert (well.name, ill.name) == ("predicted well", "predicted ill")
    assert list(well.y) == ["glucose", "age &lt;60>"]
    assert list(well.x) == pytest.approx([2.1, 1.1])
    assert list(ill.x) == pytest.approx([2.35, 1.35])
    assert list(ill.customdata) == pytest.approx([-0.5, -0.5])


def test_bars_have_the_interval_of_the_design_over_runs(view: Callable[..., View]) -> None:
    made = view()
    figure = attributions(made)
    assert figure is not None
    ends = summary(made.card, made.frame, "attribution_strength", "standard", feature="glucose", **{"class": "well"})
    assert ends is not None
    drawn = figure.data[0].error_x
    assert (drawn.array[0], drawn.arrayminus[0]) == pytest.approx((ends.high - ends.mean, ends.mean - ends.low))
    assert drawn.visible and drawn.array[0] > 0


def test_a_single_run_has_the_interval_over_its_records(view: Callable[..., View]) -> None:
    made = view()
    figure = attributions(replace(made, frame=made.frame[(made.frame["fold"] == 0).to_numpy()]))
    assert figure is not None
    assert list(figure.data[0].error_x.array) == pytest.approx([0.1, 0.1])


def test_numerical_errors_stand_apart_from_intervals(view: Callable[..., View]) -> None:
    made = view()
    first = numerical_errors(made)[0]
    assert first.greatest == 0.003
    assert first.of_sum is not None and first.of_value is not None
    assert (first.of_sum.mean, first.of_value.mean) == pytest.approx((0.01, 0.02))
    assert "<td>0.003</td>" in rendered(made)
    earlier = made.frame[[not name.endswith("_error") for name in made.frame["name"]]]
    assert numerical_errors(replace(made, frame=earlier)) == []


def test_many_classes_are_a_heat_map(view: Callable[..., View]) -> None:
    made = view()
    more = [
        made.frame.assign(
            conditions=[{**about, "class": f"{about.get('class')} {number}"} for about in made.frame["conditions"]]
        )
        for number in range(2)
    ]
    figure = attributions(replace(made, frame=pd.concat(more, ignore_index=True)))
    assert figure is not None
    assert {trace.type for trace in figure.data} == {"heatmap"}
    assert figure.data[0].z.shape == (2, 4)


def test_interactions_are_a_symmetric_matrix_of_means_without_a_diagonal(view: Callable[..., View]) -> None:
    figure = interactions(view())
    assert figure is not None and len(figure.data) == 3
    z = figure.data[0].z
    assert z[0, 1] == z[1, 0] == pytest.approx(0.7)
    assert pd.isna(z[0, 0]) and pd.isna(z[1, 1])


def test_only_differences_that_survive_the_correction_are_named(view: Callable[..., View]) -> None:
    assert [(one.recipe, one.feature, one.target) for one in differing(view())] == [
        (recipe, "glucose", "ill") for recipe in ("standard", "private", "fed")
    ]


def test_fidelity_stands_beside_that_of_one_answer_with_the_rules_of_the_first_run(view: Callable[..., View]) -> None:
    first = surrogates(view())[0]
    assert (first.fidelity.mean, first.baseline.mean, first.gain.mean) == pytest.approx((0.9, 0.6, 0.3))
    assert first.rules == "if glucose ≤ 5:\n  answer well"


def test_records_without_a_counterfactual_are_counted(view: Callable[..., View]) -> None:
    first = counterfactuals(view())[0]
    assert (first.validity.mean, first.not_found) == (pytest.approx(0.8), 12)


@pytest.mark.parametrize(("licence", "shown"), [("CC BY 4.0", 3), ("unknown", 0), ("research use", 0)])
def test_examples_are_shown_only_where_everybody_may_publish_records(
    view: Callable[..., View], licence: str, shown: int
) -> None:
    made = view(licence)
    assert len(examples(made)) == shown
    page = rendered(made)
    assert ("7.1 → 5.2" in page) == bool(shown)
    assert ("No example is shown" in page) == (not shown)


def rendered(view: View) -> str:
    section = GlobalExplanationsSection()
    content = section.build(view)
    assert content is not None
    template = template_environment(section.folder).get_template("global_explanations.html.j2")
    figures = {name: "FIGURE" for name, figure in content.figures.items() if figure is not None}
    return template.render(
        card=view.card, dataset=view.dataset, study=view.study, c="made", figures=figures, **content.tables
    )


def test_the_section_tells_global_explanations_from_local_ones(view: Callable[..., View]) -> None:
    page = rendered(view())
    assert '<h2 id="made-global-explanations">Global explanations' in page
    assert "<b>local</b> explanation is about the answer to one record" in page
    assert '<a href="#made-explanations">' in page
    assert "8" in page and "DP-EBM" in page
    assert "none: the library is not there" in page
    assert page.count("FIGURE") == 2


def test_the_glass_box_stands_beside_its_network(view: Callable[..., View]) -> None:
    standard, private, fed = glass_boxes(view())
    assert (standard.machine, private.machine, fed.machine) == ("EBM", "DP-EBM", "")
    assert standard.network is not None and standard.difference is not None
    assert standard.difference.mean == pytest.approx(-0.02)
    assert standard.terms == "term 0, term 1, term 2, term 3, term 4"
    assert (private.epsilon, fed.why) == (8.0, "the library is not there")


def test_the_glass_box_alone_makes_a_section_too(view: Callable[..., View]) -> None:
    page = rendered(view(keep=lambda name: name.startswith("glass_box")))
    assert "A rival that can be read" in page and "Features by predicted class" not in page


def test_without_a_measurement_there_is_no_section(view: Callable[..., View]) -> None:
    assert GlobalExplanationsSection().build(view(keep=lambda name: name == "accuracy")) is None


def test_words_stand_only_where_texts_may_be_published(card: Scorecard) -> None:
    word = found("word_attribution", 0.5, word="smith", **{"class": "ill"})
    rows = [{"trial": "t", "recipe": "standard", "fold": 0, "repeat": 0, **row_of(word)}]
    made = view_of(card, pd.DataFrame(rows))
    for licence, told in (("CC0", True), ("research use", False)):
        dataset: Any = SimpleNamespace(units="units", licence=licence)
        assert ("smith +0.5 (+0.4 to +0.6)" in rendered(replace(made, dataset=dataset))) == told


def test_numbers_are_written_with_their_sign_and_interval() -> None:
    one = Summary(mean=-0.021, low=-0.05, high=0.01, deviation=0.01, count=3, of=3)
    assert number_text(one, signed=True, percent=True) == "−2.1 points (−5.0 to +1.0)"
    assert number_text(replace(one, mean=0.5, low=0.4, high=0.6), percent=True) == "50.0 % (40.0 to 60.0)"
    assert number_text(replace(one, low=float("nan"), high=float("nan"))) == "−0.021"
    assert number_text(None) == "–"
