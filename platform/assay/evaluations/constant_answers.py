"""Does the model answer one class to nearly everything? Then what looks like robustness or privacy is that answer.

A constant answer is right as often as its class is frequent, under any attack, corruption or certificate; nobody can
recognise training records by it, and it treats all groups alike. Two checks say so beside every figure that it
flatters. Both look at what the answers would be if all classes were equally frequent, so that a good model of rare
disease, which answers "healthy" to nearly everybody, passes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.evaluations.balanced import balanced_accuracy
from assay.evaluations.base import Evaluation, Subject, share
from assay.metrics import Metric, ScorecardColumn
from assay.results import Check, Finding, Measurement
from assay.statistics import Interval

_COIN = 0.5
NEARLY_ALL = 0.95
"""Share of equally frequent classes that must get one answer before the model counts as constant. Of two classes: it
misses nine of ten records of the other one."""
DIAGNOSES = frozenset(
    {
        *("zero_gradients", "unbounded_attack", "black_box_against_white_box", "gradient_masking"),
        *("black_box_on_survivors", "boundary_reached", "step_size", "stronger_attack", "true_slopes"),
    }
)
"""Rules that take it for a sign of masked gradients, or of a weak attack, that no record changes its answer."""
SPEAKS_FOR_ITSELF = frozenset(
    {
        # A constant answer shows in these, or they say nothing of answers.
        *("majority_baseline", "balanced_accuracy", "class_recall", "precision", "recall", "f1", "auroc", "auprc"),
        *("sensitivity", "specificity", "parameters", "training_seconds", "training_worker_seconds"),
        *("inference_seconds", "explanation_seconds", "stopped_epoch", "tampered_share", "removed_share"),
        *("sanitation_precision", "sanitation_recall", "copied_records", "feature_scale"),
        # These are counted, not read off answers.
        *("epsilon", "epsilon_pld", "epsilon_prv", "delta", "noise_multiplier"),
        # These are of other models.
        *("local_only_accuracy", "centralised_accuracy", "undefended_backdoor_success", "undefended_collision_success"),
    }
)
"""Measurements that a constant answer does not flatter; every other one is marked."""

MAJORITY_BASELINE = Metric(
    name="majority_baseline",
    title="Majority",
    meaning="Accuracy of answering the most frequent class of the test records to everything: accuracy, under "
    "attack too, says something only where it lies above.",
    columns=(ScorecardColumn(key="majority", group="answers", place=20, optional=True),),
)


@dataclass(frozen=True, kw_only=True)
class ModelAnswers:
    """What a model answers to some records."""

    favourite: str
    """The class that it answers most often, were all classes equally frequent."""
    share: float
    """Share of the records that get this answer."""
    prevalence: float
    """Share of the records that are of this class."""
    balanced_share: float
    """Share that would get it if all classes were equally frequent: 1 of a constant answer, one over the number of
    classes of a model that is always right."""
    accuracy: Interval
    """Balanced accuracy."""
    classes: int
    """Classes that the records hold."""
    n: int

    @classmethod
    def of(
        cls, answer: np.ndarray, y: np.ndarray, *, class_names: Sequence[str], clusters: np.ndarray | None
    ) -> "ModelAnswers | None":
        """From answers and labels, (n,) each; None where the records hold one class, of which nobody can tell."""
        present = np.unique(y)
        if len(present) < 2:
            return None
        given = np.array([[(answer[y == k] == a).mean() for a in range(len(class_names))] for k in present]).mean(0)
        most = int(given.argmax())
        return cls(
            favourite=class_names[most],
            share=float((answer == most).mean()),
            prevalence=float((y == most).mean()),
            balanced_share=float(given[most]),
            accuracy=balanced_accuracy(answer == y, y, clusters),
            classes=len(present),
            n=len(y),
        )

    @property
    def constant(self) -> bool:
        """Whether one class is answered to nearly everything, whatever the record's own class."""
        return self.balanced_share >= NEARLY_ALL

    @property
    def tell_nothing(self) -> bool:
        """Whether the records cannot tell the answers from a constant one, or from a guess."""
        return self.accuracy.low <= 1 / self.classes

    @property
    def cause(self) -> str:
        """What the model does, in words."""
        return (
            f"the model answers {self.favourite!r} to {self.share:.1%} of {self.n} records, of which "
            f"{self.prevalence:.1%} are of that class (to {self.balanced_share:.1%} if all classes were equally "
            "frequent)"
        )


