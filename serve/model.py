"""The served model: predictions, explanations and certificates of checked records."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.bounds.interval import UnboundableError, certified_by_intervals
from assay.devices import repeatable
from assay.evaluations.explained_maps import settings_of
from assay.explain.base import Attribution, Explainer, ExplanationError
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.models.front import continuous, vector_bounds, word_vectors
from assay.report.checks import checks_of
from assay.study.finished import Finished
from assay.tasks.operating_point import OperatingPoint
from assay.threats import Threat
from serve.answers.fidelity import fidelity_of
from serve.answers.promises import Checked, coverage_checked, risk_checked
from serve.inputs.read import MOST_RECORDS, Reader
from serve.inputs.records import Records
from serve.refusals import RefusedError

MOST_EXPLAINED = 32
"""Greatest number of records in one call of methods that cost many times as much as integrated gradients."""
_EXPLAINERS: dict[str, Explainer] = {"integrated_gradients": IntegratedGradients(tolerance=0.02), "shap": DeepShap()}
"""Explanation methods by the name of a request; more accurate than usual, since an answer is read alone. What a request
does not name is answered as the study measured it."""


class NoFiniteAnswerError(Exception):
    """The model's output is no answer: it is NaN or infinite, or not what it was. Never reported as a class."""


_SETTINGS = ExitStack()
"""Settings of PyTorch of this process, never restored: other models that answer in it need them too."""


@cache
def _compute_as_evaluated() -> None:
    _SETTINGS.enter_context(repeatable(tf32=False))


