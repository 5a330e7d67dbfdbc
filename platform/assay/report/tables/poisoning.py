"""Poisoned training records, and the records that defences removed."""

import pandas as pd

from assay.report.cells import ScoreTable, tabulate
from assay.report.evidence import Evidence
from assay.report.rows import measured
from assay.report.scorecard import Scorecard

_COLUMNS = (
    Evidence(
        key="tampered",
        title="Tampered with",
        name="tampered_share",
        meaning="share of the training records that an attacker changed",
    ),
    Evidence(
        key="removed",
        title="Removed",
        name="removed_share",
        meaning="share of the training records that defences removed",
    ),
    Evidence(
        key="precision",
        title="Precision",
        name="sanitation_precision",
        # Rows of single defences name one; the one of all together does not.
        where={"treatment": None},
        meaning="share of the removed records that had been tampered with",
    ),
    Evidence(
        key="recall",
        title="Recall",
        name="sanitation_recall",
        where={"treatment": None},
        meaning="share of the tampered records that were removed",
    ),
    Evidence(key="accuracy", title="Accuracy", name="accuracy", meaning="on clean test records"),
    Evidence(
        key="undefended",
        title="Backdoor success, undefended",
        name="undefended_backdoor_success",
        better="lower",
        optional=True,
        meaning="the same trigger on a model that was trained on the same records without the defences; below 90 % it "
        "says nothing about a defence",
    ),
    Evidence(
        key="backdoor",
        title="Backdoor success",
        name="backdoor_success",
        better="lower",
        optional=True,
        meaning="share of the test records of other classes that are classified as the target with the trigger",
    ),
    Evidence(
        key="base",
        title="Without a trigger",
        name="backdoor_base_rate",
        better="lower",
        optional=True,
        meaning="share of those records that are classified as the target without it",
    ),
    Evidence(
        key="undefended collision",
        title="Collision success, undefended",
        name="undefended_collision_success",
        better="lower",
        optional=True,
        meaning="the same poison without the defences",
    ),
    Evidence(
        key="collision",
        title="Collision success",
        name="collision_success",
        better="lower",
        optional=True,
        meaning="share of the targets that are classified as the attacker's class",
    ),
    Evidence(
        key="collision base",
        title="Without the collision",
        name="collision_base_rate",
        better="lower",
        optional=True,
        meaning="share of those records that a model without poison or defence classifies as that class",
    ),
)


def poisoning(card: Scorecard, frame: pd.DataFrame) -> ScoreTable | None:
    """Builds the table of recipes with poisoned or filtered records, or with a trigger.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The table; None without such recipes.
    """
    names = {column.name for column in _COLUMNS} - {"accuracy"}
    rows = frame[((frame["status"] == "measured") & frame["name"].isin(names)).to_numpy(bool)]
    recipes = [recipe for recipe in card.recipes if recipe in set(rows["recipe"])]
    if not recipes:
        return None
    columns = [c for c in _COLUMNS if not c.optional or len(measured(frame, c.name))]
    found, _ = tabulate(columns, recipes, frame, card.design)
    return found
