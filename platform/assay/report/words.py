"""Formats results as text for pages and the console."""

import math
from collections.abc import Mapping
from typing import Any

from assay.design import Design
from assay.recipes import Federation
from assay.report.cells import Cell, ScoreTable, runs_text
from assay.report.evidence import Evidence
from assay.statistics import Comparison, Summary
from assay.study.spec import Study
from assay.threats import radius_text


def design_text(design: Design) -> str:
    """Describes how a cohort's records were split.

    Args:
        design: of the cohort.

    Returns:
        A text.
    """
    done = "" if design.done is None else f"{design.done} of {design.runs} {design.run}s of "
    if design.official:
        return f"{done}official split, {design.repeats} seed{'s' if design.repeats > 1 else ''}"
    if not design.trained:
        return "a given model, tested on every record"
    repeats = f", {design.repeats} repeats" if design.repeats > 1 else ""
    return f"{done}{design.folds}-fold cross-validation{repeats}"


def interval_meaning(design: Design) -> str:
    """Describes the interval below a value.

    Args:
        design: of the cohort.

    Returns:
        A sentence or two.
    """
    if not design.trained:
        return "Below each figure stands its 95 % interval over records."
    if not design.official and (design.done or design.runs) == 1:
        return (
            "Each figure is of one test fold, below it its 95 % interval over the records of this fold; how much "
            "another fold would change it is not known."
        )
    if not design.official:
        return (
            "Each figure is the mean over test folds, below it the 95 % interval of that mean, corrected for the "
            "training data that folds share and cut at the values that are possible. Where fewer folds have a value, "
            "their number stands below."
        )
    if (design.done or design.runs) == 1:
        return (
            "Each figure is of one seed on the official test records, below it its 95 % interval over these records; "
            "how much another seed would change it is not known."
        )
    return (
        f"Each figure is the mean over {design.done or design.repeats} seeds on the official test records. The 95 % "
        "interval below it joins two uncertainties: of these records, which more seeds do not lessen, and of the seeds."
    )


def describe_recipe(study: Study, cohort: str, recipe: str) -> str:
    """Describes a recipe.

    Args:
        study: with the cohort.
        cohort: its name.
        recipe: its name.

    Returns:
        A text.
    """
    asked = study.cohorts[cohort].recipes[recipe]
    settings = asked.objective.model_dump(exclude={"name"})
    words = [f"{treatment.name} ({_listed(treatment.model_dump(exclude={'name'}))})" for treatment in asked.data]
    words += [f"objective {asked.objective.name}" + (f" ({_listed(settings)})" if settings else "")]
    if asked.privacy is not None:
        words.append(
            f"DP-SGD to ε = {asked.privacy.epsilon:g}, δ = {asked.privacy.delta:g}, "
            f"clipping {asked.privacy.max_grad_norm:g}"
        )
    if asked.federation is not None:
        f = asked.federation
        words.append(f"{strategy_text(f)} over {clients_text(f)}, {f.rounds} rounds of {local_text(f)}")
        words += federation_details(f)
    else:
        words.append(f"{asked.training.epochs} epochs")
    words.append(
        f"batches of {asked.training.batch_size}, {asked.training.optimizer} at {asked.training.learning_rate:g}"
    )
    return "; ".join(words)


def strategy_text(federation: Federation) -> str:
    """Describes the strategy of a federation with the settings that differ from its own defaults.

    Args:
        federation: of a recipe.

    Returns:
        A text, such as ``fedprox (proximal mu 0.01)``.
    """
    strategy = federation.strategy
    chosen = strategy.model_dump(exclude_defaults=True, exclude={"name"})
    return strategy.name + (f" ({_listed(chosen)})" if chosen else "")


def local_text(federation: Federation) -> str:
    """Describes how long a client trains in a round.

    Args:
        federation: of a recipe.

    Returns:
        A text, such as ``2 epochs``.
    """
    return f"{federation.local_epochs} epochs" if federation.local_steps is None else f"{federation.local_steps} steps"


def federation_details(federation: Federation) -> list[str]:
    """Describes what a federation does otherwise than by default: personal models, transforms, who takes part.

    Args:
        federation: of a recipe.

    Returns:
        Texts, possibly none.
    """
    details = []
    if (personal := federation.personalisation) is not None:
        chosen = personal.model_dump(exclude_defaults=True, exclude={"name"})
        details.append(f"personal models by {personal.name}" + (f" ({_listed(chosen)})" if chosen else ""))
    if federation.transforms:
        details.append(
            "updates by "
            + ", ".join(f"{t.name} ({_listed(t.model_dump(exclude={'name'}))})" for t in federation.transforms)
        )
    if federation.participation != "all":
        details.append(f"{federation.participation} participation, share {federation.share:g}")
    if federation.available < 1:
        details.append(f"clients available with probability {federation.available:g}")
    if federation.optimizer_state == "kept":
        details.append("optimiser kept between rounds")
    return details


def clients_text(federation: Federation) -> str:
    """Describes the clients of a federation and how records are dealt to them.

    Args:
        federation: of a recipe.

    Returns:
        A text.
    """
    if federation.partition == "natural":
        return f"a client for each {federation.by}"
    settings = {
        "dirichlet": f", α = {federation.alpha:g}",
        "quantity": f", α = {federation.alpha:g}",
        "pathological": f", {federation.classes_per_client} classes each",
    }
    return f"{federation.clients} clients ({federation.partition}{settings.get(federation.partition, '')})"


