"""Numbers of training records of clients, and how much the clients differ in their labels."""

from typing import Any

from assay.data.heterogeneity import class_counts, heterogeneity
from assay.data.partition import Partition
from assay.evaluations.subject import Subject
from assay.metrics import POSITIVE, Metric
from assay.results import Measurement

_RECORDS = "records"
_MEANING = (
    "{what} of the labels of a client's training records from those of all clients: 0 if they have the same mixture of "
    "labels, 1 if they share no label."
)
METRICS = (
    Metric(
        name="client_records",
        title="Records of a client",
        meaning="Number of training records of one client.",
        unit=_RECORDS,
        limits=POSITIVE,
    ),
    Metric(
        name="client_class_records",
        title="Records of a class at a client",
        meaning="Number of training records of one class at one client.",
        unit=_RECORDS,
        limits=POSITIVE,
    ),
    Metric(
        name="label_hellinger",
        title="Difference of labels, Hellinger",
        meaning=_MEANING.format(what="Hellinger distance"),
    ),
    Metric(
        name="label_jensen_shannon",
        title="Difference of labels, Jensen-Shannon",
        meaning=_MEANING.format(what="Jensen-Shannon divergence, in bits,"),
    ),
    Metric(
        name="mean_label_hellinger",
        title="Difference of labels, mean over clients",
        meaning="Mean over clients of the Hellinger distance of a client's labels from those of all clients.",
    ),
    Metric(
        name="worst_label_hellinger",
        title="Difference of labels, most unlike client",
        meaning="The greatest Hellinger distance of a client's labels from those of all clients.",
    ),
    Metric(
        name="label_hellinger_by_chance",
        title="Difference of labels by chance",
        meaning="Mean Hellinger distance if single records were dealt at random to clients of the same sizes: small "
        "clients differ by as much without any cause.",
    ),
    Metric(
        name="mean_label_jensen_shannon",
        title="Divergence of labels, mean over clients",
        meaning="Mean over clients of the Jensen-Shannon divergence of a client's labels from those of all clients.",
    ),
    Metric(
        name="worst_label_jensen_shannon",
        title="Divergence of labels, most unlike client",
        meaning="The greatest Jensen-Shannon divergence of a client's labels from those of all clients.",
    ),
    Metric(
        name="size_hellinger",
        title="Difference of sizes, Hellinger",
        meaning="Hellinger distance of the clients' shares of all training records from equal shares.",
    ),
    Metric(
        name="size_jensen_shannon",
        title="Difference of sizes, Jensen-Shannon",
        meaning="Jensen-Shannon divergence, in bits, of the clients' shares of all training records from equal shares.",
    ),
)


def labels_of_clients(subject: Subject, training: Partition) -> list[Measurement]:
    """Measures how many records clients have, and how much they differ.

    Args:
        subject: with its records.
        training: training records of each client.

    Returns:
        Rows of each client, then those of all clients together. They are facts about this partition, not estimates, and
        have no interval.
    """
    dataset = subject.dataset
    counts = class_counts(dataset.y, training, classes=dataset.classes)
    found = heterogeneity(counts, seed=subject.seed)
    rows = []
    for client, numbers in enumerate(counts):
        about, n = about_client(training, client), int(numbers.sum())
        rows.append(Measurement(name="client_records", value=float(n), unit=_RECORDS, n=n, conditions=about))
        rows += [
            Measurement(
                name="client_class_records",
                value=float(number),
                unit=_RECORDS,
                n=n,
                conditions={**about, "class": dataset.class_names[place]},
            )
            for place, number in enumerate(numbers.tolist())
        ]
        for name, values in (("hellinger", found.hellinger), ("jensen_shannon", found.jensen_shannon)):
            rows.append(Measurement(name=f"label_{name}", value=float(values[client]), n=n, conditions=about))
    together = {
        "mean_label_hellinger": found.hellinger.mean(),
        "worst_label_hellinger": found.hellinger.max(),
        "label_hellinger_by_chance": found.hellinger_by_chance,
        "mean_label_jensen_shannon": found.jensen_shannon.mean(),
        "worst_label_jensen_shannon": found.jensen_shannon.max(),
        "size_hellinger": found.size_hellinger,
        "size_jensen_shannon": found.size_jensen_shannon,
    }
    noted = (training.note,) if training.note else ()
    n = int(counts.sum())
    return [
        *rows,
        *(Measurement(name=name, value=float(value), n=n, warnings=noted) for name, value in together.items()),
    ]


def about_client(training: Partition, client: int) -> dict[str, Any]:
    """Returns the conditions that name a client: its number, and its site where it is one.

    Args:
        training: training records of each client.
        client: its place, from 0.

    Returns:
        Conditions of a measurement.
    """
    site = {"site": training.sites[client]} if training.sites else {}
    return {"client": client + 1, **site}
