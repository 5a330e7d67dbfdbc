"""Records that the page offers: test records where they may be shown, and the record that explanations compare with."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.data.base import Dataset
from assay.study.finished import Finished
from serve.model import ServedModel

MOST = 6
"""Greatest number of test records that are offered."""
_OPEN = re.compile(r"(CC BY( \d(\.\d)?)?|CC0( 1\.0)?|ODC-By( 1\.0)?|none needed|made up|drawn by Assay)")
"""Licences under which anyone may be shown records. Those for research, without commercial use, and unknown ones are
none of them."""
_SEARCHED = 200
"""Test records among which those that are offered are chosen."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One record that the page offers."""

    title: str
    record: Any
    """As a request has it: named values of a table, nested lists, or a text."""


def samples_of(model: ServedModel, *, public: bool) -> tuple[list[Sample], str]:
    """Returns the records that may be shown.

    Args:
        model: that is asked.
        public: whether others may open the page.

    Returns:
        The samples, and why there are no test records among them; empty if there are.
    """
    neutral = [] if model.reads_text else [_neutral(model)]
    why = why_not_shown(model.finished, public=public)
    if why:
        return neutral, why
    rows = _chosen(model.finished)
    samples = [_sample(model, row) for row in rows.tolist()]
    return [*samples, *neutral], "" if samples else "every test record is a copy of a training record"


def why_not_shown(finished: Finished, *, public: bool) -> str:
    """Returns why no test records may be shown.

    Args:
        finished: the served trial.
        public: whether others may open the page.

    Returns:
        The reason; empty where they may be.
    """
    licence = finished.dataset.licence
    if public:
        return "the model is served to others, to whom no records are shown"
    if finished.private:
        return "the model was trained privately, and no records of its data set are shown"
    if not _OPEN.fullmatch(licence.strip()):
        return f"the licence of the data set ({licence}) does not let anyone be shown its records"
    return ""


def _chosen(finished: Finished) -> np.ndarray:
    """Returns the positions of the first test records of each class, without copies of training records."""
    dataset, split = finished.dataset, finished.split
    rows = split.test[:_SEARCHED]
    if isinstance(dataset.x, np.ndarray):
        fingerprints = dataset.fingerprints
        rows = rows[~np.isin(fingerprints.of(rows), fingerprints.of(split.train))]
    by_class = [rows[dataset.y[rows] == k] for k in range(dataset.classes)]
    places = sorted((place, k) for k, own in enumerate(by_class) for place in range(len(own)))
    return np.array([by_class[k][place] for place, k in places[:MOST]], int)


def _sample(model: ServedModel, row: int) -> Sample:
    dataset = model.dataset
    truth = dataset.class_names[int(dataset.y[row])]
    record = _text(dataset, row) if model.reads_text else _record(model, np.asarray(dataset.x[row : row + 1])[0])
    return Sample(title=f"test record {row}, in truth {truth}", record=record)


def _neutral(model: ServedModel) -> Sample:
    title = f"neutral record, with which explanations compare: {model.compared_with}"
    return Sample(title=title, record=_record(model, model.neutral))


def _record(model: ServedModel, inputs: np.ndarray) -> Any:
    columns = model.reader.columns
    return inputs if columns is None else columns.record(inputs)


def _text(dataset: Dataset, row: int) -> str:
    written = dataset.x if dataset.written is None else dataset.written
    return " ".join(dataset.words[word] for word in np.asarray(written[row]).tolist() if word)
