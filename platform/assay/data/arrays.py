"""The user's own arrays: one ``.npz`` or ``.parquet`` file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from assay.data.array_files import WANTED, FileContents, names_in, read_array_file, records_of, sort_out
from assay.data.base import Dataset, Modality, Source
from assay.data.identifiers import as_text
from assay.data.label_copies import refuse_label_copies
from assay.data.numbers import LARGEST, above
from assay.data.sentinels import codes_among, describe_codes, in_two_units
from assay.data.spellings import refuse_alike
from assay.data.subgroups import subgroups_of, usual_name
from assay.data.suspicion import refuse_identifiers
from assay.errors import DataError
from assay.registry import register, unknown

_FAR = 3.0
"""Distance of a value from all others, in multiples of their range, from which it is taken for a missing code."""
_COARSE = 1000
"""Number of float32 steps in a standard deviation, below which a warning about rounding is given."""
_LARGEST_LABEL = 2**31
"""Greatest label; larger numbers are refused."""
_AXES = {"image": ("channels", "height", "width"), "signal": ("channels", "samples")}


@register("dataset")
class Arrays(Source):
    """A file with ``x``, ``y`` and optionally ``groups``, ``split``, ``feature_names`` and ``class_names``.

    ``split`` names ``train``, ``validation`` or ``test`` for each record, and is then kept. In a ``.parquet`` file
    ``x`` is a list column, or every numeric column other than ``y``, ``split`` and that of the patients is a feature.
    An array, a column or a feature with a usual name (``group``, ``groups``, ``patient_id``, ``subject``, ``MRN`` …)
    identifies patients and is not a feature. Give bounds and radii yourself; without them they are taken from the
    data, with a warning.
    """

    name: Literal["arrays"] = "arrays"
    path: str
    modality: Literal["tabular", "image", "signal"] = "tabular"
    """Kind of a record: features, (channels, height, width), or (channels, samples)."""
    channels: Literal["checked", "first", "last"] = "checked"
    """Axis of an image or a signal that holds the channels: the first of a record, or the last, which is then moved to
    the front. By default the first, and an error if the shape suggests the last."""
    group: str | None = None
    """Array, column or feature that identifies patients; by default the one with a usual name, and none if empty."""
    site: str | None = None
    """Array, column or feature of hospitals, which a federation may make its clients; it is no feature. By default that
    of ``group``, where it has a usual name of hospitals."""
    drop: tuple[str, ...] = ()
    """Arrays, columns or features to leave out."""
    features: tuple[str, ...] = ()
    """Features that are kept and not checked, although they look like identifiers, copies of the label, or codes of
    missing values."""
    low: float | None = None
    high: float | None = None
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Least and greatest valid value of single features by name, ``{age: [0, 120]}``; the others use ``low`` and
    ``high``."""
    epsilons: tuple[float, ...] = ()
    units: str = "units of the file"
    licence: str = "unknown"
    citation: str = ""
    public_preprocessing: bool = False
    """True if the file was scaled with public figures only; otherwise, and without both bounds, no ε is claimed on it.
    """

    def owes(self) -> str:
        if not self.public_preprocessing:
            return "how the file was scaled is unknown; if public figures did it, say public_preprocessing: true"
        ends = (self.low, self.high)
        return "" if self.ranges or None not in ends else "bounds are taken from the data; give low and high"

    def load(self) -> Dataset:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DataError(f"data file {self.path!r} does not exist; {WANTED}")
        where = f"data file {self.path!r}"
        contents = sort_out(
            read_array_file(path),
            where=where,
            group=self.group,
            drop=self.drop,
            insisted=self.features,
            site=self.site,
        )
        raw = records_of(contents, where)
        for key, array in (("x", raw), ("y", contents.known.get("y"))):
            if array is None:
                raise DataError(f"{where} has no {key!r} (it holds: {', '.join(sorted(contents.names))}); {WANTED}")
        x, y = _numbers(raw, self.path), _labels(contents.known["y"], self.path)
        if x.ndim < 2 or x.size == 0:
            raise DataError(
                f"data file {self.path!r}: x has shape {x.shape}; it must be (records, ...) with at least one record, "
                "and at least one number in each"
            )
        x = self._channels_first(x)
        unnamed = [f"feature {i}" for i in range(int(np.prod(x.shape[1:])))] if self.modality == "tabular" else []
        default_names = names_in(contents, "feature_names", where) if "feature_names" in contents.known else unnamed
        features = contents.features or default_names
        suspected = self._suspected(raw, y, features, grouped=contents.groups is not None)
        low, high, warnings = self._bounds(x, features)
        classes = self._classes(contents, y)
        return Dataset(
            name=path.stem,
            x=x,
            y=y,
            class_names=classes,
            feature_names=tuple(features),
            low=low,
            high=high,
            units=self.units,
            epsilons=self.epsilons or usual_radii(low, high),
            groups=contents.groups,
            group_kind=contents.group_kind,
            site=contents.site,
            licence=self.licence,
            citation=self.citation,
            preprocessing="as in the file",
            unpaid_preprocessing=not self.public_preprocessing or bool(warnings),
            reading=(f"{len(x):,} records of shape {x.shape[1:]} in {path.name}",),
            warnings=(*warnings, *contents.warnings, *suspected),
            modality=self.modality,
            official=_split_of(contents, where),
            subgroups=_subgroups(x, features, where) if self.modality == "tabular" and x.ndim == 2 else {},
        )

    def _classes(self, held: FileContents, y: np.ndarray) -> tuple[str, ...]:
        """Returns the names of the classes, from the file or by number."""
        labels = np.unique(y)
        if "class_names" not in held.known and len(labels) > 1 and labels[0] >= 0 and labels[-1] >= len(labels):
            raise DataError(
                f"data file {self.path!r}: labels must run from 0 without a gap, found {labels[:8].tolist()}; "
                "renumber them, or give class_names"
            )
        usual = [f"class {i}" for i in range(max(2, int(y.max(initial=1)) + 1))]
        where = f"data file {self.path!r}"
        classes = names_in(held, "class_names", where) if "class_names" in held.known else usual
        refuse_alike(classes, where=where, setting="class_names", what="classes")
        return tuple(classes)

    def _suspected(self, x: np.ndarray, y: np.ndarray, features: Sequence[str], *, grouped: bool) -> tuple[str, ...]:
        """Returns warnings about features that may be identifiers; raises for those that certainly look like one."""
        if self.modality != "tabular" or x.ndim != 2 or len(features) != x.shape[1] or y.shape != (len(x),):
            return ()
        columns = [(name, x[:, place].astype(np.float64)) for place, name in enumerate(features)]
        where = f"data file {self.path!r}"
        columns = [(name, values) for name, values in columns if name not in self.features]
        numbers = [(name, values, False) for name, values in columns]
        suspected = refuse_identifiers(numbers, y, grouped=grouped, where=where)
        apparent = refuse_label_copies(columns, [y], where=where)
        warnings = [line for name, values in columns for line in (*_codes(name, values), *in_two_units(name, values))]
        return (*suspected, *apparent, *warnings, *_rounded(columns))

    def _bounds(self, x: np.ndarray, features: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Returns bounds of a valid record, and warnings about them; see ``bounds_of``."""
        for name in self.ranges:
            if self.modality != "tabular" or name not in features:
                raise DataError(f"data file {self.path!r}: ranges: {unknown('feature', name, list(features))}")
        free = np.array([name not in self.ranges for name in features], bool)
        if self.modality != "tabular" or not self.ranges:
            return bounds_of(x, self.low, self.high, path=self.path, modality=self.modality)
        low, high = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
        warnings: tuple[str, ...] = ()
        if free.any():
            low[free], high[free], warnings = bounds_of(
                x[:, free], self.low, self.high, path=self.path, modality="tabular"
            )
        for place in np.flatnonzero(~free):
            name, column = features[int(place)], slice(place, place + 1)
            try:
                low[column], high[column], _ = bounds_of(
                    x[:, column], *self.ranges[name], path=self.path, modality="tabular"
                )
            except DataError as error:
                raise DataError(f"ranges: {name}: {error}") from None
        return low, high, warnings

    def _channels_first(self, x: np.ndarray) -> np.ndarray:
        """Returns the records with the channels of images and signals in front.

        Raises:
            DataError: they have other axes, or the channels seem to be last.
        """
        if self.modality == "tabular":
            return x
        axes = _AXES[self.modality]
        if x.ndim != len(axes) + 1:
            raise DataError(
                f"data file {self.path!r}: x has shape {x.shape}, but modality {self.modality} wants (records, "
                f"{', '.join(axes)}); reshape it, of one channel with x[:, None], or give another modality"
            )
        if self.channels == "last":
            return np.ascontiguousarray(np.moveaxis(x, -1, 1))
        # No recording has more leads than samples, or more channels than columns.
        swapped = x.shape[-1] < x.shape[1] and (self.modality == "signal" or x.shape[1] > 4)
        undecided = self.modality == "signal" and 1 < x.shape[1] == x.shape[-1]
        if self.channels == "checked" and (x.shape[-1] == 1 or swapped or undecided):
            like = "may be the channels" if undecided else "looks like channels"
            raise DataError(
                f"data file {self.path!r}: x has shape {x.shape}, whose last axis {like}; modality {self.modality} "
                f"wants (records, {', '.join(axes)}): move it with np.moveaxis(x, -1, 1) or channels: last, or "
                "set channels: first if the shape is right as it is",
                setting="channels",
                given=x.shape,
                allowed=["first", "last"],
            )
        return x


def bounds_of(
    x: np.ndarray, low: float | None, high: float | None, *, path: str, modality: Modality
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns bounds of a valid record: those given, otherwise the extremes of a feature or channel, with a warning.

    Args:
        x: (n, ...) records.
        low: least valid value; None if unknown.
        high: greatest valid value; None if unknown.
        path: of the file, for errors.
        modality: kind of the records.

    Returns:
        Lower bound, upper bound (each broadcasts to a record), and warnings.

    Raises:
        DataError: the given bounds cross, or records lie outside of them.
    """
    least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
    if not least < most:
        raise DataError(f"low is {least:g} and high {most:g}: every lower bound must lie below its upper bound")
    if (x < least).any() or (x > most).any():
        raise DataError(
            f"{path!r} holds values from {x.min():g} to {x.max():g}, outside the bounds "
            f"{least:g} to {most:g} that you gave: widen them"
        )
    finite = np.where(np.isfinite(x), x, 0.0)
    # Extremes of a whole channel are more representative than those of a single pixel or sample.
    over = (0,) if modality == "tabular" else (0, *range(2, x.ndim))
    shape = x.shape[1:] if modality == "tabular" else (x.shape[1], *[1] * (x.ndim - 2))
    floor = finite.min(over).reshape(shape) if low is None else np.full(shape, low, np.float32)
    ceiling = finite.max(over).reshape(shape) if high is None else np.full(shape, high, np.float32)
    if low is not None and high is not None:
        return floor, ceiling, ()
    # A feature that never varies still needs room between its bounds.
    ceiling = np.where(ceiling > floor, ceiling, above(floor)).astype(np.float32)
    warning = (
        "bounds of a valid input were taken from the data, those of the test records included, so no ε can be claimed; "
        "give low and high if you know them"
    )
    return floor, ceiling, (warning, *(() if modality == "tabular" else _missing_codes(x)))


def _codes(name: str, values: np.ndarray) -> tuple[str, ...]:
    """Returns a warning for values of a feature that may stand for missing ones."""
    codes = codes_among(values)
    if not codes:
        return ()
    missing = ", ".join(code.written for code in codes)
    return (
        f"feature {name!r} {describe_codes(codes)}: if that stands for a missing value, leave the feature out (drop: "
        f"[{name}]), or read the file as the data set table, which fills gaps (kinds: {{{name}: {{missing: "
        f"[{missing}]}}}}); if it is a value, say features: [{name}]",
    )


def _missing_codes(x: np.ndarray) -> tuple[str, ...]:
    """Returns a warning for a value that recurs far from all others, as codes of invalid samples do (-32768, -9999)."""
    warnings = []
    for code in (x.min(), x.max()):
        rest = x[x != code]
        spread = float(np.ptp(rest)) if rest.size else 0.0
        away = float(np.abs(rest - code).min()) if rest.size else 0.0
        if spread > 0 and away > _FAR * spread:
            holding = int((x == code).reshape(len(x), -1).any(1).sum())
            warnings.append(
                f"{holding:,} of {len(x):,} records hold the value {code:g}, far from all others ({rest.min():g} to "
                f"{rest.max():g}): if it marks missing samples, drop these records"
            )
    return tuple(warnings)


def _rounded(columns: Sequence[tuple[str, np.ndarray]]) -> tuple[str, ...]:
    """Returns a warning for each feature some of whose values are equal in float32, as networks take them."""
    warnings = []
    for name, values in columns:
        size = np.float32(min(np.abs(values).max(initial=0), np.finfo(np.float32).max))
        before, after = len(np.unique(values)), len(np.unique(values.astype(np.float32)))
        if after < before and float(values.std()) < _COARSE * float(np.spacing(size)):
            warnings.append(
                f"{name}: {before} different values are {after} as numbers of 32 bits, which lie {np.spacing(size):g} "
                "apart there; subtract a fixed number from all"
            )
    return tuple(warnings)


def usual_radii(low: np.ndarray, high: np.ndarray) -> tuple[float, ...]:
    """Returns default radii for data of which only the bounds are known: fractions of the median range of a feature.

    Args:
        low: lower bounds.
        high: upper bounds.

    Returns:
        Radii (L∞), in the units of the data, from 0.
    """
    span = float(np.median(high - low))
    return tuple(round(span * share, 6) for share in (0, 0.005, 0.01, 0.02, 0.05))


def _subgroups(x: np.ndarray, features: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """Returns subgroups by features with a usual name, such as sex."""
    columns = {name: [f"{value:g}" for value in x[:, place]] for place, name in enumerate(features) if usual_name(name)}
    return subgroups_of(columns, asked=None, where=where)


def _split_of(held: FileContents, where: str) -> np.ndarray | None:
    """Returns (n,) the part of each record, as the file names it; None where it names none."""
    split = held.known.get("split")
    return None if split is None else as_text(np.asarray(split), where=where, column="split").astype(str)


def _numbers(x: np.ndarray, path: str) -> np.ndarray:
    if x.dtype.kind not in "fiub":
        raise DataError(f"data file {path!r}: x is of type {x.dtype}; it must be numeric")
    with np.errstate(over="ignore"):
        numbers = x.astype(np.float32)
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        lost = np.isinf(numbers) & np.isfinite(x)
        if lost.any():
            raise DataError(
                f"data file {path!r}: x holds {x[lost][0]:g} in record {int(np.argwhere(lost)[0][0])}, and numbers of "
                f"32 bits, as networks take them, end at {LARGEST:.3g}; correct it, or divide the feature by a fixed "
                "number",
                setting="x",
                given=float(x[lost][0]),
                allowed=LARGEST,
            )
    return numbers


def _labels(y: np.ndarray, path: str) -> np.ndarray:
    kind = y.dtype.kind
    whole = kind in "iub" or (kind == "f" and bool((np.isfinite(y) & (np.trunc(y) == y)).all()))
    if not whole or (kind in "iuf" and y.size and max(abs(y.min().item()), abs(y.max().item())) > _LARGEST_LABEL):
        strange = next(
            one
            for one in y.ravel().tolist()
            if kind not in "iuf" or not np.isfinite(one) or one != int(one) or abs(one) > _LARGEST_LABEL
        )
        gap = kind == "f" and not np.isfinite(strange)
        fix = "leave out records without a label" if gap else "number the classes, and name them in class_names"
        raise DataError(
            f"data file {path!r}: labels must be integers 0, 1, …; y is of type {y.dtype} and holds {strange!r}; {fix}",
            setting="y",
            given=strange,
            allowed="0, 1, …",
        )
    return y.astype(np.int64)
