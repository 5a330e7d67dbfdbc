"""The private update: Poisson sampling, clipping, noise, and the mechanism for the accountants."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.errors import UserError
from assay.privacy.accounting import Mechanism, unsafe_delta
from assay.privacy.clipping import PerRecordGradients
from assay.privacy.plan import planned
from assay.privacy.precision import at_least_float32
from assay.privacy.sampling import PatientSampling, RecordSampling
from assay.privacy.unit import Unit
from assay.recipes import Privacy


class PrivateUpdate:
    """Turns losses into a private gradient; implements the protocol ``training.update.Update``.

    Every step samples each record, or each patient, independently with the same probability, divides by the *expected*
    number of them, and adds noise even when the batch is empty, as the accountants assume. Sums and noise are in
    float32 at least; the training loop rounds them to the weights' type.

    Args:
        model: the network; hooks are registered on it.
        settings: ε, δ, clipping and unit.
        records: number of training records.
        batch_size: expected number of patients, or records, in a step.
        steps: total number of steps, for which noise is calibrated.
        seed: of batches and noise.
        owners: (records,) number of each record's patient, from 0, where patients are protected; None where records
            are.

    Raises:
        UserError: δ is not below one in the number of patients, or records, or no noise reaches ε.
        IncompatibleRecipeError: a layer mixes the records of a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Privacy,
        *,
        records: int,
        batch_size: int,
        steps: int,
        seed: int,
        owners: np.ndarray | None = None,
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._sampling: RecordSampling | PatientSampling = RecordSampling(records)
        unit: Unit = "record"
        if owners is not None:
            self._sampling, unit = PatientSampling(owners, most=settings.records_per_patient), "patient"
        units = self._sampling.units
        if unsafe := unsafe_delta(settings.delta, units, unit=unit):
            raise UserError(
                f"privacy.delta: {unsafe}; set it below {1 / units:g}",
                setting="privacy.delta",
                given=settings.delta,
                allowed=1 / units,
            )
        self.planned = planned(settings, units=units, batch_size=batch_size, steps=steps, unit=unit)
        self._gradients = PerRecordGradients(model, clipping=settings.clipping)

    @property
    def notes(self) -> list[str]:
        """Layers without a book-keeping rule, which are slower, one sentence each."""
        return self._gradients.notes

    def batch(self, step: int) -> np.ndarray:
        """Returns the positions of the records of a step, a patient's next to each other; possibly none."""
        return self._sampling.draw(self._seed, step, self.planned.sample_rate)

    @contextmanager
    def crafting(self) -> Iterator[None]:
        with self._gradients.paused():
            yield

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Returns the clipped sum over the given records, or patients."""
        return self._gradients.clipped_sum(losses, self._settings.max_grad_norm)

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        """Adds noise once to the sum over all workers, and divides by the expected number of records, or patients."""
        if step + 2 >= self.planned.steps:
            self._gradients.ask_again()
        noise = seeds.stream(self._seed, "noise", step)
        scale = self.planned.noise_multiplier * self._settings.max_grad_norm
        expected = self.planned.sample_rate * self._sampling.units
        return [_normal(noise, g).mul_(scale).add_(g).div_(expected) for g in map(at_least_float32, total)]

    def mechanism(self, steps: int) -> Mechanism:
        """Returns the mechanism for the accountants after ``steps`` updates."""
        return replace(self.planned, steps=steps)

    def close(self) -> None:
        self._gradients.remove()


def _normal(generator: np.random.Generator, like: Tensor) -> Tensor:
    values = np.asarray(generator.standard_normal(like.shape, np.float32))
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype)
