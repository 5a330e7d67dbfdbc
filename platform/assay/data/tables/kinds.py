"""Kinds of columns: the settings that a study may give, and what follows from them and from the values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from assay.data.features import FeatureKind
from assay.data.spellings import normalised, refuse_alike
from assay.data.tables.values import Parsed, canonical, column_error
from assay.registry import Settings

MISSING_CATEGORY = "missing"
"""Category of records without a value; ``data.missing.MISSING`` lists the spellings of missing values in files."""
_MOST_CATEGORIES = 50


class ColumnSettings(Settings):
    """Settings of one column. Without settings, the kind of a column is detected from its values."""

    kind: FeatureKind | None = None
    unit: str = ""
    """Unit of a number: ``mmHg``."""
    range: tuple[float, float] | None = None
    """Least and greatest valid value of a number. It also scales the column, so that nothing is learnt from records:
    the middle of the range becomes 0, and a quarter of it 1, unless ``center`` and ``scale`` are set."""
    center: float | None = None
    """Value that becomes 0: a published mean."""
    scale: float | None = Field(default=None, gt=0)
    """Change that becomes 1, and so 1.0 of every ε: a published standard deviation."""
    fill: float | str | None = None
    """Replacement of a missing value; by default the middle of ``range`` or ``center``, else the median of the training
    records. Missing categories form a category of their own."""
    order: tuple[str | float, ...] = ()
    """Categories from the least to the greatest; it makes the column ordered."""
    categories: tuple[str | float, ...] = ()
    """All categories that can occur; include ``missing`` if values are missing."""
    missing: tuple[str | float, ...] | None = None
    """Values of this column that mean a missing one: ``[0]`` for a blood pressure."""
    decimal: Literal[".", ","] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """``sex: category`` is short for ``sex: {kind: category}``."""
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits_together(self) -> "ColumnSettings":
        of_numbers = [name for name in ("range", "center", "scale") if getattr(self, name) is not None]
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range {list(self.range)} must run from the least to the greatest value")
        if (self.order or self.categories or self.kind in ("ordered", "category")) and of_numbers:
            raise ValueError(f"{of_numbers[0]} is for numbers, and the column has categories; leave one of them out")
        if self.order and self.categories:
            raise ValueError("order names all categories already; leave categories out")
        if self.kind == "ordered" and len(self.order) < 2:
            raise ValueError("an ordered column needs its order: [mild, moderate, severe]")
        return self

    @property
    def stated(self) -> FeatureKind | None:
        """The kind, as far as the settings determine it."""
        if self.kind is not None:
            return self.kind
        if self.order:
            return "ordered"
        if self.categories:
            return "category"
        return "number" if (self.range, self.center, self.scale) != (None, None, None) else None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column that is converted to inputs of a network."""

    name: str
    kind: FeatureKind
    settings: ColumnSettings
    low: float
    """Least valid value: stated, or the least that occurs; 0 for categories."""
    high: float
    categories: tuple[str, ...] = ()
    """Categories of an ordered or a category column, in their order; a record holds the position of its own."""
    missing: int = 0
    """Number of records without a value."""
    codes: tuple[str, ...] = field(default=(), repr=False)
    """Values that mean a missing one, as the settings name them. Not in ``repr``, which names trials: no record changes
    by them after it was read."""

    @property
    def public(self) -> bool:
        """Whether nothing about the column is learnt from records: its range, or all of its categories, are stated."""
        if self.kind == "number":
            return self.settings.range is not None
        return bool(self.settings.order or self.settings.categories) and (
            self.kind == "category" or not self.missing or self.settings.fill is not None
        )

    def describe(self) -> str:
        """Returns a line with the column's name, kind, range or categories, and number of missing values."""
        missing = f"; {self.missing} missing" if self.missing else ""
        if self.kind == "number":
            stated = " (stated)" if self.settings.range is not None else ""
            unit = f" {self.settings.unit}" if self.settings.unit else ""
            return f"{self.name}: number, {self.low:g} to {self.high:g}{unit}{stated}{missing}"
        joined = (" < " if self.kind == "ordered" else ", ").join(self.categories)
        return f"{self.name}: {'ordered' if self.kind == 'ordered' else 'category'}, {joined}{missing}"


