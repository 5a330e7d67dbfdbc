"""The card of a served model: its artefact, its evidence, and its warnings."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from assay.data.base import Dataset
from assay.evaluations.explained_records import keeps_records_away
from assay.metrics import limits_of
from assay.privacy.unit import protected, protected_unit
from assay.report.cells import runs_text
from assay.report.checks import checks_of
from assay.report.evidence import Evidence
from assay.report.rendering import template_environment
from assay.report.rows import largest_sample, own_flags, own_words, select
from assay.report.scorecard import Scorecard, scorecard
from assay.report.words import describe_recipe
from assay.results import RAISED, Flag
from assay.study.finished import Finished


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric, for the served model and for its recipe."""

    title: str
    meaning: str
    unit: str
    """``percent``, ``number`` or ``seconds``."""
    value: float | None
    """Measured on this model's test records; None where it was not measured."""
    low: float | None
    high: float | None
    n: int
    """Records behind the value."""
    recipe_mean: float | None
    """Mean over all folds and repeats, or seeds, of the recipe; None for a single model."""
    recipe_low: float | None
    recipe_high: float | None
    why: str
    """Why there is no value."""
    recipe_runs: str = ""
    """Number of folds or seeds in which the recipe has a value, where it is not all."""
    sample: str = ""
    """The number of test records used, and the accuracy on them, where it is not all of them."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that a caller of the model should know; JSON-able."""

    name: str
    trial: str
    artefact: str
    recipe: str
    data: str
    records: str
    """Shape and units of a record."""
    classes: tuple[str, ...]
    licence: str
    citation: str
    privacy: str
    answers_tell: tuple[str, ...]
    """What predictions and explanations may tell of training records, and what the rules of answers tell of others."""
    intended_use: str
    evidence: tuple[Figure, ...]
    flags: tuple[Flag, ...]
    """Every check of this model that warned or failed."""
    warnings: tuple[str, ...]
    """The flags in words, with their verdict, then all other warnings about its figures and its data."""
    inconclusive: tuple[str, ...] = ()
    """What checks of this model found that could decide neither way."""

    @property
    def other_warnings(self) -> tuple[str, ...]:
        """The warnings that do not come from a check."""
        of_checks = {flag.text for flag in self.flags}
        return tuple(warning for warning in self.warnings if warning not in of_checks)

    def to_json(self) -> dict[str, Any]:
        """Returns the card as plain values."""
        return asdict(self)

    def to_html(self) -> str:
        """Renders the card as a page without scripts."""
        return template_environment().get_template("card.html.j2").render(card=self, plotly="")


def card_of(finished: Finished, name: str) -> Card:
    """Builds the card of a finished trial.

    Args:
        finished: the trial with its model and evidence.
        name: under which it is served.

    Returns:
        The card.
    """
    dataset, study = finished.dataset, finished.study
    card = scorecard(study, finished.cohort, finished.frame)
    checks = checks_of(finished.own)
    raised = [check for check in checks if check.verdict in RAISED]
    flags = tuple(
        dict.fromkeys(Flag(verdict=check.verdict, message=check.message, rule=check.rule) for check in raised)
    )
    return Card(
        name=name,
        trial=finished.trial,
        artefact=f"{finished.recipe_name} of study {study.name}, cohort {finished.cohort}, {_where(finished, card)}; "
        f"{_counts(finished)}{f'; own model of client {finished.client}' if finished.client else ''}",
        recipe=describe_recipe(study, finished.cohort, finished.recipe_name),
        data=dataset.name,
        records=f"shape {dataset.shape}, in {dataset.units}; preprocessing: {dataset.preprocessing}",
        classes=dataset.class_names,
        licence=dataset.licence,
        citation=dataset.citation,
        privacy=_privacy(finished),
        answers_tell=_answers_tell(finished),
        intended_use=_intended_use(dataset),
        evidence=tuple(_evidence(finished, card)),
        flags=flags,
        inconclusive=tuple(dict.fromkeys(check.message for check in checks if check.verdict == "inconclusive")),
        warnings=_warnings(finished, card, flags),
    )


def _intended_use(dataset: Dataset) -> str:
    use = dataset.intended_use
    records = "like those it was tested on" if use is None else f"like those it was tested on: {use.records}"
    return (
        f"Research. The evidence is about records {records}. It is not a medical device and no licence to treat "
        "patients."
    )


def _where(finished: Finished, card: Scorecard) -> str:
    design, repeat = card.design, finished.repeat + 1
    if design.official:
        return f"official split, seed {repeat} of {design.repeats}"
    return f"fold {finished.fold + 1} of {design.folds}, repeat {repeat} of {design.repeats}"


def _counts(finished: Finished) -> str:
    parts = (("trained on", finished.split.train), ("tested on", finished.split.test))
    return ", ".join(f"{what} {len(rows)} records" for what, rows in parts if len(rows))


