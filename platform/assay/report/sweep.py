"""The report of a sweep: every point in parallel coordinates, the Pareto front, and the ε-matrix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import yaml
from plotly.offline import get_plotlyjs

from assay.data.base import Dataset
from assay.report.figures.matrix import heatmap
from assay.report.figures.style import PALETTE, QUIET, TEMPLATE, blank, html
from assay.report.rendering import template_environment
from assay.report.rows import largest_sample, measured, of_recipe
from assay.store.folder import Store
from assay.study.sweep import Sweep
from assay.threats import radius_text

_TRAINED = "objective.epsilon"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A metric that a sweep tries to increase or decrease."""

    key: str
    title: str
    better: str
    """``higher`` or ``lower``."""
    percent: bool = True


ACCURACY = Goal(key="accuracy", title="accuracy", better="higher")
ROBUST = Goal(key="robust", title="worst case", better="higher")
EPSILON = Goal(key="epsilon", title="ε claimed", better="lower", percent=False)


def results(sweep: Sweep, store: Store, reference_epsilon: float) -> pd.DataFrame:
    """Returns one row for each point: its settings, and the means of its metrics over its trials.

    Columns: ``recipe``, one for each varied setting, ``accuracy``, ``robust``, ``epsilon`` (NaN where training is not
    private), ``seconds``, each with ``<column>_runs``, the trials that have a value; ``trials``, those that were
    planned for the point; ``records`` and ``robust_records``, the numbers of records of the two accuracies in a trial;
    ``pareto``.

    Args:
        sweep: with the varied settings.
        store: of the results.
        reference_epsilon: radius of the worst case, in the units of the data.

    Returns:
        The table, sorted by the settings.
    """
    frame = store.frame()
    asked = store.asked()
    points = {about["recipe_name"]: _settings(about["recipe"], sweep.keys) for about in asked.values()}
    trials = Counter(about["recipe_name"] for about in asked.values())
    rows = []
    for recipe, settings in points.items():
        own = of_recipe(frame, recipe)
        found = {
            "accuracy": measured(own, "accuracy"),
            "robust": largest_sample(measured(own, "worst_case_accuracy", epsilon=reference_epsilon)),
            "epsilon": measured(own, "epsilon"),
            "seconds": measured(own, "training_seconds"),
        }
        rows.append(
            {
                "recipe": recipe,
                **settings,
                **{key: rows_["value"].mean() for key, rows_ in found.items()},
                **{f"{key}_runs": rows_["trial"].nunique() for key, rows_ in found.items()},
                "trials": trials[recipe],
                "records": found["accuracy"]["n"].min(),
                "robust_records": found["robust"]["n"].min(),
            }
        )
    measures = ["accuracy", "robust", "epsilon", "seconds"]
    columns = ["recipe", *sweep.keys, *measures, *(f"{one}_runs" for one in measures), "trials", "records"]
    table = pd.DataFrame(rows, columns=[*columns, "robust_records"])
    table["pareto"] = pareto(table, goals(table))
    return table.sort_values(list(sweep.keys), ignore_index=True)


def rests_on(row: Mapping[Any, Any], goal: Goal) -> str:
    """Describes how many of a point's trials and records a value uses, where it is not all.

    Args:
        row: of the table.
        goal: the metric.

    Returns:
        A text; empty where it uses all.
    """
    runs, trials = int(row[f"{goal.key}_runs"]), int(row["trials"])
    said = [f"{runs} of {trials} trials"] if 0 < runs < trials else []
    if goal is ROBUST and row["robust_records"] < row["records"]:
        said.append(f"{int(row['robust_records'])} of {int(row['records'])} records")
    return ", ".join(said)


def goals(table: pd.DataFrame) -> list[Goal]:
    """Returns the goals that can be compared: accuracy, worst-case accuracy, and ε where training is private.

    Args:
        table: see ``results``.

    Returns:
        The goals.
    """
    return [goal for goal in (ACCURACY, ROBUST, EPSILON) if table[goal.key].notna().any()]


def pareto(table: pd.DataFrame, wanted: Sequence[Goal]) -> np.ndarray:
    """Returns which rows are on the Pareto front: no other row is better in one goal and at least equal in all others.

    Args:
        table: see ``results``.
        wanted: the goals.

    Returns:
        (n,) bool; False for a row without a value in some goal.
    """
    signs = np.array([1 if goal.better == "higher" else -1 for goal in wanted])
    values = table[[goal.key for goal in wanted]].to_numpy(float) * signs
    known = ~np.isnan(values).any(1)
    at_least = (values[:, None] >= values[None]).all(2)
    above = (values[:, None] > values[None]).any(2)
    return known & ~(at_least & above).any(0)


def parallel(table: pd.DataFrame, keys: Sequence[str]) -> go.Figure:
    """Draws every point as a line through its settings and its results; the user can drag along an axis to select.

    Args:
        table: see ``results``.
        keys: the varied settings.

    Returns:
        The figure.
    """
    shown = goals(table)
    dimensions = [_axis(table[key], key.split(".")[-1].replace("_", " ")) for key in keys]
    dimensions += [
        {"label": goal.title, "values": table[goal.key], "tickformat": ".0%" if goal.percent else ""} for goal in shown
    ]
    dimensions.append({"label": "training, s", "values": table["seconds"]})
    colour = table[(ROBUST if ROBUST in shown else ACCURACY).key]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": colour,
                "colorscale": "Cividis",
                "showscale": True,
                "colorbar": {"title": "worst case" if ROBUST in shown else "accuracy", "tickformat": ".0%"},
            },
        )
    )
    figure.update_layout(template=TEMPLATE, height=430, margin={"l": 70, "r": 40, "t": 60, "b": 30})
    return figure