class ServedModel:
    """One finished trial, ready to answer requests. Safe to call from several threads.

    It computes where the model is. On a GPU it computes as the evaluations did: repeatably, and in float32, for which
    certificates hold.

    Args:
        finished: the trained model with its data and figures.
    """

    def __init__(self, finished: Finished) -> None:
        self.finished = finished
        self._device = finished.device
        _compute_as_evaluated()
        self.dataset = finished.dataset
        self._model = finished.model.requires_grad_(False)
        self._subject = finished.subject
        self._task = self._subject.task
        vectors = word_vectors(self._model)
        bounds = finished.dataset.bounds if vectors is None else vector_bounds(vectors)
        self._bounds = bounds.on(self._device)
        train = None if finished.private else finished.split.train
        self.reader = Reader(finished.dataset, train=train)
        self._reference = finished.explanations.reference(self._subject)
        self.default = finished.explanations.default(self._subject, self._reference)
        self._one_at_a_time = threading.Lock()
        self._fidelity: dict[str, dict[str, Any]] = {}
        self.unexplained = self._try_shap()
        self.unbounded = self._try_bounds()

    @property
    def compared_with(self) -> str:
        """What explanations compare a record with, for readers."""
        return self._reference.source

    @property
    def neutral(self) -> np.ndarray:
        """The record with which explanations compare others, within the bounds; in the shape of a record."""
        middle = self._reference.baseline(torch.zeros(1, *self.dataset.shape, device=self._device))
        return np.asarray(middle[0].cpu().numpy().clip(self.dataset.low, self.dataset.high))

    @property
    def reads_images(self) -> bool:
        """Whether records are images, which may be sent as files."""
        return self.reader.images is not None

    @property
    def reads_text(self) -> bool:
        """Whether records are texts."""
        return self.dataset.language is not None

    def read(self, given: list[Any], *, most: int = MOST_RECORDS, about: Any = None) -> Records:
        """Checks records and brings them into the form that the model takes, where the model is.

        Args:
            given: records as lists of its inputs, as objects of named values with their units, images, signals or
                texts.
            most: greatest number of records.
            about: facts about the records, which the intended use is checked by.

        Returns:
            The records.

        Raises:
            RefusedError: there are too many, or one is no record of this model.
        """
        return self._placed(self.reader.read(given, most=most, about=about))

    def take(self, x: np.ndarray, *, most: int = MOST_RECORDS) -> Records:
        """Checks a tensor of records, as ``read`` does.

        Args:
            x: (n, ...) float32 or float64.
            most: greatest number of records.

        Returns:
            The records.

        Raises:
            RefusedError: they are none that the model takes.
        """
        return self._placed(self.reader.take(x, most=most))

    def _placed(self, records: Records) -> Records:
        return records if records.x.device == self._device else replace(records, x=records.x.to(self._device))

    @torch.no_grad()
    def logits(self, x: Tensor) -> np.ndarray:
        """Runs the model.

        Args:
            x: (n, ...) records from ``read``.

        Returns:
            (n, classes) logits, float32.

        Raises:
            NoFiniteAnswerError: one is NaN or infinite.
        """
        return np.asarray(_finite(self._model(x)).cpu().numpy())

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probabilities of all classes.

        Args:
            logits: (n, classes) from ``logits``.

        Returns:
            (n, classes) float32.
        """
        return np.asarray(self._task.probabilities(torch.from_numpy(logits)).numpy())

    def decisions(self, logits: np.ndarray) -> np.ndarray:
        """Returns the predicted classes, at the operating point where the model has one.

        Args:
            logits: (n, classes) from ``logits``.

        Returns:
            (n,) class numbers.
        """
        return np.asarray(self._subject.decisions(torch.from_numpy(logits)).numpy())

    @cached_property
    def probe(self) -> Tensor:
        """A record of the model's own data, with which it is tested before it answers, and while it does; (1, ...)."""
        rows = self.finished.split.test
        return torch.from_numpy(self.dataset.x[rows[:1] if len(rows) else np.arange(1)]).to(self._device)

    @cached_property
    def _known_answer(self) -> np.ndarray:
        return self.logits(self.probe)

    def check_self(self) -> None:
        """Answers the probe, and compares the answer with the first one.

        Raises:
            NoFiniteAnswerError: the model gives no finite answer, or another one than before.
        """
        if np.abs(self.logits(self.probe) - self._known_answer).max() > 1e-4 * max(1, np.abs(self._known_answer).max()):
            raise NoFiniteAnswerError("the model answers its test record otherwise than when it was loaded")

    @property
    def point(self) -> OperatingPoint | None:
        """The operating point at which the second class is predicted; None where the likeliest class is."""
        return self._subject.point

    @property
    def threshold(self) -> float | None:
        """Least probability of the second class at which it is predicted; None without a threshold."""
        return None if self.point is None else self.point.threshold

    def explainer(self, method: str) -> Explainer:
        """Returns the method that a name of a request stands for.

        Args:
            method: ``default``, ``integrated_gradients`` or ``shap``.

        Returns:
            The method: by default that of the study's evaluation of explanations, with its settings.
        """
        return self.default.method if method == "default" else _EXPLAINERS[method]

    @cached_property
    def differs_from_card(self) -> str:
        """How the default differs from the method whose faithfulness the card states; empty if it does not."""
        stated = self._measured_conditions
        method = self.default.method
        own = {"method": method.name, **settings_of(method), "reference": self.compared_with}
        different = [
            f"{key} {stated.get(key)!r}, not {value!r}" for key, value in own.items() if stated.get(key) != value
        ]
        if not stated or not different:
            return ""
        return f"the faithfulness of the card was measured with {'; '.join(different)} as in answers by default"

    def fidelity(self, method: str) -> dict[str, Any]:
        """Returns what is known of how true the explanations by a method are.

        Args:
            method: ``default``, ``integrated_gradients`` or ``shap``.

        Returns:
            The fields of ``answer_messages.Fidelity``.
        """
        if method not in self._fidelity:
            explainer, why_not = self.explainer(method), self._why_not_stated(method)
            known = fidelity_of(self.finished, explainer, compared_with=self.compared_with, why_not=why_not)
            self._fidelity[method] = known
        return self._fidelity[method]

    def _why_not_stated(self, method: str) -> str:
        """Returns why the card does not state the faithfulness of a method; empty where it does."""
        if not self._measured_conditions:
            return "the card states no faithfulness: that of this model's explanations was not measured"
        if self.explainer(method) != self.default.method:
            return "the card states the faithfulness of the default method with its settings, not of this one"
        return self.differs_from_card

    @cached_property
    def checks(self) -> int:
        """Number of the checks that judged the model."""
        return len(checks_of(self.finished.own))

    @cached_property
    def coverage_checked(self) -> Checked:
        """What the study found of the coverage of prediction sets."""
        return coverage_checked(self.finished)

    @cached_property
    def risk_checked(self) -> Checked:
        """What the study found of the risk of the rule of abstention."""
        return risk_checked(self.finished)

    @cached_property
    def _measured_conditions(self) -> dict[str, Any]:
        """Conditions of the faithfulness that the card states; empty if it states none."""
        own = self.finished.own
        rows = own[(own["name"] == "faithfulness") & (own["status"] == "measured")]
        return next((dict(one) for one in rows["conditions"] if one.get("primary")), {})

    def explain(self, x: Tensor, method: str) -> tuple[np.ndarray, Attribution]:
        """Attributes each record's predicted class to its inputs, or to its words; see ``Explainer.scalar``.

        Args:
            x: (n, ...) records from ``read``.
            method: ``default``, ``integrated_gradients`` or ``shap``.

        Returns:
            Predicted classes, (n,), and the attributions.

        Raises:
            RefusedError: SHAP does not support this model.
            NoFiniteAnswerError: an output is NaN or infinite.
        """
        x, target = self._decided(x)
        if method == "shap" and self.unexplained:
            raise RefusedError(self.unexplained)
        # One at a time: a method may add hooks to the network while it runs.
        with self._one_at_a_time:
            try:
                attribution = self.explainer(method).explain(self._model, x, target, self._reference)
            except ExplanationError as error:
                raise RefusedError(str(error)) from None
        if self.dataset.language is not None:
            attribution = replace(attribution, values=attribution.values.sum(-1))
        return target.cpu().numpy(), attribution

    def certify(self, x: Tensor, epsilons: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """Certifies the predicted class of each record by interval bounds.

        Args:
            x: (n, ...) records from ``read``.
            epsilons: radii (L∞) in the units of the data.

        Returns:
            Predicted classes, (n,), and whether each is proven not to change within each radius, (n, radii) bool.

        Raises:
            RefusedError: there are no interval bounds for this model.
            NoFiniteAnswerError: an output is NaN or infinite.
        """
        if self.unbounded:
            raise RefusedError(self.unbounded)
        x, target = self._decided(x)
        proven = torch.stack([self._proven(x, target, epsilon) for epsilon in epsilons], dim=1)
        return target.cpu().numpy(), proven.cpu().numpy()

    @torch.no_grad()
    def _decided(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns records as the network sees them, and their predicted classes, (n,)."""
        x = continuous(self._model, x)
        return x, self._subject.decisions(_finite(self._model(x)))

    def _proven(self, x: Tensor, target: Tensor, epsilon: float) -> Tensor:
        """Returns for which records the predicted class is proven not to change within ε, (n,) bool."""
        threat = Threat(norm="linf", epsilon=epsilon, bounds=self._bounds, goal=self._task.criterion)
        proven = certified_by_intervals(self._subject.decided.model, x, target, threat, task=self._task)
        # The box of an attack is cut to the bounds of a valid input: around a record beyond them it would be empty, and
        # anything proven of it. Such records are answered with a warning, and nothing is proven of them.
        return proven & ((x >= self._bounds.low) & (x <= self._bounds.high)).flatten(1).all(1)

    def _try_shap(self) -> str:
        # Random records: one that equals its reference would be explained by any rule.
        first, width = self._reference.background[:1], self._bounds.high - self._bounds.low
        noise = torch.rand(4, *first.shape[1:], generator=torch.Generator().manual_seed(0)).to(self._device) - 0.5
        x = self._bounds.clip(first + torch.where(width.isfinite(), width, 1.0) * noise)
        target = torch.zeros(4, dtype=torch.long, device=self._device)
        try:
            DeepShap().explain(self._model, x, target, self._reference)
        except ExplanationError as error:
            return str(error)
        return ""

    def _try_bounds(self) -> str:
        x = self._bounds.clip(torch.zeros(1, *self.dataset.form.network_shape, device=self._device))
        try:
            self._proven(x, torch.zeros(1, dtype=torch.long, device=self._device), 0.1)
        except UnboundableError as error:
            return str(error)
        return ""


def _finite(logits: Tensor) -> Tensor:
    """Returns logits if all are finite: of others, the predicted class would be any."""
    if not torch.isfinite(logits).all():
        raise NoFiniteAnswerError("the model gives no finite answer to a record; it is not answered")
    return logits
