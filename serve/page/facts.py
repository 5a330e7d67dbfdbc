"""What the page must know of a model to ask it, and to show its answer."""

from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.report.figures.explanation_scale import colours
from serve.inputs.intended_use import criteria_of
from serve.inputs.read import Reader
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
    ranges = model.reader.ranges
    return {
        **online.origin,
        "versions": versions,
        "about": online.card.intended_use,
        "criteria": [*criteria_of(dataset.intended_use), *_site(online)],
        "trained_as": online.card.artefact,
        "modality": dataset.modality,
        "shape": list(dataset.shape),
        "units": dataset.units,
        "ends": [] if dataset.modality in ("tabular", "text") else _ends(dataset),
        "files": dataset.modality == "image" and dataset.decoder is not None,
        "columns": columns_of(model.reader),
        "inputs": list(dataset.feature_names) if dataset.modality == "tabular" else [],
        "range_is": "training" if ranges is not None and ranges.known else "valid",
        "samples": [{"title": one.title, "record": one.record} for one in samples],
        "why_no_test_records": why_not,
        "scale": colours(_STEPS),
    }


def _site(online: Online) -> list[dict[str, Any]]:
    """Returns the hospital as a fact to ask for, where that decides whether the coverage of a set is promised.

    The names of hospitals that only the records tell are not shown.
    """
    if not online.held_out.sites:
        return []
    use = online.model.dataset.intended_use
    published = list(use.sites) if use is not None and online.model.dataset.site is None else []
    return [{"name": "site", "allowed": "a hospital of the data set", "values": published}]


def columns_of(reader: Reader) -> list[dict[str, Any]]:
    """Returns the columns of a table, with the ranges of numbers and the inputs of the model that each becomes.

    Args:
        reader: of the model.

    Returns:
        What a caller must know of each column; empty for other records.
    """
    named, ranges = reader.columns, reader.ranges
    if named is None or ranges is None:
        return []
    ends = [named.record(end) for end in (ranges.low, ranges.high)]
    return [
        {**about, "inputs": places, "range": _range(*(end[about["name"]] for end in ends))}
        for about, places in zip(named.describe(), named.places, strict=True)
    ]


def _range(*ends: float | str) -> list[float]:
    """Returns the range of a number; empty for a category."""
    numbers = sorted(float(end) for end in ends if not isinstance(end, str))
    widest = max((abs(end) for end in numbers), default=0.0)
    # What rounding leaves of 0 is 0.
    return [0.0 if abs(end) < 1e-6 * widest else end for end in numbers]


def _ends(dataset: Dataset) -> list[list[float]]:
    """Returns the least and the greatest valid value of each channel."""
    low, high = (np.broadcast_to(end, dataset.shape).astype(float) for end in (dataset.low, dataset.high))
    return [[float(low[k].min()), float(high[k].max())] for k in range(dataset.shape[0])]
