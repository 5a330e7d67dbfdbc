"""Groups of features with names, as a user states them: columns of a table, parts of an image, windows of a signal.

    groups: {size: [radius_mean, perimeter_mean, area_mean], texture: [texture_mean]}    # columns of a table
    groups: {left: [[0, 1], [0, 0.5]], right: [[0, 1], [0.5, 1]]}                        # rows and columns of an image
    groups: [[upper_left, upper_right], [lower_left, lower_right]]                       # the same as a grid
    groups: {qrs: [70, 110], t: [150, 230]}                                              # samples of a signal

Entries that are in no group form one more, ``others``. Words of a text are groups already.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, ConfigDict, RootModel, ValidationError, model_validator
from torch import Tensor

from assay.data.base import Modality
from assay.errors import SpecError
from assay.registry import unknown_name

OTHERS = "others"
"""Name of the group of all entries that are in no other."""
CORRELATED = "correlated"
"""Setting that finds groups of columns by their correlation."""
STRONG = 0.9
"""Least |r| between any two columns of such a group."""
_FEW_COLUMNS = 3
"""Columns up to which a group of correlated ones is called by all their names."""
Window = tuple[float, float]
"""From (included) and to (not included)."""
_FORMS: Mapping[Modality, str] = {
    "tabular": "names of columns, as {size: [radius, area]}",
    "image": "rows and columns as fractions, as {left: [[0, 1], [0, 0.5]]}, or a grid of names, as [[left, right]]",
    "signal": "the first sample and the one after the last, as {qrs: [70, 110]}",
}
_EVERY_FORM = "; ".join(f"of {modality} records {form}" for modality, form in _FORMS.items())


class NamedGroups(RootModel[dict[str, tuple[str, ...] | Window | tuple[Window, Window]]]):
    """Groups by name: all of columns, all of rectangles, or all of windows.

    Raises:
        ValueError: no group, an empty one, one called ``others``, a column in two groups, or an end before its start.
    """

    model_config = ConfigDict(frozen=True)

    def __hash__(self) -> int:
        return hash(tuple(self.root.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The stated names, in their order."""
        return tuple(self.root)

    @property
    def modality(self) -> Modality:
        """Kind of the records that have such groups."""
        part = next(iter(self.root.values()))
        return _modality(part)

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> "NamedGroups":
        if not self.root:
            raise ValueError("no group is named: give one or more, or a number of groups")
        if OTHERS in self.root:
            raise ValueError(f"{OTHERS!r} is the name of what is in no group: choose another name, or leave it out")
        kinds = {_modality(part) for part in self.root.values()}
        if len(kinds) > 1:
            raise ValueError(f"groups are of different kinds ({', '.join(sorted(kinds))}): all must be of one")
        held: dict[str, str] = {}
        for name, part in self.root.items():
            if not part:
                raise ValueError(f"group {name!r} is empty: name what belongs to it, or leave it out")
            for column in part if _modality(part) == "tabular" else ():
                other = held.setdefault(str(column), name)
                if other != name:
                    raise ValueError(f"column {column!r} is in two groups, {other!r} and {name!r}: leave it in one")
            _check_ends(name, part)
        return self


def _modality(part: Any) -> Modality:
    if not part or isinstance(part[0], str):
        return "tabular"
    return "signal" if isinstance(part[0], float) else "image"


def _check_ends(name: str, part: Any) -> None:
    modality = _modality(part)
    spans = {"tabular": (), "signal": (part,), "image": part}[modality]
    for start, end in spans:
        if not 0 <= start < end or (modality == "image" and end > 1):
            limits = "0 ≤ start < end ≤ 1, as fractions" if modality == "image" else "0 ≤ start < end, in samples"
            raise ValueError(f"group {name!r} reaches from {start:g} to {end:g}: give {limits}")
        if modality == "signal" and (start % 1 or end % 1):
            raise ValueError(f"group {name!r} reaches from {start:g} to {end:g}: give whole samples")


def _read(value: Any) -> Any:
    """Turns a grid or a mapping into named groups, and refuses what is neither these nor a number."""
    if isinstance(value, list | tuple) and value:
        value = _of_grid(value)
    if isinstance(value, Mapping):
        for name, part in value.items():
            _check_form(name, part)
        try:
            return NamedGroups(value)
        except ValidationError as error:
            # One message in place of one for each member of the union.
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole or value == CORRELATED or isinstance(value, NamedGroups):
        return value
    raise ValueError(
        f"{value!r} says no groups: give a whole number, {CORRELATED!r} for columns that go together, or names, each "
        f"with what belongs to it: {_EVERY_FORM}"
    )


