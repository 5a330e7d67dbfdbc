"""Each client of a federation: its accuracy by arrangement, whether joining is worth it, and how clients differ."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from assay.data.partition import Partition, partition_dataset, partition_test
from assay.errors import DataError
from assay.evaluations import client_labels
from assay.evaluations.base import Evaluation
from assay.evaluations.client_answers import accuracies, answers_at_clients
from assay.evaluations.client_auroc import METRICS as AUROCS
from assay.evaluations.client_auroc import aurocs
from assay.evaluations.joining import METRICS as JOINING
from assay.evaluations.joining import joining
from assay.evaluations.shares import share_by_record
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable
from assay.seeds import client_seed

OF_TEST_RECORDS = (
    *("client_accuracy", "worst_client_accuracy", "local_only_accuracy", "centralised_accuracy"),
    "pooled_client_accuracy",
    *(metric.name for metric in (*JOINING, *AUROCS)),
)
"""Metrics that need test records of each client."""


@register("evaluation")
class Clients(Evaluation):
    """Accuracy at each client and at the worst one, in each arrangement, and whether joining is worth it to each.

    A client's test records are its share of the test split, dealt like the training records: where clients differ in
    their labels, each is tested on the labels that it has, and a site on its own records. The condition ``arrangement``
    says whose model was measured: ``federated`` (the shared network), ``personal`` (the client's own, where the recipe
    personalises), ``local only`` (trained by this client alone) or ``centralised`` (trained on all records in one
    place). The last two are trained with the same objective, privacy and number of passes over the data. No test record
    chooses any of them.
    """

    name: Literal["clients"] = "clients"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="client_accuracy",
            title="Accuracy at a client",
            meaning="Share of the test records of one client that are classified correctly, by the model of the "
            "arrangement.",
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
        Metric(
            name="pooled_client_accuracy",
            title="Accuracy, all clients",
            meaning="Share of the test records of all clients that are classified correctly, each by the model of its "
            "client in the arrangement: the mean of the clients, weighted by records.",
            better="higher",
        ),
        *JOINING,
        *AUROCS,
        *client_labels.METRICS,
    )
    needs_shared_model: ClassVar[bool] = False
    draws: int = Field(default=200, ge=10)
    """Draws of the bootstrap of the AUROC."""

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
            return [*(not_applicable(name, why, reason="too_few_records") for name in OF_TEST_RECORDS), *facts]
        alone = [
            subject.train(rows, f"local only/{client_seed(subject.seed, client)}")
            for client, rows in enumerate(training, start=1)
        ]
        everyone = subject.train(subject.split.train, "centralised")
        clients = answers_at_clients(subject, training, dealt, alone, everyone)
        local = [
            _accuracy("local_only_accuracy", subject, model, **client_labels.about_client(training, client))
            for client, model in enumerate(alone)
        ]
        return [
            *accuracies(subject, clients),
            *joining(subject, clients),
            *aurocs(subject, clients, draws=self.draws),
            *local,
            _accuracy("centralised_accuracy", subject, everyone),
            *facts,
        ]


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
    return share_by_record(name, other.right(test), subject.clusters(test), test, **conditions, **other.decided_at)
