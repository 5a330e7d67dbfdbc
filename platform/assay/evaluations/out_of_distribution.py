"""Detection of records of another kind by the model's own scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from scipy.special import logsumexp

from assay import intervals, seeds
from assay.data.base import Dataset
from assay.data.corruptions.base import SEVERITIES, corrupted, corruption, names_for
from assay.data.splits import stratified
from assay.data.text.embeddings import sentences_at
from assay.errors import DataError
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import Method, build, choice_of, register
from assay.results import Finding, Measurement, not_applicable
from assay.tasks.base import Task

_NAME = "ood_auroc"
_PARTS = {"tabular": "features", "image": "pixels", "signal": "samples", "text": "words"}
SCORES: dict[str, Callable[[Task, np.ndarray], np.ndarray]] = {
    # Hendrycks & Gimpel 2017 (arXiv:1610.02136), and Liu et al. 2020 (arXiv:2010.03759) at temperature 1.
    "max softmax": lambda task, logits: -task.certainty(logits),
    "energy": lambda task, logits: -logsumexp(logits, axis=1),
}
"""Scores of how unfamiliar records look to the model, (n,), from a task and logits (n, classes)."""


@register("evaluation")
class OutOfDistribution(Evaluation):
    """AUROC with which the model's own scores separate test records from corrupted records and from foreign records.

    Foreign records are those of another data set, brought to the shape of this one, or, where none is named, the test
    records themselves with their pixels, samples, features or words in random order.
    """

    name: Literal["out_of_distribution"] = "out_of_distribution"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAME,
            title="AUROC against other records",
            meaning="Probability that the model's own score is higher for a record of another kind than for a test "
            "record.",
            unit="AUROC",
            better="higher",
        ),
    )

    foreign: Annotated[
        SerializeAsAny[Method] | None, BeforeValidator(lambda given: None if given is None else build("dataset", given))
    ] = None
    """Another data set of the same modality."""
    corruptions: tuple[choice_of("corruption"), ...] = ()  # type: ignore[valid-type]
    """All of the data's modality by default."""
    severity: int = Field(default=SEVERITIES[-1], ge=SEVERITIES[0], le=SEVERITIES[-1])
    """Severity of the corruptions."""
    records: int | None = Field(default=1000, ge=10)
    """At most this many records of each kind, stratified; None for all."""
    draws: int = Field(default=200, ge=50)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        dataset = subject.dataset
        rows = self.sample(subject)
        known = subject.logits(rows)
        if not np.isfinite(known).all():
            return [
                not_applicable(_NAME, "the model answers NaN or infinity to test records", reason="no_finite_answers")
            ]
        if dataset.modality == "text" and (dataset.language is None or dataset.written is None):
            why = "the data set does not say how other words become records"
            return [not_applicable(_NAME, why, reason="no_method")]
        found: list[Finding] = []
        for chosen in self.corruptions or tuple(corruption(name) for name in names_for(dataset.modality)):
            generator = seeds.stream(subject.seed, "corruption", chosen.name)
            changed = (
                corrupted(dataset, part, chosen, self.severity, generator=generator) for part in subject.pieces(rows)
            )
            about = {"against": f"{chosen.name}, severity {self.severity}"}
            found += self._areas(subject, rows, known, Others(logits=subject.answers(changed)), about)
        others = self._shuffled if self.foreign is None else self._foreign
        return found + others(subject, rows, known)

    def fingerprint(self) -> str:
        if self.foreign is None:
            return ""
        try:
            return _loaded(self.foreign).digest
        except DataError:
            return "absent"

    def _shuffled(self, subject: Subject, rows: np.ndarray, known: np.ndarray) -> list[Measurement]:
        generator = seeds.stream(subject.seed, "shuffled")
        changed = (shuffled(subject.dataset, part, generator=generator) for part in subject.pieces(rows))
        about = {"against": f"shuffled {_PARTS[subject.dataset.modality]}"}
        return self._areas(subject, rows, known, Others(logits=subject.answers(changed)), about)

    def _foreign(self, subject: Subject, rows: np.ndarray, known: np.ndarray) -> list[Measurement]:
        about: dict[str, Any] = {"against": f"foreign: {self.foreign.name}"}  # type: ignore[union-attr]
        try:
            foreign = _loaded(self.foreign)
        except DataError as error:
            return [Measurement(name=_NAME, status="failed", reason="error", conditions=about, warnings=(str(error),))]
        about["against"] = f"foreign: {foreign.name}"
        why = why_not(foreign, subject.dataset)
        if why:
            return [not_applicable(_NAME, why, reason="other_kind_of_records", **about)]
        everyone = np.arange(len(foreign)) if foreign.official is None else np.flatnonzero(foreign.official == "test")
        chosen = stratified(foreign.y, everyone, self.records, seed=subject.seed)
        logits = subject.answers(adapt_records(foreign, part, subject.dataset) for part in subject.pieces(chosen))
        groups = chosen if foreign.groups is None else foreign.groups[chosen]
        return self._areas(subject, rows, known, Others(logits=logits, groups=groups), about)

    def _areas(
        self, subject: Subject, rows: np.ndarray, known: np.ndarray, others: "Others", about: dict[str, Any]
    ) -> list[Measurement]:
        """Measures the AUROC of each score between the test records and the others."""
        if not np.isfinite(others.logits).all():
            why = "the model answers NaN or infinity to these records"
            return [not_applicable(_NAME, why, reason="no_finite_answers", **about)]
        logits = np.concatenate([known, others.logits])
        strange = np.arange(len(logits)) >= len(known)
        scores = [score(subject.task, logits) for score in SCORES.values()]
        areas = intervals.bootstrap_curve(
            lambda i: np.array([intervals.auroc(strange[i], score[i]) for score in scores]),
            len(logits),
            generator=seeds.stream(subject.seed, "bootstrap", _NAME),
            draws=self.draws,
            groups=others.drawn_with(rows, subject.clusters(rows)),
        )
        return [
            estimated(_NAME, interval, unit="AUROC", n=len(logits), conditions={"score": name, **about})
            for name, interval in zip(SCORES, areas, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Others:
    """Logits of records that are not test records."""

    logits: np.ndarray
    groups: np.ndarray | None = None
    """(n,) the patient of each; None where they are changed copies of the test records, in the same order."""

    def drawn_with(self, rows: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Returns the clusters of a bootstrap: a record with its changed copy, or all records of a patient.

        Args:
            rows: (t,) positions of the test records.
            groups: (t,) clusters of the test records, or None.

        Returns:
            (t + n,) clusters.
        """
        _, own = np.unique(rows if groups is None else groups, return_inverse=True)
        if self.groups is None:
            return np.concatenate([own, own])
        _, theirs = np.unique(self.groups, return_inverse=True)
        return np.concatenate([own, own.max() + 1 + theirs])


def shuffled(dataset: Dataset, rows: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
    """Returns records whose pixels, samples, features or words are in random order; channels stay together.

    Args:
        dataset: of the records.
        rows: (n,) their positions.
        generator: of the order.

    Returns:
        (n, ...) records.
    """
    if dataset.modality == "text":
        assert dataset.language is not None
        sentences = sentences_at(dataset, rows)
        return dataset.language.encode([[words[i] for i in generator.permutation(len(words))] for words in sentences])
    x = dataset.x[rows]
    flat = x.reshape(len(x), *((x.shape[1], -1) if x.ndim > 2 else (1, -1)))
    order = generator.random((len(x), 1, flat.shape[2])).argsort(2)
    mixed = np.take_along_axis(flat, order, axis=2).reshape(x.shape)
    return np.clip(mixed, dataset.low, dataset.high).astype(np.float32)


@lru_cache(maxsize=2)
def _loaded(foreign: Any) -> Dataset:
    """Loads the data set once for the key of the results and for every recipe."""
    return foreign.load()


def why_not(foreign: Dataset, dataset: Dataset) -> str:
    """Returns why records of another data set cannot be given to a model of this one.

    Args:
        foreign: the other data set.
        dataset: of the model.

    Returns:
        A reason; empty where they can.
    """
    if foreign.modality != dataset.modality:
        return f"{foreign.name} holds records of modality {foreign.modality}, {dataset.name} of {dataset.modality}"
    if dataset.modality == "tabular":
        return "features of one table mean nothing in another; leave foreign out to shuffle this one's"
    return ""


def adapt_records(foreign: Dataset, rows: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Converts records of another data set of the same modality to the form that a model of this one takes.

    Images and signals are resized linearly, their channels replaced by the mean channel where the numbers differ, and
    scaled from bounds to bounds where the units differ. Texts are encoded again from their sentences.

    Args:
        foreign: the other data set.
        rows: (n,) positions of its records.
        dataset: of the model.

    Returns:
        (n, ...) records.
    """
    if dataset.modality == "text":
        assert dataset.language is not None
        return dataset.language.encode(sentences_at(foreign, rows))
    x = torch.from_numpy(np.asarray(foreign.x[rows], np.float32))
    channels, *size = dataset.shape
    if x.shape[1] != channels:
        x = x.mean(1, keepdim=True).expand(-1, channels, *x.shape[2:])
    if list(x.shape[2:]) != size:
        way: dict[str, Any] = {"mode": "bilinear", "antialias": True} if len(size) == 2 else {"mode": "linear"}
        x = torch.nn.functional.interpolate(x, size=size, align_corners=False, **way)
    if foreign.units != dataset.units:
        low, high = float(foreign.low.min()), float(foreign.high.max())
        least, most = float(dataset.low.min()), float(dataset.high.max())
        x = least + (x - low) / (high - low) * (most - least)
    return np.clip(x.numpy(), dataset.low, dataset.high).astype(np.float32)