def _of_grid(grid: Sequence[Any]) -> dict[str, Any]:
    """Returns the rectangle of each cell of a grid of names."""
    advice = "give rows of names, all of one length, as [[upper_left, upper_right], [lower_left, lower_right]]"
    for line in grid:
        if not isinstance(line, list | tuple):
            raise ValueError(f"{line!r} is no row of a grid: {advice}")
        for name in line:
            if not isinstance(name, str):
                said = f"cell {name!r} of the grid is no name: {advice}"
                if all(_is_number(one) for one in line):
                    said += "; rows and columns of a rectangle need a name, as {left: [[0, 1], [0, 0.5]]}"
                raise ValueError(said)
    lengths = [len(line) for line in grid]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(f"the rows of the grid have {', '.join(map(str, lengths))} cells: {advice}")
    cells: dict[str, Any] = {}
    for row, line in enumerate(grid):
        for column, name in enumerate(line):
            if name in cells:
                raise ValueError(f"the grid has two cells {name!r}: give each a name of its own")
            across = (column / len(line), (column + 1) / len(line))
            cells[name] = ((row / len(grid), (row + 1) / len(grid)), across)
    return cells


def _check_form(name: Any, part: Any) -> None:
    """Refuses a group whose name is no text, or whose content is of none of the forms."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} is no name of a group: give a text that is not empty, as {{size: [radius, area]}}")
    if isinstance(part, list | tuple):
        words = all(isinstance(one, str) for one in part)
        if words and any(not one.strip() for one in part):
            raise ValueError(f"group {name!r} holds an empty name of a column, {list(part)!r}: leave it out")
        rectangle = len(part) == 2 and all(isinstance(one, list | tuple) and _is_span(one) for one in part)
        if words or _is_span(part) or rectangle:
            return
    one = f"; for one column, [{part}]" if isinstance(part, str) and part.strip() else ""
    raise ValueError(f"group {name!r} is {part!r}: give {_EVERY_FORM}{one}")


def _is_span(part: Sequence[Any]) -> bool:
    return len(part) == 2 and all(_is_number(one) for one in part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Groups = Annotated[int | Literal["correlated"] | NamedGroups, BeforeValidator(_read)]
"""Setting: the greatest number of groups, ``correlated``, or groups with names."""


def named_places(
    groups: NamedGroups, shape: tuple[int, ...], modality: Modality, columns: tuple[str, ...]
) -> tuple[Tensor, tuple[str, ...]]:
    """Returns the group of each entry of a record.

    Args:
        groups: as they were stated.
        shape: of a record.
        modality: of the record.
        columns: the column of each input of a table; the inputs of a category share one.

    Returns:
        Group numbers from 0 in the shape of a record, int64, and the name of each number; the last is ``others`` where
        entries are in no group.

    Raises:
        SpecError: the groups are of another kind of record, a column is unknown, two groups overlap, or one holds no
            entry.
    """
    if modality == "text":
        raise _mistake("words of a text are groups already: give a number of groups", groups)
    if groups.modality != modality:
        raise _mistake(f"groups of {modality} records are {_FORMS[modality]}; these are of {groups.modality}", groups)
    if modality == "tabular":
        _check_columns(groups, columns)
    place = torch.full(shape, -1, dtype=torch.int64)
    for number, (name, part) in enumerate(groups.root.items()):
        inside = _inside(name, part, shape, columns)
        taken = place[inside]
        if bool((taken >= 0).any()):
            other = groups.names[int(taken.max())]
            raise _mistake(
                f"groups {other!r} and {name!r} overlap, and an entry belongs to one group: end one of them where the "
                "other starts, or join both",
                groups,
            )
        if not bool(inside.any()):
            raise _mistake(
                f"group {name!r}, {_plain(part)}, holds no entry of a record of shape {shape}: make it wider, so that "
                "it covers the middle of one entry or more, or leave it out",
                groups,
            )
        place[inside] = number
    left = place < 0
    names = (*groups.names, OTHERS) if bool(left.any()) else groups.names
    return place.masked_fill(left, len(groups.names)), names


def _inside(name: str, part: Any, shape: tuple[int, ...], columns: tuple[str, ...]) -> Tensor:
    """Returns which entries of a record belong to a group, bool in its shape."""
    inside = torch.zeros(shape, dtype=torch.bool)
    if isinstance(part[0], str):
        inside[:] = torch.tensor([column in part for column in columns])
    elif isinstance(part[0], float):
        if part[1] > shape[-1]:
            raise _mistake(f"group {name!r} ends at sample {part[1]:g}; a record has {shape[-1]}", part)
        inside[..., int(part[0]) : int(part[1])] = True
    else:
        rows, across = (
            slice(*(round(end * side) for end in ends)) for ends, side in zip(part, shape[-2:], strict=True)
        )
        inside[..., rows, across] = True
    return inside


def _check_columns(groups: NamedGroups, columns: tuple[str, ...]) -> None:
    """Refuses columns that the table does not have, all at once."""
    known = list(dict.fromkeys(columns))
    unknown = list(dict.fromkeys(one for part in groups.root.values() for one in map(str, part) if one not in known))
    if len(unknown) == 1:
        raise unknown_name("column", unknown[0], known, setting="groups")
    if unknown:
        raise SpecError(
            f"unknown columns {', '.join(map(repr, unknown))}; known: {', '.join(known)}: correct the names, or leave "
            "them out",
            setting="groups",
            given=unknown,
            allowed=known,
        )


def _plain(part: Any) -> str:
    """Returns a rectangle or a window as it is written in a study."""
    return str([list(one) if isinstance(one, tuple) else one for one in part])


def _mistake(said: str, given: Any) -> SpecError:
    return SpecError(said, setting="groups", given=given)


def correlated_columns(
    x: np.ndarray, columns: tuple[str, ...], *, least: float = STRONG
) -> tuple[tuple[str, ...], ...]:
    """Returns groups of columns, in each of which any two have a correlation of at least ``least`` in size.

    Groups are those of complete linkage. A column of several inputs (a category) or of one value stays by itself.

    Args:
        x: (n, inputs) records.
        columns: (inputs,) the column of each input.
        least: smallest |r| (Pearson) within a group, in 0 … 1.

    Returns:
        Columns of each group, in the order of the table; every column is in one.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    names = list(dict.fromkeys(columns))
    alone = [place for place, column in enumerate(columns) if columns.count(column) == 1]
    number = {name: -1 - place for place, name in enumerate(names)}
    if len(alone) > 1 and len(x) > 2:
        own = x[:, alone].astype(np.float64)
        own = own - own.mean(0)
        size = np.sqrt((own**2).sum(0))
        own = own / np.where(size > 0, size, 1.0)
        distance = 1 - np.abs(own.T @ own)
        np.fill_diagonal(distance, 0.0)
        tree = linkage(squareform(distance.clip(0), checks=False), "complete")
        together = fcluster(tree, 1 - least + 1e-12, "distance").tolist()
        number |= {columns[place]: group for place, group in zip(alone, together, strict=True)}
    found: dict[int, list[str]] = {}
    for name in names:
        found.setdefault(number[name], []).append(name)
    return tuple(tuple(group) for group in found.values())


def named_after_columns(clusters: tuple[tuple[str, ...], ...]) -> NamedGroups:
    """Returns groups that are called after their columns.

    Args:
        clusters: columns of each group.

    Returns:
        The groups; one of more than three columns is called ``radius_mean and 5 more``, and a column that is called
        ``others`` is ``others (column)``. Of equal names the later ones have a number.
    """
    found: dict[str, tuple[str, ...]] = {}
    for group in clusters:
        name = ", ".join(group) if len(group) <= _FEW_COLUMNS else f"{group[0]} and {len(group) - 1} more"
        name = f"{OTHERS} (column)" if name == OTHERS else name
        usual, number = name, 1
        while name in found:
            number += 1
            name = f"{usual} ({number})"
        found[name] = group
    return NamedGroups(found)


def told(groups: Any) -> str:
    """Returns groups in a few words, for the title of a method.

    Args:
        groups: the setting, or what became of it in JSON.

    Returns:
        A text such as ``groups size, texture``.
    """
    if isinstance(groups, NamedGroups):
        groups = groups.root
    return f"groups {', '.join(groups)}" if isinstance(groups, Mapping) else f"groups {groups}"
