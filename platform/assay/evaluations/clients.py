"""Accuracy of a federated model at each client, compared with local and centralised training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from assay.data.partition import Partition, partition_dataset, partition_test
from assay.errors import DataError
from assay.evaluations import client_labels
from assay.evaluations.base import Evaluation, Subject, share
from assay.metrics import Metric
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable
from assay.seeds import client_seed

_ACCURACIES = ("client_accuracy", "worst_client_accuracy", "local_only_accuracy", "centralised_accuracy")
_NO_RECORDS = "no test record is like this client's training records"


@register("evaluation")
class Clients(Evaluation):
    """Accuracy at each client and at the worst one, with local-only and centralised training for comparison, and how
    much clients differ.

    A client's test records are its share of the test split, dealt like the training records: where clients differ in
    their labels, each is tested on the labels that it has, and a site on its own records. Local-only and centralised
    models are trained with the same objective, privacy and number of passes over the data.
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
        *client_labels.METRICS,
    )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        names = [metric.name for metric in self.metrics]
        if subject.recipe is None or subject.recipe.federation is None:
            return [not_applicable(name, "the recipe is not federated", reason="not_federated") for name in names]
        if subject.train is None:
            return [not_applicable(name, "nothing can be trained here", reason="not_trained_here") for name in names]
        training = training_partition(subject)
        facts = client_labels.labels_of_clients(subject, training)
        try:
            dealt = partition_test(
                subject.dataset, subject.split.test, training, subject.recipe.federation, seed=subject.seed
            )
        except DataError as error:
            why = f"test records: {error}"
            return [*(not_applicable(name, why, reason="too_few_records") for name in _ACCURACIES), *facts]
        at_clients = self._at_clients(subject, training, dealt)
        found: list[Finding] = [*at_clients, _worst(subject, at_clients)]
        for client, rows in enumerate(training):
            alone = subject.train(rows, f"local only/{client_seed(subject.seed, client + 1)}")
            about = client_labels.about_client(training, client)
            found.append(_accuracy("local_only_accuracy", subject, alone, **about))
        everyone = subject.train(subject.split.train, "centralised")
        return [*found, _accuracy("centralised_accuracy", subject, everyone), *facts]

    def _at_clients(self, subject: Subject, training: Partition, dealt: Sequence[np.ndarray]) -> list[Measurement]:
        """Measures the joint model on each client's test records."""
        test = subject.split.test
        correct = dict(zip(test.tolist(), subject.right(test), strict=True))
        found = []
        for client, rows in enumerate(dealt):
            about = {**client_labels.about_client(training, client), "arrangement": "federated"}
            if not len(rows):
                why = "no test record is of this site" if training.sites else _NO_RECORDS
                found.append(not_applicable("client_accuracy", why, reason="no_records", **about))
                continue
            hits = np.array([correct[row] for row in rows.tolist()])
            clusters = subject.clusters(rows)
            found.append(share("client_accuracy", hits, clusters, **about, **subject.decided_at))
        return found


def _worst(subject: Subject, at_clients: Sequence[Measurement]) -> Measurement:
    """Returns the least accuracy of the clients that have test records."""
    measured = [measurement for measurement in at_clients if measurement.status == "measured"]
    if not measured:
        return not_applicable("worst_client_accuracy", "no client has test records", reason="no_records")
    worst = min(measured, key=lambda measurement: measurement.value)
    about = {key: value for key, value in worst.conditions.items() if key != "arrangement"}
    return replace(
        worst,
        name="worst_client_accuracy",
        conditions=about,
        warnings=("the least of several small samples: lower than a client's true accuracy on average",),
    )


def training_partition(subject: Subject) -> Partition:
    """Returns the training records of each client, as they were dealt for training.

    Args:
        subject: with a federated recipe.

    Returns:
        Positions of the records, by client.
    """
    assert subject.recipe is not None and subject.recipe.federation is not None
    return partition_dataset(subject.dataset, subject.split.train, subject.recipe.federation, seed=subject.seed)


def _accuracy(name: str, subject: Subject, model: nn.Module, **conditions: Any) -> Measurement:
    """Measures the share of the test records that another model answers correctly."""
    test, other = subject.split.test, replace(subject, model=model)
    return share(name, other.right(test), subject.clusters(test), **conditions, **other.decided_at)
