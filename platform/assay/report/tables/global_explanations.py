"""Tables of global explanations: surrogate trees, counterfactuals, features that differ, and the glass box."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from assay.evaluations.licences import is_public
from assay.report.figures.curves import summary
from assay.report.rows import measured, of_recipe, runs_of, select, settings
from assay.report.view import View
from assay.statistics import Summary

_TERMS = 5
"""Terms of the glass box that are named."""


@dataclass(frozen=True, kw_only=True)
class SurrogateRow:
    """The surrogate tree of one recipe."""

    recipe: str
    fidelity: Summary
    baseline: Summary
    gain: Summary
    learnt_on: str
    rules: str
    """Those of the first run."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualRow:
    """Counterfactuals of one recipe under one limit on the changes."""

    recipe: str
    change: str
    """What may change."""
    validity: Summary
    distance: Summary | None
    changes: Summary | None
    not_found: int
    """Records without one, over all runs."""
    ranges: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """One counterfactual."""

    recipe: str
    before: str
    after: str
    changes: str


@dataclass(frozen=True, kw_only=True)
class ContrastRow:
    """A feature that matters more for one predicted class than for the others."""

    recipe: str
    feature: str
    target: str
    difference: Summary
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class NumericalRow:
    """How exactly the attributions of one recipe were computed."""

    recipe: str
    greatest: float
    """Greatest difference, in log-odds, of a drawn figure between two rules of computing it, over features, classes and
    runs; NaN where the method has one rule alone."""
    of_sum: Summary | None
    of_value: Summary | None


@dataclass(frozen=True, kw_only=True)
class GlassBoxRow:
    """The glass box beside the network of one recipe."""

    recipe: str
    machine: str
    """``EBM`` or ``DP-EBM``; empty where there is none."""
    why: str
    """Why there is none."""
    network: Summary | None
    accuracy: Summary | None
    difference: Summary | None
    auroc: Summary | None
    auroc_difference: Summary | None
    epsilon: float
    """That its own training spent; NaN where it is not private."""
    terms: str


