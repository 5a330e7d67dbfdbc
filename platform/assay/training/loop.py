"""The one training loop, which only takes steps.

``training.build`` assembles a trainer, ``training.gradients`` computes gradients from records, and ``training.hooks``
act before and after the steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.treatment import Treated
from assay.devices import repeatable
from assay.errors import TrainingError
from assay.privacy.accounting import Mechanism
from assay.privacy.plan import steps_per_epoch
from assay.recipes import Training
from assay.training.cadence import Checkpoints
from assay.training.collective import Collective
from assay.training.draws import Draws
from assay.training.feed import Feed
from assay.training.gradients import BatchGradients, Moment
from assay.training.hooks.base import Hook, by_name
from assay.training.overlap import OverlappedSums
from assay.training.pace import Pace
from assay.training.pieces import Piece, pieces_of_patients, pieces_of_records
from assay.training.snapshots import put_back
from assay.training.update import Update, learning_rate_at


class Trainer:
    """A model, its optimizer and their progress; ``training.build.build_trainer`` makes a trainer from a recipe.

    Random numbers depend only on the seed and the step. So a trainer that is resumed from its state, or called for a
    few steps at a time, does what one uninterrupted run does.

    Hooks are called after clipping and noise; see ``training.hooks.base.Hook`` for what costs ε and what does not. A
    hook may leave other weights in ``model`` than the last step did.

    Args:
        model: trained in place.
        training: number of epochs, learning rate and batch size.
        feed: the training records, after the recipe's treatments.
        gradients: computes the sum of the gradients of this worker's records.
        update: draws batches, clips gradients and adds noise.
        optimizer: of the model's trainable parameters.
        steps: total number of steps.
        collective: the workers that share every batch.
        owners: (n,) number of each record's patient, from 0, where privacy protects patients; else None.
        treated: what the recipe's treatments did to the records, None without any.
        hooks: called in this order.
        draws: where random numbers come from; None where the update and the gradients are the caller's own.
        overlapped: sums gradients over workers during the backward pass; None sums them after it.

    Raises:
        ValueError: two hooks have one name.
    """

    def __init__(
        self,
        model: nn.Module,
        training: Training,
        *,
        feed: Feed,
        gradients: BatchGradients,
        update: Update,
        optimizer: torch.optim.Optimizer,
        steps: int,
        collective: Collective,
        owners: np.ndarray | None = None,
        treated: Treated | None = None,
        hooks: Sequence[Hook] = (),
        draws: Draws | None = None,
        overlapped: OverlappedSums | None = None,
    ) -> None:
        self.model, self.optimizer, self.treated = model, optimizer, treated
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.records = len(feed)
        self.units = self.records if owners is None else int(owners.max()) + 1
        """Number of patients where privacy protects patients; of records otherwise."""
        self.step = 0
        self.pace = Pace(collective.size, feed.device)
        self.repeated = 0
        """Greatest number of private steps that were lost and taken again with other random numbers; see
        ``checkpoints.restore_trainer``."""
        self.rollbacks = 0
        """Number of rollbacks to earlier weights; see ``Batch.rollbacks``."""
        self.stopped = False
        """Whether a hook has ended training."""
        self.steps_per_epoch = steps_per_epoch(self.units, training.batch_size)
        self.total_steps = steps
        self.hooks = list(by_name(hooks).values())
        self._training, self._feed, self._gradients, self._update = training, feed, gradients, update
        self._collective, self._owners, self._overlapped = collective, owners, overlapped
        self._draws = "" if draws is None else draws.name
        self._losses: list[float] = []
        self._running: list[float] = []
        """Mean losses of the steps of the running epoch, over the records of all workers."""
        self._own_losses: list[Tensor] = []
        """Sums and numbers of this worker's losses in the last steps, which are not yet in ``_running``."""
        self._begin()

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.step // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether no step is left to take."""
        return self.stopped or self.step == self.total_steps

    @property
    def seconds(self) -> float:
        """Wall time of training, without checkpoints."""
        return self.pace.seconds

    @property
    def losses(self) -> list[float]:
        """Mean loss of each epoch, over the records of all workers; the last one may be of an epoch that still runs."""
        return [*self._losses, float(np.mean(self._running))] if self._running else list(self._losses)

    @property
    def mechanism(self) -> Mechanism | None:
        """Mechanism of all noisy steps so far, for the privacy accountants; None if training is not private."""
        return self._update.mechanism(self.step + self.repeated)

    @property
    def notes(self) -> list[str]:
        """Sentences of the update and of the hooks that users of the model should read."""
        twice = (
            f"{self.repeated} steps may have been taken and lost, and were repeated with other noise: they count twice"
        )
        own = [twice] if self.repeated else []
        return [*own, *self._update.notes, *(note for hook in self.hooks for note in hook.notes)]

    @property
    def figures(self) -> dict[str, list[float]]:
        """Figures that hooks measured during training, by name."""
        return {name: list(values) for hook in self.hooks for name, values in hook.figures.items()}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters, in the order of all gradients."""
        return self._parameters

    @property
    def treatment(self) -> dict[str, int]:
        """Numbers of records that the recipe's treatments changed or left out; empty if there are none."""
        return {} if self.treated is None else self.treated.counts

    def receive(self, weights: Mapping[str, Tensor]) -> None:
        """Loads weights that were trained elsewhere; the state of the optimizer stays.

        Args:
            weights: state dict of the model.
        """
        self.model.load_state_dict(dict(weights))
        self._begin()

    def roll_back(self, tensors: Mapping[str, Tensor], *, by: Hook) -> None:
        """Restores earlier weights and the earlier state of the optimizer; the step counter is not reset.

        Args:
            tensors: a ``snapshots.snapshot``.
            by: the hook that asks for it; all other hooks start again from these weights.
        """
        put_back(self.model, self.optimizer, tensors)
        self.rollbacks += 1
        self._begin(asked=by)

    def stop(self) -> None:
        """Ends training after this epoch."""
        self.stopped = True

    def wrap_update(self, around: Callable[[Update], Update]) -> None:
        """Wraps the trainer's update in another one, which an audit uses to record inputs and outputs.

        Args:
            around: takes the present update and returns the one that replaces it.
        """
        self._update = around(self._update)

    def pieces(self, batch: np.ndarray) -> list[Piece]:
        """Returns this worker's part of a batch, in the pieces that go through the network; no patient is split.

        Args:
            batch: positions of the records of all workers.

        Returns:
            The pieces, by places in the batch; none if the worker has no records.
        """
        of_worker = {"rank": self._collective.rank, "size": self._collective.size}
        at_once = self._training.records_at_once
        if self._owners is None:
            return pieces_of_records(len(batch), at_once=at_once, **of_worker)
        return pieces_of_patients(self._owners[batch], at_once=at_once, **of_worker)

    def units_of(self, batch: np.ndarray) -> np.ndarray:
        """Returns the number of the patient, or record, that privacy protects, for each record of a batch.

        Args:
            batch: (n,) positions of the records.

        Returns:
            (n,) numbers from 0.
        """
        return batch if self._owners is None else self._owners[batch]

    def clipped_sum(self, batch: np.ndarray, pieces: list[Piece] | None = None) -> list[Tensor]:
        """Returns the sum of the (perhaps clipped) gradients of a batch, as in the coming step.

        Args:
            batch: positions of the records.
            pieces: which of them are summed; by default all, as in a step.

        Returns:
            One tensor a parameter, of its shape.
        """
        pieces = self.pieces(batch) if pieces is None else pieces
        fed = self._feed.follow([batch[piece.rows.ravel()] for piece in pieces])
        return self._own_gradients(pieces, fed, total=len(batch))[0]

    def run(
        self,
        epochs: int | None = None,
        *,
        steps: int | None = None,
        after_epoch: Callable[["Trainer"], None] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Trains for some more epochs, or steps.

        Args:
            epochs: number of epochs; by default to the end.
            steps: number of steps, in place of epochs. Hooks that act after an epoch act after whole epochs alone.
            after_epoch: called after the hooks of each epoch; may report or store.
            checkpoints: stores the state, between any two steps.

        Raises:
            TrainingError: a weight or, in plain training, the loss is no longer finite.
        """
        ahead = self.total_steps if epochs is None else epochs * self.steps_per_epoch
        until = min(self.total_steps, self.step + (ahead if steps is None else steps))
        self.pace.begin()
        with repeatable(tf32=True), seeds.generators_kept():
            while self.step < until and not self.finished:
                self.model.train()
                self.pace.start()
                self._run_epoch(until, checkpoints)
                if self.step % self.steps_per_epoch and not self.finished:
                    self.pace.stop()
                    break
                self._end_epoch()
                self.pace.stop()
                if after_epoch is not None:
                    after_epoch(self)
                if checkpoints is not None and checkpoints.due(self):
                    checkpoints.save(self)
        self.model.eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the progress of the training: the losses of the running epoch, and the rest, JSON-able.

        Weights, optimizer and hooks have states of their own; see ``checkpoints.trainer_state``.
        """
        about = {
            "step": self.step,
            "losses": self._losses,
            "rollbacks": self.rollbacks,
            "stopped": self.stopped,
            "pace": self.pace.state(),
            "draws": self._draws,
            "repeated": self.repeated,
        }
        return {"running": torch.tensor(self._running, dtype=torch.float64)}, about

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, lost: int) -> None:
        """Restores what ``state`` returned.

        Args:
            tensors: by name.
            about: the rest of the state.
            lost: greatest number of steps that may have been taken after this state and are lost. They count as spent
                if this trainer has other random numbers.
        """
        self.step, self.rollbacks, self.stopped = about["step"], about["rollbacks"], about["stopped"]
        self._losses, self._running = list(about["losses"]), tensors["running"].tolist()
        self.pace.restore(about["pace"])
        self.repeated = about["repeated"] + (lost if about["draws"] != self._draws else 0)

    def close(self) -> None:
        """Removes the hooks that the update has registered on the model, and frees its gradients."""
        self._update.close()
        self.model.zero_grad(set_to_none=True)

    def _begin(self, asked: Hook | None = None) -> None:
        """Tells all hooks, except the one that asked for it, that the weights were replaced."""
        for hook in self.hooks:
            if hook is not asked:
                hook.begin(self)

    def _run_epoch(self, until: int, checkpoints: Checkpoints | None) -> None:
        """Trains to the end of an epoch, or until a step."""
        end = min(until, self.step + self.steps_per_epoch - self.step % self.steps_per_epoch)
        batches = [self._update.batch(step) for step in range(self.step, end)]
        shares = [self.pieces(batch) for batch in batches]
        fed = self._feed.follow(
            [batch[piece.rows.ravel()] for batch, pieces in zip(batches, shares, strict=True) for piece in pieces]
        )
        for batch, pieces in zip(batches, shares, strict=True):
            self._own_losses.append(self._take_step(batch, pieces, fed))
            self.pace.step(len(batch))
            # After the last step of an epoch hooks act first; see ``run``.
            if checkpoints is not None and self.step < end and checkpoints.due(self):
                self._join_losses()
                self.pace.stop()
                checkpoints.save(self)
                self.pace.start()
        self._join_losses()

    def _end_epoch(self) -> None:
        """Closes the list of an epoch's losses, and lets all hooks act on the epoch."""
        self._losses.append(float(np.mean(self._running)) if self._running else float("nan"))
        self._running = []
        with self._update.crafting():  # hooks may attack the model: no per-record gradients then
            for hook in self.hooks:
                hook.after_epoch(self, last=self.step == self.total_steps)

    def _join_losses(self) -> None:
        """Adds the losses of the last steps, over all workers, to those of the running epoch.

        Raises:
            TrainingError: a weight or, in plain training, the mean loss is not finite.
        """
        if self._own_losses:
            (joined,) = self._collective.sum([torch.stack(self._own_losses)])
            self._own_losses = []
            self._running += [total / count for total, count in joined.tolist() if count]
        self.pace.lap()
        mean = float(np.mean(self._running)) if self._running else 0.0
        # The loss is not private, so a private training does not end because of it: the end would reveal a record.
        diverged = not np.isfinite(mean) and self.mechanism is None
        if diverged or not all(_is_finite(p.detach()) for p in self.parameters):
            raise TrainingError(f"the loss is {mean} after {self.step} steps: lower the learning rate")

    def _take_step(self, batch: np.ndarray, pieces: list[Piece], fed: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """Takes one step; returns the sum and the number of the losses of this worker's records, or patients, (2,).

        Args:
            batch: positions of the records of all workers.
            pieces: this worker's records, in the pieces that go through the network.
            fed: gives this worker's records of one piece after the other.
        """
        gradients, losses = self._own_gradients(pieces, fed, total=len(batch), overlapped=self._overlapped)
        total = gradients if self._overlapped is not None else self._collective.sum(gradients)
        descended = self._update.finish(total, batch, self.step)
        parameters = self.parameters
        weights = [parameter.detach() for parameter in parameters]
        for hook in self.hooks:
            descended = hook.gradients(self.step, weights, descended)
        for parameter, gradient in zip(parameters, descended, strict=True):
            parameter.grad = gradient.to(parameter.dtype)  # after the noise: sums may have a wider type than weights
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self._training, self.step, self.total_steps)
        self.optimizer.step()
        self.step += 1
        for hook in self.hooks:
            hook.after_step(self)
        return losses

    def _own_gradients(
        self,
        pieces: list[Piece],
        fed: Iterator[tuple[Tensor, Tensor]],
        *,
        total: int,
        overlapped: OverlappedSums | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Returns the sum of the gradients of this worker's share of the batch, and its losses; see ``sums``."""
        moment = Moment(step=self.step, progress=self.step / self.total_steps, rollbacks=self.rollbacks)
        return self._gradients.sums(pieces, fed, total=total, update=self._update, moment=moment, overlapped=overlapped)


def _is_finite(weights: Tensor) -> bool:
    """Returns whether all weights are finite. A finite sum shows it in a fraction of the time of a look at each."""
    return bool(weights.sum().isfinite()) or bool(weights.isfinite().all())
