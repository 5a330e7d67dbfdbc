"""What the server keeps of its clients' reports: the record of all rounds, and the last account of each client."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from assay.federated.client import Report
from assay.federated.participation import Participants
from assay.federated.record import Failure, FederationRecord, RoundRecord
from assay.privacy.accounting import Mechanism
from assay.recipes import Recipe


class Bookkeeping:
    """Record, accounts and notes of a federated training.

    Args:
        recipe: whose choices stand in the record.
        units: of each client, by the server's own count.
    """

    def __init__(self, recipe: Recipe, units: Sequence[int]) -> None:
        self.record = FederationRecord(sizes=list(units), settings=_described(recipe))
        self._reports: dict[int, Report] = {}
        self._notes: dict[int, list[str]] = {}
        self._own_seconds = 0.0

    def add_round(
        self,
        drawn: Participants,
        reports: Mapping[int, Report],
        failures: Mapping[int, Failure],
        *,
        seconds: float,
        bytes_down: int,
    ) -> None:
        """Adds a round to the record, and keeps each client's last report.

        Args:
            drawn: the clients of the round.
            reports: of the clients whose updates were used.
            failures: by client, of the others.
            seconds: wall time.
            bytes_down: that the server would send to one client.
        """
        in_order = [report for _, report in sorted(reports.items())]
        losses = [(report.last_loss, self.record.sizes[report.client - 1]) for report in in_order]
        known = [(loss, units) for loss, units in losses if loss is not None]
        times = [report.seconds for report in in_order]
        self.record.add(
            RoundRecord(
                asked=len(drawn.asked) + len(drawn.absent),
                answered=len(in_order),
                failures={str(client): failure.reason for client, failure in sorted(failures.items())},
                causes={str(client): failure.cause for client, failure in sorted(failures.items())},
                loss=sum(loss * units for loss, units in known) / sum(units for _, units in known) if known else None,
                seconds=seconds,
                client_seconds=sum(times),
                slowest_seconds=max(times, default=0.0),
                bytes_up=sum(report.bytes_up for report in in_order),
                bytes_down=bytes_down * len(drawn.asked),
            ),
            [report.client for report in in_order],
        )
        for report in in_order:
            self._reports[report.client] = report
            self._notes.setdefault(report.client, []).extend(report.notes)

    def add_own(self, reports: Mapping[int, Report], without: Mapping[int, str]) -> None:
        """Adds what clients tell of the training of their own models after the last round.

        Args:
            reports: by client.
            without: why a client has no model of its own.
        """
        for client, report in reports.items():
            before = self._reports.get(client)
            self._reports[client] = report if before is None else replace(report, treatment=before.treatment)
            self._notes.setdefault(client, []).extend(report.notes)
            self._own_seconds += report.seconds
        self.record.without_model = {str(client): reason for client, reason in sorted(without.items())}

    def add_figure(self, measured: float) -> None:
        """Adds a figure of the shared network to the last round.

        Args:
            measured: such as its accuracy on validation records.
        """
        self.record.rounds[-1] = replace(self.record.rounds[-1], measured=measured)

    @property
    def client_seconds(self) -> float:
        """Training time in seconds, summed over clients."""
        return sum(each.client_seconds for each in self.record.rounds) + self._own_seconds

    @property
    def mechanisms(self) -> dict[int, Mechanism]:
        """Mechanism of each client; empty if training is not private."""
        reports = sorted(self._reports.items())
        return {client: report.mechanism for client, report in reports if report.mechanism is not None}

    @property
    def treatment(self) -> dict[str, int]:
        """Counts of the recipe's treatments, summed over clients."""
        total: dict[str, int] = {}
        for _, report in sorted(self._reports.items()):
            for name, count in report.treatment.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def notes(self) -> list[str]:
        """Notes of the clients, each with the client's number."""
        return [f"client {client}: {note}" for client, notes in sorted(self._notes.items()) for note in notes]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain values.

        Returns:
            For ``restore``.
        """
        return {
            "record": self.record.to_json(),
            "mechanisms": {client: vars(mechanism) for client, mechanism in self.mechanisms.items()},
            "treatment": {client: dict(report.treatment) for client, report in self._reports.items()},
            "notes": self._notes,
        }

    def restore(self, about: Mapping[str, Any]) -> None:
        """Restores what ``to_json`` returned and JSON has carried.

        Args:
            about: the plain values.
        """
        self.record = FederationRecord.of(about["record"])
        self._notes = {int(client): list(notes) for client, notes in about["notes"].items()}
        for client, treatment in about["treatment"].items():
            mechanism = about["mechanisms"].get(client)
            self._reports[int(client)] = Report(
                client=int(client),
                steps=0,
                learning_rate_sum=0.0,
                first_loss=None,
                last_loss=None,
                seconds=0.0,
                mechanism=None if mechanism is None else Mechanism(**mechanism),
                treatment=treatment,
            )


def _described(recipe: Recipe) -> dict[str, Any]:
    """Returns the choices that a reader of federated figures must know."""
    assert recipe.federation is not None
    chosen = recipe.federation.model_dump(mode="json")
    names = ("strategy", "personalisation", "transforms", "optimizer_state", "buffers", "participation", "policy")
    return {name: chosen[name] for name in names}
