"""The rounds of a federated training: who answered, what failed, how many bytes, and how long on named networks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from assay.evaluations.base import Evaluation
from assay.evaluations.client_participation import METRICS as PARTICIPATION
from assay.evaluations.client_participation import UNKNOWN, participation
from assay.evaluations.clients import training_partition
from assay.evaluations.round_curves import METRICS as CURVES
from assay.evaluations.round_curves import curve
from assay.evaluations.round_durations import METRICS as DURATIONS
from assay.evaluations.round_durations import durations
from assay.evaluations.subject import Subject
from assay.federated.record import CAUSES, FederationRecord
from assay.metrics import POSITIVE, Metric
from assay.recipes import Federation
from assay.registry import register
from assay.results import Finding, Measurement, ReasonCode, not_applicable

_BYTES = ("bytes_up", "bytes_down")


@register("evaluation")
class Rounds(Evaluation):
    """What happened in the rounds of a federated training, as its log tells.

    Nothing is trained and no record is looked at: it takes milliseconds. Of a recipe with teachers, it is the rounds of
    the last training. Bytes are those that clients and server would send, headers and positions included, counted over
    all clients; what is sent once before the first round (the program, the network) is not among them.
    """

    looks_at = "probabilities"
    name: Literal["rounds"] = "rounds"
    needs_shared_model: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="rounds_completed",
            title="Rounds",
            meaning="Number of rounds that the policy of the recipe held to be complete.",
            unit="rounds",
            limits=POSITIVE,
        ),
        Metric(
            name="answered_share",
            title="Share of answers",
            meaning="Updates in the new weights of all rounds, as a share of the clients that were drawn, absent ones "
            "included.",
            better="higher",
        ),
        Metric(
            name="round_failures",
            title="Failures, by cause",
            meaning="Number of clients that were drawn for a round and are not in its new weights, over all rounds; "
            + "; ".join(f"{cause}: {meaning}" for cause, meaning in CAUSES.items())
            + ".",
            unit="failures",
            better="lower",
            limits=POSITIVE,
        ),
        *(
            Metric(
                name=f"{name}{per}",
                title=f"Bytes {'up' if name == 'bytes_up' else 'down'}{title}",
                meaning=f"Bytes that {who} would send{when}, summed over clients.",
                unit="bytes",
                better="lower",
                limits=POSITIVE,
            )
            for name, who in zip(_BYTES, ("clients", "the server"), strict=True)
            for per, title, when in (
                ("", "", " in all rounds"),
                ("_per_round", " in a round", " in a round on average"),
            )
        ),
        *PARTICIPATION,
        *DURATIONS,
        *CURVES,
    )

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        federation = None if subject.recipe is None else subject.recipe.federation
        if federation is None:
            return self._none("not_federated", "the recipe is not federated")
        if subject.log is None:
            return self._none("not_trained_here", "Assay did not train this model")
        if not subject.log.federation:
            return self._none("not_logged", "the log of the training has no rounds, as of earlier versions")
        record = FederationRecord.of(subject.log.federation)
        private = subject.recipe is not None and subject.recipe.privacy is not None
        independent = subject.clusters(subject.split.validation) is None
        return [
            *_answers(record, federation),
            *_sent(record),
            *participation(record, training_partition(subject)),
            *durations(record, federation, seed=subject.seed),
            *curve(record, private=private, independent=independent, shared=subject.why_no_shared_model),
        ]

    def _none(self, reason: ReasonCode, why: str) -> list[Finding]:
        return [not_applicable(metric.name, why, reason=reason) for metric in self.metrics]


def _answers(record: FederationRecord, federation: Federation) -> list[Measurement]:
    """Returns the number of rounds, the share of answers, and failures by cause."""
    rounds = len(record.rounds)
    asked, answered = (sum(getattr(each, name) for each in record.rounds) for name in ("asked", "answered"))
    causes = Counter(each.causes.get(number, UNKNOWN) for each in record.rounds for number in each.failures)
    planned: dict[str, Any] = {"planned": federation.rounds, "policy": federation.policy}
    found = [Measurement(name="rounds_completed", value=float(rounds), unit="rounds", n=rounds, conditions=planned)]
    if asked:
        found.append(Measurement(name="answered_share", value=answered / asked, n=asked, conditions=planned))
    else:
        found.append(not_applicable("answered_share", "no client was drawn in any round", reason="no_records"))
    for cause in [*CAUSES, *([UNKNOWN] if UNKNOWN in causes else [])]:
        about = {"cause": cause}
        count = float(causes.get(cause, 0))
        found.append(Measurement(name="round_failures", value=count, unit="failures", n=asked, conditions=about))
    return found


def _sent(record: FederationRecord) -> list[Measurement]:
    """Returns bytes up and down, in total and in a round."""
    rounds, found = len(record.rounds), []
    for name in _BYTES:
        total = float(sum(getattr(each, name) for each in record.rounds))
        found.append(Measurement(name=name, value=total, unit="bytes", n=rounds))
        found.append(Measurement(name=f"{name}_per_round", value=total / rounds, unit="bytes", n=rounds))
    return found
