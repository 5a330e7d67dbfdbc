"""Answers to each client's test records, by its own model, the joint one, and the two ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from assay.data.partition import Partition
from assay.evaluations.client_labels import about_client
from assay.evaluations.shares import share_by_record
from assay.evaluations.subject import Subject
from assay.results import Check, Finding, Measurement, ReasonCode, Verdict, not_applicable

JOINT, PERSONAL, ALONE, TOGETHER = "federated", "personal", "local only", "centralised"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model answers to the test records of one client."""

    rows: np.ndarray
    """(n,) positions of the records."""
    logits: np.ndarray
    """(n, classes)."""
    right: np.ndarray
    """(n,) bool."""
    decided_at: dict[str, Any]
    """Conditions of the threshold; see ``Subject.decided_at``."""


@dataclass(frozen=True, kw_only=True)
class AtClient:
    """One client: its test records, and what each model answers to them."""

    about: dict[str, Any]
    """Conditions that name it."""
    rows: np.ndarray
    answers: dict[str, Answers]
    """By arrangement; none where it has no test records, or no such model."""
    missing: dict[str, tuple[ReasonCode, str]]
    """Why an arrangement has no answers, as a code and in words."""

    @property
    def joined(self) -> str:
        """The arrangement that a client has by joining: its own model where the recipe personalises."""
        return PERSONAL if PERSONAL in self.answers or PERSONAL in self.missing else JOINT


def name_of_client(training: Partition, client: int) -> str:
    """Returns the name under which a client's own network is stored: its site where it is one, else its number.

    Args:
        training: training records of each client.
        client: its place, from 0.

    Returns:
        The name.
    """
    return training.sites[client] if training.sites else str(client + 1)


def answers_at_clients(
    subject: Subject, training: Partition, dealt: Sequence[np.ndarray], alone: Sequence[nn.Module], together: nn.Module
) -> list[AtClient]:
    """Asks each model for the test records of each client.

    Args:
        subject: with the shared network, and clients' own ones.
        training: training records of each client.
        dealt: test records of each client.
        alone: the network that each client trained alone.
        together: the network that was trained on all records.

    Returns:
        The clients in order.
    """
    asked: dict[str, Callable[[int], nn.Module | None]] = {
        JOINT: lambda client: None if subject.why_no_shared_model else subject.model,
        PERSONAL: lambda client: subject.personal.get(name_of_client(training, client)),
        ALONE: lambda client: alone[client],
        TOGETHER: lambda client: together,
    }
    if not subject.personalised:
        del asked[PERSONAL]
    found = []
    for client, rows in enumerate(dealt):
        answers: dict[str, Answers] = {}
        missing: dict[str, tuple[ReasonCode, str]] = {}
        for arrangement, model_of in asked.items():
            model = model_of(client)
            if model is not None and len(rows):
                answers[arrangement] = _ask(subject, model, rows)
            elif not len(rows):
                missing[arrangement] = ("no_records", _no_records(training))
            elif arrangement == JOINT:
                missing[arrangement] = ("no_shared_model", subject.why_no_shared_model)
            else:
                missing[arrangement] = ("never_trained", _why_none(subject, client))
        found.append(AtClient(about=about_client(training, client), rows=rows, answers=answers, missing=missing))
    return found


def _no_records(training: Partition) -> str:
    if training.sites:
        return "no test record is of this site"
    return "no test record is like this client's training records"


def _why_none(subject: Subject, client: int) -> str:
    said = {} if subject.log is None else subject.log.federation.get("without_model", {})
    return f"the client has no model of its own: {said.get(str(client + 1), 'none is stored')}"


def _ask(subject: Subject, model: nn.Module, rows: np.ndarray) -> Answers:
    asked = subject if model is subject.model else replace(subject, model=model)
    logits = asked.logits(rows)
    right = ~asked.wrong(logits, subject.dataset.y[rows])
    return Answers(rows=rows, logits=logits, right=right, decided_at=asked.decided_at)


def arrangements_of(clients: Sequence[AtClient]) -> list[str]:
    """Returns the arrangements that were asked, in their order.

    Args:
        clients: of one trial.

    Returns:
        Names.
    """
    asked = clients[0].answers.keys() | clients[0].missing.keys()
    return [name for name in (JOINT, PERSONAL, ALONE, TOGETHER) if name in asked]


def accuracies(subject: Subject, clients: Sequence[AtClient]) -> list[Finding]:
    """Measures each arrangement at each client, at its worst client, and on the records of all clients together.

    Args:
        subject: with its records.
        clients: with all answers.

    Returns:
        Measurements, and a check of each arrangement's pooled accuracy.
    """
    found: list[Finding] = []
    for arrangement in arrangements_of(clients):
        rows = [_accuracy(subject, client, arrangement) for client in clients]
        found += [*rows, _worst(rows, arrangement), *_pooled(subject, clients, rows, arrangement)]
    return found


def _accuracy(subject: Subject, client: AtClient, arrangement: str) -> Measurement:
    about = {**client.about, "arrangement": arrangement}
    if arrangement in client.missing:
        reason, why = client.missing[arrangement]
        return not_applicable("client_accuracy", why, reason=reason, **about)
    answers = client.answers[arrangement]
    clusters = subject.clusters(client.rows)
    return share_by_record("client_accuracy", answers.right, clusters, client.rows, **about, **answers.decided_at)


def _worst(at_clients: Sequence[Measurement], arrangement: str) -> Measurement:
    """Returns the least accuracy of the clients that have test records."""
    name, measured = "worst_client_accuracy", [row for row in at_clients if row.status == "measured"]
    if not measured:
        why = f"no client has test records and a model ({arrangement})"
        return not_applicable(name, why, reason="no_records", arrangement=arrangement)
    worst = min(measured, key=lambda measurement: measurement.value)
    return replace(
        worst,
        name=name,
        outcomes=None,
        warnings=("the least of several small samples: lower than a client's true accuracy on average",),
    )


def _pooled(
    subject: Subject, clients: Sequence[AtClient], at_clients: Sequence[Measurement], arrangement: str
) -> list[Finding]:
    """Measures all clients' records together, and checks that this is the mean of the clients, weighted by records."""
    name, about = "pooled_client_accuracy", {"arrangement": arrangement}
    answers = [client.answers[arrangement] for client in clients if arrangement in client.answers]
    if not answers:
        why = f"no client has test records and a model ({arrangement})"
        return [not_applicable(name, why, reason="no_records", **about)]
    rows, right = (np.concatenate([getattr(each, field) for each in answers]) for field in ("rows", "right"))
    pooled = share_by_record(name, right, subject.clusters(rows), rows, **about)
    measured = [row for row in at_clients if row.status == "measured"]
    gap = abs(sum(row.value * row.n for row in measured) / sum(row.n for row in measured) - pooled.value)
    once, test = len(np.unique(rows)) == len(rows), len(subject.split.test)
    verdict: Verdict = "pass" if len(rows) == test else "warn"
    if gap > 1e-9 or not once:
        verdict = "fail"
    return [
        pooled,
        Check(
            rule="pooled_is_the_mean_of_clients",
            concerns=name,
            verdict=verdict,
            figure=gap,
            message=f"{arrangement}: the pooled accuracy is {gap:.2g} away from the clients' mean by records; "
            f"{len(rows)} of {test} test records are at clients with a model"
            + ("" if once else ", some of them twice"),
            conditions=about,
        ),
    ]
