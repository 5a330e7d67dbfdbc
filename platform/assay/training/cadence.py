"""When checkpoints are due: every k steps, minutes or epochs, decided alike by all workers of a training."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from assay.errors import UserError
from assay.training.collective import Collective

if TYPE_CHECKING:
    from assay.training.loop import Trainer

Unit = Literal["steps", "minutes", "epochs"]
_UNITS: dict[str, Unit] = {
    "": "epochs",
    **dict.fromkeys(("epoch", "epochs"), "epochs"),
    **dict.fromkeys(("step", "steps"), "steps"),
    **dict.fromkeys(("min", "minute", "minutes"), "minutes"),
}
_FIRST = 20
"""Steps before the first checkpoint in minutes, as long as nobody knows how long a step takes."""
_SLACK = 2.0
"""Steps may take up to half as long as before until the number of steps, not the clock, makes a checkpoint due."""
_LOOK = 1.0
"""Seconds between two looks at the clock, about."""


class Checkpoints(Protocol):
    """When the state of a training is stored, and how. All workers of a training must answer alike."""

    def due(self, trainer: "Trainer") -> bool:
        """Returns whether a checkpoint is due.

        Called after each step that does not end an epoch, and after each epoch, when all hooks have acted on it.

        Args:
            trainer: between two steps.
        """
        ...

    def save(self, trainer: "Trainer") -> None:
        """Stores a checkpoint.

        Args:
            trainer: between two steps.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Every:
    """Distance of two checkpoints, such as 500 steps."""

    count: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Every":
        """Reads a distance.

        Args:
            text: such as ``500steps``, ``10min`` or ``5epochs``; a bare number counts epochs.

        Returns:
            The distance.

        Raises:
            UserError: it is none.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
        unit = None if found is None else _UNITS.get(found[2])
        count = 0.0 if found is None else float(found[1])
        if unit is None or count <= 0 or (unit != "minutes" and count != int(count)):
            raise UserError(
                f"checkpoints every {text!r}: that is no distance; give a number above 0 with its unit, such as "
                "500steps, 10min or 5epochs (steps and epochs in whole numbers)",
                setting="--checkpoint-every",
                given=text,
                allowed="500steps, 10min, 5epochs",
            )
        return cls(count=count, unit=unit)


class Cadence:
    """Decides when the next checkpoint is due.

    Steps and epochs are counted from the beginning of the training, so a resumed training stores its state at the same
    steps. In minutes, the first worker's clock decides for all of them: about once a second the workers sum a small
    message. A number of steps is fixed in advance at which the checkpoint comes at the latest, because the account of
    private steps must know how many may be lost.

    Args:
        every: distance of two checkpoints.
        collective: all workers.
        clock: seconds, from any beginning.
    """

    def __init__(self, every: Every, collective: Collective, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every, self._collective, self._clock = every, collective, clock
        self._saved: tuple[int, float] | None = None
        """Step and time of the last checkpoint."""
        self._look = 0
        """Step at which the workers look at the first one's clock again."""
        self._next_by = 0

    def due(self, trainer: "Trainer") -> bool:
        """Returns whether a checkpoint is due; the last step always is.

        Args:
            trainer: between two steps.
        """
        if trainer.finished or self._every.unit != "minutes":
            return trainer.finished or trainer.step == self.next_by(trainer, since=trainer.step - 1)
        if self._saved is None:
            self.saved(trainer)
        return trainer.step >= self._look and self._ask_first_worker(trainer)

    def next_by(self, trainer: "Trainer", *, since: int | None = None) -> int:
        """Returns the step by which the next checkpoint is due, at the latest.

        Args:
            trainer: between two steps.
            since: step of the last checkpoint; the trainer's by default.
        """
        if self._every.unit == "minutes":
            return self._next_by
        step = trainer.step if since is None else since
        distance = int(self._every.count) * (trainer.steps_per_epoch if self._every.unit == "epochs" else 1)
        return (step // distance + 1) * distance

    def saved(self, trainer: "Trainer") -> None:
        """Notes that a checkpoint is about to be stored; call it before ``next_by``, on all workers.

        Args:
            trainer: between two steps.
        """
        if self._every.unit != "minutes":
            return
        now = self._clock()
        steps = float(_FIRST)
        if self._saved is not None and trainer.step > self._saved[0]:
            seconds = (now - self._saved[1]) / (trainer.step - self._saved[0])
            steps = _SLACK * 60 * self._every.count / max(seconds, 1e-6)
        (agreed,) = self._from_first(trainer, min(math.ceil(steps), trainer.total_steps))
        self._saved, self._next_by, self._look = (trainer.step, now), trainer.step + agreed, trainer.step + 1

    def _ask_first_worker(self, trainer: "Trainer") -> bool:
        """Returns whether the first worker's clock, or the number of steps, makes a checkpoint due."""
        assert self._saved is not None
        passed = self._clock() - self._saved[1]
        seconds = max(passed / (trainer.step - self._saved[0]), 1e-6) if trainer.step > self._saved[0] else _LOOK
        left = 60 * self._every.count - passed
        ahead = max(1, int(min(left, _LOOK) / seconds))
        is_late, ahead = self._from_first(trainer, int(left <= 0), min(ahead, trainer.total_steps))
        self._look = min(trainer.step + ahead, self._next_by)
        return bool(is_late) or trainer.step >= self._next_by

    def _from_first(self, trainer: "Trainer", *numbers: int) -> list[int]:
        """Returns the first worker's numbers."""
        mine = numbers if self._collective.rank == 0 else [0] * len(numbers)
        device = trainer.parameters[0].device
        (shared,) = self._collective.sum([torch.tensor(mine, dtype=torch.int64, device=device)])
        return [int(number) for number in shared.tolist()]