def front(table: pd.DataFrame, reference_epsilon: float) -> go.Figure:
    """Draws accuracy against worst-case accuracy; the points of the Pareto front have a ring.

    Args:
        table: see ``results``.
        reference_epsilon: radius of the worst case.

    Returns:
        The figure.
    """
    private = table["epsilon"].notna().any()
    figure = blank(f"accuracy in the worst case, ε = {radius_text(reference_epsilon)}", "accuracy")
    best = table[table["pareto"]].sort_values("robust")
    if not private:
        figure.add_scatter(
            x=best["robust"],
            y=best["accuracy"],
            mode="lines",
            line={"color": QUIET, "dash": "dot"},
            showlegend=False,
        )
    figure.add_scatter(
        x=table["robust"],
        y=table["accuracy"],
        mode="markers",
        showlegend=False,
        text=table["recipe"],
        marker={
            "size": 13,
            "color": np.log10(table["epsilon"]) if private else PALETTE[5],
            "colorscale": "Cividis",
            "showscale": bool(private),
            "colorbar": {"title": "log10 ε"},
            "line": {
                "width": np.where(table["pareto"], 3, 0).tolist(),
                "color": PALETTE[1],
            },
        },
        hovertemplate="%{text}<br>worst case %{x:.1%}<br>accuracy %{y:.1%}<extra></extra>",
    )
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(tickformat=".0%")
    return figure


def matrix(sweep: Sweep, store: Store, units: str) -> go.Figure | None:
    """Draws worst-case accuracy by the ε of training × the ε of the attack, mean over the other settings.

    Args:
        sweep: with the varied settings.
        store: of the results.
        units: of both radii.

    Returns:
        The figure; None where the ε of training is not varied.
    """
    if _TRAINED not in sweep.keys:
        return None
    frame = store.frame()
    trained = {about["recipe_name"]: about["recipe"]["objective"]["epsilon"] for about in store.asked().values()}
    rows = measured(frame, "worst_case_accuracy")
    if not len(rows):
        return None
    table = rows.assign(
        trained=rows["recipe"].map(trained), tested=[float(c["epsilon"]) for c in rows["conditions"]]
    ).pivot_table(index="trained", columns="tested", values="value", aggfunc="mean")
    figure = blank(f"ε of the attack ({units})", f"ε of training ({units})")
    table.index = pd.Index([radius_text(float(epsilon)) for epsilon in table.index])
    figure.add_trace(heatmap(table))
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    return figure


def publish_sweep(
    sweep: Sweep, table: pd.DataFrame, store: Store, dataset: Dataset, reference_epsilon: float, *, choice: str
) -> str:
    """Writes ``sweep.html`` from the stored results.

    Args:
        sweep: with the varied settings.
        table: see ``results``.
        store: of the results.
        dataset: of the sweep.
        reference_epsilon: radius of the worst case.
        choice: what choosing the best trial costs, in a sentence; see ``release.choice``.

    Returns:
        The path or URI of the page.
    """
    known = table.dropna(subset=["accuracy"])
    drawn = {
        "parallel": parallel(known, sweep.keys),
        "front": front(known, reference_epsilon) if known["robust"].notna().any() else None,
        "matrix": matrix(sweep, store, dataset.units),
    }
    page = (
        template_environment()
        .get_template("sweep.html.j2")
        .render(
            sweep=sweep,
            dataset=dataset,
            rows=table.to_dict("records"),
            keys=sweep.keys,
            wanted=goals(known),
            failures=store.failures(),
            choice=choice,
            about=yaml.safe_load(store.read_text("study.yaml")),
            figures={key: None if figure is None else html(figure, described=key) for key, figure in drawn.items()},
            rests_on=rests_on,
            reference_epsilon=reference_epsilon,
            plotly=get_plotlyjs(),
        )
    )
    return store.write_text("sweep.html", page)


def _settings(recipe: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    found = {}
    for key in keys:
        value: Any = recipe
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def _axis(values: pd.Series, label: str) -> dict[str, Any]:
    """Returns the axis of a setting: logarithmic over more than a decade, with names where it is not a number."""
    if values.dtype == object:
        codes, names = pd.factorize(values)
        return {
            "label": label,
            "values": codes,
            "tickvals": list(range(len(names))),
            "ticktext": [str(n) for n in names],
        }
    positive = bool((values > 0).all())
    if positive and values.max() / values.min() >= 10:
        ticks = np.unique(values.to_numpy()) if values.nunique() <= 6 else np.geomspace(values.min(), values.max(), 5)
        return {
            "label": label,
            "values": np.log10(values),
            "tickvals": np.log10(ticks),
            "ticktext": [f"{tick:.2g}" for tick in ticks],
        }
    distinct = {"tickvals": sorted(values.unique())} if values.nunique() <= 8 else {}
    return {"label": label, "values": values, **distinct}
