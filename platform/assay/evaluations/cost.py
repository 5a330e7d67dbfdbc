"""Time of training, number of parameters, and the epoch that early stopping kept."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.metrics import Metric, ScorecardColumn
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable


@register("evaluation")
class Cost(Evaluation):
    """Wall time of training, the same summed over workers or clients, and the number of parameters.

    For a recipe with early stopping also the epoch whose weights were kept, and their robust validation accuracy. That
    is the best of several looks, so an optimistic figure; robustness is measured on other records. The report computes
    the ratio to the standard recipe over the same folds.
    """

    looks_at = "probabilities"
    name: Literal["cost"] = "cost"
    needs_shared_model: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="training_seconds",
            title="Training",
            meaning="Wall time of one training.",
            unit="seconds",
            better="lower",
            columns=(ScorecardColumn(key="seconds", group="cost", place=10, shown="seconds"),),
        ),
        Metric(
            name="training_worker_seconds",
            title="Training, all workers",
            meaning="Time of one training, summed over workers or clients.",
            unit="seconds",
            better="lower",
        ),
        Metric(
            name="training_records_per_second",
            title="Training speed",
            meaning="Records of all workers in a second of training steps. The first step of each run, which starts "
            "up, is left out, and so are checkpoints and what happens after an epoch.",
            unit="records per second",
            better="higher",
        ),
        Metric(
            name="scaling_efficiency",
            title="Scaling efficiency",
            meaning="Records a second of n workers, as a share of n times those of one worker in the same training.",
            better="higher",
            limits=(0.0, float("inf")),
        ),
        Metric(name="parameters", title="Parameters", meaning="Numbers that the network learns.", unit="count"),
        Metric(
            name="tuned_points",
            title="Points tried",
            meaning="Points of its own grid that a tuned recipe tried on the validation records, its own included.",
            unit="count",
            columns=(ScorecardColumn(key="tuned", group="cost", place=30, shown="number", optional=True),),
        ),
        Metric(
            name="tuning_seconds",
            title="Tuning",
            meaning="Time of training all points that were tried.",
            unit="seconds",
            better="lower",
        ),
        Metric(
            name="tuned_validation_accuracy",
            title="Tuned validation accuracy",
            meaning="Accuracy of the best point on the validation records, which chose it: an optimistic figure.",
            better="higher",
        ),
        Metric(
            name="stopped_epoch",
            title="Epoch kept",
            meaning="Epoch after which early stopping kept the weights.",
            unit="epochs",
        ),
        Metric(
            name="robust_validation_accuracy",
            title="Robust validation accuracy",
            meaning="The best of all looks of early stopping, at which the weights were chosen: an optimistic figure.",
            better="higher",
        ),
    )

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        parameters = sum(parameter.numel() for parameter in subject.model.parameters())
        found = [Measurement(name="parameters", value=float(parameters), unit="count", n=1)]
        if subject.log is None:
            why = "Assay did not train this model"
            return [
                *found,
                not_applicable("training_seconds", why, reason="not_trained_here"),
                not_applicable("training_worker_seconds", why, reason="not_trained_here"),
            ]
        about = {"workers": subject.log.workers, "records": len(subject.split.train)}
        return [
            *found,
            Measurement(
                name="training_seconds",
                value=subject.log.seconds,
                unit="seconds",
                n=len(subject.split.train),
                conditions=about,
            ),
            Measurement(
                name="training_worker_seconds",
                value=subject.log.worker_seconds,
                unit="seconds",
                n=len(subject.split.train),
                conditions=about,
            ),
            *_speeds(subject.log.speeds),
            *_stopped(subject, subject.log.validation),
            *_tuned(subject, subject.log.tuned),
        ]


def _speeds(speeds: dict[str, dict[str, float]]) -> list[Finding]:
    """Returns the records a second of each number of workers, and what several workers gain.

    Args:
        speeds: of a training log; empty of federated trainings and of logs of earlier versions.
    """
    found: list[Finding] = []
    timed = {int(workers): speed for workers, speed in speeds.items() if speed["seconds"] > 0}
    rates = {workers: speed["records"] / speed["seconds"] for workers, speed in sorted(timed.items())}
    for workers, rate in rates.items():
        about = {"workers": workers, "steps": int(timed[workers]["steps"])}
        records = int(timed[workers]["records"])
        found.append(
            Measurement(
                name="training_records_per_second",
                value=rate,
                unit="records per second",
                n=records,
                conditions=about,
            )
        )
        if workers > 1 and 1 in rates:
            alone = {**about, "records_per_second_of_one_worker": rates[1], "steps_of_one_worker": timed[1]["steps"]}
            efficiency = rate / (workers * rates[1])
            found.append(Measurement(name="scaling_efficiency", value=efficiency, n=records, conditions=alone))
        elif workers > 1:
            why = "no step of this training was taken by one worker alone, so there is no speed to compare with"
            found.append(not_applicable("scaling_efficiency", why, reason="not_asked", **about))
    return found


def _tuned(subject: Subject, points: list[dict[str, Any]]) -> list[Finding]:
    """Returns how many points a recipe tried, which it kept, and what that took.

    Args:
        points: of the log; none of a recipe that was trained as it stands.
    """
    if not points:
        return []
    best = max(points, key=lambda point: point["value"])
    kept = {key: best[key] for key in ("learning_rate", "batch_size", "epochs")}
    validation = len(subject.split.validation)
    optimistic = f"the best of {len(points)} points, by which the settings were chosen: no estimate for new records"
    return [
        Measurement(name="tuned_points", value=float(len(points)), unit="count", n=validation, conditions=kept),
        Measurement(
            name="tuning_seconds", value=sum(point["seconds"] for point in points), unit="seconds", n=len(points)
        ),
        Measurement(
            name="tuned_validation_accuracy", value=best["value"], n=validation, conditions=kept, warnings=(optimistic,)
        ),
    ]


def _stopped(subject: Subject, looks: list[float]) -> list[Finding]:
    """Returns the epoch whose weights early stopping kept, and why; nothing for a recipe without early stopping.

    Args:
        looks: robust validation accuracy at each look.
    """
    training = None if subject.recipe is None else subject.recipe.training
    if training is None or training.early_stopping is None or not looks:
        return []
    asked = training.early_stopping
    best = max(looks)
    kept, ended = (min(count * asked.every, training.epochs) for count in (looks.index(best) + 1, len(looks)))
    about = {"epochs_trained": ended, "epochs_planned": training.epochs}
    attack = {"attack": "pgd", "steps": asked.steps, "epsilon": asked.epsilon, "norm": asked.norm}
    optimistic = f"the best of {len(looks)} looks, at which the weights were chosen: no estimate for new records"
    return [
        Measurement(name="stopped_epoch", value=float(kept), unit="epochs", n=1, conditions=about),
        Measurement(
            name="robust_validation_accuracy",
            value=best,
            n=len(subject.split.validation),
            conditions=attack,
            warnings=(optimistic,),
        ),
    ]
