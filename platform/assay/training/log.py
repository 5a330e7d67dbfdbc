"""The log of a training: times, losses, privacy mechanisms and notes."""

from dataclasses import asdict, dataclass, field
from typing import Any

from assay.privacy.accounting import Mechanism
from assay.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """Times, losses, privacy mechanisms and notes of a training; JSON-able, stored in the checkpoint."""

    seconds: float
    """Wall time of training, in seconds."""
    worker_seconds: float
    """Training time in seconds, summed over workers or clients."""
    workers: int
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch or round."""
    mechanisms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of each ``Mechanism``, for the privacy accountants, by who spent it: ``central``, or a client's number."""
    treatment: dict[str, int] = field(default_factory=dict)
    """Counts of the recipe's treatments of the training records; see ``data.treatment.Treated``."""
    notes: list[str] = field(default_factory=list)
    """Events that a user of the results should know of, such as catastrophic overfitting that was undone."""
    validation: list[float] = field(default_factory=list)
    """Robust validation accuracy, in [0, 1], at each measurement of early stopping; the weights are those of the first
    maximum."""

    speeds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Fields of each ``pace.Speed``: timed steps, their records and seconds, by the number of workers that took
    them."""
    tuned: list[dict[str, Any]] = field(default_factory=list)
    """Points that a tuned recipe tried, in order: settings, ``value`` on the validation records, and ``seconds`` of
    training. The log is that of the first best. Empty where nothing was tuned."""
    federation: dict[str, Any] = field(default_factory=dict)
    """Record of all rounds of a federated training (``federated.record.FederationRecord``); empty otherwise, and in
    logs of earlier versions. Of several stages, that of the last."""

    def then(self, other: "TrainingLog") -> "TrainingLog":
        """Returns the log of both trainings, one after the other on the same records: times and steps add up.

        Args:
            other: log of the later training.

        Returns:
            The combined log.

        Raises:
            ValueError: the two trainings differ in noise, sampling rate or δ.
        """
        return TrainingLog(
            seconds=self.seconds + other.seconds,
            worker_seconds=self.worker_seconds + other.worker_seconds,
            workers=max(self.workers, other.workers),
            losses=self.losses + other.losses,
            mechanisms={name: asdict(self.mechanism(name).then(other.mechanism(name))) for name in self.mechanisms},
            treatment=other.treatment,
            notes=self.notes + other.notes,
            validation=other.validation,
            speeds=_joined(self.speeds, other.speeds),
            federation=other.federation,
        )

    def tuned_recipe(self, recipe: Recipe) -> Recipe:
        """Returns a recipe with the settings that were chosen for it.

        Args:
            recipe: as it stands.

        Returns:
            The recipe that was trained; the same where nothing was tuned.
        """
        if not self.tuned:
            return recipe
        best = max(self.tuned, key=lambda point: point["value"])
        chosen = {key: best[key] for key in ("learning_rate", "batch_size", "epochs")}
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=chosen)})

    def mechanism(self, name: str) -> Mechanism:
        """Returns one entry of ``mechanisms`` as a ``Mechanism``.

        Args:
            name: ``central``, or a client's number.

        Returns:
            The mechanism.

        Raises:
            KeyError: there is no such entry.
        """
        return Mechanism(**self.mechanisms[name])


def _joined(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Returns the sums of two trainings' steps, records and seconds, for each number of workers."""
    return {
        workers: {
            name: sum(speeds[workers][name] for speeds in (one, other) if workers in speeds)
            for name in (one.get(workers) or other[workers])
        }
        for workers in {**one, **other}
    }
