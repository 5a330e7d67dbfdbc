"""Example records with their maps, for readers; only of data sets whose licence lets everybody publish records."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.data.base import Dataset
from assay.data.text.embeddings import sentences_at
from assay.evaluations.inversion_pictures import LARGEST, encoded, may_be_shown
from assay.evaluations.licences import is_public
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.results import Measurement

_GREAT = 0.99
"""Share of the values of a method that are smaller in size than its great value, where that is not 0."""
_OTHERS_IN_LOG_ODDS = frozenset({"occlusion", "input_times_gradient", "lime", "lrp"})
"""Methods whose values need not add up, yet are parts of the log-odds."""
LOG_ODDS, OWN_UNIT = "log-odds", "unit of the method"


def may_stand_in_a_report(dataset: Dataset) -> bool:
    """Returns whether records of a data set may be shown with their maps.

    Args:
        dataset: the data.

    Returns:
        True where everybody may publish records; of images, those of one or three channels.
    """
    return may_be_shown(dataset) if dataset.modality == "image" else is_public(dataset)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A few test records of one model, half of them answered right and half of them wrong where there are so many."""

    dataset: Dataset
    rows: np.ndarray
    """(k,) positions in the data set."""
    right: np.ndarray
    """(k,) bool."""
    records: MeasuredRecords
    """The same records."""

    def finding(
        self,
        explainer: Explainer,
        about: Mapping[str, Any],
        values: Tensor,
        measured: Tensor,
        groups: Mapping[str, Any] | None = None,
    ) -> Measurement:
        """Returns the row that keeps the maps of a method.

        Args:
            explainer: the method.
            about: conditions: the method with its settings.
            values: (k, ...) by feature, of the examples.
            measured: (n, ...) by feature, of the measured records: they determine what is a great value.
            groups: names, values and interactions of named groups, where the method has some.

        Returns:
            A row whose value is the number of records. ``examples`` among its conditions holds the records, answers and
            maps.
        """
        in_log_odds = explainer.adds_up or explainer.name in _OTHERS_IN_LOG_ODDS
        sizes = measured.abs().flatten().double().cpu().numpy()
        great = float(np.quantile(sizes, _GREAT)) or float(sizes.max())
        names = self.dataset.class_names
        shown: dict[str, Any] = {
            "rows": self.rows.tolist(),
            "predicted": [names[int(one)] for one in self.records.target],
            "true": [names[int(one)] for one in self.dataset.y[self.rows]],
            "right": self.right.tolist(),
            "unit": LOG_ODDS if in_log_odds else OWN_UNIT,
            "great": great,
            "great_of": len(measured),
            "title": explainer.title,
            "records": _shown_records(self.dataset, self.rows),
            "maps": kept(_thinned(values.double().cpu().numpy(), self.dataset.modality)),
        }
        if groups:
            shown["groups"] = dict(groups)
        conditions = {**about, "examples": shown}
        return Measurement(
            name="explanation_examples",
            value=len(self.rows),
            n=len(self.rows),
            unit="records",
            conditions=conditions,
        )


def examples_of(subject: Subject, rows: np.ndarray, records: MeasuredRecords, count: int) -> Examples | None:
    """Chooses examples: in one order for all recipes, so that these mostly show the same records.

    Args:
        subject: the model with its data.
        rows: (n,) positions that may be chosen.
        records: others of the same model, whose background and seed are used.
        count: of examples; half of them are answered wrong, where there are so many.

    Returns:
        The examples; None where there are none, or where not everybody may publish these records.
    """
    dataset = subject.dataset
    readable = dataset.modality != "text" or (dataset.language is not None and dataset.written is not None)
    if not count or not len(rows) or not readable or not may_stand_in_a_report(dataset):
        return None
    order = seeds.stream(subject.seed, "explanation examples").permutation(rows)
    right = subject.right(order)
    wrong = min(count // 2, int((~right).sum()))
    chosen = np.concatenate([order[right][: count - wrong], order[~right][:wrong]])
    with torch.no_grad():
        target = subject.decisions(torch.from_numpy(subject.logits(chosen)))
    return Examples(
        dataset=dataset,
        rows=chosen,
        right=subject.right(chosen),
        records=replace(records, x=subject.records(chosen)[0], target=target.to(records.target)),
    )


def kept(values: np.ndarray) -> dict[str, Any]:
    """Returns numbers as text, for the conditions of a measurement.

    Args:
        values: numbers of any shape.

    Returns:
        ``shape``, ``unit`` and ``bytes``: multiples of ``unit`` as 16-bit integers in base64.
    """
    unit = max(float(np.abs(values).max(initial=0.0)), np.finfo(np.float64).tiny) / 32767
    whole = np.rint(values / unit).astype("<i2")
    return {"shape": list(whole.shape), "unit": unit, "bytes": base64.b64encode(whole.tobytes()).decode()}


def restored(stored: Mapping[str, Any]) -> np.ndarray:
    """Returns the numbers that ``kept`` turned to text.

    Args:
        stored: ``shape``, ``unit`` and ``bytes``.

    Returns:
        The numbers, float64.
    """
    whole = np.frombuffer(base64.b64decode(stored["bytes"]), "<i2").reshape(stored["shape"])
    found: np.ndarray = whole * float(stored["unit"])
    return found


def _shown_records(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    """Returns what a reader sees of records: pictures, samples, values in their own units, or words."""
    if dataset.modality == "image":
        return encoded(dataset, list(dataset.x[rows]))
    if dataset.modality == "text":
        assert dataset.language is not None
        return {"words": [dataset.language.pieces(sentence) for sentence in sentences_at(dataset, rows)]}
    x = np.asarray(dataset.x[rows], np.float64)
    if dataset.features and x.ndim == 2:
        x = np.array([one.center for one in dataset.features]) + x * np.array([one.scale for one in dataset.features])
    # A prepared table knows the columns' own units.
    return {"values": x.tolist(), "in_own_units": bool(dataset.features)} if x.ndim == 2 else kept(x)


def _thinned(values: np.ndarray, modality: str) -> np.ndarray:
    """Returns maps as wide as the pictures that are kept: the mean of the pixels that one stands for."""
    if modality == "text":
        return values[..., 0]
    if modality != "image":
        return values
    step = -(-max(values.shape[-2:]) // LARGEST)
    height, width = (-(-side // step) for side in values.shape[-2:])
    whole = np.full((len(values), height * step, width * step), np.nan)
    whole[:, : values.shape[-2], : values.shape[-1]] = values[:, 0]
    found: np.ndarray = np.nanmean(whole.reshape(len(values), height, step, width, step), axis=(2, 4))
    return found
