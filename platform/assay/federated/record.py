"""The record of a federated training, round by round: who took part, what failed, how long, and how many bytes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Cause = Literal["absent", "late", "lost", "refused", "raised"]
CAUSES: Mapping[Cause, str] = {
    "absent": "the client was drawn and was not there",
    "late": "it did not answer before its deadline",
    "lost": "its worker ended twice, or could not be replaced",
    "refused": "its update was refused: not finite, or too large",
    "raised": "its training ended with an error",
}
"""Why a client that was drawn is not in the new weights, as a code with its meaning."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one client is not in the new weights of a round."""

    cause: Cause
    reason: str
    """In words, as the client or the server told it."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What happened in one round; JSON-able."""

    asked: int
    """Clients that were drawn, absent ones included."""
    answered: int
    """Clients whose updates are in the new weights."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Reason in words by client number, of those that were drawn and are not in the new weights."""
    causes: Mapping[str, Cause] = field(default_factory=dict)
    """Code of the reason by client number."""
    loss: float | None = None
    """Mean training loss of the last local epoch, weighted by records; None in private training."""
    seconds: float = 0.0
    """Wall time."""
    client_seconds: float = 0.0
    """Training time summed over clients."""
    slowest_seconds: float = 0.0
    """Training time of the slowest client, which a synchronous round waits for where each client has a machine."""
    measured: float | None = None
    """Accuracy of the shared network on validation records, where it was measured after this round."""
    bytes_up: int = 0
    """Bytes that clients would send, summed over clients."""
    bytes_down: int = 0
    """Bytes that the server would send, summed over clients."""


@dataclass(kw_only=True)
class FederationRecord:
    """What happened in a federated training; JSON-able, stored with the model."""

    sizes: list[int]
    """Records of each client, or protected units, by the server's own count."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Choices that a reader of the figures must know, such as the optimiser's state between rounds."""
    rounds: list[RoundRecord] = field(default_factory=list)
    participation: dict[str, int] = field(default_factory=dict)
    """Rounds in which each client's update was used, by client number."""
    measured_records: int = 0
    """Number of validation records behind ``RoundRecord.measured``."""
    without_model: dict[str, str] = field(default_factory=dict)
    """Reason by client number, of clients that have no model of their own although the recipe personalises."""

    def add(self, record: RoundRecord, clients: list[int]) -> None:
        """Adds a round.

        Args:
            record: of the round.
            clients: whose updates were used.
        """
        self.rounds.append(record)
        for client in clients:
            self.participation[str(client)] = self.participation.get(str(client), 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain values.

        Returns:
            For ``of``.
        """
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "FederationRecord":
        """Reads a record.

        Args:
            values: that ``to_json`` returned.

        Returns:
            The record.
        """
        return cls(**{**values, "rounds": [RoundRecord(**each) for each in values["rounds"]]})
