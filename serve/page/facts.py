"""What the page must know of a model to ask it, and to show its answer."""

from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.data.features import Feature
from assay.report.figures.explanation_scale import colours
from serve.page.samples import samples_of
from serve.repository.online import Online

_STEPS = 41
"""Colours of the scale."""


def facts_of(online: Online, versions: list[str], *, public: bool) -> dict[str, Any]:
    """Returns what the page must know of a model.

    Args:
        online: the version that is asked.
        versions: all loaded versions of the model.
        public: whether others may open the page.

    Returns:
        Plain values and arrays.
    """
    model, dataset = online.model, online.model.dataset
    samples, why_not = samples_of(model, public=public)
    private = model.finished.private
    return {
        **online.origin,
        "versions": versions,
        "about": online.card.intended_use,
        "recipe": online.card.artefact,
        "modality": dataset.modality,
        "shape": list(dataset.shape),
        "units": dataset.units,
        "class_names": list(dataset.class_names),
        "ends": [] if dataset.modality in ("tabular", "text") else _ends(dataset),
        "fields": fields_of(dataset, None if private else model.finished.split.train),
        "range_is": "valid" if private else "training",
        "samples": [{"title": one.title, "record": one.record} for one in samples],
        "why_no_test_records": why_not,
        "scale": colours(_STEPS),
    }


def fields_of(dataset: Dataset, train: np.ndarray | None) -> list[dict[str, Any]]:
    """Returns the fields of the form of a table, one an input, in the units of its columns.

    Args:
        dataset: as the model takes it.
        train: positions of the training records, whose range is stated; None for that of valid inputs.

    Returns:
        Name, kind, unit, range, and the value and the change that 0 and 1 of the input stand for; empty for other
        records.
    """
    if dataset.modality != "tabular" or len(dataset.shape) != 1:
        return []
    features = dataset.features or tuple(
        Feature(name=name, column=name, kind="number", unit=dataset.units)
        for name in dataset.feature_names or [f"input {place + 1}" for place in range(dataset.shape[0])]
    )
    low, high = (np.broadcast_to(end, dataset.shape).astype(float) for end in (dataset.low, dataset.high))
    if train is not None:
        records = np.asarray(dataset.x[train], float)
        low, high = records.min(0), records.max(0)
    return [_field(feature, float(low[place]), float(high[place])) for place, feature in enumerate(features)]


def _field(feature: Feature, low: float, high: float) -> dict[str, Any]:
    values = sorted(feature.center + feature.scale * end for end in (low, high))
    # What rounding leaves of 0 is 0.
    ends = [0.0 if abs(value) < 1e-6 * abs(feature.scale) else value for value in values]
    return {
        "name": feature.name,
        "kind": feature.kind,
        "unit": feature.unit,
        "center": feature.center,
        "scale": feature.scale,
        "low": ends[0],
        "high": ends[1],
    }


def _ends(dataset: Dataset) -> list[list[float]]:
    """Returns the least and the greatest valid value of each channel."""
    low, high = (np.broadcast_to(end, dataset.shape).astype(float) for end in (dataset.low, dataset.high))
    return [[float(low[k].min()), float(high[k].max())] for k in range(dataset.shape[0])]
