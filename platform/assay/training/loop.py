"""The one training loop. Objective, update and collective compose in it; nothing else trains."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.treatment import Fit, Records, Treated, treat
from assay.errors import IncompatibleRecipeError, TrainingError, UserError
from assay.models.representation import Represented
from assay.objectives.base import Batch
from assay.objectives.standard import Standard
from assay.privacy.accounting import Mechanism
from assay.privacy.precision import wide_zeros
from assay.privacy.sampling import owners_of
from assay.recipes import Recipe, Training
from assay.seeds import Draw
from assay.threats import Bounds
from assay.training.averaging import Averaging
from assay.training.build import (
    feed_of,
    learning_rate_at,
    optimizer_of,
    refuse_batch_norm,
    refuse_disagreement,
    update_of,
)
from assay.training.collective import Alone, Collective
from assay.training.feed import Feed
from assay.training.lookout import Lookout
from assay.training.masks import Masked
from assay.training.modes import answering
from assay.training.pieces import Piece, pieces_of_patients, pieces_of_records
from assay.training.probe import Probe, balanced
from assay.training.stopping import Stopping
from assay.training.update import Update, steps_per_epoch


class Trainer:
    """A model, its optimizer and how far they have come.

    Randomness is a function of ``seed`` and the step, so a trainer that is resumed from its state, or called for a
    few steps at a time, does what one uninterrupted run does.

    A private recipe with ``noise: entropy`` draws everything (batches, noise, dropout, augmentation, crafted inputs)
    from a seed of the operating system that all workers share and nothing stores; a resumed trainer has another. Draws
    go by the place of a record in its batch, so a record that is added shifts those of all behind it, and whoever knew
    the seed would see the clipped sum move by far more than the clipping norm C. To anyone else the draws of records
    are independent and alike wherever they stand, and may be coupled: every other record keeps its own. For each
    outcome of the draws a record then moves the sum by at most C, and a mixture of such mechanisms is as private as
    they are.

    Where the recipe averages weights, ``model`` holds the average as soon as training is finished, and the weights of
    the last step until then.

    Args:
        model: trained in place.
        recipe: one stage of it; its ``federation`` is not looked at; a federated client owns one trainer.
        x: (n, ...) records to learn from, on any device, before the recipe's treatments; or a ``Feed`` of them.
        y: (n,) labels.
        classes: number of classes; one above the greatest label by default.
        bounds: valid inputs, for objectives that perturb them.
        seed: of treatments and, unless the recipe says ``entropy``, of batches, crafted inputs, dropout and noise.
        stage: name of a stage before the last: it draws batches and noise of its own, from records treated alike.
        epochs: total number of passes for which a private recipe's noise is calibrated.
        collective: the workers that share every batch.
        teacher: the network that the stage before trained.
        validation: records (n, ...), or a ``Feed`` of them, and labels (n,) that early stopping looks at.
        patients: (n,) ID of each record's patient, None where records have none. A private recipe protects patients
            then, unless its ``privacy.unit`` says otherwise.

    Raises:
        UserError: the recipe stops early, and there are no validation records; or its δ is not below one in the number
            of patients, or records, that it protects.
        IncompatibleRecipeError: batches are to be worked off in pieces, and a layer or the objective mixes their
            records, or a piece cannot hold a patient; or the recipe treats all records at once, and they are streamed;
            or it protects patients, and there are none.
        TrainingError: treatments left other records on one worker than on another.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        x: Tensor | Feed,
        y: Tensor,
        *,
        bounds: Bounds,
        seed: int,
        stage: str = "",
        classes: int | None = None,
        epochs: int | None = None,
        collective: Collective | None = None,
        teacher: nn.Module | None = None,
        validation: tuple[Tensor | Feed, Tensor] | None = None,
        patients: np.ndarray | None = None,
    ) -> None:
        training = recipe.training
        if training.records_at_once is not None:
            refuse_batch_norm(model, recipe)
        self.model = model
        self._collective = collective or Alone()
        x, y = self._treat(recipe, x, y, classes=classes, bounds=bounds, passes=epochs or training.epochs, seed=seed)
        self._drawn_anew = recipe.privacy is not None and recipe.privacy.noise == "entropy"
        self._seed = self._drawing_seed(seed, stage)
        self.records = len(x)
        self._owners = owners_of(recipe, patients, records=len(x))
        self.units = self.records if self._owners is None else int(self._owners.max()) + 1
        """Patients that privacy protects; records where it protects those, or nobody."""
        self.step = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.steps_per_epoch = steps_per_epoch(self.units, training.batch_size)
        self.total_steps = (epochs or training.epochs) * self.steps_per_epoch
        self.optimizer = optimizer_of(model, training)
        self._objective = recipe.objective
        self._training = training
        self._feed = feed_of(x, y)
        self._augmentations = [treatment for treatment in recipe.data if treatment.augments]
        self._weighing = [treatment for treatment in recipe.data if treatment.weighs]
        self._copies = 1 if recipe.privacy is None else recipe.privacy.augmentations
        self._bounds = bounds
        self._teacher = None if teacher is None else teacher.to(self._feed.device).eval().requires_grad_(False)
        self.averaging = Averaging(training.averaging, model) if training.averaging else None
        self.lookout = self._lookout(y)
        self.stopping = self._stopping(validation)
        self._anchor: list[Tensor] = []
        self._pull = 0.0
        self._update = update_of(
            model, recipe, records=len(x), owners=self._owners, steps=self.total_steps, seed=self._seed
        )

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.step // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether no step is left to take."""
        return self.step == self.total_steps or (self.stopping is not None and self.stopping.done)

    @property
    def mechanism(self) -> Mechanism | None:
        """What the privacy accountants must know about the steps taken so far."""
        return self._update.mechanism(self.step)

    @property
    def notes(self) -> list[str]:
        """What whoever uses the model should know of its training, a sentence each."""
        return [*self._update.notes, *([] if self.lookout is None else self.lookout.notes)]

    @property
    def robust_validation(self) -> list[float]:
        """Robust validation accuracy at each look of early stopping."""
        return [] if self.stopping is None else self.stopping.accuracies

    @property
    def treatment(self) -> dict[str, int]:
        """What the recipe's treatments did, in numbers of records; empty if there are none."""
        return {} if self.treated is None else self.treated.counts

    def receive(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from weights that were learnt elsewhere; a watched training goes back no further than to them."""
        self.model.load_state_dict(dict(weights))
        if self.lookout is not None:
            self.lookout.keep(self.epoch)

    def wrap_update(self, around: Callable[[Update], Update]) -> None:
        """Put another update around the trainer's own: an audit reads what goes in and what comes out."""
        self._update = around(self._update)

    def pieces(self, batch: np.ndarray) -> list[Piece]:
        """This worker's part of a batch, in the pieces that go through the network; a patient goes to one worker."""
        of_worker = {"rank": self._collective.rank, "size": self._collective.size}
        at_once = self._training.records_at_once
        if self._owners is None:
            return pieces_of_records(len(batch), at_once=at_once, **of_worker)
        return pieces_of_patients(self._owners[batch], at_once=at_once, **of_worker)

    def units_of(self, batch: np.ndarray) -> np.ndarray:
        """Numbers of the patients, or records, that privacy protects, of the records of a batch."""
        return batch if self._owners is None else self._owners[batch]

    def clipped_sum(self, batch: np.ndarray, pieces: list[Piece] | None = None) -> list[Tensor]:
        """Sum of the (perhaps clipped) gradients of a batch, with the weights and the draws of the coming step.

        Args:
            batch: positions of the records.
            pieces: which of them are summed; by default all, as the step does it.
        """
        pieces = self.pieces(batch) if pieces is None else pieces
        fed = self._feed.follow([batch[piece.rows.ravel()] for piece in pieces])
        return self._own_gradients(pieces, fed, total=len(batch))[0]

    def anchor(self, strength: float) -> None:
        """From now on pull the weights towards what they are now: FedProx's μ/2 times the squared distance.

        The pull depends on weights alone, so it comes after clipping and noise and costs no privacy.
        """
        self._pull = strength
        self._anchor = [parameter.detach().clone() for parameter in self._parameters]

    def run(self, epochs: int | None = None, *, after_epoch: Callable[["Trainer"], None] | None = None) -> None:
        """Train for some more epochs, by default to the end; ``after_epoch`` may report or store.

        Raises:
            TrainingError: a weight is no longer finite or, of plain training, the loss.
        """
        until = self.total_steps if epochs is None else min(self.total_steps, self.step + epochs * self.steps_per_epoch)
        with torch.random.fork_rng():
            while self.step < until and not self.finished:
                self.model.train()
                started = time.perf_counter()
                self.losses.append(self._run_epoch())
                with self._update.crafting():  # an attack that looks passes through the model, too
                    self._look()
                self.seconds += time.perf_counter() - started
                if after_epoch is not None:
                    after_epoch(self)
        self.model.eval()

    def close(self) -> None:
        """Take every hook off the model."""
        self._update.close()
        self.model.zero_grad(set_to_none=True)

    def _treat(
        self,
        recipe: Recipe,
        x: Tensor | Feed,
        y: Tensor,
        *,
        classes: int | None,
        bounds: Bounds,
        passes: int,
        seed: int,
    ) -> tuple[Tensor | Feed, Tensor]:
        """Records and labels as the recipe's treatments leave them."""
        self.treated: Treated | None = None
        if not any(treatment.treats for treatment in recipe.data):
            return x, y
        if not isinstance(x, Tensor):
            raise IncompatibleRecipeError(
                "treatments of all records at once need them in memory, and these are streamed: "
                "treat them before, or use a data set that fits"
            )
        self.treated = treat(
            recipe.data,
            x.cpu().numpy(),
            y.cpu().numpy(),
            classes=int(y.max()) + 1 if classes is None else classes,
            bounds=bounds,
            fit=_fit(self.model, recipe.training, bounds=bounds, passes=passes, device=x.device, seed=seed),
            seed=seed,
        )
        x, y = (torch.from_numpy(kept).to(x.device) for kept in (self.treated.x, self.treated.y))
        refuse_disagreement(x, y, self._collective)
        return x, y

    def _drawing_seed(self, seed: int, stage: str) -> int:
        """The seed of all that is drawn while training, the same on every worker."""
        if self._drawn_anew:
            return self._collective.agree(seeds.entropy())
        return seeds.derive(seed, "stage", stage) if stage else seed

    def _run_epoch(self) -> float:
        """One epoch; the mean loss of this worker's records, NaN if Poisson sampling gave it none."""
        ahead = self.steps_per_epoch - self.step % self.steps_per_epoch
        batches = [self._update.batch(self.step + place) for place in range(ahead)]
        shares = [self.pieces(batch) for batch in batches]
        fed = self._feed.follow(
            [batch[piece.rows.ravel()] for batch, pieces in zip(batches, shares, strict=True) for piece in pieces]
        )
        seen = [
            loss
            for batch, pieces in zip(batches, shares, strict=True)
            if (loss := self._take_step(batch, pieces, fed)) is not None
        ]
        mean = float(torch.stack(seen).mean()) if seen else float("nan")
        # No noise covers the loss, so a private training does not end by it: the end would tell of a record.
        lost = bool(seen) and not np.isfinite(mean) and self.mechanism is None
        if lost or not all(bool(p.isfinite().all()) for p in self._parameters):
            raise TrainingError(f"the loss is {mean} after {self.step} steps: lower the learning rate")
        return mean

    def _look(self) -> None:
        """What is to be seen after an epoch, and what follows from it for the weights.

        Nothing leaves training that was not looked at: where weights are averaged, the last look is at the average.
        """
        last = self.step == self.total_steps
        if self.averaging is not None and last:
            self.averaging.swap()
        if self.lookout is not None:
            before = self.lookout.recoveries
            self.lookout.look(self.epoch, last=last)
            if self.averaging is not None and self.lookout.recoveries > before:
                self.averaging.begin()
        if self.stopping is not None:
            own = self.averaging.swap() if self.averaging is not None and not last else None
            self.stopping.look(self.epoch, last=last)
            if own is not None and not self.stopping.done:
                self.model.load_state_dict(own)

    def _take_step(self, batch: np.ndarray, pieces: list[Piece], fed: Iterator[tuple[Tensor, Tensor]]) -> Tensor | None:
        """One update; the mean loss of this worker's records, or patients, None if it had none.

        Args:
            batch: positions of the records of all workers.
            pieces: which of them are this worker's, as they go through the network.
            fed: gives this worker's records of one piece after the other.
        """
        gradients, loss = self._own_gradients(pieces, fed, total=len(batch))
        total = self._collective.sum(gradients)
        descended = self._update.finish(total, batch, self.step)
        if self._pull:
            descended = [
                gradient + self._pull * (parameter.detach() - home)
                for gradient, parameter, home in zip(descended, self._parameters, self._anchor, strict=True)
            ]
        for parameter, gradient in zip(self._parameters, descended, strict=True):
            parameter.grad = gradient.to(parameter.dtype)  # behind the noise: sums are wider than weights may be
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self._training, self.step, self.total_steps)
        self.optimizer.step()
        self.step += 1
        if self.averaging is not None:
            self.averaging.follow()
        return loss

    def _own_gradients(
        self, pieces: list[Piece], fed: Iterator[tuple[Tensor, Tensor]], *, total: int
    ) -> tuple[list[Tensor], Tensor | None]:
        """Sum of the gradients of this worker's share of the batch, and its mean loss."""
        gradients: list[Tensor] = []
        seen = []
        for place, piece in enumerate(pieces):
            losses = self._losses(*next(fed), piece, total=total, place=place)
            seen.append(losses.detach())
            if self._weighing:
                losses = losses * self._weights(seen[-1], piece.rows[0], total=total)
            found = self._update.gradients(losses)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if gradients else found
        if seen:
            return gradients, torch.cat(seen).mean()
        nothing = torch.zeros_like if self.mechanism is None else wide_zeros
        gradients = [nothing(p) for p in self._parameters]
        if self._weighing:
            # The others wait for what this worker adds to the losses of the batch: nothing.
            self._weights(gradients[0].new_zeros(0), np.arange(0), total=total)
        return gradients, None

    def _losses(self, x: Tensor, y: Tensor, piece: Piece, *, total: int, place: int) -> Tensor:
        """One loss a record, or patient, (n,): the mean over its rows where it has several.

        Rows of the network are one of each, then another of each: see ``privacy.clipping``.

        Args:
            x: (slots · n, ...) the rows of the piece, as ``y``, (slots · n,).
            piece: where they stand within the batch of ``total`` records.
            place: number of the piece. Layers draw for each piece, all else for the whole batch.
        """
        purpose = ("layers", self.step, self._collective.rank, *((place,) if place else ()))
        seeds.seed_layers(seeds.torch_seed(self._seed, *purpose))
        if self._copies > 1:
            x, y = torch.cat([x] * self._copies), torch.cat([y] * self._copies)
        rows = np.concatenate([copy * total + piece.rows.ravel() for copy in range(self._copies)])
        drawn = x
        for number, augmentation in enumerate(self._augmentations):
            x = augmentation.augment(x, self._draw("augment", number, total=total, rows=rows))
        if self._augmentations and x.is_floating_point():
            x = self._bounds.confine(x, drawn)
        seen = Batch(
            x=x,
            y=y,
            bounds=self._bounds,
            draw=self._draw("craft", total=total, rows=rows),
            progress=self.step / self.total_steps,
            teacher=self._teacher,
            recoveries=0 if self.lookout is None else self.lookout.recoveries,
        )
        with self._update.crafting(), answering(self.model):
            crafted = self._objective.craft(self.model, seen)
        with Masked(seeds.stream(self._seed, *purpose)) if self._drawn_anew else nullcontext():
            losses = self._objective.losses(self.model, seen, crafted)
        return piece.averaged(losses, self._copies)

    def _weights(self, losses: Tensor, own: np.ndarray, *, total: int) -> Tensor:
        """How much each of this worker's losses counts, (n,), by those of the whole batch: all workers ask at once."""
        rows = torch.from_numpy(own).to(losses.device)
        (whole,) = self._collective.sum([losses.new_zeros(total).index_copy(0, rows, losses)])
        weights = torch.ones_like(whole)
        for treatment in self._weighing:
            weights = weights * treatment.weigh(whole)
        return weights[rows]

    def _draw(self, *purpose: str | int, total: int, rows: np.ndarray) -> Draw:
        """For rows of all copies of a batch of ``total`` records."""
        return Draw(seeds.stream(self._seed, *purpose, self.step), total=self._copies * total, rows=rows)

    def _lookout(self, y: Tensor) -> Lookout | None:
        watch = self._objective.watching
        if watch is None:
            return None
        rows = balanced(y.cpu().numpy(), watch.records, generator=seeds.stream(self._seed, "watch"))
        return Lookout(self._objective, watch, self._probe(self._feed, y, rows), self.model, self.optimizer)

    def _stopping(self, validation: tuple[Tensor | Feed, Tensor] | None) -> Stopping | None:
        if self._training.early_stopping is None:
            return None
        if validation is None or not len(validation[1]):
            raise UserError(
                "training.early_stopping looks at validation records, and there are none: let split.validation leave "
                "some and split.tested be test, or set early_stopping: null"
            )
        x, y = validation
        probe = self._probe(feed_of(x, y), y, np.arange(len(y)))
        return Stopping(self._training.early_stopping, probe, self.model)

    def _probe(self, feed: Feed, y: Tensor, rows: np.ndarray) -> Probe:
        return Probe(
            feed,
            y,
            rows,
            bounds=self._bounds,
            seed=self._seed,
            at_once=self._training.records_at_once or self._training.batch_size,
            collective=self._collective,
        )

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]


def _fit(model: nn.Module, training: Training, *, bounds: Bounds, passes: int, device: torch.device, seed: int) -> Fit:
    """Trains copies of a network that has not learnt yet, for treatments that need one."""

    def fit(records: Records, *, epochs: int | None = None) -> Represented:
        trainer = Trainer(
            copy.deepcopy(model),
            Recipe(objective=Standard(), training=training.model_copy(update={"early_stopping": None})),
            torch.from_numpy(records.x).to(device),
            torch.from_numpy(records.y).to(device),
            bounds=bounds,
            seed=seeds.derive(seed, "network of a treatment"),
            epochs=epochs or passes,
        )
        trainer.run()
        trainer.close()
        return Represented(trainer.model)

    return fit
