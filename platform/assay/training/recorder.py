"""Records the inputs and outputs of each step of a private training, for an audit.

The recorder wraps the trainer's update and uses none of the update's own bookkeeping. The noise is the difference of
the gradient that the optimizer uses and the clipped sum. The contribution of one record is the difference of two sums,
with and without it, and is compared with its gradient by plain autograd. The weights are trained a second time by
torch's own optimizer, from the released gradients alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.privacy.accounting import Mechanism
from assay.privacy.clipping import STABILITY
from assay.privacy.noise_levels import NoiseRecord
from assay.privacy.precision import full_precision
from assay.privacy.step_tests import BatchRecord
from assay.recipes import Privacy, Training
from assay.training.loop import Trainer
from assay.training.pieces import Piece
from assay.training.update import Update

_LOOKS_EVERY, _MOST_LOOKS = 20, 16
"""Single records are left out at one step in 20, but at no more than 16 steps."""
_LOOKED_AT = 8
"""Number of records of a batch that are processed together; two of them are left out, one after the other."""
_ROUNDING = 1e-6
"""Rounding error of a sum of many records, as a fraction of the sum, in float32 or a more precise type."""

Inject = Callable[[list[Tensor], np.ndarray], list[Tensor]]
"""Adds the contributions of canaries in the network's own tensors to a clipped sum, given the batch's positions."""


class PrivateRunRecorder:
    """Records all stages of one private recipe.

    Args:
        privacy: of the recipe.
        training: of the recipe.
        real: number of records that are not canaries; they come first.
        seed: chooses the records that are examined.
        inject: adds the contributions of canaries; see ``Inject``.
    """

    def __init__(self, privacy: Privacy, training: Training, *, real: int, seed: int, inject: Inject) -> None:
        self._privacy, self._training, self._real = privacy, training, real
        self._seed, self._inject = seed, inject
        self.noise: NoiseRecord | None = None
        self.batches: BatchRecord | None = None
        self.steps = 0
        """Number of optimizer steps, over all stages."""
        self.longest = 0.0
        """Greatest change of a clipped sum by one record, in clipping norms."""
        self.farthest = 0.0
        """Greatest distance between such a change and the record's clipped gradient, in clipping norms."""
        self.differences = 0
        """Number of times that a record was left out for comparison."""
        self.unexplained = 0.0
        """Greatest distance of the weights from those computed from the released gradients, relative to the largest."""
        self.released = np.zeros(0)
        """(d,) noise of the last step, with the contributions of canaries in tensors, in clipping norms."""

    def attach(self, trainer: Trainer) -> None:
        """Starts recording one stage.

        Args:
            trainer: of the stage; private, and before its first step.
        """
        mechanism = trainer.mechanism
        assert mechanism is not None
        parameters = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        if self.noise is None:
            self.noise = NoiseRecord(list(parameters), [tuple(p.shape) for p in parameters.values()])
            draws = seeds.stream(self._seed, "randomised counts")
            self.batches = BatchRecord(records=trainer.units, generator=draws)
        _Stage(self, trainer, list(parameters.values()), mechanism)


