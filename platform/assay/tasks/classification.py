"""Classification: one label per record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from assay.errors import SpecError
from assay.registry import register
from assay.tasks import class_scores
from assay.tasks.base import Array, Criterion, Metric, Task
from assay.tasks.operating_point import OperatingPoint


@register("task")
class Classification(Task):
    """Decides for the class of the greatest logit; the loss is cross-entropy.

    Answers are logits (n, classes), targets are class numbers (n,) from 0.
    """

    name: Literal["classification"] = "classification"
    decide_at: Literal["most_likely", "operating_point"] = "most_likely"
    """How the class is decided. ``operating_point``, for two classes: class 1 where its probability reaches the highest
    threshold at which validation records reach ``sensitivity``, as a clinic would use the model. Accuracies, attacks,
    certificates and checks then use that threshold, and their rows state it. It changes no weights."""
    sensitivity: float = Field(default=0.95, gt=0, lt=1)
    """Sensitivity of the operating point on the validation split, as a fraction."""

    def outputs(self, targets: Tensor) -> int:
        return int(targets.max()) + 1

    def refuse(self, classes: int) -> None:
        if self.chooses_threshold and classes != 2:
            said = f"task.decide_at is operating_point, which needs two classes, and the data have {classes}"
            raise SpecError(f"{said}; set most_likely", setting="task.decide_at", given=classes, allowed=2)

    @property
    def training(self) -> Mapping[str, Any]:
        return {"name": self.name}

    @property
    def deciding(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", exclude={"name"}) if self.chooses_threshold else {}

    def losses(self, answers: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(answers, targets, reduction="none")

    def imitation(self, answers: Tensor, teacher: Tensor) -> Tensor:
        return -(teacher.softmax(1) * answers.log_softmax(1)).sum(1)

    def divergence_from(self, answers: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns the Kullback-Leibler divergence KL(these answers ‖ others), (n,), as a function of the others."""
        reference = answers.log_softmax(1)
        return lambda others: F.kl_div(others.log_softmax(1), reference, reduction="none", log_target=True).sum(1)

    def wrong(self, answers: Array, targets: Array) -> Array:
        return (self.decide(answers) != targets) | ~self.answered(answers)

    def check(self, answers: Tensor, targets: Tensor) -> None:
        if answers.dim() != 2 or len(answers) != len(targets):
            shape = tuple(answers.shape)
            raise ValueError(f"the model returned shape {shape}; logits must be ({len(targets)}, classes)")
        beyond = targets[(targets < 0) | (targets >= answers.shape[1])]
        if len(beyond):
            raise ValueError(f"label {int(beyond[0])} has no logit: the model has {answers.shape[1]} classes")

    def stays_right(self, leads: Tensor, targets: Tensor) -> Tensor:
        return leads.scatter(1, targets[:, None], -torch.inf).amax(1) < 0

    def answered(self, answers: Array) -> Array:
        finite = torch.isfinite(answers) if isinstance(answers, Tensor) else np.isfinite(answers)
        return finite.all(1)

    def decide(self, answers: Array) -> Array:
        return answers.argmax(1)

    def reaches(self, aim: int) -> Criterion:
        return Reaches(self, aim)

    def probabilities(self, answers: Tensor) -> Tensor:
        return answers.softmax(1)

    def operating_point(self, answers: np.ndarray, targets: np.ndarray) -> OperatingPoint:
        return OperatingPoint.reaching(self.sensitivity, answers, targets)

    @property
    def chooses_threshold(self) -> bool:
        return self.decide_at == "operating_point"

    def fits(self, answers: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns ``log(p / (1 − p))`` of the probability p of the true class, (n,): see ``class_scores.log_odds``."""
        return class_scores.log_odds(answers, targets)

    def confidence(self, answers: np.ndarray, decided: np.ndarray) -> np.ndarray:
        return class_scores.softmax(answers)[np.arange(len(decided)), decided]

    def certainty(self, answers: np.ndarray) -> np.ndarray:
        """Returns the log-odds of the greatest softmax probability, (n,)."""
        return class_scores.certainty(answers)

    def metrics(
        self, answers: np.ndarray, targets: np.ndarray, *, decided: np.ndarray, about: Mapping[str, Any], bins: int
    ) -> dict[str, Metric]:
        return class_scores.metrics(answers, targets, decided=decided, about=about, bins=bins)

    def conformal_scores(
        self, answers: np.ndarray, method: str, generator: np.random.Generator, same: np.ndarray | None = None
    ) -> np.ndarray:
        return class_scores.lac(answers) if method == "LAC" else class_scores.aps(answers, generator, same)


@dataclass(frozen=True)
class Reaches(Criterion):
    """Criterion of a targeted attack: the decision is one given class."""

    aim: int

    def __call__(self, answers: Array, targets: Array) -> Array:
        return (self.task.decide(answers) == self.aim) & self.task.answered(answers)


CLASSIFICATION = Classification()
"""The default task."""
