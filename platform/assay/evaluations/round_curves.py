"""Accuracy of the shared network after rounds, with the seconds and the bytes that they took."""

from itertools import accumulate

from assay import intervals
from assay.federated.record import FederationRecord
from assay.metrics import POSITIVE, Metric
from assay.results import NAN, Measurement, ReasonCode, not_applicable

METRICS = (
    Metric(
        name="round_accuracy",
        title="Accuracy after a round",
        meaning="Share of validation records, at most 500, that the shared network classifies correctly after a round. "
        "It chooses nothing: the trained model is that of the last round.",
        better="higher",
    ),
    Metric(
        name="round_elapsed_seconds",
        title="Seconds until a round's end",
        meaning="Wall time of a round and all rounds before it, on the machine that ran them.",
        unit="seconds",
    ),
    Metric(
        name="round_sent_bytes",
        title="Bytes until a round's end",
        meaning="Bytes up and down of all clients, in a round and all rounds before it.",
        unit="bytes",
        limits=POSITIVE,
    ),
)


def curve(record: FederationRecord, *, private: bool, independent: bool, shared: str) -> list[Measurement]:
    """Returns accuracy, seconds and bytes at each round after which the shared network was measured.

    Args:
        record: of the training.
        private: whether training was private: then nothing was measured.
        independent: whether each validation record counts by itself. The log holds no record's answer, so that the
            interval of records that belong together, such as those of one patient, is not known.
        shared: why the shared network alone is no model; empty where it is one.

    Returns:
        Three rows for each such round; none of them has a value where there is no such round.
    """
    measured = [number for number, each in enumerate(record.rounds, start=1) if each.measured is not None]
    if shared or not measured:
        reason, why = _why_none(private=private, shared=shared)
        return [not_applicable(metric.name, why, reason=reason) for metric in METRICS]
    seconds = list(accumulate(each.seconds for each in record.rounds))
    sent = list(accumulate(each.bytes_up + each.bytes_down for each in record.rounds))
    found = []
    for number in measured:
        about, value, n = {"round": number}, record.rounds[number - 1].measured, record.measured_records
        assert value is not None
        low, high = _ends(value, n) if independent and n else (NAN, NAN)
        found += [
            Measurement(name="round_accuracy", value=value, low=low, high=high, n=n, conditions=about),
            Measurement(
                name="round_elapsed_seconds", value=seconds[number - 1], unit="seconds", n=number, conditions=about
            ),
            Measurement(
                name="round_sent_bytes", value=float(sent[number - 1]), unit="bytes", n=number, conditions=about
            ),
        ]
    return found


def _ends(share: float, n: int) -> tuple[float, float]:
    interval = intervals.proportion(round(share * n), n)
    return interval.low, interval.high


def _why_none(*, private: bool, shared: str) -> tuple[ReasonCode, str]:
    if shared:
        return "no_shared_model", shared
    if private:
        return "unpaid", "the recipe is private: validation records are patients too, and no ε pays for a look at them"
    return "no_records", "there were no validation records: set split.validation, to 0.1 say"