class ConstantAnswers(Evaluation):
    """Is one class answered to nearly everything? Asked of every model; nobody lists it.

    Its checks name no measurement: they concern whatever else was measured that a constant answer flatters.
    """

    looks_at = "decisions"
    name: Literal["answers_one_class"] = "answers_one_class"

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        answers = answers_of(subject) if len(subject.split.test) else None
        return [] if answers is None else check_constant_answers(answers, ())


def majority_baseline(y: np.ndarray, clusters: np.ndarray | None, class_names: Sequence[str]) -> Measurement:
    """Accuracy of the best constant answer to these records: what accuracy must be held against."""
    most = int(np.bincount(y).argmax())
    return share("majority_baseline", y == most, clusters, answer=class_names[most])


def answers_of(subject: Subject) -> ModelAnswers | None:
    """What the model answers to the test records; None where these hold one class."""
    rows = subject.split.test
    logits = subject.logits(rows)
    # No answer is none of the classes.
    answer = np.where(subject.task.answered(logits), subject.decisions(logits), -1)
    return ModelAnswers.of(
        answer,
        subject.dataset.y[rows],
        class_names=subject.dataset.class_names,
        clusters=subject.clusters(rows),
    )


def flattered(measured: Iterable[str]) -> tuple[str, ...]:
    """Of the names of what was measured, those that a constant answer flatters, each once."""
    return tuple(dict.fromkeys(name for name in measured if name.removeprefix("subgroup_") not in SPEAKS_FOR_ITSELF))


def check_constant_answers(answers: ModelAnswers, measured: Iterable[str]) -> list[Check]:
    """The verdict on a model's answers, beside every figure that a constant answer flatters.

    Args:
        answers: see ``answers_of``.
        measured: names of what was measured of it.
    """
    names = flattered(measured)
    chance = 1 / answers.classes
    found = [
        Check(
            rule="answers_one_class",
            concerns=names,
            verdict="fail" if answers.constant else "pass",
            figure=answers.balanced_share,
            message=f"{answers.cause}; limit {NEARLY_ALL:.0%}: a constant answer is right as often as its class is "
            "frequent, under any attack, and gives nobody away, so this figure shows nothing; see balanced accuracy, "
            "and train with balanced classes or a larger budget",
        )
    ]
    if not answers.constant:
        found.append(
            Check(
                rule="answers_tell_classes",
                concerns=names,
                verdict="warn" if answers.tell_nothing else "pass",
                figure=answers.accuracy.value,
                message=f"balanced accuracy is {answers.accuracy.value:.1%} ({answers.accuracy.low:.1%} to "
                f"{answers.accuracy.high:.1%}) on {answers.n} records, of a constant answer {chance:.1%}: these "
                "records do not tell the model from one, so its robustness, privacy and fairness mean nothing yet",
            )
        )
    return found


def ranking(found: Iterable[Measurement]) -> list[Check]:
    """Whether scores rank the classes the wrong way round, by more than chance."""
    return [
        Check(
            rule="ranking_above_chance",
            concerns="auroc",
            verdict="warn" if row.high < _COIN else "pass",
            figure=row.value,
            message=f"AUROC is {row.value:.2f} ({row.low:.2f} to {row.high:.2f}), all of it below {_COIN}: the "
            "model ranks records worse than a coin would; look whether the labels are swapped, or the test records "
            "are of another kind than those it was trained on",
        )
        for row in found
        if row.name == "auroc" and row.status == "measured"
    ]


def explained(raised: Sequence[Check], answers: ModelAnswers | None, *, moved: float) -> list[Check]:
    """The checks of robustness, without diagnoses that a constant answer explains; that cause is named in their place.

    Args:
        raised: all checks.
        answers: to the records under attack, without an attack.
        moved: share of the right answers that any attack changed, at any radius and without one. Where attacks change
            more than the odd one there is another answer to be got, and the diagnoses stand.
    """
    if answers is None or not answers.constant or moved > 1 - NEARLY_ALL:
        return list(raised)
    mistaken = [one for one in raised if one.rule in DIAGNOSES and one.verdict != "pass"]
    if not mistaken:
        return list(raised)
    rules = ", ".join(dict.fromkeys(one.rule for one in mistaken))
    cause = Check(
        rule="constant_answer",
        concerns=tuple(dict.fromkeys(name for one in mistaken for name in one.names)),
        verdict="fail",
        figure=answers.balanced_share,
        message=f"{answers.cause}: that is why attacks change {moved:.1%} of its right answers ({rules} would have "
        "been raised). No gradient is masked and no attack is too weak: there is hardly another answer to be got",
    )
    return [*(one for one in raised if one not in mistaken), cause]