def _privacy(finished: Finished) -> str:
    privacy = None if finished.recipe is None else finished.recipe.privacy
    if privacy is None:
        return "not private: training records may be recognised in its answers (ε = ∞)"
    if finished.objections:
        return f"no privacy claim, and served on loopback only: {'; '.join(finished.objections)}"
    rows = finished.split.train
    groups = None if finished.dataset.patients is None else finished.dataset.patients[rows]
    unit = protected_unit(privacy, groups)
    whom = "training record, adding or removing it"
    if unit == "patient":
        whom = f"patient of {protected(privacy, groups, len(rows))}, adding or removing all of its records"
    return (
        f"({privacy.epsilon:g}, {privacy.delta:g})-differential privacy of one {whom}; "
        "noise drawn from entropy that is not stored, not from a cryptographic generator"
    )


def _answers_tell(finished: Finished) -> tuple[str, ...]:
    """Returns what the answers of the model tell of records: an explanation tells more than a class."""
    recipe = finished.recipe
    explained = (
        "an explanation compares a record with training records, or with their mean, and with gradients of the model: "
        "whoever asks often may learn of training records"
    )
    if finished.dataset.modality == "text":
        explained = "an explanation compares a text with words without a meaning, and with no training record"
        explained += "" if finished.private else "; gradients of the model may tell of training records"
    elif recipe is not None and keeps_records_away(recipe):
        explained = (
            "an explanation compares a record with a public reference (zeros, or grey), with no training record; "
            "inputs without finite bounds take their range from test records"
        )
        explained += "" if finished.private else "; gradients of the model may tell of training records"
    if finished.private and not finished.objections:
        explained += (
            ". Answers and explanations are computed from the private weights: of training records they tell no more "
            "than ε allows"
        )
    elif finished.private:
        explained += ". No privacy claim holds for the weights: answers and explanations may tell of training records"
    rows, whose = finished.subject.held_out
    calibrated = "no record calibrates its answers: they have no prediction sets and no rule of abstention"
    if len(rows):
        calibrated = (
            f"temperature, threshold of the prediction sets, rule of abstention and limit of unfamiliar records are "
            f"statistics of the {len(rows)} records of the {whose} split, and the figures below of the test records"
        )
        unpaid = "no ε is paid for these records, and none protects them: the claimed ε is of training records alone"
        calibrated += f"; {unpaid}" if finished.private else ""
    return (explained, calibrated)


def _evidence(finished: Finished, card: Scorecard) -> list[Figure]:
    figures, alone = [], finished.frame["trial"].nunique() == 1
    for column, row in _rows(finished, card):
        measured = row["status"] == "measured"
        summary = None if alone else card.cells[finished.recipe_name, column.key].summary
        least, most = limits_of(row["name"], row["unit"])
        figures.append(
            Figure(
                title=column.title,
                meaning=column.meaning,
                unit=column.unit,
                value=_number(row["value"]) if measured else None,
                low=_number(max(row["low"], least)) if measured else None,
                high=_number(min(row["high"], most)) if measured else None,
                n=int(row["n"]),
                recipe_mean=None if summary is None else _number(summary.mean),
                recipe_low=None if summary is None else _number(summary.low),
                recipe_high=None if summary is None else _number(summary.high),
                why="" if measured else "; ".join(row["warnings"]),
                recipe_runs="" if summary is None else runs_text(summary, card.design),
                sample=_sample(finished, column, row) if measured else "",
            )
        )
    return figures


def _sample(finished: Finished, column: Evidence, row: pd.Series) -> str:
    """Returns how many of the test records a figure uses, and the accuracy on these without an attack."""
    whole = select(finished.own, "accuracy")["n"]
    if not column.sampled or not len(whole) or not 0 < row["n"] < whole.iloc[0]:
        return ""
    text = f"{row['n']} of {whole.iloc[0]} records"
    same = select(finished.own, "sample_accuracy", evaluation=column.evaluation) if column.evaluation else whole[:0]
    same = same[same["n"] == row["n"]] if len(same) else same
    return text + (f", accuracy on the same: {same.iloc[0]['value']:.1%}" if len(same) else "")


def _rows(finished: Finished, card: Scorecard) -> Iterator[tuple[Evidence, pd.Series]]:
    """Returns the columns that were measured on this model, each with its row."""
    for column in card.evidence:
        rows = select(finished.own, column.name, **column.where)
        rows = largest_sample(rows) if column.sampled else rows
        if len(rows):
            yield column, rows.iloc[0]


def _warnings(finished: Finished, card: Scorecard, flags: tuple[Flag, ...]) -> tuple[str, ...]:
    """Returns the checks first, then all other warnings about the figures of this model."""
    rules = {check.rule for check in checks_of(finished.own)}
    # Why a figure was not measured stands in its place.
    known = [row.to_frame().T for _, row in _rows(finished, card) if row["status"] == "measured"]
    beside = [words for row in known for words in own_words(row, own_flags(row, rules))]
    whose = f"the figures are of the shared model, not of the own model of client {finished.client} that is served"
    first = [whose] if finished.client else []
    return tuple(dict.fromkeys([*first, *(flag.text for flag in flags), *beside, *finished.dataset.warnings]))


def _number(value: float) -> float | None:
    """Returns None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
