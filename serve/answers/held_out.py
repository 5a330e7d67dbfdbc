"""Rules of answers that held-out records calibrate: probabilities, prediction sets, abstention, unfamiliar records."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from assay import seeds
from assay.data.base import Dataset
from assay.evaluations.conformal import SetKind, quantile
from assay.evaluations.out_of_distribution import SCORES
from assay.evaluations.selective import Selective, guaranteed_threshold
from assay.evaluations.subject import Subject
from assay.tasks.class_scores import softmax

ALPHA = 0.1
"""Share of records whose prediction set may miss the true class."""
ABSTENTION = Selective()
"""The evaluation whose rule of abstention is used: its risk, and the confidence of its bound."""
UNFAMILIAR = 0.01
"""Share of the held-out records that count as unfamiliar."""
METHOD: SetKind = "LAC"
"""Score of the prediction sets."""
_FEWEST = 20
"""Held-out records below which nothing is calibrated."""
_SCORE = "energy"


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Rules that were chosen on records which the model was neither trained nor tested on."""

    source: str
    """The records: their split and number; or why there are none."""
    temperature: float = 1.0
    """Divides the logits, so that probabilities agree with frequencies of the held-out records (Guo et al. 2017,
    arXiv:1706.04599)."""
    set_threshold: float | None = None
    """Greatest LAC score of a class in the prediction set at ``ALPHA``; None where nothing could be calibrated."""
    least_certainty: float | None = None
    """Least certainty at which the model answers, in log-odds; infinite if it never does."""
    greatest_score: float | None = None
    """Greatest out-of-distribution score of a familiar record."""
    sites: frozenset[str] = frozenset()
    """Hospitals of the held-out records, in lower case as ``str.casefold`` gives them; empty where none is known."""

    @property
    def calibrated(self) -> bool:
        """Whether there were enough held-out records."""
        return self.set_threshold is not None


def calibrate(subject: Subject) -> HeldOut:
    """Chooses the rules of a model on its held-out records.

    Args:
        subject: the model with its data.

    Returns:
        The rules; without them where there are too few held-out records, or the model answers NaN to one.
    """
    rows, whose = subject.held_out
    if not len(rows):
        return HeldOut(source=f"none: {subject.why_none_held_out}")
    rows = subject.distinct(rows)
    source = f"{len(rows)} records of the {whose} split"
    if len(rows) < _FEWEST:
        return HeldOut(source=f"none: {source} are fewer than {_FEWEST}")
    logits, y = subject.logits(rows), subject.dataset.y[rows]
    if not np.isfinite(logits).all():
        return HeldOut(source=f"none: the model gives no finite answer to {source}")
    task = subject.task
    scores = task.conformal_scores(logits, METHOD, seeds.stream(subject.seed, "conformal", "calibration"))
    threshold = guaranteed_threshold(
        task.certainty(logits),
        subject.wrong(logits, y),
        ABSTENTION.coverages,
        risk=ABSTENTION.risk,
        confidence=ABSTENTION.confidence,
    )
    return HeldOut(
        source=source,
        temperature=_temperature(logits, y),
        set_threshold=quantile(scores[np.arange(len(y)), y], ALPHA),
        least_certainty=math.inf if threshold is None else threshold,
        greatest_score=float(np.quantile(SCORES[_SCORE](task, logits), 1 - UNFAMILIAR)),
        sites=_sites(subject.dataset, rows),
    )


def out_of_distribution(subject: Subject, logits: np.ndarray) -> np.ndarray:
    """Returns the out-of-distribution score of records, (n,); greater is less familiar.

    Args:
        subject: the model.
        logits: (n, classes) of the records.
    """
    return np.asarray(SCORES[_SCORE](subject.task, logits))


def _sites(dataset: Dataset, rows: np.ndarray) -> frozenset[str]:
    """Returns the hospitals of some records: of each where they are known, else those that the intended use states."""
    stated = () if dataset.intended_use is None else dataset.intended_use.sites
    names = stated if dataset.site is None else [str(site) for site in np.unique(dataset.site[rows])]
    return frozenset(name.strip().casefold() for name in names if name.strip())


def _temperature(logits: np.ndarray, y: np.ndarray) -> float:
    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature))[np.arange(len(y)), y]
        return float(-np.log(np.maximum(probabilities, 1e-300)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
