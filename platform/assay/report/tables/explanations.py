"""Further measures of maps, by method, with the values of a control."""

from collections.abc import Mapping
from dataclasses import dataclass

from assay.registry import methods
from assay.report.explained import MapMethod, map_methods, recipe_to_show
from assay.report.rows import measured, of_recipe, settings
from assay.report.view import View
from assay.statistics import Summary


@dataclass(frozen=True, kw_only=True)
class MeasureColumn:
    """A further measure."""

    name: str
    title: str
    meaning: str
    """What it says, catches and misses."""
    better: str
    """``higher``, ``lower`` or ``neither``."""
    decides: bool
    """Whether it may decide between maps; else it is shown only."""


@dataclass(frozen=True, kw_only=True)
class MeasureCell:
    """What a measure says of the maps of a method."""

    own: Summary
    control: Summary | None
    """The same of another record's map; None where a control has no value."""
    p: float
    """Greatest p over runs of the hypothesis that the map is no better than the control, after Holm's correction over
    methods and measures; NaN where the measure decides nothing."""


@dataclass(frozen=True, kw_only=True)
class MeasureTable:
    """Methods by measures, of one recipe."""

    recipe: str
    columns: tuple[MeasureColumn, ...]
    methods: tuple[str, ...]
    cells: Mapping[tuple[str, str], MeasureCell]
    """By the title of the method and the name of the measure."""


def measure_table(view: View) -> MeasureTable | None:
    """Returns the further measures that were asked for, of one recipe.

    Args:
        view: of the cohort.

    Returns:
        The table; None where there are none.
    """
    recipe = recipe_to_show(view)
    if recipe is None:
        return None
    columns = tuple(one for one in _columns() if len(of_recipe(measured(view.frame, one.name), recipe)))
    cells = {}
    for method in map_methods(view.frame):
        for column in columns:
            own = method.summary(view, column.name, recipe, control=None)
            if own is None:
                continue
            cells[method.title, column.name] = MeasureCell(
                own=own,
                control=_control(view, method, column, recipe),
                p=_greatest_p(view, method, column, recipe),
            )
    shown = tuple(dict.fromkeys(title for title, _ in cells))
    return MeasureTable(recipe=recipe, columns=columns, methods=shown, cells=cells) if cells else None


def _columns() -> list[MeasureColumn]:
    found = []
    for name, kind in methods("explanation_measure").items():
        if name in {"insertion", "deletion", "area_between"}:  # they have figures of their own
            continue
        about = {key: str(getattr(kind, key, "")) for key in ("title", "meaning", "catches", "misses", "better")}
        found.append(
            MeasureColumn(
                name=name,
                title=about["title"] or name,
                meaning=f"{about['meaning']} Catches: {about['catches']} Misses: {about['misses']}",
                better=about["better"],
                decides=bool(getattr(kind, "decides", False)),
            )
        )
    return sorted(found, key=lambda one: (not one.decides, one.title))


def _control(view: View, method: MapMethod, column: MeasureColumn, recipe: str) -> Summary | None:
    rows = method.rows(view.frame, column.name, recipe)
    names = settings(rows, "control")
    return method.summary(view, column.name, recipe, control=names[0]) if names else None


def _greatest_p(view: View, method: MapMethod, column: MeasureColumn, recipe: str) -> float:
    rows = method.rows(view.frame, "measure_p", recipe, endpoint=column.name)
    return float(rows["value"].max()) if len(rows) and column.decides else float("nan")
