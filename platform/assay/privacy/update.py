"""The private update: Poisson sampling, clipping, noise, and an account of what it spends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.errors import UserError
from assay.privacy.accounting import Mechanism, planned, unsafe_delta
from assay.privacy.clipping import PerRecordGradients
from assay.recipes import Privacy


class PrivateUpdate:
    """How the training loop turns losses into a private gradient; see ``training.update.Update``.

    Every step samples each record independently with the same probability, divides by the *expected* batch size,
    and adds noise even when the batch is empty, as the accountants assume.

    Raises:
        UserError: δ is not below one in the number of records, or no noise reaches ε.
        IncompatibleRecipeError: a layer mixes the records of a batch.
    """

    def __init__(
        self, model: nn.Module, settings: Privacy, *, records: int, batch_size: int, steps: int, seed: int
    ) -> None:
        if unsafe := unsafe_delta(settings.delta, records):
            raise UserError(f"privacy.delta: {unsafe}; set it below {1 / records:g}")
        self._settings = settings
        self._records = records
        self._seed = seed
        self.planned = planned(settings, records=records, batch_size=batch_size, steps=steps)
        self._gradients = PerRecordGradients(model, clipping=settings.clipping)

    @property
    def notes(self) -> list[str]:
        """Which layers take the slow way, and why, a sentence each."""
        return self._gradients.notes

    def batch(self, step: int) -> np.ndarray:
        """Positions of the records of this step; possibly none."""
        return np.flatnonzero(seeds.stream(self._seed, "sample", step).random(self._records) < self.planned.sample_rate)

    @contextmanager
    def crafting(self) -> Iterator[None]:
        with self._gradients.paused():
            yield

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Clipped sum over the given records."""
        return self._gradients.clipped_sum(losses, self._settings.max_grad_norm)

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        """Noise added once to the sum over all workers, divided by the expected batch size."""
        noise = seeds.stream(self._seed, "noise", step)
        scale = self.planned.noise_multiplier * self._settings.max_grad_norm
        expected = self.planned.sample_rate * self._records
        return [(g + scale * _normal(noise, g)) / expected for g in total]

    def mechanism(self, steps: int) -> Mechanism:
        """What the accountants are told after ``steps`` updates."""
        return replace(self.planned, steps=steps)

    def close(self) -> None:
        self._gradients.remove()


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    values = np.asarray(generator.standard_normal(like.shape, np.float32))
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype)
