"""The subject of an evaluation: a trained network with its data, and the answers that evaluations share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.clusters import clusters, copies
from assay.data.splits import Split, stratified
from assay.data.treatment import Treatment
from assay.executors import Executor, LocalExecutor
from assay.models.base import Architecture
from assay.models.batches import places
from assay.models.black_box import why_no_gradient
from assay.models.front import continuous, vector_bounds, word_vectors
from assay.models.outputs import AtThreshold
from assay.recipes import Recipe
from assay.seeds import generators_kept
from assay.tasks.base import Array, Task
from assay.tasks.classification import CLASSIFICATION
from assay.tasks.operating_point import OperatingPoint
from assay.threats import Bounds
from assay.training.log import TrainingLog


class TrainAgain(Protocol):
    """Trains the recipe again, without its federation."""

    def __call__(self, rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        """Trains a network.

        Args:
            rows: (n,) positions of the training records.
            name: derives the seed of this training; empty for the trial's own seed.
            recipe: another recipe to train instead.

        Returns:
            The network after training.
        """
        ...


TEXT_WORDS = 1_500
"""Words that an expensive evaluation uses where no number of texts is set: a text has thousands of inputs."""
FEWEST_TEXTS = 50


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model with everything that an evaluation may use."""

    model: nn.Module
    """From records to logits; in evaluation mode, on ``device``."""
    dataset: Dataset
    split: Split
    recipe: Recipe | None
    """None for a checkpoint that Assay did not train."""
    log: TrainingLog | None
    seed: int
    device: torch.device = torch.device("cpu")
    train: TrainAgain | None = None
    """None where nothing can be trained."""
    network: Callable[[], nn.Module] | None = None
    """Builds the untrained network; None where nothing can be trained."""
    architecture: Architecture | None = None
    """Describes that network, and where its first weights come from."""
    executor: Executor = field(default_factory=LocalExecutor)
    """Its workers share the records of an evaluation; results do not depend on their number."""
    personal: Mapping[str, nn.Module] = field(default_factory=dict)
    """Networks of single clients by their names, in evaluation mode, on ``device``; empty unless the recipe
    personalises."""
    task: Task = CLASSIFICATION
    """Defines the labels, and when an answer is wrong."""
    operating_point: OperatingPoint | None = None
    """The threshold that is already part of the model; see ``decided``."""

    @property
    def is_private(self) -> bool:
        """Whether the recipe trains privately, so that no ε pays for what else is told of training records."""
        return self.recipe is not None and self.recipe.privacy is not None

    @property
    def personalised(self) -> bool:
        """Whether each client has a model of its own; ``model`` is then the shared network."""
        federation = None if self.recipe is None else self.recipe.federation
        return federation is not None and federation.personalisation is not None

    @property
    def why_no_shared_model(self) -> str:
        """Why ``model`` is no model that anybody uses; empty where it is one."""
        if not self.personalised or self.recipe.federation.personalisation.shares_all:  # type: ignore[union-attr]
            return ""
        name = self.recipe.federation.personalisation.name  # type: ignore[union-attr]
        return (
            f"with {name}, some layers are each client's own, so the shared network alone is no model; the evaluation "
            "clients measures each client's"
        )

    @cached_property
    def point(self) -> OperatingPoint | None:
        """The operating point, chosen on the validation split; None where the likeliest class is the answer."""
        if self.operating_point is not None or not self.task.chooses_threshold:
            return self.operating_point
        held = self.split.validation
        return self.task.operating_point(self.logits(held), self.dataset.y[held])

    @cached_property
    def decided(self) -> "Subject":
        """The model with its rule of decision: at an operating point, the class with the greatest logit is the answer.

        Attacks, bounds and smoothing then use that threshold. The subject itself where the likeliest class is the
        answer.
        """
        if self.operating_point is not None or self.point is None:
            return self
        return replace(self, model=AtThreshold(self.model, self.point.shift).eval(), operating_point=self.point)

    @property
    def network_alone(self) -> nn.Module:
        """The model without the threshold that ``decided`` adds."""
        return self.model.network if isinstance(self.model, AtThreshold) else self.model

    @property
    def decided_at(self) -> dict[str, Any]:
        """Conditions of results at an operating point; empty where the likeliest class is the answer."""
        return {} if self.point is None else self.point.conditions

    def at_threshold(self, logits: Array) -> Array:
        """Shifts logits so that the class with the greatest one is the answer.

        Args:
            logits: (n, classes) of the model.

        Returns:
            (n, classes) logits.
        """
        return logits if self.point is None or self.operating_point is not None else self.point.shifted(logits)

    def decisions(self, logits: Array) -> Array:
        """Returns the answers of the model.

        Args:
            logits: (n, classes) of the model.

        Returns:
            (n,) classes.
        """
        return self.task.decide(self.at_threshold(logits))

    def wrong(self, logits: Array, y: Array) -> Array:
        """Returns which answers are wrong.

        Args:
            logits: (n, classes) of the model.
            y: (n,) labels.

        Returns:
            (n,) bool.
        """
        return self.task.wrong(self.at_threshold(logits), y)

    def right(self, rows: np.ndarray) -> np.ndarray:
        """Returns which records are answered correctly.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n,) bool.
        """
        return ~self.wrong(self.logits(rows), self.dataset.y[rows])

    @property
    def augmentations(self) -> list[Treatment]:
        """The recipe's treatments that change each record of a batch when it is drawn."""
        return [] if self.recipe is None else [one for one in self.recipe.data if one.augments]

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the patient or hospital of each record; splits keep these together.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n,) groups; None where the data have none.
        """
        return None if self.dataset.groups is None else self.dataset.groups[rows]

    def patients(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the patient of each record.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n,) patients; None where they are unknown, because groups may be hospitals.
        """
        return None if self.dataset.patients is None else self.dataset.patients[rows]

    def clusters(self, rows: np.ndarray) -> np.ndarray | None:
        """Returns the records that count as one in an interval: those of one patient, or exact copies.

        To split records by patient, use ``groups``.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n,) clusters; None where each record counts by itself.
        """
        return clusters(self.dataset, rows)

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """Removes records that are exact copies of an earlier one, with the same label.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (m,) positions.
        """
        pairs = np.column_stack([copies(self.dataset, rows), self.dataset.y[rows]])
        return rows[np.sort(np.unique(pairs, axis=0, return_index=True)[1])] if len(rows) else rows

    def records(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Returns records and labels on the device, in the form that attacks can change: words as vectors.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n, ...) records and (n,) labels.
        """
        x, y = torch.from_numpy(self.dataset.x[rows]), torch.from_numpy(self.dataset.y[rows])
        with torch.no_grad():
            return continuous(self.model, x.to(self.device)), y.to(self.device)

    def chosen(self, rows: np.ndarray, most: int | None) -> np.ndarray:
        """Returns a stratified sample of the rows, which is the same for every recipe.

        Args:
            rows: (n,) positions of the records.
            most: size of the sample; None for all rows.

        Returns:
            (m,) positions.
        """
        return stratified(self.dataset.y, rows, most, seed=self.seed)

    def examined(self, rows: np.ndarray, most: int | None) -> np.ndarray:
        """Returns the sample of an evaluation that needs hundreds of passes for each record; see ``chosen``.

        Without a limit it is all rows; of texts, about as many as contain ``TEXT_WORDS`` words, and at least
        ``FEWEST_TEXTS``.

        Args:
            rows: (n,) positions of the records.
            most: size of the sample; None for the default.

        Returns:
            (m,) positions.
        """
        if most is None and self.dataset.modality == "text":
            most = max(FEWEST_TEXTS, int(TEXT_WORDS / max(self.words(rows).mean(), 1)))
        return self.chosen(rows, most)

    def words(self, rows: np.ndarray) -> np.ndarray:
        """Counts the words of each text, as far as the model reads them.

        Args:
            rows: (n,) positions of the texts.

        Returns:
            (n,) counts.
        """
        written = self.dataset.written
        held = (self.dataset.x if written is None else written)[rows] != 0
        return (held.any(-1) if held.ndim == 3 else held).sum(1)

    @property
    def untouched(self) -> np.ndarray:
        """Positions of the validation records; none where early stopping chose the weights with them."""
        stopped = self.recipe is not None and self.recipe.training.early_stopping is not None
        return self.split.validation[:0] if stopped else self.split.validation

    @property
    def held_out(self) -> tuple[np.ndarray, str]:
        """Positions of records on which a guarantee may rest, and the name of their split.

        These are the calibration records, or else the validation records. There are none where early stopping has used
        the validation records and there is no calibration split.
        """
        split = self.split
        return (split.calibration, "calibration") if len(split.calibration) else (self.untouched, "validation")

    @property
    def why_none_held_out(self) -> str:
        """Why ``held_out`` has no records, and how to change that; only valid where it has none."""
        why = "there are no calibration or validation records"
        if len(self.split.validation):
            why = "early stopping chose the weights by the validation records, and there are no calibration records"
        return f"{why}: set split.calibration, to 0.1 say"

    @property
    def bounds(self) -> Bounds:
        """Bounds of a valid record; of words, those of their vectors in this model."""
        vectors = word_vectors(self.model)
        return self.dataset.bounds if vectors is None else vector_bounds(vectors)

    @cached_property
    def why_no_gradient(self) -> str:
        """Why the model's output has no gradient with respect to a record; empty where it has one."""
        # What is drawn by a model that answers at random must not hang on who asked this first.
        with generators_kept():
            return why_no_gradient(self.model, self.records(self.split.test[:2])[0])

    @property
    def space(self) -> str:
        """Units of ε."""
        return self.dataset.units if self.dataset.modality != "text" else f"{self.dataset.units}, not words"

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Runs the model.

        Args:
            rows: (n,) positions of the records.

        Returns:
            (n, classes) float64.
        """
        return self.answers(self.dataset.x[part] for part in self.pieces(rows))

    def pieces(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Splits rows into batches that the model can take.

        Args:
            rows: (n,) positions of the records.

        Returns:
            Iterator over positions.
        """
        for place in places(len(rows), self.dataset.form.network_shape):
            yield rows[place]

    @torch.no_grad()
    def answers(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Runs the model on records that come in batches.

        Args:
            batches: (k, ...) records each, as the data set stores them.

        Returns:
            (n, classes) float64 logits.
        """
        found = [self.model(torch.from_numpy(x).to(self.device)).double().cpu().numpy() for x in batches]
        return np.concatenate(found) if found else np.empty((0, self.dataset.classes))
