"""Accuracy of a federated model at each client, compared with local and centralised training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from assay.errors import DataError
from assay.evaluations.base import Evaluation, Subject, share
from assay.federated.partition import client_seed, deal_alike, partition
from assay.metrics import Metric
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable


@register("evaluation")
class Clients(Evaluation):
    """Accuracy at each client and at the worst one, with local-only and centralised training for comparison.

    A client's test records are its share of the test split, partitioned like the training records; where clients differ
    in their labels, each is tested on the labels that it has. Local-only and centralised models are trained with the
    same objective, privacy and number of passes over the data.
    """

    name: Literal["clients"] = "clients"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="client_accuracy",
            title="Accuracy at a client",
            meaning="Share of the test records of one client that the joint model classifies correctly.",
            better="higher",
        ),
        Metric(
            name="worst_client_accuracy",
            title="Accuracy at the worst client",
            meaning="The least accuracy of all clients: on average lower than the true accuracy of any.",
            better="higher",
        ),
        Metric(
            name="local_only_accuracy",
            title="Accuracy, local only",
            meaning="Share of all test records classified correctly by a model that one client trained alone.",
            better="higher",
        ),
        Metric(
            name="centralised_accuracy",
            title="Accuracy, centralised",
            meaning="Share of all test records classified correctly by a model trained on all data in one place.",
            better="higher",
        ),
    )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        names = ("client_accuracy", "worst_client_accuracy", "local_only_accuracy", "centralised_accuracy")
        if subject.recipe is None or subject.recipe.federation is None:
            return [not_applicable(name, "the recipe is not federated", reason="not_federated") for name in names]
        if subject.train is None:
            return [not_applicable(name, "nothing can be trained here", reason="not_trained_here") for name in names]
        test = subject.split.test
        mine = training_parts(subject)
        try:
            dealt = _test_parts(subject, mine)
        except DataError as error:
            return [not_applicable(name, f"test records: {error}", reason="too_few_records") for name in names]
        correct = dict(zip(test.tolist(), subject.right(test), strict=True))
        found = []
        for number, rows in enumerate(dealt, start=1):
            hits = np.array([correct[row] for row in rows.tolist()])
            if not len(hits):
                why = "no test record is like this client's training records"
                about = {"client": number, "arrangement": "federated"}
                found.append(not_applicable("client_accuracy", why, reason="no_records", **about))
                continue
            found.append(
                share(
                    "client_accuracy",
                    hits,
                    subject.clusters(rows),
                    client=number,
                    arrangement="federated",
                    **subject.decided_at,
                )
            )
        worst = min((m for m in found if m.status == "measured"), key=lambda measurement: measurement.value)
        found.append(
            replace(
                worst,
                name="worst_client_accuracy",
                conditions={"client": worst.conditions["client"], **subject.decided_at},
                warnings=("the least of several small samples: lower than a client's true accuracy on average",),
            )
        )
        for number, rows in enumerate(mine, start=1):
            alone = subject.train(rows, f"local only/{client_seed(subject.seed, number)}")
            found.append(_accuracy("local_only_accuracy", subject, alone, client=number))
        everyone = subject.train(subject.split.train, "centralised")
        return [*found, _accuracy("centralised_accuracy", subject, everyone)]


def training_parts(subject: Subject) -> list[np.ndarray]:
    """Returns the training records of each client, as they were partitioned for training.

    Args:
        subject: with a federated recipe.

    Returns:
        Positions of the records, by client.
    """
    assert subject.recipe is not None and subject.recipe.federation is not None
    rows = subject.split.train
    labels, groups = subject.dataset.y[rows], subject.groups(rows)
    return partition(rows, labels, subject.recipe.federation, seed=subject.seed, groups=groups)


def _test_parts(subject: Subject, mine: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the test records of each client: partitioned like the training records, or by the labels of those."""
    assert subject.recipe is not None and subject.recipe.federation is not None
    rows, y = subject.split.test, subject.dataset.y
    if subject.recipe.federation.partition == "iid":
        return partition(rows, y[rows], subject.recipe.federation, seed=subject.seed, groups=subject.groups(rows))
    shares = [y[own] for own in mine]
    return deal_alike(rows, y[rows], shares, classes=subject.dataset.classes, seed=subject.seed)


def _accuracy(name: str, subject: Subject, model: nn.Module, **conditions: Any) -> Measurement:
    """Measures the share of the test records that another model answers correctly."""
    test, other = subject.split.test, replace(subject, model=model)
    return share(name, other.right(test), subject.clusters(test), **conditions, **other.decided_at)
