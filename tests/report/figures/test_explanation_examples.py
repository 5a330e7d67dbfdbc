"""Example maps are drawn on one scale, and only where everybody may publish records."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.data.base import Dataset
from assay.data.images.digits import Digits
from assay.evaluations.explanation_examples import kept
from assay.evaluations.inversion_pictures import encoded
from assay.registry import build
from assay.report.figures.explanation_examples import by_method, by_recipes, in_log_odds, in_other_units
from assay.report.figures.explanation_scale import colour_of, scale
from assay.report.scorecard import Scorecard
from assay.report.sections.explanations import ExplanationsSection
from assay.report.tables.explained_texts import text_galleries
from assay.results import Measurement, row_of
from tests.report.views import view_of

ANSWERS: dict[str, Any] = {
    "rows": [4, 9],
    "predicted": ["benign", "benign"],
    "true": ["benign", "malignant"],
    "right": [True, False],
    "great_of": 20,
}
LOG_ODDS = ("integrated_gradients", "deep_shap")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits().load()


@pytest.fixture
def view(card: Scorecard, digits: Dataset) -> Callable[..., Any]:
    """Maps of three methods: the greatest values are 1, 0 and 8, and the great ones are 0.5, 0.5 and 4."""

    def make(dataset: Dataset = digits, records: Any = None, shape: tuple[int, ...] = (8, 8)) -> Any:
        shown = encoded(digits, list(digits.x[:2])) if records is None else records
        rows = []
        for recipe in ("standard", "private"):
            for method, most, great in (
                ("integrated_gradients", 1.0, 0.5),
                ("deep_shap", 0.0, 0.5),
                ("saliency", 8.0, 4.0),
            ):
                maps = np.zeros((2, *shape))
                maps.reshape(2, -1)[0, 0], maps.reshape(2, -1)[0, 1] = most, -most
                unit = "log-odds" if method in LOG_ODDS else "unit of the method"
                about = {**ANSWERS, "unit": unit, "great": great, "records": shown, "maps": kept(maps)}
                of_method = {"method": method, "reference": "zeros"}
                for fold in range(2):
                    row = Measurement(
                        name="explanation_examples", value=2, n=2, conditions={**of_method, "examples": about}
                    )
                    place = Measurement(name="faithfulness", value=0.5, n=20, conditions=of_method)
                    told = {"trial": f"{recipe}{fold}", "recipe": recipe, "fold": fold, "repeat": 0}
                    rows += [{**told, **row_of(row)}, {**told, **row_of(place)}]
        return replace(view_of(card, pd.DataFrame(rows)), dataset=dataset)

    return make


def test_all_methods_and_records_of_a_figure_have_one_scale_and_an_empty_map_is_empty(view: Callable[..., Any]) -> None:
    figure = in_log_odds(view())
    assert figure is not None
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(maps) == 4
    assert {trace.coloraxis for trace in maps} == {"coloraxis"}
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-0.5, 0.5)
    assert maps[0].z[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert maps[0].z[0, 1] == pytest.approx(-1.0, abs=1e-4)
    assert not maps[1].z.any() and not maps[2].z.any()
    titles = [one.text for one in figure.layout.annotations]
    assert titles == [
        "predicted benign<br>true benign: right",
        "predicted benign<br>true malignant: WRONG",
    ]
    assert len(figure.layout.images) == 4


def test_other_units_are_shares_of_one_number_of_the_method(view: Callable[..., Any]) -> None:
    figure = in_other_units(view())
    assert figure is not None
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(maps) == 2
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    assert maps[0].z[0, 0] == pytest.approx(2.0, abs=1e-3)


def test_recipes_stand_below_each_other_on_the_scale_of_the_first(view: Callable[..., Any]) -> None:
    figure = by_recipes(view())
    assert figure is not None
    assert len([trace for trace in figure.data if trace.type == "heatmap"]) == 4
    assert figure.layout.coloraxis.cmax == 0.5


def test_the_scale_diverges_evenly_from_nothing() -> None:
    stops = [(place, *map(float, colour[5:-1].split(","))) for place, colour in scale()]
    assert stops[len(stops) // 2][4] == 0
    alphas = [stop[4] for stop in stops]
    assert alphas == pytest.approx(alphas[::-1], abs=2e-3)
    assert np.all(np.diff(alphas[len(alphas) // 2 :]) > 0)
    red, blue = stops[-1], stops[0]
    assert red[1] > red[3] and blue[3] > blue[1]
    assert colour_of(0.0) == "rgb(255,255,255)"
    assert colour_of(7.0) == colour_of(1.0) != colour_of(-1.0)


def test_a_signal_is_drawn_before_its_shading(view: Callable[..., Any], digits: Dataset) -> None:
    signal = replace(
        digits, x=np.asarray(digits.x).reshape(-1, 1, 64), modality="signal", low=np.zeros(1), high=np.ones(1)
    )
    figure = in_log_odds(view(signal, kept(signal.x[:2].astype(np.float64)), (1, 64)))
    assert figure is not None
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(lines) == 4
    np.testing.assert_allclose(lines[0].y, signal.x[0, 0], atol=1e-3)
    assert {line.line.color for line in lines} == {"black"}
    assert lines[0].customdata[0, 1] == pytest.approx(1.0, abs=1e-4)


def test_features_have_names_values_and_signed_bars(view: Callable[..., Any]) -> None:
    wdbc: Dataset = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    figure = in_log_odds(view(wdbc, {"values": wdbc.x[:2].tolist()}, (30,)))
    assert figure is not None
    first = figure.data[0]
    assert first.type == "bar"
    at = dict(zip(first.y, first.x, strict=True))
    assert at[f"{wdbc.feature_names[0]} = {wdbc.x[0, 0]:.4g}"] == pytest.approx(1.0, abs=1e-4)
    assert at[f"{wdbc.feature_names[1]} = {wdbc.x[0, 1]:.4g}"] == pytest.approx(-1.0, abs=1e-4)
    ends = {tuple(axis.range) for axis in figure.select_xaxes()}
    assert len(ends) == 1


def test_words_are_readable_without_colour(view: Callable[..., Any], digits: Dataset) -> None:
    text = replace(digits, modality="text", licence="drawn by Assay")
    (first, second) = text_galleries(view(text, {"words": [["good", "bad", "film"], ["so", "so", "film"]]}, (3,)))
    assert first.unit == "log-odds a word"
    words = first.texts[0].words
    assert [(word.text, word.strong) for word in words] == [("good", "+"), ("bad", "−"), ("film", "")]
    assert words[0].value == pytest.approx(1.0, abs=1e-4)
    assert second.unit == "share of a great value of the method"


@pytest.mark.parametrize("licence", ["unknown", "research use"])
def test_records_that_not_everybody_may_publish_are_not_shown(
    view: Callable[..., Any], digits: Dataset, licence: str
) -> None:
    private = view(replace(digits, licence=licence))
    assert by_method(private, log_odds=True) is None
    assert [draw(private) for draw in (in_log_odds, in_other_units, by_recipes)] == [None] * 3
    content = ExplanationsSection().build(private)
    assert content is not None
    assert content.tables["public"] is False and content.tables["texts"] == ()
