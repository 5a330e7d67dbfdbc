"""What a task promises: the one place that knows what an answer and a target are.

A task takes answers as a model gives them, (n, outputs), and targets, (n, ...). Methods that training and attacks call
take tensors, those of evaluations NumPy arrays; ``decide``, ``answered`` and ``wrong`` take either.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np
from torch import Tensor

from assay.registry import Method

if TYPE_CHECKING:
    from assay.tasks.operating_point import OperatingPoint

Array = TypeVar("Array", Tensor, np.ndarray)
Statistic = Callable[[np.ndarray], float]
"""A figure of the records at some positions, for a bootstrap."""
Metric = tuple[Statistic, dict[str, Any]]
"""How a figure is computed, and under which conditions it stands."""


@dataclass(frozen=True)
class Criterion:
    """Says which answers an attack wants: the wrong ones. A certificate rules them out.

    An attack that aims at one answer has a criterion of its own: see ``Task.reaches``.
    """

    task: "Task"

    def __call__(self, answers: Array, targets: Array) -> Array:
        """Returns which answers meet the criterion, (n,) bool.

        Args:
            answers: (n, outputs) of a model.
            targets: (n, ...) what the records are.
        """
        return self.task.wrong(answers, targets)


class Task(Method):
    """Register with ``@register("task")`` and write what ``Classification`` writes."""

    def outputs(self, targets: Tensor) -> int:
        """Returns how many outputs a network needs for such targets, (n, ...), where the data do not say it."""
        raise NotImplementedError

    def refuse(self, classes: int) -> None:
        """Refuses data that this task cannot be asked of.

        Args:
            classes: how many the data have.

        Raises:
            SpecError: names the setting and what is allowed.
        """

    @property
    def training(self) -> Mapping[str, Any]:
        """The settings that weights depend on, as plain values; part of what names a training."""
        return self.model_dump(mode="json")

    @property
    def deciding(self) -> Mapping[str, Any]:
        """The settings that only say which answer is given, as plain values; part of what names a measurement."""
        return {}

    # What training and attacks ask.

    def losses(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each record, (n,), a function of that record alone."""
        raise NotImplementedError

    def imitation(self, answers: Tensor, teacher: Tensor) -> Tensor:
        """Returns how far answers are from a teacher's answers to the same records, (n,): the loss of distillation."""
        raise NotImplementedError

    def divergence_from(self, answers: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns a function of other answers: how far they have moved from these, (n,), 0 where they are equal."""
        raise NotImplementedError

    def wrong(self, answers: Array, targets: Array) -> Array:
        """Returns which answers count as wrong, (n,) bool: the criterion of attacks, certificates and accuracies.

        An answer that is no finite number is always wrong.
        """
        raise NotImplementedError

    @property
    @final
    def criterion(self) -> Criterion:
        """The criterion of an attack that wants any wrong answer."""
        return Criterion(self)

    def check(self, answers: Tensor, targets: Tensor) -> None:
        """Refuses answers that are none to such targets.

        Raises:
            ValueError: they are of another shape, or a target is beyond them.
        """
        raise NotImplementedError

    def stays_right(self, leads: Tensor, targets: Tensor) -> Tensor:
        """Returns which answers stay right within a box of inputs, (n,) bool; NaN proves nothing.

        Args:
            leads: (n, outputs) upper bounds of every output minus the true one.
            targets: (n, ...).
        """
        raise NotImplementedError

    # What an answer says.

    def answered(self, answers: Array) -> Array:
        """Returns which answers consist of finite numbers, (n,) bool."""
        raise NotImplementedError

    def decide(self, answers: Array) -> Array:
        """Returns what is answered, (n,): of classes, the number of the likeliest."""
        raise NotImplementedError

    def reaches(self, aim: int) -> Criterion:
        """Returns the criterion of a targeted attack: the answer is the one that is aimed at, whatever is true."""
        raise NotImplementedError

    def probabilities(self, answers: Tensor) -> Tensor:
        """Returns the probabilities of all possible answers, (n, outputs)."""
        raise NotImplementedError

    # What evaluations ask, of NumPy arrays in float64.

    def operating_point(self, answers: np.ndarray, targets: np.ndarray) -> "OperatingPoint":
        """Chooses the threshold at which two classes are told apart; only of a task that ``chooses_threshold``.

        Args:
            answers: (m, outputs) to validation records.
            targets: (m,) of these.
        """
        raise NotImplementedError

    @property
    def chooses_threshold(self) -> bool:
        """Whether answers are decided at a threshold that is chosen on validation records."""
        return False

    def fits(self, answers: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns how well each answer fits its target, (n,): in the order of minus the loss, without a ceiling.

        Membership attacks compare it, so records that the model knows best must not be rounded to one value.
        """
        raise NotImplementedError

    def confidence(self, answers: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """Returns the probability that the model gives to what was answered, (n,).

        Args:
            answers: (n, outputs) finite.
            decided: (n,) what was answered.
        """
        raise NotImplementedError

    def certainty(self, answers: np.ndarray) -> np.ndarray:
        """Returns how sure the model is of what it answers, (n,), without a ceiling."""
        raise NotImplementedError

    def metrics(
        self, answers: np.ndarray, targets: np.ndarray, *, decided: np.ndarray, about: Mapping[str, Any], bins: int
    ) -> dict[str, Metric]:
        """Returns the metrics by name, each a function of positions, (k,), among the records.

        Args:
            answers: (n, outputs) finite.
            targets: (n, ...).
            decided: (n,) what was answered.
            about: conditions of the metrics that depend on what was answered.
            bins: of the calibration error.
        """
        raise NotImplementedError

    def conformal_scores(
        self, answers: np.ndarray, method: str, generator: np.random.Generator, same: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns how ill each possible answer fits, (n, outputs): the nonconformity score.

        Args:
            answers: (n, outputs) finite.
            method: name of the score.
            generator: of the draws of a randomised score.
            same: (n,) a number from 0 for each record; those of one number share their draw, as copies must.
        """
        raise NotImplementedError
