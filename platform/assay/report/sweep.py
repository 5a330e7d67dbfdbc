"""The report of a sweep: every point, the Pareto front, which points may be the best, and what was judged then."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import yaml
from plotly.offline import get_plotlyjs

from assay.report.figures.style import html
from assay.report.figures.sweep import front, matrix, parallel
from assay.report.rendering import template_environment
from assay.report.sweep_choice import Contenders, contenders
from assay.report.sweep_table import goals, left_out, pareto, rests_on
from assay.store.folder import Store
from assay.study.sweep_goals import Goal
from assay.study.sweep_judge import ChosenPoint
from assay.study.sweep_prepare import PreparedSweep
from assay.void_tests import why_no_test


def compared(prepared: PreparedSweep, store: Store, table: pd.DataFrame) -> list[Contenders]:
    """Returns, for each goal that is a share of records, the points that may be the best.

    Args:
        prepared: the sweep.
        store: of the results.
        table: see ``sweep_table.results``.

    Returns:
        One entry a goal.
    """
    records = table["records"].mean()
    share = records / max(len(prepared.dataset.y) - records, 1) if np.isfinite(records) else 1.0
    seed = prepared.sweep.study.seed
    return [
        contenders(store, goal, prepared.radius, test_share=float(share), seed=seed)
        for goal in goals(table, prepared.goals)
        if goal.percent
    ]


def publish_sweep(
    prepared: PreparedSweep, table: pd.DataFrame, store: Store, *, choice: str, judged: Sequence[ChosenPoint] = ()
) -> str:
    """Writes ``sweep.html`` from the stored results.

    Args:
        prepared: the sweep with its data and goals.
        table: see ``sweep_table.results``.
        store: of the results.
        choice: what choosing the best trial costs, in a sentence; see ``release.choice``.
        judged: the chosen points on the test records.

    Returns:
        The path or URI of the page.
    """
    sweep, wanted = prepared.sweep, _wanted(table, prepared)
    table = table.assign(pareto=pareto(table, wanted))
    apart = left_out(table, wanted)
    whole = table[~table["recipe"].isin(list(apart))]
    drawn = {
        "parallel": parallel(whole, sweep.keys) if len(whole) else None,
        "front": front(whole, wanted, prepared.radius),
        "matrix": matrix(sweep, store, prepared.dataset.units),
    }
    about = yaml.load(store.read_text("study.yaml"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    page = (
        template_environment()
        .get_template("sweep.html.j2")
        .render(
            sweep=sweep,
            prepared=prepared,
            dataset=prepared.dataset,
            rows=table.to_dict("records"),
            wanted=wanted,
            apart=apart,
            failures=store.failures(),
            choice=choice,
            sets=compared(prepared, store, table),
            judged=judged,
            no_test=why_no_test(sweep.study.split.tested, sweep=True, points=prepared.points().total),
            about=about,
            figures={key: None if figure is None else html(figure, described=key) for key, figure in drawn.items()},
            rests_on=rests_on,
            reference_epsilon=prepared.radius,
            plotly=get_plotlyjs(),
        )
    )
    return store.write_text("sweep.html", page)


def _wanted(table: pd.DataFrame, prepared: PreparedSweep) -> list[Goal]:
    """Returns the goals of the sweep of which some point has a value; the first one where none has."""
    return goals(table, prepared.goals) or list(prepared.goals[:1])
