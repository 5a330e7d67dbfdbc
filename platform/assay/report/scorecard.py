"""The scorecard of a cohort: recipes by columns, comparisons, and verdicts of checks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from assay import statistics
from assay.design import Design
from assay.report.cells import ScoreTable, tabulate
from assay.report.checks import CheckSummary, checks_of, sum_up
from assay.report.evidence import Evidence, scorecard_columns
from assay.report.rows import RunValues, measured, of_cohort, select, settings, shared, values_by_run
from assay.statistics import BlockedAnova, Comparison
from assay.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class Scorecard(ScoreTable):
    """All values that the page shows of one cohort."""

    cohort: str
    design: Design
    """Determines what an interval over its trials is."""
    comparisons: Mapping[tuple[str, str], Comparison]
    """With the baseline, with Holm's correction over the recipes of each column."""
    anova: Mapping[str, BlockedAnova]
    checks: pd.DataFrame
    """recipe, rule, verdict, number of trials that raised it and of all trials, worst figure, message."""
    reference_epsilon: float
    """The radius at which the scorecard shows robustness."""
    reference_norm: str
    """The norm of this radius."""


def scorecard(study: Study, name: str, frame: pd.DataFrame) -> Scorecard:
    """Builds the scorecard of one cohort.

    Args:
        study: with the cohort.
        name: of the cohort.
        frame: rows of the results, as the store returns them.

    Returns:
        The scorecard.
    """
    frame = of_cohort(frame, name)
    cohort, design = study.cohorts[name], design_of(study, name, frame)
    epsilon = cohort.radius_among(settings(select(frame, "worst_case_accuracy"), "epsilon"))
    norm = _reference_norm(frame, epsilon)
    found, runs = tabulate(_asked_for(frame, epsilon, norm), tuple(cohort.recipes), frame, design)
    comparisons, anova = {}, {}
    for column in found.evidence:
        if column.better == "neither" or not column.estimated:
            continue
        own = {recipe: runs[recipe, column.key] for recipe in found.recipes}
        compared = _comparisons(own, study.baseline, design, same_records=column.sampled)
        for recipe, comparison in compared.items():
            comparisons[recipe, column.key] = comparison
        complete = values_by_run(own).dropna(axis="columns", how="all").dropna()
        if min(complete.shape) >= 2 and np.ptp(complete.to_numpy()) > 0:
            anova[column.key] = statistics.blocked_anova(complete.to_numpy())
    return Scorecard(
        **vars(found),
        cohort=name,
        design=design,
        comparisons=comparisons,
        anova=anova,
        checks=pd.DataFrame(sum_up(checks_of(frame)), columns=[field.name for field in fields(CheckSummary)]),
        reference_epsilon=epsilon,
        reference_norm=norm,
    )


def design_of(study: Study, name: str, frame: pd.DataFrame) -> Design:
    """Returns how the trials of a cohort relate to each other.

    Args:
        study: with the cohort.
        name: of the cohort.
        frame: rows of the cohort; without rows, the known facts about its data set decide.

    Returns:
        The design.
    """
    split = study.split
    known = study.cohorts[name].dataset.official_train is not None and split.official == "keep"
    if frame["official"].any() if len(frame) else known:
        design = Design(folds=1, repeats=split.repeats, official=True)
    else:
        design = Design(folds=split.folds, repeats=split.repeats, test_share=share_tested(study))
    done = len(frame[["repeat", "fold"]].drop_duplicates()) if len(frame) else 0
    return replace(design, done=done) if 0 < done < design.runs else design


def share_tested(study: Study) -> float:
    """Returns n_test / n_train of a fold, which the corrected variance needs.

    Args:
        study: with its split.

    Returns:
        The ratio; 0 where nothing was trained.
    """
    if study.split.folds < 2:
        return 0.0
    test = 1 / study.split.folds
    trained = (1 - test) * (1 - study.split.validation - study.split.calibration)
    tested = test if study.split.tested == "test" else (1 - test) * study.split.validation
    return tested / trained


def _asked_for(frame: pd.DataFrame, epsilon: float, norm: str) -> tuple[Evidence, ...]:
    """Returns the columns, without optional ones that were not measured or apply to no recipe."""
    found = scorecard_columns(frame, epsilon=epsilon, norm=norm)
    return tuple(c for c in found if not c.optional or _applies(select(frame, c.name, **c.where)))


def _applies(rows: pd.DataFrame) -> bool:
    return bool((rows["status"] != "not_applicable").any())


def _comparisons(
    runs: Mapping[str, RunValues], baseline: str, design: Design, *, same_records: bool
) -> dict[str, Comparison]:
    """Compares each recipe with the baseline on the runs that both have, with Holm's correction over the recipes.

    Args:
        same_records: leave out runs in which the two use different numbers of records.
    """
    found: dict[str, Comparison] = {}
    for recipe, own in runs.items():
        if recipe == baseline or baseline not in runs:
            continue
        pairs = shared((own, runs[baseline]), same_records=same_records)
        if len(pairs) >= 2:
            found[recipe] = design.compare(own.at(pairs), runs[baseline].at(pairs))
    corrected = statistics.holm([comparison.p for comparison in found.values()])
    return {
        recipe: Comparison(**{**comparison.__dict__, "p_holm": p})
        for (recipe, comparison), p in zip(found.items(), corrected, strict=True)
    }


def _reference_norm(frame: pd.DataFrame, epsilon: float) -> str:
    """Returns the norm in which that radius was measured: L∞ where it was measured in both, or in none."""
    known = settings(measured(frame, "worst_case_accuracy", epsilon=epsilon), "norm")
    return "linf" if "linf" in known or not known else str(known[0])
