"""What an evaluation is given, and what it gives back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from assay import statistics
from assay.data.base import Dataset
from assay.data.clusters import clusters, copies
from assay.data.splits import Split, stratified
from assay.data.treatment import Treatment
from assay.executors import Executor, LocalExecutor
from assay.metrics import Metric
from assay.models.base import Architecture
from assay.models.batches import places
from assay.models.black_box import why_no_gradient
from assay.models.front import continuous, vector_bounds, word_vectors
from assay.models.outputs import AtThreshold
from assay.outcomes import Outcomes
from assay.recipes import Recipe
from assay.registry import Method
from assay.results import Finding, Measurement
from assay.seeds import generators_kept
from assay.statistics import Interval
from assay.tasks.base import Array, Task
from assay.tasks.classification import CLASSIFICATION
from assay.tasks.operating_point import OperatingPoint
from assay.threats import Bounds
from assay.training.log import TrainingLog


class TrainAgain(Protocol):
    """Trains the recipe anew, without its federation."""

    def __call__(self, rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        """The network after training.

        Args:
            rows: positions of the records to learn from.
            name: makes the draws of this training; without one they are the trial's own.
            recipe: another one in its place.
        """
        ...


TEXT_WORDS = 1_500
"""Words that a costly question looks at where nobody says how many texts: a text has thousands of inputs."""
FEWEST_TEXTS = 50


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One trained model with everything that may be asked about it."""

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
    """None where that is impossible."""
    network: Callable[[], nn.Module] | None = None
    """Makes the network before training, with its first weights; None where nothing can be trained."""
    architecture: Architecture | None = None
    """What describes that network, and knows where its first weights come from."""
    executor: Executor = field(default_factory=LocalExecutor)
    """Over whose workers an evaluation may spread its records; the result does not depend on how many there are."""
    task: Task = CLASSIFICATION
    """What labels are, and when an answer is wrong."""
    operating_point: OperatingPoint | None = None
    """The threshold that is part of the model already; see ``decided``."""

    @cached_property
    def point(self) -> OperatingPoint | None:
        """The operating point of this model, chosen on the validation split; None where the likeliest class is told."""
        if self.operating_point is not None or not self.task.chooses_threshold:
            return self.operating_point
        held = self.split.validation
        return self.task.operating_point(self.logits(held), self.dataset.y[held])

    @cached_property
    def decided(self) -> "Subject":
        """The same model as it decides: at an operating point, with logits whose greatest is the answer.

        Attacks, bounds and smoothing of it hold at that threshold. Itself where the likeliest class is the answer.
        """
        if self.operating_point is not None or self.point is None:
            return self
        return replace(self, model=AtThreshold(self.model, self.point.shift).eval(), operating_point=self.point)

    @property
    def network_alone(self) -> nn.Module:
        """The model without what ``decided`` adds: what it returns itself."""
        return self.model.network if isinstance(self.model, AtThreshold) else self.model

    @property
    def decided_at(self) -> dict[str, Any]:
        """Conditions of what was judged at an operating point; empty where the likeliest class is the answer."""
        return {} if self.point is None else self.point.conditions

    def at_threshold(self, logits: Array) -> Array:
        """Logits of the model, (n, classes), so that the greatest is what is answered."""
        return logits if self.point is None or self.operating_point is not None else self.point.shifted(logits)

    def decisions(self, logits: Array) -> Array:
        """What is answered, (n,), by the model's logits, (n, classes)."""
        return self.task.decide(self.at_threshold(logits))

    def wrong(self, logits: Array, y: Array) -> Array:
        """Which answers are wrong, (n,) bool.

        Args:
            logits: (n, classes) of the model.
            y: (n,) labels.
        """
        return self.task.wrong(self.at_threshold(logits), y)

    def right(self, rows: np.ndarray) -> np.ndarray:
        """Which records at the given positions are answered rightly, (n,) bool."""
        return ~self.wrong(self.logits(rows), self.dataset.y[rows])

    @property
    def augmentations(self) -> list[Treatment]:
        """The recipe's treatments that change each record of a batch as it is drawn."""
        return [] if self.recipe is None else [one for one in self.recipe.data if one.augments]

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The patient or hospital of each record, which stays whole; None where each record is its own."""
        return None if self.dataset.groups is None else self.dataset.groups[rows]

    def patients(self, rows: np.ndarray) -> np.ndarray | None:
        """The patient of each record, None where nothing tells patients apart: groups may be hospitals."""
        return None if self.dataset.patients is None else self.dataset.patients[rows]

    def clusters(self, rows: np.ndarray) -> np.ndarray | None:
        """What counts as one in an interval: a patient with all its records, a record with its exact copies.

        None where each record is its own. Whoever deals out records by patient takes ``groups``.
        """
        return clusters(self.dataset, rows)

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """The rows without those that are exact copies, label and all, of an earlier one."""
        pairs = np.column_stack([copies(self.dataset, rows), self.dataset.y[rows]])
        return rows[np.sort(np.unique(pairs, axis=0, return_index=True)[1])] if len(rows) else rows

    def records(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Records and labels at the given positions, on the device, where records can be moved: words as vectors."""
        x, y = torch.from_numpy(self.dataset.x[rows]), torch.from_numpy(self.dataset.y[rows])
        with torch.no_grad():
            return continuous(self.model, x.to(self.device)), y.to(self.device)

    def chosen(self, rows: np.ndarray, most: int | None) -> np.ndarray:
        """At most so many of the rows, stratified, the same for every recipe; all of them without a limit."""
        return stratified(self.dataset.y, rows, most, seed=self.seed)

    def examined(self, rows: np.ndarray, most: int | None) -> np.ndarray:
        """``chosen`` for a question that costs hundreds of passes a record: without a limit all rows, but of texts only
        so many as hold about ``TEXT_WORDS`` words, and at least ``FEWEST_TEXTS``."""
        if most is None and self.dataset.modality == "text":
            most = max(FEWEST_TEXTS, int(TEXT_WORDS / max(self.words(rows).mean(), 1)))
        return self.chosen(rows, most)

    def words(self, rows: np.ndarray) -> np.ndarray:
        """(n,) words of each text at the given positions, as far as they are read."""
        written = self.dataset.written
        held = (self.dataset.x if written is None else written)[rows] != 0
        return (held.any(-1) if held.ndim == 3 else held).sum(1)

    @property
    def untouched(self) -> np.ndarray:
        """Positions of the validation records, unless early stopping chose the weights by them: then of none."""
        stopped = self.recipe is not None and self.recipe.training.early_stopping is not None
        return self.split.validation[:0] if stopped else self.split.validation

    @property
    def held_out(self) -> tuple[np.ndarray, str]:
        """Positions of records on which a promise may rest, and of which split: calibration, else validation.

        None where early stopping has seen the validation records and there are no others.
        """
        split = self.split
        return (split.calibration, "calibration") if len(split.calibration) else (self.untouched, "validation")

    @property
    def why_none_held_out(self) -> str:
        """Why ``held_out`` has no records, and what to do; only where it has none."""
        why = "there are no calibration or validation records"
        if len(self.split.validation):
            why = "early stopping chose the weights by the validation records, and there are no calibration records"
        return f"{why}: set split.calibration, to 0.1 say"

    @property
    def bounds(self) -> Bounds:
        """Bounds of a valid record, where it can be moved: of words, those of their vectors in this model."""
        vectors = word_vectors(self.model)
        return self.dataset.bounds if vectors is None else vector_bounds(vectors)

    @cached_property
    def why_no_gradient(self) -> str:
        """Why no gradient of the model's answers leads back to a record; empty where one does."""
        # What is drawn by a model that answers at random must not hang on who asked this first.
        with generators_kept():
            return why_no_gradient(self.model, self.records(self.split.test[:2])[0])

    @property
    def space(self) -> str:
        """What a change of ε means."""
        return self.dataset.units if self.dataset.modality != "text" else f"{self.dataset.units}, not words"

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """(n, classes) float64."""
        return self.answers(self.dataset.x[part] for part in self.pieces(rows))

    def pieces(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The rows, so many at once as the model can take records of this data set's shape; of text, of its vectors."""
        for place in places(len(rows), self.dataset.form.network_shape):
            yield rows[place]

    @torch.no_grad()
    def answers(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """(n, classes) float64: what the model says of records that come in batches, as the data set stores them."""
        found = [self.model(torch.from_numpy(x).to(self.device)).double().cpu().numpy() for x in batches]
        return np.concatenate(found) if found else np.empty((0, self.dataset.classes))


class Evaluation(Method):
    """Register with ``@register("evaluation")``, declare ``metrics`` and write ``measure``."""

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """Every figure that ``measure`` may give: what it means, and what the scorecard shows of it."""

    looks_at: ClassVar[Literal["decisions", "probabilities", "both"]] = "both"
    """What of an answer matters, where two classes are decided at an operating point (``Task.chooses_threshold``).
    ``decisions``: ``measure`` is given ``Subject.decided``, whose greatest logit is the answer, and every row says at
    which threshold. ``probabilities``: the threshold changes nothing, and does not name its answers. ``both``: it asks
    ``Subject.decisions``, ``wrong`` and ``right`` itself, and adds ``Subject.decided_at`` to the rows that concern."""

    def measure(self, subject: Subject) -> Sequence[Finding]:
        """Ask the question. What cannot be asked is ``not_applicable`` with its reason, never left out."""
        raise NotImplementedError

    read_later: ClassVar[frozenset[str]] = frozenset()
    """Settings that only ``read`` uses: they name no answer, so another value asks nothing again."""

    def read(self, found: Sequence[Finding]) -> Sequence[Finding]:
        """What a trial shows of stored findings, by the settings in ``read_later``; by default all of them.

        Args:
            found: as ``measure`` gave them back, perhaps long ago.
        """
        return found

    def sample(self, subject: Subject) -> np.ndarray:
        """Positions of the test records that it asks: so many as ``records`` says, where it has that setting, or all.

        Whoever asks of others than these overrides it: the accuracy shown beside its figures is of this sample.
        """
        return subject.chosen(subject.split.test, getattr(self, "records", None))

    @property
    def of_training_records(self) -> bool:
        """Whether its answers depend on the training records beyond the model's own weights.

        They do where it looks at these records, or at networks that it trains on them again. No ε pays for that, so
        such a figure never leaves the curator of a private model. An evaluation that looks at other records alone says
        False; a test holds it to that.
        """
        return True

    def forecast(self, records: int) -> str:
        """What the evaluation would cost a trial, where that is worth knowing before; empty otherwise.

        Args:
            records: of the test split.
        """
        return ""

    def fingerprint(self) -> str:
        """Hash of data beyond the cohort's own that the answers depend on; part of what names a trial."""
        return ""


def share(name: str, hits: np.ndarray, clusters: np.ndarray | None, **conditions: Any) -> Measurement:
    """A share of records with its interval; what ``Subject.clusters`` holds together counts together."""
    if clusters is None:
        interval = statistics.proportion(int(hits.sum()), len(hits))
    else:
        interval = statistics.proportion_of_clusters(hits, clusters)
    return estimated(name, interval, n=len(hits), conditions=conditions)


def share_by_record(
    name: str, hits: np.ndarray, clusters: np.ndarray | None, rows: np.ndarray, **conditions: Any
) -> Measurement:
    """The same of test records, with what became of each, by which recipes are paired. Never of training records.

    Args:
        name: of the measurement.
        hits: (n,) bool.
        clusters: (n,) as ``Subject.clusters``.
        rows: (n,) positions of the records in the data set.
        conditions: of the measurement.
    """
    return replace(share(name, hits, clusters, **conditions), outcomes=Outcomes.of(hits, rows, clusters))


def estimated(
    name: str,
    interval: Interval,
    *,
    n: int,
    unit: str = "fraction",
    conditions: Mapping[str, Any],
) -> Measurement:
    """A measured value with the interval around it."""
    return Measurement(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=n,
        unit=unit,
        conditions=conditions,
    )
