"""AUROC within each client, and pooled over clients, where it also ranks records of one client above another's."""

from collections.abc import Sequence

import numpy as np

from assay import intervals, seeds
from assay.evaluations.client_answers import AtClient, arrangements_of
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.results import Measurement, not_applicable

METRICS = (
    Metric(
        name="client_auroc",
        title="AUROC within a client",
        meaning="Area under the ROC curve on the test records of one client.",
        unit="AUROC",
        better="higher",
    ),
    Metric(
        name="mean_client_auroc",
        title="AUROC within clients, mean",
        meaning="Mean over clients of the area under the ROC curve within each: how well a hospital's own patients are "
        "ranked. Clients whose test records are all of one class are left out.",
        unit="AUROC",
        better="higher",
    ),
    Metric(
        name="pooled_client_auroc",
        title="AUROC, pooled over clients",
        meaning="Area under the ROC curve on the test records of all clients together. It also counts how often a "
        "record of one client ranks above a record of another, so it includes differences between clients, such as how "
        "many of their patients are ill, and no hospital sees it.",
        unit="AUROC",
        better="higher",
    ),
)
_BETWEEN = "includes differences between clients: compare with the mean within clients"


def aurocs(subject: Subject, clients: Sequence[AtClient], *, draws: int) -> list[Measurement]:
    """Measures the AUROC of each arrangement within each client first, then the mean of these, then the pooled one.

    Args:
        subject: with its records.
        clients: with all answers.
        draws: of the bootstrap, which resamples records, or patients.

    Returns:
        The measurements.
    """
    if subject.dataset.classes != 2:
        why = f"the AUROC needs two classes, there are {subject.dataset.classes}"
        return [not_applicable(metric.name, why, reason="other_number_of_classes") for metric in METRICS]
    return [row for arrangement in arrangements_of(clients) for row in _of(subject, clients, arrangement, draws=draws)]


def _of(subject: Subject, clients: Sequence[AtClient], arrangement: str, *, draws: int) -> list[Measurement]:
    about = {"arrangement": arrangement}
    able, found = [], []
    for client in clients:
        if arrangement in client.missing:
            reason, why = client.missing[arrangement]
            found.append(not_applicable("client_auroc", why, reason=reason, **client.about, **about))
        elif len(np.unique(subject.dataset.y[client.rows])) < 2:
            why = "all test records of this client are of one class"
            found.append(not_applicable("client_auroc", why, reason="no_records", **client.about, **about))
        elif not np.isfinite(client.answers[arrangement].logits).all():
            why = "the model answers NaN or infinity to records of this client"
            found.append(not_applicable("client_auroc", why, reason="no_finite_answers", **client.about, **about))
        else:
            able.append(client)
    if not able:
        why = f"no client has test records of both classes and a model ({arrangement})"
        together = ("mean_client_auroc", "pooled_client_auroc")
        return found + [not_applicable(name, why, reason="no_records", **about) for name in together]
    rows = np.concatenate([client.rows for client in able])
    owner = np.repeat(np.arange(len(able)), [len(client.rows) for client in able])
    logits = np.concatenate([client.answers[arrangement].logits for client in able])
    positive, score = subject.dataset.y[rows] == 1, logits[:, 1] - logits[:, 0]

    def figures(chosen: np.ndarray) -> np.ndarray:
        drawn = owner[chosen]
        within = [auroc_at(positive[chosen], score[chosen], drawn == place) for place in range(len(able))]
        return np.array([*within, np.mean(within), intervals.auroc(positive[chosen], score[chosen])])

    generator = seeds.stream(subject.seed, "bootstrap", "clients", arrangement)
    curve = intervals.bootstrap_curve(
        figures, len(rows), generator=generator, draws=draws, groups=subject.clusters(rows)
    )
    *within, mean, pooled = curve
    for client, interval in zip(able, within, strict=True):
        conditions = {**client.about, **about}
        found.append(estimated("client_auroc", interval, n=len(client.rows), unit="AUROC", conditions=conditions))
    wide = {**about, "clients": len(able)}
    found.append(estimated("mean_client_auroc", mean, n=len(rows), unit="AUROC", conditions=wide))
    everyone = estimated("pooled_client_auroc", pooled, n=len(rows), unit="AUROC", conditions=wide)
    return [*found, everyone.warn(_BETWEEN)]


def auroc_at(positive: np.ndarray, score: np.ndarray, where: np.ndarray) -> float:
    """Returns the AUROC of some records.

    Args:
        positive: (n,) bool.
        score: (n,).
        where: (n,) bool, which records.

    Returns:
        The area; NaN unless both classes occur.
    """
    return intervals.auroc(positive[where], score[where])
