"""Detects a model that answers one class to nearly everything, which can look like robustness or privacy.

A constant answer is right as often as its class is frequent, under any attack, corruption or certificate; training
records cannot be recognised by it, and it treats all groups alike. Two checks are attached to every figure that such an
answer inflates. Both use the answers that would result if all classes were equally frequent, so that a good model of a
rare disease, which answers "healthy" to nearly everybody, passes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.evaluations.balanced import balanced_accuracy
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.intervals import Interval
from assay.metrics import Metric, ScorecardColumn
from assay.results import Check, Finding, Measurement

_COIN = 0.5
NEARLY_ALL = 0.95
"""Share of equally frequent classes that must get one answer before the model counts as constant. With two classes, it
then misses nine of ten records of the other one.
"""
DIAGNOSES = frozenset(
    {
        *("zero_gradients", "unbounded_attack", "black_box_against_white_box", "gradient_masking"),
        *("black_box_on_survivors", "boundary_reached", "step_size", "stronger_attack", "true_slopes"),
    }
)
"""Rules that interpret unchanged answers as masked gradients, or as a weak attack."""
NOT_INFLATED = frozenset(
    {
        # A constant answer shows in these, or they say nothing of answers.
        *("majority_baseline", "balanced_accuracy", "class_recall", "precision", "recall", "f1", "auroc", "auprc"),
        *("sensitivity", "specificity", "parameters", "training_seconds", "training_worker_seconds"),
        *("training_records_per_second", "scaling_efficiency"),
        *("inference_seconds", "explanation_seconds", "stopped_epoch", "tampered_share", "removed_share"),
        *("sanitation_precision", "sanitation_recall", "copied_records", "feature_scale"),
        # These are counted, not read off answers.
        *("epsilon", "epsilon_pld", "epsilon_prv", "delta", "noise_multiplier"),
        # These are of other models.
        *("local_only_accuracy", "centralised_accuracy", "undefended_backdoor_success", "undefended_collision_success"),
    }
)
"""Measurements that a constant answer does not inflate; every other one is marked."""

MAJORITY_BASELINE = Metric(
    name="majority_baseline",
    title="Majority",
    meaning="Accuracy of a constant answer, the most frequent class of the test records: accuracy, also under attack, "
    "means something only above it.",
    columns=(ScorecardColumn(key="majority", group="answers", place=20, optional=True),),
)


@dataclass(frozen=True, kw_only=True)
class ModelAnswers:
    """Statistics of a model's answers to some records."""

    favourite: str
    """The most frequent answer, if all classes were equally frequent."""
    share: float
    """Share of the records that get this answer."""
    prevalence: float
    """Share of the records of this class."""
    balanced_share: float
    """Share that would get it if all classes were equally frequent: 1 for a constant answer, one over the number of
    classes for a model that is always right.
    """
    accuracy: Interval
    """Balanced accuracy."""
    classes: int
    """Number of classes among the records."""
    n: int

    @classmethod
    def of(
        cls, answer: np.ndarray, y: np.ndarray, *, class_names: Sequence[str], clusters: np.ndarray | None
    ) -> "ModelAnswers | None":
        """Computes the statistics from answers and labels.

        Args:
            answer: (n,) classes; −1 for no answer.
            y: (n,) labels.
            class_names: of all classes.
            clusters: (n,) as ``Subject.clusters``.

        Returns:
            The statistics; None where the records have only one class.
        """
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
        """Whether nearly all records get one answer, whatever their class."""
        return self.balanced_share >= NEARLY_ALL

    @property
    def uninformative(self) -> bool:
        """Whether the answers do not differ significantly from a constant answer, or from a guess."""
        return self.accuracy.low <= 1 / self.classes

    @property
    def cause(self) -> str:
        """A description of the answers."""
        return (
            f"the model answers {self.favourite!r} to {self.share:.1%} of {self.n} records, of which "
            f"{self.prevalence:.1%} are of that class (to {self.balanced_share:.1%} if all classes were equally "
            "frequent)"
        )


class ConstantAnswers(Evaluation):
    """Checks for a constant answer. It runs for every model without being listed.

    Its checks name no measurement: they concern every figure of the trial that a constant answer inflates.
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
    """Measures the accuracy of the best constant answer, with which accuracy must be compared.

    Args:
        y: (n,) labels.
        clusters: (n,) as ``Subject.clusters``.
        class_names: of all classes.

    Returns:
        The measurement.
    """
    most = int(np.bincount(y).argmax())
    return share("majority_baseline", y == most, clusters, answer=class_names[most])


def answers_of(subject: Subject) -> ModelAnswers | None:
    """Returns statistics of the model's answers to the test records.

    Args:
        subject: the trained model with its data.

    Returns:
        The statistics; None where these records have only one class.
    """
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


def inflated_by_constant_answers(measured: Iterable[str]) -> tuple[str, ...]:
    """Selects the measurements that a constant answer inflates.

    Args:
        measured: names of measurements.

    Returns:
        Their names, each once.
    """
    return tuple(dict.fromkeys(name for name in measured if name.removeprefix("subgroup_") not in NOT_INFLATED))


def check_constant_answers(answers: ModelAnswers, measured: Iterable[str]) -> list[Check]:
    """Checks a model's answers; the checks concern every figure that a constant answer inflates.

    Args:
        answers: see ``answers_of``.
        measured: names of the model's measurements.

    Returns:
        One or two checks.
    """
    names = inflated_by_constant_answers(measured)
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
                verdict="warn" if answers.uninformative else "pass",
                figure=answers.accuracy.value,
                message=f"balanced accuracy is {answers.accuracy.value:.1%} ({answers.accuracy.low:.1%} to "
                f"{answers.accuracy.high:.1%}) on {answers.n} records, of a constant answer {chance:.1%}: these "
                "records do not tell the model from one, so its robustness, privacy and fairness mean nothing yet",
            )
        )
    return found


def ranking(found: Iterable[Measurement]) -> list[Check]:
    """Checks whether scores rank the classes significantly worse than chance.

    Args:
        found: measurements of a trial.

    Returns:
        One check for each measured AUROC.
    """
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


def drop_explained_diagnoses(raised: Sequence[Check], answers: ModelAnswers | None, *, moved: float) -> list[Check]:
    """Removes diagnoses of robustness checks that a constant answer explains, and adds a check that names this cause.

    Args:
        raised: all checks.
        answers: to the records under attack, without an attack.
        moved: share of the correct answers that any attack changed, at any radius and without one. Where attacks change
            more than a few, other answers exist, and the diagnoses stay.

    Returns:
        The checks.
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
