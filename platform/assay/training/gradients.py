"""From the records of a batch to the sum of their gradients: augmentation, crafting, loss, weighting."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.objectives.base import Batch, Objective
from assay.privacy.precision import to_float64, wide_zeros
from assay.recipes import Recipe
from assay.seeds import Draw
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds
from assay.training.collective import Collective
from assay.training.masks import Masked
from assay.training.modes import eval_mode_except_rnn
from assay.training.overlap import OverlappedSums
from assay.training.pieces import Piece
from assay.training.update import Update


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Progress of a training before a step."""

    step: int
    """Number of the step, from 0."""
    progress: float
    """Share of all steps that are done, in [0, 1)."""
    rollbacks: int
    """Number of rollbacks to earlier weights so far; see ``Batch.rollbacks``."""


class BatchGradients:
    """Sums the gradients of one worker's share of a batch, piece by piece.

    A private recipe with ``noise: entropy`` draws everything (batches, noise, dropout, augmentation, crafted inputs)
    from a seed of the operating system that all workers share and nothing stores; a resumed trainer has another seed.

    Why this is private: random draws depend on a record's place in its batch, so adding a record shifts the draws of
    all records after it. Someone who knew the seed could see the clipped sum change by more than the clipping norm C.
    Without the seed, the draws of all records are independent and identically distributed. So the two batches may be
    compared under draws in which every other record keeps its own. For each outcome of the draws, a record then changes
    the sum by at most C, and a mixture of such mechanisms is as private as each of them.

    Args:
        model: the network that is trained.
        recipe: its objective, treatments that augment or weigh, and privacy.
        bounds: valid inputs, for objectives that perturb them.
        seed: of crafted inputs, augmentation and dropout.
        collective: the workers that share every batch.
        teacher: the network that the stage before trained; put in evaluation mode.
        task: gives the loss of each record.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        bounds: Bounds,
        seed: int,
        collective: Collective,
        teacher: nn.Module | None = None,
        task: Task = CLASSIFICATION,
    ) -> None:
        self.objective, self.bounds = recipe.objective, bounds
        self._crafts = type(self.objective).craft is not Objective.craft
        self._weighing = [treatment for treatment in recipe.data if treatment.weighs]
        self._augmentations = [treatment for treatment in recipe.data if treatment.augments]
        self._copies = 1 if recipe.privacy is None else recipe.privacy.augmentations
        self._drawn_anew = recipe.privacy is not None and recipe.privacy.noise == "entropy"
        self._private = recipe.privacy is not None
        self._model, self._seed, self._collective = model, seed, collective
        self._task = task
        self._teacher = None if teacher is None else teacher.eval().requires_grad_(False)

    def sums(
        self,
        pieces: Sequence[Piece],
        fed: Iterator[tuple[Tensor, Tensor]],
        *,
        total: int,
        update: Update,
        moment: Moment,
        overlapped: OverlappedSums | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Returns the sum of this worker's gradients, clipped where training is private, and its losses.

        All workers call it at the same time, with or without records: some losses are weighted by those of all workers.

        Args:
            pieces: this worker's records, by their places in the batch.
            fed: gives the records of one piece after the other.
            total: records of the batch, over all workers.
            update: clips the gradients where it is private.
            moment: of the step.
            overlapped: sums the gradients over all workers while they are computed; never where training is private.

        Returns:
            One tensor a parameter, of its shape, summed over all workers if ``overlapped``; and the sum and the number
            of this worker's losses, (2,) float64.
        """
        gradients: list[Tensor] = []
        seen: list[Tensor] = []
        for place, piece in enumerate(pieces):
            losses = self._losses(*next(fed), piece, total=total, place=place, update=update, moment=moment)
            seen.append(losses.detach())
            if self._weighing:
                losses = losses * self._weights(seen[-1], piece.rows[0], total=total)
            if overlapped is not None and place == len(pieces) - 1:
                return overlapped.backward(losses.sum(), gradients), _summed(seen)
            piece_gradients = update.gradients(losses)
            gradients = (
                [a + b for a, b in zip(gradients, piece_gradients, strict=True)] if gradients else piece_gradients
            )
        if seen:
            return gradients, _summed(seen)
        zeros = wide_zeros if self._private else torch.zeros_like
        gradients = [zeros(p) for p in self._model.parameters() if p.requires_grad]
        none = to_float64(gradients[0].new_zeros(2))
        if self._weighing:
            # The other workers wait for this worker's part of the batch's losses, which is empty.
            self._weights(gradients[0].new_zeros(0), np.arange(0), total=total)
        return (gradients if overlapped is None else overlapped.backward(None, gradients)), none

    def _losses(
        self, x: Tensor, y: Tensor, piece: Piece, *, total: int, place: int, update: Update, moment: Moment
    ) -> Tensor:
        """Returns one loss for each record, or patient, (n,): the mean over its rows where it has several.

        Rows of the network are ordered in blocks: the first row of every unit, then the second of every unit, and so
        on; see ``privacy.clipping``.

        Args:
            x: (slots · n, ...) rows of the piece.
            y: (slots · n,) their labels.
            piece: their places in the batch of ``total`` records.
            place: number of the piece. Dropout is drawn for each piece, everything else for the whole batch.
        """
        purpose = ("layers", moment.step, self._collective.rank, *((place,) if place else ()))
        seeds.seed_layers(seeds.torch_seed(self._seed, *purpose))
        if self._copies > 1:
            x, y = torch.cat([x] * self._copies), torch.cat([y] * self._copies)
        rows = np.concatenate([copy * total + piece.rows.ravel() for copy in range(self._copies)])
        drawn = x
        for number, augmentation in enumerate(self._augmentations):
            x = augmentation.augment(x, self._draw("augment", number, step=moment.step, total=total, rows=rows))
        if self._augmentations and x.is_floating_point():
            x = self.bounds.confine(x, drawn)
        batch = Batch(
            x=x,
            y=y,
            bounds=self.bounds,
            draw=self._draw("craft", step=moment.step, total=total, rows=rows),
            progress=moment.progress,
            teacher=self._teacher,
            task=self._task,
            rollbacks=moment.rollbacks,
        )
        crafted = batch.x
        if self._crafts:
            with update.crafting(), eval_mode_except_rnn(self._model):
                crafted = self.objective.craft(self._model, batch)
        with Masked(seeds.stream(self._seed, *purpose)) if self._drawn_anew else nullcontext():
            losses = self.objective.losses(self._model, batch, crafted)
        return piece.averaged(losses, self._copies)

    def _weights(self, losses: Tensor, rows: np.ndarray, *, total: int) -> Tensor:
        """Returns the weights of this worker's losses, (n,), which depend on the losses of the whole batch.

        Args:
            losses: (n,) of this worker's records.
            rows: (n,) their places in the batch of ``total`` records.
        """
        places = torch.from_numpy(rows).to(losses.device)
        (whole,) = self._collective.sum([losses.new_zeros(total).index_copy(0, places, losses)])
        weights = torch.ones_like(whole)
        for treatment in self._weighing:
            weights = weights * treatment.weigh(whole)
        return weights[places]

    def _draw(self, *purpose: str | int, step: int, total: int, rows: np.ndarray) -> Draw:
        """Returns random numbers for rows of all copies of a batch of ``total`` records."""
        return Draw(seeds.stream_when_used(self._seed, *purpose, step), total=self._copies * total, rows=rows)


def _summed(losses: Sequence[Tensor]) -> Tensor:
    """Returns the sum and the number of the losses of all pieces, (2,)."""
    joined = to_float64(torch.cat(list(losses)))
    return torch.stack([joined.sum(), joined.new_full((), len(joined))])
