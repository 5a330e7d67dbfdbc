"""The log of a training: times, losses, what it spent, and what happened on the way."""

from dataclasses import asdict, dataclass, field
from typing import Any

from assay.privacy.accounting import Mechanism


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """What training left behind beside the weights; JSON-able, kept in the checkpoint."""

    seconds: float
    """Wall time of training."""
    worker_seconds: float
    """Training time summed over workers or clients."""
    workers: int
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch or round."""
    mechanisms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the privacy accountants must know, by who spent it: ``central``, or a client's number."""
    treatment: dict[str, int] = field(default_factory=dict)
    """What the recipe's treatments did to the training records; see ``data.treatment.Treated``."""
    notes: list[str] = field(default_factory=list)
    """What happened on the way that whoever reads a result should know: catastrophic overfitting, undone."""
    validation: list[float] = field(default_factory=list)
    """Robust validation accuracy at each look of early stopping; the weights are those of the first of the best."""

    def then(self, other: "TrainingLog") -> "TrainingLog":
        """The log of both trainings, one after the other on the same records: times and steps add up."""
        return TrainingLog(
            seconds=self.seconds + other.seconds,
            worker_seconds=self.worker_seconds + other.worker_seconds,
            workers=max(self.workers, other.workers),
            losses=self.losses + other.losses,
            mechanisms={name: asdict(self.mechanism(name).then(other.mechanism(name))) for name in self.mechanisms},
            treatment=other.treatment,
            notes=self.notes + other.notes,
            validation=other.validation,
        )

    def mechanism(self, name: str) -> Mechanism:
        return Mechanism(**self.mechanisms[name])
