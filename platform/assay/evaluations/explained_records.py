"""The records that an evaluation of explanations explains, and what they are compared with."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.evaluations.base import Subject
from assay.explain.references import Reference
from assay.models.batches import respond

_MOST_AVERAGED = 2000
"""Records whose mean replaces a missing feature."""


@dataclass(frozen=True, kw_only=True)
class ExplainedRecords:
    """Some test records with the predicted classes, and the replacement of missing features."""

    subject: Subject
    rows: np.ndarray
    """(n,) positions in the data set."""
    x: Tensor
    """(n, ...) records."""
    target: Tensor
    """(n,) the predicted class, which is explained."""
    replacement: Tensor
    """(n, ...) the records without any feature."""
    replaced_by: str
    """Description of the replacement."""
    features: Tensor | None
    """(n, ...) which features are real, as ``Reference.by_feature`` shapes them; None where all are."""
    ties: Tensor
    """(n, ...) random numbers: the order of features with equal scores, and the random map of the comparison."""

    @classmethod
    def of(cls, subject: Subject, rows: np.ndarray) -> "ExplainedRecords":
        """Prepares records.

        Args:
            subject: the model with its data.
            rows: (n,) positions.

        Returns:
            The records.
        """
        x, _ = subject.records(rows)
        reference = averaged(subject)
        replacement, replaced_by = reference.replacement(x)
        noise = seeds.Draw(seeds.stream(subject.seed, "random map"), total=len(x))
        return cls(
            subject=subject,
            rows=rows,
            x=x,
            target=subject.decisions(respond(subject.model, x)),
            replacement=replacement,
            replaced_by=replaced_by,
            features=reference.present(x),
            ties=noise.uniform(reference.by_feature(x)),
        )


def averaged(subject: Subject) -> Reference:
    """Returns the reference whose baseline is the mean of the training split, or of the given records without one.

    Args:
        subject: the model with its data.

    Returns:
        The reference; its background is one record, the mean of up to 2,000.
    """
    held, whose = _held(subject)
    if subject.dataset.modality == "text":
        return _without_words(subject)
    some = subject.chosen(held, _MOST_AVERAGED)
    source = whose if len(some) == len(held) else f"{len(some)} of the {whose}"
    known = subject.records(some)[0]
    return Reference(
        modality=subject.dataset.modality,
        background=known.mean(0, keepdim=True),
        source=source,
        spread=known.amax(0, keepdim=True) - known.amin(0, keepdim=True),
    )


def sampled(subject: Subject, size: int) -> Reference:
    """Returns the reference of methods that take background records: a random sample of the training split.

    Args:
        subject: the model with its data.
        size: number of records.

    Returns:
        The reference.
    """
    held, whose = _held(subject)
    chosen = np.sort(seeds.stream(subject.seed, "background").permutation(held)[:size])
    source = f"{len(chosen)} of the {whose}"
    return Reference(modality=subject.dataset.modality, background=subject.records(chosen)[0], source=source)


def _without_words(subject: Subject) -> Reference:
    rows = _held(subject)[0][:1]
    return Reference(
        modality="text", background=torch.zeros_like(subject.records(rows)[0]), source="words without a meaning"
    )


def _held(subject: Subject) -> tuple[np.ndarray, str]:
    """Returns records for averages and backgrounds, and their description."""
    rows = subject.split
    return (rows.train, "training records") if len(rows.train) else (rows.test, "given records")