def shown(value: float, unit: str) -> str:
    """Formats a value with a suitable number of digits.

    Args:
        value: to format.
        unit: ``percent``, ``seconds`` or ``number``.

    Returns:
        A text; a dash for NaN.
    """
    if math.isnan(value):
        return "–"
    if unit == "percent":
        return f"{value:.1%}"
    if unit == "seconds":
        return f"{value:.2f} s"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"


def bytes_text(count: float) -> str:
    """Formats a number of bytes.

    Args:
        count: of bytes.

    Returns:
        A text, such as ``1.25 MB``; a megabyte is a million bytes.
    """
    if math.isnan(count):
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def points_text(share: float) -> str:
    """Formats a difference of shares in points.

    Args:
        share: a fraction.

    Returns:
        A text, such as ``−1.5``.
    """
    return f"{100 * share:+.1f}".replace("-", "−")


def cell_text(cell: Cell, column: Evidence) -> str:
    """Formats the value of a cell, or a mark in its place.

    Args:
        cell: of a table.
        column: of the cell.

    Returns:
        A text.
    """
    if cell.summary is not None:
        return shown(cell.summary.mean, column.unit)
    if cell.failed:
        return "failed"
    return "∞" if cell.reason == "not_private" else "–"


def interval_text(cell: Cell, column: Evidence) -> str:
    """Formats the 95 % interval of a cell.

    Args:
        cell: of a table.
        column: of the cell.

    Returns:
        A text; empty where there is none.
    """
    if cell.summary is None or math.isnan(cell.summary.low) or not column.estimated:
        return ""
    low, high = (min(max(end, column.least), column.most) for end in (cell.summary.low, cell.summary.high))
    if column.unit == "percent":
        return f"{100 * low:.1f} – {100 * high:.1f}"
    return f"{low:.2f} – {high:.2f}"


def summary_text(summary: Summary) -> str:
    """Formats a share with its 95 % interval.

    Args:
        summary: of the share.

    Returns:
        A text.
    """
    if math.isnan(summary.low):
        return f"{summary.mean:.1%}"
    return f"{summary.mean:.1%} ({100 * max(summary.low, 0.0):.1f} – {100 * min(summary.high, 1.0):.1f})"


def records_text(table: ScoreTable, recipe: str, column: Evidence) -> str:
    """Describes how many records a value uses, where they are fewer than those of accuracy.

    Args:
        table: with the cell.
        recipe: its name.
        column: of the cell.

    Returns:
        A text; empty elsewhere.
    """
    cell = table.cells[recipe, column.key]
    return f"{cell.records} of {cell.whole} records" if column.sampled and 0 < cell.records < cell.whole else ""


def notes(table: ScoreTable, recipe: str, column: Evidence, design: Design) -> list[str]:
    """Describes the runs and records of a value, where they are not all, and the values to compare it with.

    Args:
        table: with the cell.
        recipe: its name.
        column: of the cell.
        design: of the cohort.

    Returns:
        Texts.
    """
    cell = table.cells[recipe, column.key]
    if cell.summary is None:
        return []
    texts = [runs_text(cell.summary, design), records_text(table, recipe, column)]
    if cell.clean is not None:
        texts.append(f"accuracy on the same: {shown(cell.clean.mean, 'percent')}")
    if cell.at_zero is not None:
        texts.append(f"n = {cell.records}, at ε = 0: {shown(cell.at_zero.mean, column.unit)}")
    if cell.beside is not None and column.beside is not None:
        texts.append(f"{column.beside.title} on the same: {shown(cell.beside.mean, column.beside.unit)}")
    return [note for note in texts if note]


_UNITS = {"seconds": " s"}


def difference_text(comparison: Comparison, column: Evidence) -> str:
    """Formats a difference without its interval.

    Args:
        comparison: with the difference.
        column: with the unit.

    Returns:
        A text.
    """
    if column.unit == "percent":
        return f"{100 * comparison.difference:+.1f} points".replace("-", "−")
    return f"{comparison.difference:+.3g}{_UNITS.get(column.unit, '')}".replace("-", "−")


def comparison_text(comparison: Comparison, column: Evidence) -> str:
    """Formats a difference with its interval.

    Args:
        comparison: with the difference.
        column: with the unit.

    Returns:
        A text.
    """
    scale, digits, sign = (100, 1, " points") if column.unit == "percent" else (1, 3, _UNITS.get(column.unit, ""))
    return (
        f"{scale * comparison.difference:+.{digits}f}{sign} "
        f"({scale * comparison.low:+.{digits}f} to {scale * comparison.high:+.{digits}f})"
    )


def paired_by(comparison: Comparison, design: Design) -> str:
    """Describes what is paired between two recipes: seeds, and also records where their results are known.

    Args:
        comparison: of the recipes.
        design: of the cohort.

    Returns:
        A text.
    """
    return f"record and {design.run}" if comparison.by_record else design.run


def attack_title(label: str) -> str:
    """Returns the title of an attack.

    Targeted PGD is only given records that withstood the other attacks, and what these fooled counts as fooled, so it
    is not an attack by itself.

    Args:
        label: of the attack.

    Returns:
        The title.
    """
    return "targeted PGD, after all others" if label == "targeted_pgd" else label.replace("_", " ")


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_said(value)}" for key, value in settings.items())


def _said(value: Any) -> str:
    """Formats a setting; one with settings of its own in brackets."""
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    return radius_text(value) if isinstance(value, float) else str(value)
