"""What the process of ``figures`` answers; here alone the page loads the report and what it needs."""

import json
import math
from itertools import combinations
from typing import Any

from assay.errors import UserError
from assay.store.columns import Place
from assay.store.files import Files
from assay.store.reader import load_rows, settings_asked

FEWEST = 2
"""Folds or seeds of a study, without which no difference is tested."""
_OVERVIEWS = ("scorecard", "claims", "checks", "significance", "interaction", "everything", "cost", "clients")
"""Sections that compare recipes, or whose tables the record has already."""
_MOST = 6_000_000
"""Characters of the figures of one trial."""
_MANY = 5_000
"""Trials of a folder above which recipes are not compared here: the page would wait for a minute."""


def draw(location: str, place: Place) -> dict[str, Any]:
    """Draws the figures of one trial, by the sections of the report.

    Args:
        location: of the results.
        place: folder and id of the trial.

    Returns:
        ``figures``: name, title and plotly's own form of each; ``why``: why some are missing, or empty.

    Raises:
        UserError: there is no study file yet, or the data cannot be read.
    """
    from assay.release.candidates import uncovered
    from assay.report.sections.base import all_sections
    from assay.report.view import View
    from assay.store.folder import Store

    store = Store(location)
    asked, frame = settings_asked(load_rows(Files(location), *place)), store.frame([place[1]])
    study = _study_of(store, asked)
    dataset = study.cohorts[asked["cohort"]].load()
    if asked["recipe"].get("privacy"):
        frame, dataset = frame[~uncovered(frame, asked)].reset_index(drop=True), dataset.for_others
    view = View.of(study, asked["cohort"], frame, dataset)
    drawn, missing, length = [], [], 0
    for section in all_sections():
        if section.name in _OVERVIEWS:
            continue
        try:
            content = section.build(view)
        except Exception as error:  # of many trials each section is tested; of one, some have nothing to say
            missing.append(f"{section.title} ({type(error).__name__})")
            continue
        for name, figure in (content.figures if content else {}).items():
            text = "" if figure is None else figure.to_json()
            length += len(text)
            if text and length <= _MOST:
                drawn.append(
                    {"name": name, "title": f"{section.title}: {name.replace('_', ' ')}", "figure": json.loads(text)}
                )
    why = f"of one trial alone these sections cannot be drawn: {', '.join(missing)}" if missing else ""
    return {"figures": drawn, "why": why}


def withheld(location: str, place: Place) -> list[bool]:
    """Returns which rows of a private trial tell of training records that no ε covers.

    Args:
        location: of the results.
        place: folder and id of the trial.

    Returns:
        A bool for each row.

    Raises:
        UserError: an earlier version did not store which rows these are.
    """
    import pandas as pd

    from assay.release.candidates import uncovered

    rows = load_rows(Files(location), *place)
    frame = pd.DataFrame({"conditions": [json.loads(text) for text in rows["conditions"].to_pylist()]})
    hidden: list[bool] = uncovered(frame, settings_asked(rows)).tolist()
    return hidden


def differences(location: str, cohort: str, recipes: tuple[str, ...]) -> dict[str, Any]:
    """Tests the differences between recipes that a study named before it began, fold by fold or seed by seed.

    Whoever looks at the page could have picked any two recipes, so each p is multiplied by the number of all pairs of
    the cohort (Bonferroni), and not of those that were picked.

    Args:
        location: of the results.
        cohort: of the recipes.
        recipes: to compare.

    Returns:
        ``tests``: one for each pair and figure; ``pairs``: by which p was multiplied; ``why`` there are none, or empty.

    Raises:
        UserError: there is no study file yet.
    """
    from assay.report.scorecard import scorecard
    from assay.store.folder import Store

    store = Store(location)
    if store.columns().num_rows > _MANY:
        raise UserError(f"the study has more than {_MANY} trials; its report compares the recipes")
    study, frame = _study_of(store, {}), _for_others(store)
    named = [recipe for recipe in recipes if recipe in study.cohorts[cohort].recipes]
    count = len(study.cohorts[cohort].recipes)
    pairs = count * (count - 1) // 2
    tests = []
    for baseline, other in combinations(named, 2):
        card = scorecard(study.model_copy(update={"baseline": baseline}), cohort, frame)
        if card.design.runs < FEWEST:
            return {"tests": [], "pairs": pairs, "why": "one fold or seed shows no difference; run the study with more"}
        for column in card.evidence:
            comparison = card.comparisons.get((other, column.key))
            if comparison is not None and comparison.count >= FEWEST:
                tests.append(_told(comparison, column.title, (other, baseline), pairs, column.unit))
    why = "" if tests else "no figure of these recipes has two folds or seeds in common"
    return {"tests": tests, "pairs": pairs, "why": why}


def _for_others(store: Any) -> Any:
    """Returns the rows of all trials without figures of training records of private models."""
    import pandas as pd

    from assay.release.candidates import uncovered

    frame, asked = store.frame(), store.asked()
    private = {trial for trial, one in asked.items() if (one.get("recipe") or {}).get("privacy")}
    hidden = pd.Series(False, index=frame.index)
    for trial, own in frame[frame["trial"].isin(private)].groupby("trial", sort=False):
        hidden[own.index] = uncovered(own, asked[trial])
    return frame[~hidden].reset_index(drop=True)


def _told(comparison: Any, title: str, pair: tuple[str, str], pairs: int, shown: str) -> dict[str, Any]:
    p = min(1.0, comparison.p * pairs)
    verdict = "inconclusive" if not p < 0.05 else "higher" if comparison.difference > 0 else "lower"
    numbers = {key: getattr(comparison, key) for key in ("difference", "low", "high")}
    return {
        "recipe": pair[0],
        "against": pair[1],
        "figure": title,
        "shown": shown,
        "runs": comparison.count,
        "verdict": verdict,
        **{key: None if math.isnan(value) else value for key, value in {**numbers, "p": p}.items()},
    }


def _study_of(store: Any, asked: dict[str, Any]) -> Any:
    """Returns the study of a folder; of one trial, with its recipe as it was run.

    Raises:
        UserError: there is none yet, or it has not this cohort.
    """
    import yaml

    from assay.recipes import Recipe
    from assay.study.spec import Study

    about = yaml.safe_load(store.read_text("study.yaml")) or {}
    if "study" not in about:
        raise UserError("the job has not written its study file yet; figures come when it has")
    study = Study.model_validate(about["study"])
    if not asked:
        return study
    name = asked["cohort"]
    if name not in study.cohorts:
        raise UserError(f"the study file of these results has no cohort {name!r}")
    recipes = {asked["recipe_name"]: Recipe.model_validate(asked["recipe"])}
    narrowed = study.cohorts[name].model_copy(update={"recipes": recipes, "requirements": (), "candidates": ()})
    return study.model_copy(update={"cohorts": {name: narrowed}, "baseline": "standard"})