def column_of(name: str, parsed: Parsed, settings: ColumnSettings, *, where: str) -> tuple[Column, np.ndarray]:
    """Determines the kind of a column and converts its values.

    Unless the kind is stated, words and numbers of two values are categories, and other numbers are numbers.

    Args:
        name: of the column.
        parsed: its values.
        settings: of the column.
        where: the data, for errors.

    Returns:
        The column, and its values, (n,) float64 with NaN where missing: numbers, or positions of categories.

    Raises:
        DataError: values are not of the stated kind, range or categories, or there are too many categories.
    """
    distinct = parsed.distinct
    kind = settings.stated or ("category" if parsed.numbers is None or len(distinct) == 2 else "number")
    if kind == "number":
        return _number(name, parsed, settings, where)
    categories = tuple(canonical(one) for one in (settings.order or settings.categories or distinct))
    refuse_alike(
        categories, where=f"{where}, column {name!r}", setting="kinds", what="categories", blanks=kind == "category"
    )
    missing = parsed.missing
    if kind == "category" and missing.any() and not settings.categories:
        clash = next((one for one in categories if normalised(one) == MISSING_CATEGORY), None)
        if clash is not None:
            fix = f"if it stands for a missing value say kinds: {{{name}: {{missing: [{clash}]}}}}, otherwise rename it"
            raise column_error(name, f"it holds {clash!r} and {int(missing.sum())} empty values", fix, where, clash)
        categories = (*categories, MISSING_CATEGORY)
    elif kind == "category" and missing.any() and MISSING_CATEGORY not in categories:
        raise column_error(
            name,
            f"{int(missing.sum())} values are missing",
            f"add {MISSING_CATEGORY} to its categories",
            where,
            int(missing.sum()),
        )
    strange = [one for one in distinct if one not in categories]
    if strange:
        raise column_error(
            name, f"{strange[0]!r} is none of {', '.join(categories)}", "name it among them", where, strange[0]
        )
    if len(categories) > _MOST_CATEGORIES and not settings.categories and not settings.order:
        fix = f"leave it out with drop: [{name}], name the patients by it with group: {name}, or state its categories"
        raise column_error(
            name,
            f"its {len(categories)} different values are words, or names of something",
            fix,
            where,
            len(categories),
        )
    place = {one: float(number) for number, one in enumerate(categories)}
    absent = place.get(MISSING_CATEGORY, np.nan) if kind == "category" else np.nan
    values = np.array([place[word] if word else absent for word in parsed.words])
    high = float(max(len(categories) - 1, 1))
    column = Column(
        name=name, kind=kind, settings=settings, low=0.0, high=high, categories=categories, missing=int(missing.sum())
    )
    return column, values


def _number(name: str, parsed: Parsed, settings: ColumnSettings, where: str) -> tuple[Column, np.ndarray]:
    numbers = parsed.numbers
    if numbers is None:
        if any(parsed.words):
            word = next(word for word in parsed.words if word)
            raise column_error(
                name, f"it is said to hold numbers and holds {word!r}", "say kind: category", where, word
            )
        numbers = np.full(len(parsed.words), np.nan)
    present = numbers[np.isfinite(numbers)]
    low, high = settings.range or (float(present.min(initial=np.inf)), float(present.max(initial=-np.inf)))
    outside = present[(present < low) | (present > high)]
    if len(outside):
        raise column_error(
            name,
            f"{len(outside)} values lie outside of the range {low:g} to {high:g}, {outside[0]:g} is the first",
            "widen the range, or name them under missing",
            where,
            float(outside[0]),
        )
    return Column(
        name=name, kind="number", settings=settings, low=low, high=high, missing=int(len(numbers) - len(present))
    ), numbers


def column_settings(kinds: Mapping[str, ColumnSettings], name: str) -> ColumnSettings:
    """Returns the settings of a column; empty ones by default.

    Args:
        kinds: settings by name of the column.
        name: of the column.

    Returns:
        The settings.
    """
    return kinds.get(name, ColumnSettings())