class _Stage:
    """Wraps the update of one stage and records its inputs and outputs; see ``training.update.Update``."""

    def __init__(
        self, recorder: PrivateRunRecorder, trainer: Trainer, parameters: list[nn.Parameter], mechanism: Mechanism
    ) -> None:
        self._recorder, self._trainer, self._parameters, self._claimed = recorder, trainer, parameters, mechanism
        self._norm = recorder._privacy.max_grad_norm
        self._expected = mechanism.sample_rate * trainer.units
        looks = min(_MOST_LOOKS, max(2, trainer.total_steps // _LOOKS_EVERY))
        self._looks = set(np.linspace(0, trainer.total_steps - 1, looks).round().astype(int).tolist())
        # At this step a whole batch is compared, too, which shows rounding errors of large sums.
        self._whole = trainer.total_steps // 2
        self._kept: Tensor | None = None
        self._losses: list[Tensor] = []
        self._own: list[list[Tensor]] = []
        self._wanted: list[int] = []
        self._looking = False
        self._sum: list[Tensor] = []
        self._replayed = [p.detach().clone().requires_grad_(True) for p in parameters]
        self._optimizer = _optimizer(self._replayed, recorder._training)
        trainer.wrap_update(self._around)
        trainer.optimizer.register_step_pre_hook(self._before_step)
        trainer.optimizer.register_step_post_hook(self._after_step)

    def _around(self, inner: Update) -> Update:
        self._inner = inner
        return self

    @property
    def notes(self) -> Sequence[str]:
        return self._inner.notes

    def batch(self, step: int) -> np.ndarray:
        return self._inner.batch(step)

    def crafting(self) -> AbstractContextManager[None]:
        return self._inner.crafting()

    def mechanism(self, steps: int) -> Mechanism | None:
        return self._inner.mechanism(steps)

    def close(self) -> None:
        self._inner.close()

    def gradients(self, losses: Tensor) -> list[Tensor]:
        """Returns what the update returns; while records are examined, without those that are left out."""
        if not self._looking:
            self._losses.append(losses.detach())
            return self._inner.gradients(losses)
        if self._wanted:
            with full_precision(losses.device):
                self._own = [_gradient(losses[place], self._parameters) for place in self._wanted]
        if self._kept is not None:
            kept, self._kept = self._kept[: len(losses)], self._kept[len(losses) :]
            losses = losses * kept.to(losses)
        return self._inner.gradients(losses)

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        """Returns what the update returns, with the contributions of canaries in tensors added to the clipped sum."""
        assert self._recorder.batches is not None
        self._recorder.batches.add(batch, self._trainer.units_of(batch))
        if step in self._looks or step == self._whole:
            self._look(total, batch, step)
        self._losses = []
        self._sum = self._recorder._inject([g.detach().clone() for g in total], batch)
        return self._inner.finish([g.clone() for g in self._sum], batch, step)

    def _look(self, total: list[Tensor], batch: np.ndarray, step: int) -> None:
        """Leaves single real records out of the batch, those with the greatest losses."""
        losses = torch.cat([loss.flatten() for loss in self._losses]).double().cpu().numpy()
        pieces = self._trainer.pieces(batch)
        firsts = np.concatenate([piece.rows[0] for piece in pieces])
        real = np.flatnonzero(batch[firsts] < self._recorder._real)
        if not len(real) or len(losses) != len(firsts):
            return
        order = real[np.argsort(-np.nan_to_num(losses[real]), kind="stable")]
        with self._look_on():
            if step in self._looks:
                piece = self._some_of(pieces, order)
                chosen = piece.rows.shape[1]
                self._wanted = list(range(min(2, chosen)))
                whole = self._trainer.clipped_sum(batch, [piece])
                self._wanted, gradients = [], self._own
                for place, gradient in enumerate(gradients):
                    kept = torch.ones(chosen)
                    kept[place] = 0
                    self._kept = kept
                    self._compare(whole, self._trainer.clipped_sum(batch, [piece]), gradient)
            if step == self._whole:
                kept = torch.ones(len(firsts))
                kept[order[0]] = 0
                self._kept = kept
                self._compare(total, self._trainer.clipped_sum(batch), None)

    def _some_of(self, pieces: list[Piece], order: np.ndarray) -> Piece:
        """Returns a piece with the first real unit of an order, and some other units of the piece in which it is.

        Args:
            order: real units, by their place in all pieces one after the other.
        """
        ends = np.cumsum([piece.rows.shape[1] for piece in pieces])
        number = int(np.searchsorted(ends, order[0], side="right"))
        start = 0 if number == 0 else int(ends[number - 1])
        beside = order[1:][(order[1:] >= start) & (order[1:] < ends[number])]
        others = seeds.stream(self._recorder._seed, "looked at", self._recorder.steps).permutation(beside)
        columns = np.concatenate([order[:1], others[: _LOOKED_AT - 1]]) - start
        piece = pieces[number]
        weights = None if piece.weights is None else piece.weights[:, columns]
        return Piece(rows=piece.rows[:, columns], weights=weights)

    @contextmanager
    def _look_on(self) -> Iterator[None]:
        self._looking = True
        try:
            yield
        finally:
            self._looking, self._kept, self._wanted, self._own = False, None, [], []

    def _compare(self, whole: list[Tensor], without: list[Tensor], gradient: list[Tensor] | None) -> None:
        """Measures a record's contribution to a sum, and its distance from the record's clipped gradient."""
        recorder = self._recorder
        sums = _flat(whole)
        added, rounding = sums - _flat(without), _ROUNDING * sums.norm()
        recorder.differences += 1
        recorder.longest = max(recorder.longest, _number((added.norm() - rounding) / self._norm))
        if gradient is None or recorder._privacy.clipping == "per_layer":
            return
        record_gradient = _flat(gradient)
        if recorder._privacy.clipping == "automatic":
            clipped = record_gradient * self._norm / (record_gradient.norm() + STABILITY)
        else:
            clipped = record_gradient * (self._norm / record_gradient.norm().clamp_min(1e-30)).clamp_max(1.0)
        if bool(clipped.isfinite().all()):
            apart = (added - clipped).norm() - rounding
            recorder.farthest = max(recorder.farthest, _number(apart / self._norm))

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Records the noise of the gradient that the optimizer uses, and takes the same step on the copied weights."""
        recorder = self._recorder
        assert recorder.noise is not None
        recorder.steps += 1
        weights = [p.detach() for p in self._parameters]
        self._explain(weights)
        deviation = self._claimed.noise_multiplier * self._norm
        if self._sum:
            descended = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters]
            sums = _flat(self._sum).cpu().numpy() / deviation
            noise = _flat(descended).cpu().numpy() * self._expected / deviation - sums
            recorder.noise.add(noise, sums)
            recorder.released = noise * self._claimed.noise_multiplier
        for copy, parameter in zip(self._replayed, self._parameters, strict=True):
            copy.grad = None if parameter.grad is None else parameter.grad.detach().clone()
        for theirs, ours in zip(optimizer.param_groups, self._optimizer.param_groups, strict=True):
            ours["lr"] = theirs["lr"]
        self._optimizer.step()

    def _after_step(self, *_: Any) -> None:
        self._sum = []
        self._explain([p.detach() for p in self._parameters])

    def _explain(self, weights: list[Tensor]) -> None:
        """Measures the distance between the weights and those computed from the released gradients."""
        for actual, copy in zip(weights, self._replayed, strict=True):
            if torch.equal(actual, copy.detach()):
                continue
            apart = (actual - copy.detach()).abs().max() / actual.abs().max().clamp_min(1e-12)
            self._recorder.unexplained = max(self._recorder.unexplained, _number(apart))


def _gradient(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Returns the gradient of one record's loss by plain autograd; the graph is kept."""
    gradients = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])


def _number(figure: Tensor) -> float:
    """Returns a figure as a float; infinity if it is not finite."""
    return float(figure) if bool(figure.isfinite()) else float("inf")


def _optimizer(weights: list[Tensor], training: Training) -> torch.optim.Optimizer:
    """Returns torch's own optimizer with the recipe's settings, independent of the trainer's."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(weights, lr=rate, weight_decay=decay)
    return torch.optim.SGD(weights, lr=rate, momentum=training.momentum, weight_decay=decay)
