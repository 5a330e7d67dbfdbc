"""A recipe: independent choices that the one training loop composes.

``objective`` says how a batch becomes a loss, ``privacy`` how gradients become an update, ``federation`` where the
data lives, ``training`` how long and how fast. What cannot be combined stands in ``INCOMPATIBLE``.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from assay.errors import IncompatibleRecipeError
from assay.registry import Settings, choice_of


class Training(Settings):
    """How long and how fast to train."""

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=1)
    """Records a step; the expected number under Poisson sampling."""
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of ``sgd``."""
    weight_decay: float = Field(default=0.0, ge=0)


class Privacy(Settings):
    """DP-SGD (Abadi et al. 2016) for a target budget: each *record* of the training split is protected.

    The guarantee is (``epsilon``, ``delta``)-differential privacy under adding or removing one record.
    """

    epsilon: float = Field(gt=0)
    """Target ε, as the RDP accountant counts it; the noise is calibrated to it."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Clipping norm of one record's gradient."""
    noise: Literal["seeded", "entropy"] = "seeded"
    """``seeded`` repeats exactly and may never be released; ``entropy`` draws noise that is stored nowhere."""


class Federation(Settings):
    """Clients that keep their records, led in synchronous rounds (McMahan et al. 2017)."""

    strategy: Literal["fedavg"] = "fedavg"
    clients: int = Field(default=10, ge=1)
    rounds: int = Field(default=20, ge=1)
    local_epochs: int = Field(default=2, ge=1)
    partition: Literal["iid"] = "iid"
    deadline_seconds: float = Field(default=600.0, gt=0)
    """A round that takes longer fails; it never waits for ever."""


class Recipe(Settings):
    """How a model is trained."""

    objective: choice_of("objective") = Field(default="standard")  # type: ignore[valid-type]
    privacy: Privacy | None = None
    federation: Federation | None = None
    training: Training = Training()

    @model_validator(mode="after")
    def _is_possible(self) -> "Recipe":
        for rule in INCOMPATIBLE:
            if rule.applies(self):
                raise IncompatibleRecipeError(f"{rule.what}: {rule.why}")
        return self


class Incompatibility(NamedTuple):
    """Two choices that exclude each other."""

    what: str
    applies: Callable[[Any], bool]
    why: str


INCOMPATIBLE: list[Incompatibility] = [
    Incompatibility(
        "an objective that mixes records × privacy",
        lambda recipe: recipe.privacy is not None and not recipe.objective.per_record,
        "record-level privacy clips the gradient of one record, so its loss may look at no other record; "
        "choose an objective whose per_record is true, or drop privacy",
    ),
]
