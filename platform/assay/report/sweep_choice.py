"""What may be said after a point was chosen among many: which others may be the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay import seeds
from assay.report.best_set import (
    FEWEST_FOLDS,
    FEWEST_RECORDS,
    FoldHits,
    Inflation,
    best_of_many,
    set_by_folds,
    set_by_records,
)
from assay.report.sweep_table import goal_rows
from assay.store.folder import Store
from assay.study.sweep_goals import Goal


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """The points that may be the best in a goal."""

    goal: Goal
    names: frozenset[str]
    """Empty where nothing can be said."""
    of: int
    """Points that were compared."""
    how: str
    """By which procedure, or why nothing can be said."""
    inflation: Inflation | None = None
    """How much the best looks better than it is; None where outcomes of records are not stored."""


def contenders(store: Store, goal: Goal, radius: float, *, test_share: float, seed: int) -> Contenders:
    """Returns the points that may be the best in one goal.

    Points are paired by record where the outcomes of records are stored, else by fold.

    Args:
        store: of the sweep.
        goal: of which a greater share of records is better.
        radius: of the worst case.
        test_share: records measured over records trained on, of a fold.
        seed: of the bootstrap.

    Returns:
        The points, and by which procedure.
    """
    rows = goal_rows(store.frame(), radius)[goal.key]
    values = rows.pivot_table(index="recipe", columns=["repeat", "fold"], values="value", aggfunc="first")
    whole = values.dropna()
    generator = seeds.stream(seed, "best set", goal.key)
    names, folds = np.array(whole.index), paired(rows, list(whole.index))
    records = sum(len(fold.sizes) for fold in folds)
    if len(whole) < 2:
        return _nothing(goal, len(whole), "fewer than two points have a value in every fold")
    if folds and records >= FEWEST_RECORDS:
        inside = set_by_records(folds, generator=generator)
        return Contenders(
            goal=goal,
            names=frozenset(names[inside]),
            of=len(whole),
            how=f"paired by record, {records} records or patients",
            inflation=best_of_many(folds, generator=generator),
        )
    if whole.shape[1] >= FEWEST_FOLDS:
        inside = set_by_folds(whole.to_numpy(), test_share=test_share, generator=generator)
        how = f"paired by fold, {whole.shape[1]} folds"
        return Contenders(goal=goal, names=frozenset(names[inside]), of=len(whole), how=how)
    return _nothing(
        goal,
        len(whole),
        f"{records or 'no'} records have stored outcomes, and there are {whole.shape[1]} folds: a set needs "
        f"{FEWEST_RECORDS} records or {FEWEST_FOLDS} folds",
    )


def _nothing(goal: Goal, of: int, why: str) -> Contenders:
    return Contenders(goal=goal, names=frozenset(), of=of, how=why)


def paired(rows: pd.DataFrame, names: Sequence[str]) -> list[FoldHits]:
    """Returns the outcomes of points on the same records, fold by fold.

    Args:
        rows: of one goal.
        names: of the points, in the order that is wanted.

    Returns:
        One entry a fold; empty where some outcome is not stored, or the records differ.
    """
    folds = []
    for _, of_fold in rows[rows["recipe"].isin(names)].groupby(["repeat", "fold"]):
        outcomes = dict(zip(of_fold["recipe"], of_fold["outcomes"], strict=True))
        if any(outcomes.get(name) is None for name in names) or len({outcomes[n].records for n in names}) > 1:
            return []
        hits = np.array([outcomes[name].hits for name in names])
        folds.append(FoldHits(hits=hits, sizes=outcomes[names[0]].sizes))
    return folds if all(len(fold.sizes) > 1 for fold in folds) else []
