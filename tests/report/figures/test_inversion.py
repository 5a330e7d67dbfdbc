"""What updates tell is drawn by recipe and condition; pictures only of records that everybody may publish."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.data.base import Dataset
from assay.data.images.digits import Digits
from assay.evaluations.inversion_pictures import encoded
from assay.report.figures.inversion import identified, in_words, pictures
from assay.report.lines import everything
from assay.report.scorecard import Scorecard
from assay.report.sections.inversion import InversionSection
from assay.results import Measurement, row_of
from tests.report.views import view_of

CONDITIONS: dict[str, Any] = {
    "weights": "fresh",
    "update": "step",
    "records": 1,
    "privacy": "none",
    "privacy_epsilon": None,
    "actual": True,
    "compression": "none",
    "candidates": 50,
    "chance": 0.02,
    "labels": "inferred",
}
PRIVATE = {**CONDITIONS, "privacy": "hypothetical", "privacy_epsilon": 1.0, "actual": False}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits().load()


@pytest.fixture
def view(card: Scorecard, digits: Dataset) -> Callable[..., Any]:
    def make(dataset: Dataset = digits) -> Any:
        rows = []
        for fold in range(3):
            for about, value in ((CONDITIONS, 1.0), (PRIVATE, 0.02)):
                for name in ("inversion_identified", "inversion_by_candidates", "inversion_mean_record"):
                    rows.append((fold, Measurement(name=name, value=value, n=40, low=0.0, high=1.0, conditions=about)))
                shown = {
                    "originals": encoded(digits, list(digits.x[:2])),
                    "reconstructions": encoded(digits, list(value * digits.x[:2])),
                }
                rows.append((fold, Measurement(name="inversion_pictures", value=2, n=2, conditions={**about, **shown})))
        frame = pd.DataFrame(
            [{"trial": f"t{fold}", "recipe": "fed", "fold": fold, "repeat": 0, **row_of(one)} for fold, one in rows]
        )
        return replace(view_of(card, frame), dataset=dataset)

    return make


def test_each_condition_is_a_line_with_its_attackers(view: Callable[..., Any]) -> None:
    figure = identified(view())
    assert figure is not None
    assert [trace.name for trace in figure.data] == ["reconstruction", "gradient of each candidate", "mean record"]
    first = figure.data[0]
    assert list(first.x) == pytest.approx([1.0, 0.02])
    assert list(first.y) == [
        "fed: fresh weights, gradient of 1 record, no privacy",
        "fed: fresh weights, gradient of 1 record, hypothetical ε = 1",
    ]


def test_pictures_stand_below_the_records(view: Callable[..., Any], digits: Dataset) -> None:
    figure = pictures(view())
    assert figure is not None
    assert len(figure.layout.yaxis.ticktext) == 3
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(figure.data[0].source.partition(",")[2]))))
    zoom = 96 // 8
    small = image[::zoom, ::zoom, 0]
    expected = np.rint(255 * digits.x[:2, 0]).astype(np.uint8)
    assert np.array_equal(small[:8, :8], expected[0])
    assert np.array_equal(small[10:18, 10:18], expected[1])
    assert np.array_equal(small[20:28, :8], np.rint(0.02 * 255 * digits.x[0, 0]).astype(np.uint8))


@pytest.mark.parametrize("licence", ["unknown", "research use"])
def test_patients_are_not_shown(view: Callable[..., Any], digits: Dataset, licence: str) -> None:
    private = view(replace(digits, licence=licence))
    assert pictures(private) is None
    content = InversionSection().build(private)
    assert content is not None
    assert content.tables["public"] is False


def test_without_a_measurement_there_is_no_section(card: Scorecard, view: Callable[..., Any]) -> None:
    nothing = view()
    assert InversionSection().build(replace(nothing, frame=nothing.frame[:0])) is None


def test_pictures_are_not_written_out_among_all_measurements(view: Callable[..., Any], card: Scorecard) -> None:
    made = view()
    lines = everything(made.frame.assign(kind="measurement"), card.recipes, card.design)
    assert len({line.conditions for line in lines}) == 2
    assert not any("bytes" in line.conditions for line in lines)


def test_conditions_are_told_in_words() -> None:
    private = {**CONDITIONS, "update": "round", "records": 216, "privacy": "recipe", "privacy_epsilon": 8.0}
    assert in_words({**private, "labels": "known"}) == "fresh weights, round of 216 records, ε = 8, labels known"
    assert in_words({**CONDITIONS, "compression": "top_k"}) == "fresh weights, gradient of 1 record, no privacy, top_k"
