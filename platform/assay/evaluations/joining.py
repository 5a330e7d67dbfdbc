"""Whether joining a federation is worth it to a client: its model against the one that it would train alone."""

import math
from collections.abc import Sequence

import numpy as np

from assay.design import Design, LimitTest, Runs
from assay.evaluations.client_answers import ALONE, AtClient
from assay.evaluations.subject import Subject
from assay.metrics import SIGNED, Metric
from assay.outcomes import Outcomes
from assay.results import Check, Finding, Flag, Measurement, not_applicable
from assay.statistics import LEVEL, holm

_COUNTS = {"gains": "clients_that_gain", "loses": "clients_that_lose", "inconclusive": "clients_inconclusive"}
METRICS = (
    Metric(
        name="joining_gain",
        title="Gain of a client by joining",
        meaning="Accuracy of the model that a client has by joining, minus that of the model that it trains alone, on "
        "its own test records; the interval is paired by record.",
        better="higher",
        limits=SIGNED,
    ),
    Metric(
        name="joining_p",
        title="p of joining",
        meaning="Two-sided p of the paired test that joining changes the accuracy of a client, after Holm's correction "
        "over all clients of the trial.",
        unit="probability",
        better="neither",
    ),
    *(
        Metric(
            name=name,
            title=f"Clients: {verdict}",
            meaning=f"Number of clients to which the paired test says, after Holm's correction: {verdict}.",
            unit="clients",
            limits=(0.0, math.inf),
        )
        for verdict, name in _COUNTS.items()
    ),
)


def joining(subject: Subject, clients: Sequence[AtClient]) -> list[Finding]:
    """Tests for each client whether joining changes its accuracy; the family of the correction is all clients.

    Args:
        subject: with its records.
        clients: with all answers.

    Returns:
        Gain and p of each client, the number of clients by verdict, and a check that names those who lose.
    """
    tests = [_test(subject, client) for client in clients]
    corrected = holm([math.nan if test is None else _two_sided(test) for test in tests])
    found: list[Finding] = []
    verdicts = []
    for client, test, p in zip(clients, tests, corrected, strict=True):
        about = {**client.about, "arrangement": client.joined, "against": ALONE}
        if test is None or math.isnan(p):
            reason, why = client.missing.get(client.joined, ("too_few_records", "its test records allow no test"))
            found += [not_applicable(name, why, reason=reason, **about) for name in ("joining_gain", "joining_p")]
            continue
        verdicts.append((client, _verdict(test.value, p)))
        n = len(client.rows)
        low, high = max(-1.0, test.low), min(1.0, test.high)  # no difference of two shares is beyond
        gain = Measurement(name="joining_gain", value=test.value, low=low, high=high, n=n, conditions=about)
        if verdicts[-1][1] == "loses":
            gain = gain.flag(Flag(verdict="warn", rule="joining_is_worth_it", message="the client loses by joining"))
        found += [gain, Measurement(name="joining_p", value=p, unit="probability", n=n, conditions=about)]
    return [*found, *_together(verdicts)]


def _test(subject: Subject, client: AtClient) -> LimitTest | None:
    """Returns the paired test of a client; None without both models, or with a single independent record."""
    if client.joined not in client.answers or ALONE not in client.answers:
        return None
    clusters = subject.clusters(client.rows)
    sides = []
    for arrangement in (client.joined, ALONE):
        right = client.answers[arrangement].right
        value = np.array([right.mean()])
        outcomes = (Outcomes.of(right, client.rows, clusters),)
        sides.append(Runs(values=value, low=value, high=value, outcomes=outcomes))
    if len(sides[0].outcomes[0].sizes) < 2:  # type: ignore[union-attr]
        return None
    return Design(folds=1, repeats=1).against_limit(sides[0], 0.0, less=sides[1])


def _two_sided(test: LimitTest) -> float:
    return min(1.0, 2 * min(test.p_above, test.p_below))


def _verdict(gain: float, p: float) -> str:
    if not p < 1 - LEVEL:
        return "inconclusive"
    return "gains" if gain > 0 else "loses"


def _together(verdicts: Sequence[tuple[AtClient, str]]) -> list[Finding]:
    """Returns the number of clients by verdict, and the check."""
    if not verdicts:
        why = "no client has two models and test records that allow a test"
        return [not_applicable(name, why, reason="too_few_records") for name in _COUNTS.values()]
    arrangement = {"arrangement": verdicts[0][0].joined, "against": ALONE}
    counts = {verdict: sum(said == verdict for _, said in verdicts) for verdict in _COUNTS}
    losers = [str(client.about.get("site", client.about["client"])) for client, said in verdicts if said == "loses"]
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return [
        *(
            Measurement(name=_COUNTS[verdict], value=float(n), unit="clients", n=len(verdicts), conditions=arrangement)
            for verdict, n in counts.items()
        ),
        Check(
            rule="joining_is_worth_it",
            concerns="clients_that_lose",
            verdict="warn" if losers else "pass",
            figure=float(len(losers)),
            message=f"of {len(verdicts)} clients: {said}" + (f"; losing: {', '.join(losers)}" if losers else ""),
            conditions=arrangement,
        ),
    ]