def surrogates(view: View) -> list[SurrogateRow]:
    """Returns the surrogate tree of each recipe that has one.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    found = []
    for recipe in view.card.recipes:
        fidelity, baseline, gain = (
            summary(view.card, view.frame, f"surrogate_{name}", recipe) for name in ("fidelity", "baseline", "gain")
        )
        if fidelity is None or baseline is None or gain is None:
            continue
        about = _first(view, "surrogate_fidelity", recipe)
        found.append(
            SurrogateRow(
                recipe=recipe,
                fidelity=fidelity,
                baseline=baseline,
                gain=gain,
                learnt_on=str(about["learnt_on"]),
                rules="\n".join(about["rules"]["lines"]),
            )
        )
    return found


def counterfactuals(view: View) -> list[CounterfactualRow]:
    """Returns how often a counterfactual was found, how far, and how much it changes.

    Args:
        view: of the cohort.

    Returns:
        The rows.
    """
    found = []
    for recipe in view.card.recipes:
        rows = of_recipe(measured(view.frame, "counterfactual_validity"), recipe)
        for change in settings(rows, "change"):
            validity, distance, changes = (
                summary(view.card, view.frame, f"counterfactual_{name}", recipe, change=change)
                for name in ("validity", "distance", "changes")
            )
            assert validity is not None
            own = select(rows, "counterfactual_validity", change=change)
            found.append(
                CounterfactualRow(
                    recipe=recipe,
                    change=str(change),
                    validity=validity,
                    distance=distance,
                    changes=changes,
                    not_found=sum(settings_of["not_found"] for settings_of in own["conditions"]),
                    ranges=str(own.iloc[0]["conditions"]["ranges"]),
                )
            )
    return found


def examples(view: View) -> list[Example]:
    """Returns changes of the first run of each recipe; none unless everybody may publish records of the data set.

    Args:
        view: of the cohort.

    Returns:
        The examples.
    """
    return list(_examples(view)) if is_public(view.dataset) else []


def _examples(view: View) -> Iterator[Example]:
    for recipe in view.card.recipes:
        about = _first(view, "counterfactual_examples", recipe)
        for one in about.get("shown", {}).get("examples", []):
            units = {change["unit"] for change in one["changes"]}
            yield Example(
                recipe=recipe,
                before=one["from"],
                after=one["to"],
                changes="; ".join(_change(change, with_unit=len(units) > 1) for change in one["changes"])
                + (f" ({units.pop()})" if len(units) == 1 and units != {""} else ""),
            )


def _change(change: dict[str, Any], *, with_unit: bool) -> str:
    unit = f" {change['unit']}" if with_unit and change["unit"] else ""
    return f"{change['feature']} {change['before']:g} → {change['after']:g}{unit}"


def differing(view: View) -> list[ContrastRow]:
    """Returns the features whose strength differs between predicted classes in most runs, after Holm's correction.

    Args:
        view: of the cohort.

    Returns:
        The rows, the greatest difference first within a recipe.
    """
    found = []
    rows = measured(view.frame, "attribution_contrast")
    for recipe in view.card.recipes:
        own = of_recipe(rows, recipe)
        for (feature, target), part in own.groupby(
            [[c["feature"] for c in own["conditions"]], [c["class"] for c in own["conditions"]]], sort=False
        ):
            ps = sorted(about["p_holm"] for about in part["conditions"])
            middle = ps[len(ps) // 2]
            if not math.isnan(middle) and middle < 0.05:
                found.append(
                    ContrastRow(
                        recipe=recipe,
                        feature=str(feature),
                        target=str(target),
                        difference=view.card.design.summarise(runs_of(part).runs),
                        p_holm=middle,
                    )
                )
    order = list(view.card.recipes)
    return sorted(found, key=lambda one: (order.index(one.recipe), -abs(one.difference.mean)))


def numerical_errors(view: View) -> list[NumericalRow]:
    """Returns how exactly the attributions of each recipe were computed.

    Args:
        view: of the cohort.

    Returns:
        The rows; none of a recipe whose results state no error.
    """
    found = []
    for recipe in view.card.recipes:
        of_sum, of_value = (
            summary(view.card, view.frame, f"attribution_{name}_error", recipe) for name in ("sum", "value")
        )
        rows = of_recipe(measured(view.frame, "attribution_strength"), recipe)
        off = [about["numerical_error"] for about in rows["conditions"] if "numerical_error" in about]
        if of_sum is not None or of_value is not None:
            greatest = max(off, default=math.nan)
            found.append(NumericalRow(recipe=recipe, greatest=greatest, of_sum=of_sum, of_value=of_value))
    return found


def glass_boxes(view: View) -> list[GlassBoxRow]:
    """Returns the glass box of each recipe, or why there is none.

    Args:
        view: of the cohort.

    Returns:
        The rows; empty where it was not asked for.
    """
    rows = select(view.frame, "glass_box_accuracy")
    return [
        _glass_box(view, recipe, own) for recipe in view.card.recipes if len(own := of_recipe(rows, recipe))
    ]  # fmt: skip


def _glass_box(view: View, recipe: str, rows: pd.DataFrame) -> GlassBoxRow:
    def of(name: str) -> Summary | None:
        return summary(view.card, view.frame, name, recipe)

    known = rows[(rows["status"] == "measured").to_numpy()]
    epsilon = of("glass_box_epsilon")
    return GlassBoxRow(
        recipe=recipe,
        machine=str(known.iloc[0]["conditions"]["machine"]) if len(known) else "",
        why="" if len(known) else "; ".join(dict.fromkeys(text for texts in rows["warnings"] for text in texts)),
        network=of("accuracy"),
        accuracy=of("glass_box_accuracy"),
        difference=of("glass_box_difference"),
        auroc=of("glass_box_auroc"),
        auroc_difference=of("glass_box_auroc_difference"),
        epsilon=math.nan if epsilon is None else epsilon.mean,
        terms=_terms(of_recipe(measured(view.frame, "glass_box_strength"), recipe)),
    )


def _terms(rows: pd.DataFrame) -> str:
    """Returns the terms with the greatest mean |contribution| over the runs."""
    if not len(rows):
        return ""
    names = pd.Series([about["feature"] for about in rows["conditions"]], index=rows.index)
    # A run that does not report a term counts it as 0.
    runs = rows.groupby(["fold", "repeat"]).ngroups
    means = rows["value"].groupby(names).sum().div(runs).sort_values(ascending=False, kind="stable")
    return ", ".join(map(str, means.index[:_TERMS]))


def _first(view: View, name: str, recipe: str) -> dict[str, Any]:
    """Returns the conditions of a measurement in the first run of a recipe that has it; empty where none has."""
    rows = of_recipe(measured(view.frame, name), recipe)
    return dict(rows.sort_values(["repeat", "fold"]).iloc[0]["conditions"]) if len(rows) else {}


def number_text(one: Summary | None, *, signed: bool = False, percent: bool = False) -> str:
    """Formats a mean with its 95 % interval.

    Args:
        one: the summary; None is a dash.
        signed: whether a positive number has a plus.
        percent: whether it is a share, shown in percent (percentage points where it is signed).

    Returns:
        A text.
    """
    if one is None:
        return "–"
    factor, style = (100, ".1f") if percent else (1, ".3g")
    style = f"+{style}" if signed else style
    mean, low, high = (f"{factor * value:{style}}".replace("-", "−") for value in (one.mean, one.low, one.high))
    unit = "" if not percent else (" points" if signed else " %")
    return f"{mean}{unit}" if math.isnan(one.low) else f"{mean}{unit} ({low} to {high})"
