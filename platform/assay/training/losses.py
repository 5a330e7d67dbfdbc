"""How the records of a batch become losses: drawn afresh, changed by the objective, answered by the network."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.objectives.base import Batch
from assay.recipes import Recipe
from assay.seeds import Draw
from assay.threats import Bounds
from assay.training.collective import Collective
from assay.training.masks import Masked
from assay.training.modes import answering
from assay.training.pieces import Piece


class Losses:
    """The losses of one worker's records, piece by piece, and how much each of them counts.

    A private recipe with ``noise: entropy`` draws everything (batches, noise, dropout, augmentation, crafted inputs)
    from a seed of the operating system that all workers share and nothing stores; a resumed trainer has another. Draws
    go by the place of a record in its batch, so a record that is added shifts those of all behind it, and whoever knew
    the seed would see the clipped sum move by far more than the clipping norm C. To anyone else the draws of records
    are independent and alike wherever they stand, and may be coupled: every other record keeps its own. For each
    outcome of the draws a record then moves the sum by at most C, and a mixture of such mechanisms is as private as
    they are.

    Args:
        model: the network that is trained.
        recipe: its objective, treatments that augment or weigh, and privacy.
        bounds: valid inputs, for objectives that perturb them.
        seed: of crafted inputs, augmentation and dropout.
        collective: the workers that share every batch.
        teacher: the network that the stage before trained; put in evaluation mode.
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
    ) -> None:
        self.objective, self.bounds = recipe.objective, bounds
        self.weighing = [treatment for treatment in recipe.data if treatment.weighs]
        """Treatments that say how much each loss counts; see ``weights``."""
        self._augmentations = [treatment for treatment in recipe.data if treatment.augments]
        self._copies = 1 if recipe.privacy is None else recipe.privacy.augmentations
        self._drawn_anew = recipe.privacy is not None and recipe.privacy.noise == "entropy"
        self._model, self._seed, self._collective = model, seed, collective
        self._teacher = None if teacher is None else teacher.eval().requires_grad_(False)

    def of_piece(
        self,
        x: Tensor,
        y: Tensor,
        piece: Piece,
        *,
        step: int,
        total: int,
        place: int,
        progress: float,
        rollbacks: int,
        crafting: Callable[[], AbstractContextManager[None]],
    ) -> Tensor:
        """Returns one loss a record, or patient, (n,): the mean over its rows where it has several.

        Rows of the network are one of each, then another of each: see ``privacy.clipping``.

        Args:
            x: (slots · n, ...) the rows of the piece, as ``y``, (slots · n,).
            piece: where they stand within the batch of ``total`` records.
            step: number of the step, from 0.
            total: records of the batch, over all workers.
            place: number of the piece. Layers draw for each piece, all else for the whole batch.
            progress: share of all steps that are done.
            rollbacks: see ``Batch.rollbacks``.
            crafting: surrounds what runs the model outside the loss; see ``Update.crafting``.
        """
        purpose = ("layers", step, self._collective.rank, *((place,) if place else ()))
        seeds.seed_layers(seeds.torch_seed(self._seed, *purpose))
        if self._copies > 1:
            x, y = torch.cat([x] * self._copies), torch.cat([y] * self._copies)
        rows = np.concatenate([copy * total + piece.rows.ravel() for copy in range(self._copies)])
        drawn = x
        for number, augmentation in enumerate(self._augmentations):
            x = augmentation.augment(x, self._draw("augment", number, step=step, total=total, rows=rows))
        if self._augmentations and x.is_floating_point():
            x = self.bounds.confine(x, drawn)
        batch = Batch(
            x=x,
            y=y,
            bounds=self.bounds,
            draw=self._draw("craft", step=step, total=total, rows=rows),
            progress=progress,
            teacher=self._teacher,
            rollbacks=rollbacks,
        )
        with crafting(), answering(self._model):
            crafted = self.objective.craft(self._model, batch)
        with Masked(seeds.stream(self._seed, *purpose)) if self._drawn_anew else nullcontext():
            losses = self.objective.losses(self._model, batch, crafted)
        return piece.averaged(losses, self._copies)

    def weights(self, losses: Tensor, rows: np.ndarray, *, total: int) -> Tensor:
        """Returns how much each of this worker's losses counts, (n,), by those of the whole batch.

        All workers call it at the same time, with or without records.

        Args:
            losses: (n,) of this worker's records.
            rows: (n,) their places in the batch.
            total: records of the batch, over all workers.
        """
        places = torch.from_numpy(rows).to(losses.device)
        (whole,) = self._collective.sum([losses.new_zeros(total).index_copy(0, places, losses)])
        weights = torch.ones_like(whole)
        for treatment in self.weighing:
            weights = weights * treatment.weigh(whole)
        return weights[places]

    def _draw(self, *purpose: str | int, step: int, total: int, rows: np.ndarray) -> Draw:
        """Random numbers for rows of all copies of a batch of ``total`` records."""
        return Draw(seeds.stream(self._seed, *purpose, step), total=self._copies * total, rows=rows)
