"""Chooses the model of a study that is served: on validation records, by its requirements, then its primary goal."""

from dataclasses import dataclass, replace

import numpy as np
import yaml

from assay.data.splits import Split
from assay.errors import SpecError, UserError
from assay.results import Measurement
from assay.store.folder import Store
from assay.study.finished import Finished
from assay.study.requirements import Requirement
from assay.study.spec import Cohort, Study
from serve.repository.entries import Source
from serve.repository.opening import open_source

MEASURED_AGAIN = ("accuracy", "robustness", "certificates")
"""Evaluations whose requirements are measured on validation records; ε is that of the training. Others, which need
members and non-members or a second training, take no part in the choice."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One candidate on its validation records."""

    source: Source
    values: dict[str, float]
    """Value of each requirement, by its text."""
    missed: tuple[str, ...]
    """Requirements that it misses there, with the values."""
    goal: float
    """Value of the primary goal; more is better."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen model, with what it was chosen from."""

    chosen: Judged
    others: tuple[Judged, ...]
    rule: str


def choose(results: str, *, cohort: str | None = None, public: bool = False) -> Choice:
    """Chooses a model of a finished study.

    A candidate must meet the requirements of the study on the validation records of fold 1; of those that do, the one
    with the best value of the primary goal, which is the first requirement, is chosen. Test records take no part, so
    that the figures of the card are those of a model that they did not choose.

    Args:
        results: folder or URI of the study.
        cohort: by default the first.
        public: whether others will call it: then only models that may leave this machine are candidates.

    Returns:
        The choice.

    Raises:
        SpecError: the study has no such cohort, no candidate has finished, or none meets the requirements.
    """
    text = Store(results).read_text("study.yaml")
    if not text:
        message = f"there is no study in {results!r}; run one first, such as python -m jobs.study quickstart"
        raise SpecError(message, setting="results", given=results)
    study = Study.model_validate(yaml.safe_load(text)["study"])
    name = cohort or next(iter(study.cohorts))
    if name not in study.cohorts:
        known = list(study.cohorts)
        message = f"the study has no cohort {name!r}; its cohorts: {', '.join(known)}"
        raise SpecError(message, setting="cohort", given=name, allowed=known)
    own = study.cohorts[name]
    recipes = list(own.candidates or own.recipes)
    judged, reasons = [], []
    for recipe in recipes:
        try:
            finished = open_source(Source(results=results, recipe=recipe, cohort=name), public=public)
            judged.append(_judge(finished, own, results))
        except UserError as error:
            reasons.append(str(error))
    meeting = [one for one in judged if not one.missed]
    if not meeting:
        reasons += [f"{one.source.recipe} misses {'; '.join(one.missed)}" for one in judged]
        raise SpecError(
            f"no model of cohort {name!r} meets the requirements on its validation records: {' · '.join(reasons)}. "
            "Name a recipe to serve it nevertheless",
            setting="recipe",
            allowed=recipes,
        )
    best = max(meeting, key=lambda one: one.goal)
    goal = own.requirements[0].metric if own.requirements else "accuracy"
    left_out = [one.text for one in own.requirements if not _judged_here(one)]
    rule = f"the best {goal} of the {len(meeting)} of {len(recipes)} candidates that meet the requirements on the " + (
        f"validation records ({'; '.join(left_out)}: not asked there)" if left_out else "validation records"
    )
    return Choice(chosen=best, others=tuple(one for one in judged if one is not best), rule=rule)


def _judged_here(requirement: Requirement) -> bool:
    return requirement.about.evaluation in (*MEASURED_AGAIN, "privacy") and requirement.against is None


def _judge(finished: Finished, cohort: Cohort, results: str) -> Judged:
    """Measures the requirements of a cohort on the validation records of one candidate."""
    wanted = [one for one in cohort.requirements if _judged_here(one)]
    findings = _on_validation(finished, cohort, {"accuracy", *(one.about.evaluation for one in wanted)})
    values: dict[str, float] = {}
    missed = []
    for requirement in wanted:
        value = _value(finished, findings, requirement)
        values[requirement.text] = value
        holds = value >= requirement.limit if requirement.upward else value <= requirement.limit
        if not holds:
            missed.append(
                f"{requirement.text} ({value:.3g})" if np.isfinite(value) else f"{requirement.text} (no value)"
            )
    if wanted:
        first = wanted[0]
        goal = values[first.text] if first.upward else -values[first.text]
    else:
        goal = next(one.value for one in findings if one.name == "accuracy")
    source = Source(
        results=results,
        recipe=finished.recipe_name,
        cohort=finished.cohort,
        fold=finished.fold + 1,
        repeat=finished.repeat + 1,
        artefact=finished.artefact,
    )
    return Judged(source=source, values=values, missed=tuple(missed), goal=goal)


def _on_validation(finished: Finished, cohort: Cohort, evaluations: set[str]) -> list[Measurement]:
    """Runs evaluations with the validation records in the place of the test records."""
    subject = finished.subject
    held = subject.split.validation
    if not len(held):
        raise SpecError(
            f"recipe {finished.recipe_name!r} has no validation records to choose by; name a recipe to serve",
            setting="recipe",
            given=finished.recipe_name,
        )
    split: Split = replace(subject.split, test=held, calibration=held[:0])
    moved = replace(subject, split=split)
    found = []
    for evaluation in cohort.evaluations:
        if evaluation.name in evaluations & set(MEASURED_AGAIN):
            found += [one for one in evaluation.measure(moved) if isinstance(one, Measurement)]
    return found


def _value(finished: Finished, findings: list[Measurement], requirement: Requirement) -> float:
    """Returns the worst value of a requirement's metric; NaN where it was not measured."""
    about, where = requirement.about, requirement.conditions
    if about.evaluation == "privacy":
        own = finished.own
        rows = own[(own["name"] == about.measurement) & (own["status"] == "measured")]
        return float(rows["value"].max()) if len(rows) else float("inf")
    values = [
        one.value
        for one in findings
        if one.name == about.measurement
        and one.status == "measured"
        and all(one.conditions.get(key) == value for key, value in where.items())
    ]
    if not values:
        return float("nan")
    return min(values) if requirement.upward else max(values)
