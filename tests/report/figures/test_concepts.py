"""Concepts stand beside random ones, filled where they count, and the words say no more than the test."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from assay.report.figures.concepts import concept_scores
from assay.report.rendering import template_environment
from assay.report.scorecard import Scorecard
from assay.report.sections.concepts import ConceptsSection
from assay.report.tables.concepts import concept_rows, layers, planted_rows, unmeasured_concepts
from assay.report.view import View
from assay.results import Measurement, not_applicable, row_of
from tests.report.views import view_of

PS = {"marker": (0.01, 0.02, 0.04), "blur <5>": (0.01, 0.3, 0.9), "border": (0.01, 0.01, 0.01)}
SCORES = {"marker": 1.0, "blur <5>": 0.9, "border": 0.1}


def measurements(fold: int) -> Iterator[Measurement]:
    about = {"layer": "network.4", "linear_behind": fold == 9, "class": "ill"}
    for concept, ps in PS.items():
        conditions = {
            **about,
            "concept": concept,
            "means": f"images with a {concept}",
            "p": ps[fold],
            "effect": SCORES[concept] - 0.5,
            "p_holm": ps[fold],
            "random_low": 0.1 * fold,
            "random_high": 0.9,
        }
        value = SCORES[concept]
        low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
        yield Measurement(name="concept_score", value=value, low=low, high=high, n=30 - fold, conditions=conditions)
    yield Measurement(name="random_concept_score", value=0.5, low=0.4, high=0.6, n=100, conditions=about)
    for concept, change in (("marker", 0.25), ("fog", -0.75)):
        about = {"concept": concept, "means": f"images with a {concept}", "class": "ill"}
        yield Measurement(
            name="concept_change", value=change, low=change - 0.1, high=change + 0.1, n=30, conditions=about
        )
    yield not_applicable("concept_score", "3 texts hold it", reason="too_few_records", concept="negation")


@pytest.fixture
def view(card: Scorecard) -> Callable[..., View]:
    def make(keep: Callable[[str], bool] = lambda name: True) -> View:
        rows = [
            {"trial": f"{recipe}{fold}", "recipe": recipe, "fold": fold, "repeat": 0, **row_of(one)}
            for recipe in card.recipes
            for fold in range(3)
            for one in measurements(fold)
            if keep(one.name)
        ]
        rows.append({"trial": "t", "recipe": "standard", "fold": 0, "repeat": 0, **row_of(ACCURACY)})
        return view_of(card, pd.DataFrame(rows))

    return make


ACCURACY = Measurement(name="accuracy", value=0.9, low=0.8, high=1.0, n=30)


def test_a_concept_counts_by_its_middle_p_and_its_score_gives_the_direction(view: Callable[..., View]) -> None:
    rows = {one.concept: one for one in concept_rows(view()) if one.recipe == "standard"}
    assert list(rows) == list(PS)
    assert rows["marker"].verdict == "speaks for ill" and rows["border"].verdict == "speaks against ill"
    assert rows["blur <5>"].verdict == "not shown to matter"
    assert (rows["marker"].runs, rows["blur <5>"].runs, rows["marker"].of) == (3, 1, 3)
    assert rows["marker"].random == pytest.approx((0.1, 0.9))
    assert rows["marker"].n == 28 and rows["marker"].score.mean == 1.0


def test_points_are_filled_where_they_count_over_a_band_of_random_concepts(view: Callable[..., View]) -> None:
    figure = concept_scores(view())
    assert figure is not None
    assert [trace.name for trace in figure.data] == ["standard", "private", "fed"]
    assert list(figure.data[0].x) == pytest.approx([1.0, 0.9, 0.1])
    assert list(figure.data[0].marker.symbol) == ["circle", "circle-open", "circle"]
    assert "blur &lt;5>" in figure.layout.yaxis.ticktext
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert len(bands) == 9
    assert all((shape.x0, shape.x1) == pytest.approx((0.1, 0.9)) for shape in bands)
    heights = [y for trace in figure.data for y in trace.y]
    assert len(set(heights)) == 9, "no recipe hides another"


def rendered(view: View) -> str:
    section = ConceptsSection()
    content = section.build(view)
    assert content is not None
    figures: dict[str, Any] = {name: "FIGURE" for name, figure in content.figures.items() if figure is not None}
    template = template_environment(section.folder).get_template("concepts.html.j2")
    return template.render(card=view.card, dataset=view.dataset, c="made", figures=figures, **content.tables)


def test_the_page_says_how_to_read_it_and_what_was_not_measured(view: Callable[..., View]) -> None:
    page = rendered(view())
    assert '<h2 id="made-concepts">' in page and page.count("FIGURE") == 1
    assert "95 % of 100 <b>random</b> concepts" in page
    assert "<td>+0.5</td>" in page and "<td>-0.4</td>" in page
    assert "images with a blur &lt;5&gt;" in page and "blur <5>" not in page
    assert "<li>negation (standard, private, fed): 3 texts hold it</li>" in page
    assert "standard, private, fed: layer network.4." in page


def test_the_change_by_planting_stands_beside_a_score_and_alone_where_there_is_none(view: Callable[..., View]) -> None:
    rows = {one.concept: one for one in concept_rows(view()) if one.recipe == "standard"}
    assert (rows["marker"].planted, rows["border"].planted) == (0.25, None)
    assert {(one.concept, one.change.mean) for one in planted_rows(view())} == {("marker", 0.25), ("fog", -0.75)}
    page = rendered(view())
    assert "<td>+0.5</td><td>+0.25</td>" in page and "<td>-0.4</td><td>–</td>" in page
    alone = page.split("Concepts without a score")[1]
    assert "fog" in alone and "-0.75" in alone.replace("−", "-") and "marker" not in alone.split("</table>")[0]


def test_a_layer_with_a_linear_network_behind_it_is_named_so(view: Callable[..., View]) -> None:
    made = view()
    turned = [{**about, "linear_behind": True} for about in made.frame["conditions"]]
    assert list(layers(replace(made, frame=made.frame.assign(conditions=turned)))) == [
        "network.4, behind which the network is linear"
    ]


def test_what_was_not_measured_makes_a_section_and_nothing_makes_none(view: Callable[..., View]) -> None:
    made = view()
    missing = replace(made, frame=made.frame[(made.frame["status"] != "measured").to_numpy()])
    assert [one.concept for one in unmeasured_concepts(missing)] == ["negation"]
    assert "FIGURE" not in rendered(missing)
    assert ConceptsSection().build(view(keep=lambda name: False)) is None
    assert concept_scores(view(keep=lambda name: False)) is None
