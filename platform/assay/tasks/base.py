"""Base class of tasks: the one place that defines answers and targets.

A task takes answers as a model returns them, (n, outputs), and targets, (n, ...). Methods that training and attacks
call take tensors, those of evaluations NumPy arrays; ``decide``, ``answered`` and ``wrong`` take either.
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
"""From record positions to a value, for a bootstrap."""
Metric = tuple[Statistic, dict[str, Any]]
"""The function that computes a metric, and the conditions of the measurement."""


@dataclass(frozen=True)
class Criterion:
    """The goal of an attack: the answers that count as success, by default the wrong ones. A certificate excludes them.

    A targeted attack has a criterion of its own: see ``Task.reaches``.
    """

    task: "Task"

    def __call__(self, answers: Array, targets: Array) -> Array:
        """Returns which answers meet the criterion.

        Args:
            answers: (n, outputs) of a model.
            targets: (n, ...) what the records are.

        Returns:
            (n,) bool.
        """
        return self.task.wrong(answers, targets)


class Task(Method):
    """Base class. Register with ``@register("task")`` and write the methods that ``Classification`` has."""

    def outputs(self, targets: Tensor) -> int:
        """Returns the number of outputs that a network needs, where the data do not define it.

        Args:
            targets: (n, ...).

        Returns:
            The number.
        """
        raise NotImplementedError

    def refuse(self, classes: int) -> None:
        """Raises an error where the data do not suit this task.

        Args:
            classes: number of classes in the data.

        Raises:
            SpecError: names the setting and what is allowed.
        """

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings on which the trained weights depend, as plain values; part of the key of a training."""
        return self.model_dump(mode="json")

    @property
    def deciding(self) -> Mapping[str, Any]:
        """Settings that only affect which answer is given, as plain values; part of the key of a measurement."""
        return {}

    # Methods for training and attacks.

    def losses(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each record, which depends on that record alone.

        Args:
            answers: (n, outputs).
            targets: (n, ...).

        Returns:
            (n,) losses.
        """
        raise NotImplementedError

    def imitation(self, answers: Tensor, teacher: Tensor) -> Tensor:
        """Returns the distance between answers and a teacher's answers to the same records: the loss of distillation.

        Args:
            answers: (n, outputs).
            teacher: (n, outputs) answers of the teacher.

        Returns:
            (n,) losses.
        """
        raise NotImplementedError

    def divergence_from(self, answers: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns a function that measures how far other answers differ from these.

        Args:
            answers: (n, outputs) the reference.

        Returns:
            From answers (n, outputs) to divergences (n,), 0 where they are equal.
        """
        raise NotImplementedError

    def wrong(self, answers: Array, targets: Array) -> Array:
        """Returns which answers count as wrong: the criterion of attacks, certificates and accuracies.

        An answer with NaN or infinity is always wrong.

        Args:
            answers: (n, outputs).
            targets: (n, ...).

        Returns:
            (n,) bool.
        """
        raise NotImplementedError

    @property
    @final
    def criterion(self) -> Criterion:
        """The criterion of an attack that wants any wrong answer."""
        return Criterion(self)

    def check(self, answers: Tensor, targets: Tensor) -> None:
        """Raises an error where answers do not fit the targets.

        Args:
            answers: (n, outputs).
            targets: (n, ...).

        Raises:
            ValueError: the answers have another shape, or there is no output for a target.
        """
        raise NotImplementedError

    def stays_right(self, leads: Tensor, targets: Tensor) -> Tensor:
        """Returns which answers stay right within a box of inputs; NaN counts as not proven.

        Args:
            leads: (n, outputs) upper bounds of every output minus the true one.
            targets: (n, ...).

        Returns:
            (n,) bool.
        """
        raise NotImplementedError

    # Meaning of an answer.

    def answered(self, answers: Array) -> Array:
        """Returns which answers consist of finite numbers.

        Args:
            answers: (n, outputs).

        Returns:
            (n,) bool.
        """
        raise NotImplementedError

    def decide(self, answers: Array) -> Array:
        """Returns the decision: for classes, the number of the most likely one.

        Args:
            answers: (n, outputs).

        Returns:
            (n,) decisions.
        """
        raise NotImplementedError

    def reaches(self, aim: int) -> Criterion:
        """Returns the criterion of a targeted attack: the decision equals the aim, whatever the target is.

        Args:
            aim: the decision that the attacker wants.

        Returns:
            The criterion.
        """
        raise NotImplementedError

    def probabilities(self, answers: Tensor) -> Tensor:
        """Returns the probabilities of all possible decisions.

        Args:
            answers: (n, outputs).

        Returns:
            (n, outputs) probabilities.
        """
        raise NotImplementedError

    # Methods for evaluations, on NumPy arrays in float64.

    def operating_point(self, answers: np.ndarray, targets: np.ndarray) -> "OperatingPoint":
        """Chooses the decision threshold for two classes; only for a task that ``chooses_threshold``.

        Args:
            answers: (m, outputs) to validation records.
            targets: (m,) of these.

        Returns:
            The operating point.
        """
        raise NotImplementedError

    @property
    def chooses_threshold(self) -> bool:
        """Whether decisions use a threshold that is chosen on validation records."""
        return False

    def fits(self, answers: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns how well each answer fits its target: it orders records like minus the loss, without an upper limit.

        Membership attacks compare these values, so the best-fitted records must not be rounded to one value.

        Args:
            answers: (n, outputs).
            targets: (n, ...).

        Returns:
            (n,) scores.
        """
        raise NotImplementedError

    def confidence(self, answers: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """Returns the probability that the model gives to its decision.

        Args:
            answers: (n, outputs) finite.
            decided: (n,) decisions.

        Returns:
            (n,) probabilities.
        """
        raise NotImplementedError

    def certainty(self, answers: np.ndarray) -> np.ndarray:
        """Returns the model's certainty of its decision, on a scale without an upper limit.

        Args:
            answers: (n, outputs) finite.

        Returns:
            (n,) scores.
        """
        raise NotImplementedError

    def metrics(
        self, answers: np.ndarray, targets: np.ndarray, *, decided: np.ndarray, about: Mapping[str, Any], bins: int
    ) -> dict[str, Metric]:
        """Returns the metrics by name, each as a function of record positions, (k,).

        Args:
            answers: (n, outputs) finite.
            targets: (n, ...).
            decided: (n,) decisions.
            about: conditions of the metrics that depend on the decisions.
            bins: number of bins of the calibration error.

        Returns:
            Functions and conditions by name.
        """
        raise NotImplementedError

    def conformal_scores(
        self, answers: np.ndarray, method: str, generator: np.random.Generator, same: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the nonconformity score of each possible decision.

        Args:
            answers: (n, outputs) finite.
            method: name of the score.
            generator: of the draws of a randomised score.
            same: (n,) group numbers from 0; records of one group, such as copies, share their draw.

        Returns:
            (n, outputs) scores.
        """
        raise NotImplementedError
