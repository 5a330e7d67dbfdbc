"""The radius of training against the radius of the attack."""

import pandas as pd
import plotly.graph_objects as go

from assay.recipes import Recipe
from assay.report.evidence import norm_text
from assay.report.figures.curves import curve
from assay.report.figures.style import escaped, panels
from assay.report.rows import select, settings
from assay.report.scorecard import Scorecard
from assay.report.view import View
from assay.threats import radius_text


def train_against_test(view: View) -> go.Figure | None:
    """Draws worst-case accuracy of recipes that differ only in their training ε, by family and norm.

    ε = 0 is the recipe that differs only in its standard objective, where there is one.

    Args:
        view: of the cohort.

    Returns:
        The figure; None without such recipes.
    """
    card, study, frame = view.card, view.study, view.frame
    recipes = study.cohorts[card.cohort].recipes
    rows = select(frame, "worst_case_accuracy")
    norms = settings(rows, "norm") or [card.reference_norm]
    tables = {
        (name, norm): table
        for name, members in families(recipes, study.baseline).items()
        for norm in norms
        if len(table := _table(card, rows, members, norm)) >= 2
    }
    if not tables:
        return None
    titles = [name + (f", attacked in {norm_text(norm)}" if len(norms) > 1 else "") for name, norm in tables]
    most = max(len(table) for table in tables.values())
    drawn = panels(titles, columns=2, x=f"ε of the attack ({view.units})", height=120 + 34 * most, spacing=0.14)
    for place, table in enumerate(tables.values()):
        drawn.figure.add_trace(heatmap(table, showscale=place == 0), **drawn.at(place))
    drawn.figure.update_layout(margin={"t": 40}, height=drawn.figure.layout.height - 50)  # there is no legend
    drawn.figure.update_xaxes(type="category")
    drawn.figure.update_yaxes(type="category", autorange="reversed")
    drawn.figure.update_yaxes(title="ε of training", col=1)
    return drawn.figure


def families(recipes: dict[str, Recipe], baseline: str) -> dict[str, dict[str, float]]:
    """Returns recipes with the same objective that differ in its ε.

    Settings of the training and of the objective may differ too; recipes with the same ε are distinguished by name.

    Args:
        recipes: by name.
        baseline: preferred as the recipe at ε = 0.

    Returns:
        ε of each recipe, by the description of its family.
    """
    alike: dict[str, dict[str, float]] = {}
    plain: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        rest = _beside_objective(recipe)
        epsilon = getattr(recipe.objective, "epsilon", None)
        if recipe.objective.name == "standard":
            plain.setdefault(rest, []).append(name)
        elif epsilon is not None:
            norm = getattr(recipe.objective, "norm", "linf")
            alike.setdefault(f"{recipe.objective.name} in {norm_text(norm)}{rest}", {})[name] = float(epsilon)
    found = {}
    for family, members in alike.items():
        if len(set(members.values())) < 2:
            continue
        rest = next(_beside_objective(recipes[name]) for name in members)
        own = plain.get(rest, [])
        zero = {baseline: 0.0} if baseline in own else dict.fromkeys(own[:1], 0.0)
        found[family] = zero | dict(sorted(members.items(), key=lambda pair: pair[1]))
    return found


def heatmap(table: pd.DataFrame, *, showscale: bool = True) -> go.Heatmap:
    """Returns a heat map of worst-case accuracies with their values.

    Args:
        table: training ε (as text) × ε of the attack (a number); NaN where nothing was measured.
        showscale: whether the colour scale is shown.

    Returns:
        The trace.
    """
    return go.Heatmap(
        z=table.to_numpy(),
        x=[radius_text(float(e)) for e in table.columns],
        y=[str(label) for label in table.index],
        colorscale="Cividis",
        zmin=0,
        zmax=1,
        texttemplate="%{z:.0%}",
        showscale=showscale,
        colorbar={"tickformat": ".0%", "title": "worst case"},
        hovertemplate="trained at %{y}, attacked at %{x}: %{z:.1%}<extra></extra>",
    )


def _table(card: Scorecard, frame: pd.DataFrame, members: dict[str, float], norm: str) -> pd.DataFrame:
    """Returns training ε × ε of the attack, without recipes that were not measured."""
    rows = {
        recipe: {e: s.mean for e, s in curve(card, frame, "worst_case_accuracy", recipe, by="epsilon", norm=norm)}
        for recipe in members
    }
    known = [recipe for recipe, row in rows.items() if row]
    labels = _labels([members[recipe] for recipe in known], known)
    return pd.DataFrame([rows[recipe] for recipe in known], index=labels).sort_index(axis="columns")


def _labels(epsilons: list[float], names: list[str]) -> list[str]:
    """Returns a radius for each recipe, with its name where two have the same radius."""
    return [
        radius_text(e) + (f" ({escaped(name)})" if epsilons.count(e) > 1 else "")
        for e, name in zip(epsilons, names, strict=True)
    ]


def _beside_objective(recipe: Recipe) -> str:
    """Describes a recipe without its objective and the length of its training; empty if there is nothing else."""
    rest = [treatment.name for treatment in recipe.data]
    rest += [f"private, ε = {recipe.privacy.epsilon:g}"] if recipe.privacy is not None else []
    rest += (
        [f"{recipe.federation.strategy.name}, {recipe.federation.partition}"] if recipe.federation is not None else []
    )
    return "".join(f", {words}" for words in rest)
