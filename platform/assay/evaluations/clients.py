"""Is a federated model fair to each hospital, and was it worth joining?"""

from dataclasses import replace
from typing import Literal

import numpy as np
from torch import nn

from assay.errors import DataError
from assay.evaluations.base import Evaluation, Subject, share
from assay.federated.client import client_seed
from assay.federated.partition import partition
from assay.registry import register
from assay.results import Measurement, not_applicable


@register("evaluation")
class Clients(Evaluation):
    """Accuracy at each client and the worst, between the two ends: every client alone, and all data in one place.

    A client's test records are its share of the test split, dealt out like the training records. The two ends are
    trained anew with the same objective, privacy and number of passes over the data.
    """

    name: Literal["clients"] = "clients"

    def measure(self, subject: Subject) -> list[Measurement]:
        names = ("client_accuracy", "worst_client_accuracy", "local_only_accuracy", "centralised_accuracy")
        if subject.recipe is None or subject.recipe.federation is None:
            return [not_applicable(name, "the recipe is not federated") for name in names]
        if subject.train is None:
            return [not_applicable(name, "nothing can be trained here") for name in names]
        test = subject.split.test
        try:
            dealt = _dealt(subject, test)
        except DataError as error:
            return [not_applicable(name, f"test records: {error}") for name in names]
        correct = dict(zip(test.tolist(), _correct(subject, subject.model, test), strict=True))
        found = []
        for number, rows in enumerate(dealt, start=1):
            hits = np.array([correct[row] for row in rows.tolist()])
            found.append(
                share(
                    "client_accuracy",
                    hits,
                    subject.groups(rows),
                    seed=subject.seed,
                    client=number,
                    arrangement="federated",
                )
            )
        worst = min(found, key=lambda measurement: measurement.value)
        found.append(
            replace(
                worst,
                name="worst_client_accuracy",
                conditions={"client": worst.conditions["client"]},
                warnings=("the least of several small samples: lower than a client's true accuracy on average",),
            )
        )
        for number, rows in enumerate(_dealt(subject, subject.split.train), start=1):
            hits = _correct(subject, subject.train(rows, f"local only/{client_seed(subject.seed, number)}"), test)
            found.append(share("local_only_accuracy", hits, subject.groups(test), seed=subject.seed, client=number))
        everyone = _correct(subject, subject.train(subject.split.train, "centralised"), test)
        return [*found, share("centralised_accuracy", everyone, subject.groups(test), seed=subject.seed)]


def _dealt(subject: Subject, rows: np.ndarray) -> list[np.ndarray]:
    """The rows of each client, dealt as the training records were."""
    assert subject.recipe is not None and subject.recipe.federation is not None
    return partition(rows, subject.recipe.federation, seed=subject.seed, groups=subject.groups(rows))


def _correct(subject: Subject, model: nn.Module, rows: np.ndarray) -> np.ndarray:
    return replace(subject, model=model).logits(rows).argmax(1) == subject.dataset.y[rows]
