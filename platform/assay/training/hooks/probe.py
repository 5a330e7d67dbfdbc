"""Probe: accuracy of a model during training on fixed records under an attack, measured by all workers together."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.objectives.base import Batch
from assay.seeds import Draw
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds
from assay.training.collective import Collective
from assay.training.feed import Feed

ProbeAttack = Callable[[nn.Module, Batch], Tensor]
"""Returns perturbed records, (n, ...), of a batch, on which the model is evaluated."""


class Probe:
    """Measures accuracy on the same records, with the same random numbers, at each call.

    Args:
        feed: delivers the records.
        y: (n,) labels of all records of the feed.
        rows: (m,) positions of the records that are measured.
        bounds: valid inputs, for attacks.
        seed: of the random numbers.
        at_once: records that are attacked together, at most.
        collective: the workers, each of which attacks a share of the records.
        task: decides which predictions are right.
    """

    def __init__(
        self,
        feed: Feed,
        y: Tensor,
        rows: np.ndarray,
        *,
        bounds: Bounds,
        seed: int,
        at_once: int,
        collective: Collective,
        task: Task = CLASSIFICATION,
    ) -> None:
        self._feed, self._rows, self._bounds, self._seed = feed, rows, bounds, seed
        self._collective, self._task = collective, task
        self._counts = torch.bincount(y.cpu()[rows]).double()
        places = np.arange(collective.rank, len(rows), collective.size)
        self._shares = [places[start : start + at_once] for start in range(0, len(places), at_once)]

    def __len__(self) -> int:
        return len(self._rows)

    def accuracy(self, model: nn.Module, attack: ProbeAttack) -> float:
        """Returns the fraction of records that the model predicts correctly; leaves it in evaluation mode.

        Args:
            model: gives logits, (n, classes).
            attack: perturbs the records first.

        Returns:
            The accuracy.
        """
        return float(self._hits(model, attack).sum() / self._counts.sum())

    def balanced_accuracy(self, model: nn.Module, attack: ProbeAttack, *, rollbacks: int = 0) -> float:
        """Returns the mean over classes of ``accuracy``; a constant prediction scores 1/classes.

        Args:
            model: gives logits, (n, classes).
            attack: perturbs the records first.
            rollbacks: passed to the attack as ``Batch.rollbacks``.

        Returns:
            The balanced accuracy, in [0, 1].
        """
        present = self._counts > 0
        return float((self._hits(model, attack, rollbacks)[present] / self._counts[present]).mean())

    def _hits(self, model: nn.Module, attack: ProbeAttack, rollbacks: int = 0) -> Tensor:
        """Returns the number of correct predictions in each class, (classes,), as integers."""
        model.eval()
        hits = torch.zeros_like(self._counts)
        fed = self._feed.follow([self._rows[share] for share in self._shares])
        for share, (x, y) in zip(self._shares, fed, strict=True):
            batch = Batch(
                x=x,
                y=y,
                bounds=self._bounds,
                draw=Draw(seeds.stream(self._seed, "probe"), total=len(self._rows), rows=share),
                task=self._task,
                rollbacks=rollbacks,
            )
            attacked = attack(model, batch)
            with torch.no_grad():
                right = ~self._task.wrong(model(attacked), y)
            hits += torch.bincount(y[right].cpu(), minlength=len(hits))
        (total,) = self._collective.sum([hits.to(self._feed.device)])
        return total.cpu()


def balanced_sample(y: np.ndarray, most: int, *, generator: np.random.Generator) -> np.ndarray:
    """Returns the positions of a class-balanced sample of records, in increasing order.

    Args:
        y: (n,) labels.
        most: greatest number of records.
        generator: chooses among the records of a class.

    Returns:
        Positions, with equally many of each class as far as there are enough.
    """
    order = generator.permutation(len(y))
    rank = np.empty(len(y), np.int64)
    for label in np.unique(y):
        members = order[y[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(np.argsort(rank, kind="stable")[:most])
