"""The verdicts on a study's requirements, as lines for a terminal and as plain values."""

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
    """Refuse to report verdicts where there will be none, before anything is trained."""
    from assay.errors import SpecError

    if dry_run:
        raise SpecError(f"{option} needs a run; leave out --dry-run", setting=option, given="--dry-run")
    if not any(cohort.requirements for cohort in study.cohorts.values()):
        said = f"{option}: the study {study.name} states no requirements; add requirements and candidates to a cohort"
        raise SpecError(said, setting=option, given=study.name, allowed=["requirements", "candidates"])


def decided_of(study: "Study", store: "Store") -> "list[Decisions]":
    """The verdicts of each cohort that states requirements."""
    if not any(cohort.requirements for cohort in study.cohorts.values()):
        return []
    from assay.report.page import decisions_of

    return [found for found in decisions_of(study, store, store.frame()).values() if found is not None]


def print_verdicts(decided: "Iterable[Decisions]", said: Console) -> None:
    """Each candidate with its verdict, a line each."""
    for found in decided:
        for one in found.decisions:
            late = "; post hoc" if one.post_hoc else ""
            line = f"{found.cohort}: {one.recipe} {_WORDS[one.verdict]}{_lacking(one)}{late}"
            said.print(line, highlight=False, markup=False, soft_wrap=True)


def _lacking(one: "Decision") -> str:
    """The requirements on which a verdict rests that is not favourable."""
    named = [judgement.requirement.text for judgement in one.judgements if judgement.verdict == one.verdict]
    if one.verdict != "met" and named:
        return f": {'; '.join(named)}"
    return f" ({one.why})" if one.why else ""


def as_json(study: "Study", location: str, decided: "Iterable[Decisions]") -> dict[str, Any]:
    """The verdicts as plain values; what is not known is null."""
    from assay.report.decisions import ONE_SIDED_LEVEL

    cohorts = {
        found.cohort: {
            "satisfied": found.satisfied,
            "complete": found.complete,
            "meeting": found.meeting,
            "missing": found.missing,
            "hash": found.registration.hash,
            "stated": found.registration.time,
            "withdrawn": found.registration.withdrawn,
            "candidates": {one.recipe: _of_candidate(one) for one in found.decisions},
        }
        for found in decided
    }
    return {"study": study.name, "results": location, "level": ONE_SIDED_LEVEL, "cohorts": cohorts}


def _of_candidate(one: "Decision") -> dict[str, Any]:
    return {
        "verdict": one.verdict,
        "p": _known(one.p),
        "p_holm": _known(one.p_holm),
        "post_hoc": one.post_hoc,
        "requirements": [_of_requirement(judgement) for judgement in one.judgements],
    }


def _of_requirement(one: "Judgement") -> dict[str, Any]:
    return {
        "requirement": one.requirement.text,
        **one.requirement.model_dump(mode="json", exclude_none=True),
        "verdict": one.verdict,
        "says": one.says,
        **{key: _known(getattr(one, key)) for key in ("value", "low", "high", "p")},
        "runs": one.runs,
        "paired_by_record": one.by_record,
        "why": one.why,
        "post_hoc": one.post_hoc,
        "checks": {doubt.rule: doubt.verdict for doubt in one.doubts},
        "warnings": one.notes,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
