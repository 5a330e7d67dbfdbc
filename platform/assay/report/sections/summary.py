"""The summary of the page: what was asked, which recipes meet it, and what speaks against each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.report.decisions import Decision, Decisions, Judgement
from assay.report.evidence import Evidence
from assay.report.scorecard import Scorecard
from assay.report.words import cell_text, difference_text
from assay.results import RAISED

COLUMNS = 7
"""Greatest number of columns of a table; the first has the titles of the rows."""
_ROWS = 6
"""Recipes over all cohorts, where no requirements name candidates."""
_KEYS = ("accuracy", "robust", "epsilon", "membership", "faithfulness")
_REASONS = 2
"""Losses, and checks, that are named for a recipe; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """What speaks against a recipe."""

    losses: tuple[str, ...]
    """Metrics in which it is significantly worse than the baseline."""
    checks: tuple[str, ...]
    """Rules of its values that warned or failed, each with its mark."""
    more: int
    """Number of losses and checks that are not named."""


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """A recipe with notable results, where no candidates were named beforehand."""

    recipe: str
    why: str
    against: Against


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """Summary of one cohort."""

    card: Scorecard
    decisions: Decisions | None
    shown: tuple[Decision, ...]
    """The candidates in the table, those that meet most requirements first."""
    others: tuple[str, ...]
    """Candidates for which the table has no room."""
    against: Mapping[str, Against]
    rows: tuple[SummaryRow, ...]
    """Recipes with notable results; only where no cohort states requirements."""
    columns: tuple[Evidence, ...]

    @property
    def all_post_hoc(self) -> bool:
        """Whether all requirements and candidates were stated after the first measurement; one note then suffices."""
        found = self.decisions
        return found is not None and (
            len(found.registration.post_hoc) == len(found.requirements)
            and len(found.registration.post_hoc_candidates) == len(found.decisions)
        )

    @property
    def verdict(self) -> str:
        """The verdict in a sentence."""
        found = self.decisions
        if found is None:
            return "No requirements were stated."
        if found.meeting:
            recipes = ", ".join(found.meeting)
            return f"{recipes} {'meets' if len(found.meeting) == 1 else 'meet'} all requirements."
        if not found.complete:
            return "Nothing can be said yet: not every run of the candidates has finished."
        if len(found.missing) == len(found.decisions):
            return "No candidate meets all requirements: each misses at least one."
        return "No candidate is shown to meet all requirements."


def summaries(
    cards: Sequence[Scorecard], decided: Mapping[str, Decisions | None], baseline: str
) -> tuple[CohortSummary, ...]:
    """Returns the summaries of all cohorts.

    Args:
        cards: scorecards of the cohorts.
        decided: by cohort; None for a cohort without requirements.
        baseline: name of a recipe.

    Returns:
        One summary for each cohort.
    """
    stated = any(found is not None for found in decided.values())
    room = 0 if stated else max(2, _ROWS // len(cards))
    return tuple(_summary(card, decided[card.cohort], baseline, room=room) for card in cards)


def _summary(card: Scorecard, found: Decisions | None, baseline: str, *, room: int) -> CohortSummary:
    ranked = sorted(found.decisions, key=_rank) if found else []
    shown = tuple(ranked[: COLUMNS - 1])
    return CohortSummary(
        card=card,
        decisions=found,
        shown=shown,
        others=tuple(one.recipe for one in ranked[COLUMNS - 1 :]),
        against={one.recipe: _against(card, one.recipe, _marks(one)) for one in shown},
        rows=_standing_out(card, baseline)[:room],
        columns=tuple(column for column in card.evidence if column.key in _KEYS),
    )


def _rank(one: Decision) -> tuple[int, int, float]:
    met = sum(judgement.verdict == "met" for judgement in one.judgements)
    return ("met", "inconclusive", "not met").index(one.verdict), -met, one.p_holm


def _marks(one: Decision) -> list[str]:
    named = [f"{'✖' if d.verdict == 'fail' else '▲'} {d.rule.replace('_', ' ')}" for d in one.doubts]
    return [*named, *([] if one.releasable else ["▲ experiment, not releasable"])]


def _against(card: Scorecard, recipe: str, marks: Sequence[str]) -> Against:
    """Returns in what a recipe is significantly worse than the baseline, and the checks that did not pass."""
    losses = []
    for column in card.evidence:
        found = card.comparisons.get((recipe, column.key))
        if found is not None and found.verdict == ("lower" if column.better == "higher" else "higher"):
            losses.append((found.p_holm, f"{column.title}: {difference_text(found, column)}"))
    named = [said for _, said in sorted(losses)]
    return Against(
        losses=tuple(named[:_REASONS]),
        checks=tuple(marks[:_REASONS]),
        more=len(named[_REASONS:]) + len(marks[_REASONS:]),
    )


def _standing_out(card: Scorecard, baseline: str) -> tuple[SummaryRow, ...]:
    """Returns the baseline, and the best recipe in each of a few columns."""
    if len(card.recipes) == 1:
        (alone,) = card.recipes
        return (SummaryRow(recipe=alone, why="", against=_against(card, alone, _raised(card, alone))),)
    found = {baseline: "the baseline"} if baseline in card.recipes else {}
    for column in card.evidence:
        if column.key not in _KEYS:
            continue
        known = {
            recipe: summary.mean * (-1 if column.better == "lower" else 1)
            for recipe in card.recipes
            if (summary := card.cells[recipe, column.key].summary) is not None and not math.isnan(summary.mean)
        }
        if known:
            best = max(known, key=known.__getitem__)
            word = "least" if column.better == "lower" else "best"
            found[best] = f"{found[best]}; {word} {column.title}" if best in found else f"{word} {column.title}"
    return tuple(
        SummaryRow(recipe=recipe, why=why, against=_against(card, recipe, _raised(card, recipe)))
        for recipe, why in found.items()
    )


def _raised(card: Scorecard, recipe: str) -> list[str]:
    own = card.checks[(card.checks["recipe"] == recipe) & card.checks["verdict"].isin(RAISED)]
    return [
        f"{'✖' if one.verdict == 'fail' else '▲'} {str(one.rule).replace('_', ' ')}"
        for one in own.sort_values("verdict").itertuples()
    ]


def value_text(one: Judgement) -> str:
    """Formats the value of a requirement with its interval.

    Args:
        one: judgement with the value.

    Returns:
        A text; empty where there is no value.
    """
    requirement = one.requirement
    if math.isnan(one.value):
        return ""
    scale, digits = (100, 1) if requirement.about.share else (1, 2)
    sign = "+" if requirement.against else ""
    unit = "" if not requirement.about.share else " points" if requirement.against else " %"
    said = f"{scale * one.value:{sign}.{digits}f}{unit}"
    if not math.isnan(one.low):
        low, high = (f"{scale * end:{sign}.{digits}f}" for end in (one.low, one.high))
        said += f" ({low} to {high})"
    return said.replace("-", "−")


def summary_cell(card: Scorecard, recipe: str, column: Evidence) -> str:
    """Formats a value of the scorecard for the summary.

    Args:
        card: of the cohort.
        recipe: its name.
        column: of the scorecard.

    Returns:
        A text.
    """
    return cell_text(card.cells[recipe, column.key], column)
