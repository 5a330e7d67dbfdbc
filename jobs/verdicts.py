"""Verdicts on a study's requirements, as lines for a terminal and as plain values."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from assay.report.decisions import Decision, Decisions, Judgement
    from assay.store.folder import Store
    from assay.study.spec import Study

_WORDS = {"met": "meets all requirements", "not met": "misses", "inconclusive": "is not shown to meet all"}


def refuse_nothing_required(study: "Study", option: str, *, dry_run: bool) -> None:
    """Refuses an option about verdicts where there will be none, before anything is trained.

    Args:
        study: the study.
        option: the option, for the message.
        dry_run: whether nothing will be run.

    Raises:
        SpecError: it is a dry run, or the study has no requirements.
    """
    from assay.errors import SpecError

    if dry_run:
        raise SpecError(f"{option} needs a run; leave out --dry-run", setting=option, given="--dry-run")
    if not any(cohort.requirements for cohort in study.cohorts.values()):
        message = (
            f"{option}: the study {study.name} states no requirements; add requirements and candidates to a cohort"
        )
        raise SpecError(message, setting=option, given=study.name, allowed=["requirements", "candidates"])


def decided_of(study: "Study", store: "Store") -> "list[Decisions]":
    """Returns the verdicts of each cohort that has requirements.

    Args:
        study: the study.
        store: of its results.

    Returns:
        Decisions, one item for each such cohort.
    """
    if not any(cohort.requirements for cohort in study.cohorts.values()):
        return []
    from assay.report.page import decisions_of

    return [decisions for decisions in decisions_of(study, store, store.frame()).values() if decisions is not None]


def print_verdicts(decided: "Iterable[Decisions]", said: Console) -> None:
    """Prints a line with the verdict on each candidate.

    Args:
        decided: decisions of each cohort.
        said: console.
    """
    for cohort in decided:
        for decision in cohort.decisions:
            late = "; post hoc" if decision.post_hoc else ""
            line = f"{cohort.cohort}: {decision.recipe} {_WORDS[decision.verdict]}{_lacking(decision)}{late}"
            said.print(line, highlight=False, markup=False, soft_wrap=True)


def _lacking(decision: "Decision") -> str:
    """Returns the requirements that caused a verdict other than ``met``."""
    named = [judgement.requirement.text for judgement in decision.judgements if judgement.verdict == decision.verdict]
    if decision.verdict != "met" and named:
        return f": {'; '.join(named)}"
    return f" ({decision.why})" if decision.why else ""


def as_json(study: "Study", location: str, decided: "Iterable[Decisions]") -> dict[str, Any]:
    """Returns the verdicts as plain values; an unknown value is null.

    Args:
        study: the study.
        location: of its results.
        decided: decisions of each cohort.

    Returns:
        JSON-able values.
    """
    from assay.report.decisions import ONE_SIDED_LEVEL

    cohorts = {
        cohort.cohort: {
            "satisfied": cohort.satisfied,
            "complete": cohort.complete,
            "meeting": cohort.meeting,
            "missing": cohort.missing,
            "hash": cohort.registration.hash,
            "stated": cohort.registration.time,
            "withdrawn": cohort.registration.withdrawn,
            "candidates": {decision.recipe: _of_candidate(decision) for decision in cohort.decisions},
        }
        for cohort in decided
    }
    return {"study": study.name, "results": location, "level": ONE_SIDED_LEVEL, "cohorts": cohorts}


def _of_candidate(decision: "Decision") -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "p": _known(decision.p),
        "p_holm": _known(decision.p_holm),
        "post_hoc": decision.post_hoc,
        "requirements": [_of_requirement(judgement) for judgement in decision.judgements],
    }


def _of_requirement(judgement: "Judgement") -> dict[str, Any]:
    return {
        "requirement": judgement.requirement.text,
        **judgement.requirement.model_dump(mode="json", exclude_none=True),
        "verdict": judgement.verdict,
        "says": judgement.says,
        **{key: _known(getattr(judgement, key)) for key in ("value", "low", "high", "p")},
        "runs": judgement.runs,
        "paired_by_record": judgement.by_record,
        "why": judgement.why,
        "post_hoc": judgement.post_hoc,
        "checks": {check.rule: check.verdict for check in judgement.doubts},
        "warnings": judgement.notes,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
