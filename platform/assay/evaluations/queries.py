"""Confidence of a model in records that its recipe augments."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.evaluations.pool import confidence
from assay.evaluations.subject import Subject
from assay.seeds import Draw


def asked(subject: Subject, rows: np.ndarray, *, queries: int) -> np.ndarray:
    """Returns the mean confidence over a record itself and its augmented versions; all models share the draws.

    Args:
        subject: the trained model with its data.
        rows: (n,) positions of the records.
        queries: versions of each record, including the record itself.

    Returns:
        (n,) confidence.
    """
    confidences = [confidence(subject, rows)]
    for query in range(1, queries if subject.augmentations else 1):
        answers = subject.answers(_augmented(subject, rows, query))
        confidences.append(subject.task.fits(answers, subject.dataset.y[rows]))
    return np.asarray(np.mean(confidences, 0))


def _augmented(subject: Subject, rows: np.ndarray, query: int) -> Iterator[np.ndarray]:
    """Returns the records after one more augmentation, in batches that the model can take."""
    start = 0
    for piece in subject.pieces(rows):
        drawn: Tensor = torch.from_numpy(subject.dataset.x[piece])
        own = np.arange(start, start + len(piece))
        start += len(piece)
        x = drawn
        for number, augmentation in enumerate(subject.augmentations):
            generator = seeds.stream(subject.seed, "query", query, number)
            x = augmentation.augment(x, Draw(generator, total=len(rows), rows=own))
        yield (subject.dataset.bounds.confine(x, drawn) if x.is_floating_point() else x).numpy()
