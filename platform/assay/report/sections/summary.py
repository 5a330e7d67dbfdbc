"""The first screen: what was asked, which recipes meet it, and what speaks against each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.report.decisions import Decision, Decisions, Judgement
from assay.report.evidence import Evidence
from assay.report.scorecard import Scorecard
from assay.report.words import cell_text, difference_text

COLUMNS = 7
"""Of a table, at most: the first names what stands in a row."""
_ROWS = 6
"""Recipes over all cohorts, where no requirements name them."""
_KEYS = ("accuracy", "robust", "epsilon", "membership", "insertion")
_REASONS = 2
"""Losses, and checks, that are named beside a recipe; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """What speaks against a recipe."""

    losses: tuple[str, ...]
    """Figures in which it is shown to be worse than the baseline."""
    checks: tuple[str, ...]
    """Rules that warned or failed beside its figures, each with its mark."""
    more: int
    """Losses and checks that are not named."""


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """A recipe that stands out by its results, where none was named beforehand."""

    recipe: str
    why: str
    against: Against


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """One cohort on the first screen."""

    card: Scorecard
    decisions: Decisions | None
    shown: tuple[Decision, ...]
    """The candidates in the table: those that meet most stand first."""
    others: tuple[str, ...]
    """Candidates that the table has no room for."""
    against: Mapping[str, Against]
    rows: tuple[SummaryRow, ...]
    """Recipes that stand out; only where no cohort states requirements."""
    columns: tuple[Evidence, ...]

    @property
    def all_post_hoc(self) -> bool:
        """Whether every requirement and every candidate came after the first measurement: then it is said once."""
        found = self.decisions
        return found is not None and (
            len(found.registration.post_hoc) == len(found.requirements)
            and len(found.registration.post_hoc_candidates) == len(found.decisions)
        )

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
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
    """The first screen, cohort by cohort.

    Args:
        decided: by cohort; None of those without requirements.
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
    """Where a recipe is shown to be worse than the baseline, and what the checks said."""
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
    """The baseline, and the best recipe by each of a few figures."""
    if len(card.recipes) == 1:
        (alone,) = card.recipes
        return (SummaryRow(recipe=alone, why="", against=_against(card, alone, _raised(card, alone))),)
    found = {baseline: "the baseline"} if baseline in card.recipes else {}
    for column in card.evidence:
        if column.key not in _KEYS:
            continue
        lower = column.better == "lower" or column.key == "epsilon"
        known = {
            recipe: summary.mean * (-1 if lower else 1)
            for recipe in card.recipes
            if (summary := card.cells[recipe, column.key].summary) is not None and not math.isnan(summary.mean)
        }
        if known:
            best = max(known, key=known.__getitem__)
            word = "least" if lower else "best"
            found[best] = f"{found[best]}; {word} {column.title}" if best in found else f"{word} {column.title}"
    return tuple(
        SummaryRow(recipe=recipe, why=why, against=_against(card, recipe, _raised(card, recipe)))
        for recipe, why in found.items()
    )


def _raised(card: Scorecard, recipe: str) -> list[str]:
    own = card.checks[(card.checks["recipe"] == recipe) & (card.checks["verdict"] != "pass")]
    return [
        f"{'✖' if one.verdict == 'fail' else '▲'} {str(one.rule).replace('_', ' ')}"
        for one in own.sort_values("verdict").itertuples()
    ]


def value_text(one: Judgement) -> str:
    """The figure of a requirement with its interval, in words; empty where there is none."""
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
    """A figure of the scorecard, as the first screen shows it."""
    return cell_text(card.cells[recipe, column.key], column)
