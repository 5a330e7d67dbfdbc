"""Time series in the text format of the UCR archive: a line a record, its label first."""

from pathlib import Path
from typing import Literal

import numpy as np

from assay.data import locate
from assay.data.arrays import bounds_of, usual_radii
from assay.data.base import Dataset, Source
from assay.errors import DataError
from assay.registry import register

_SUFFIXES = (".tsv", ".txt", ".csv", "")


@register("dataset")
class UCR(Source):
    """``NAME_TRAIN.tsv`` and ``NAME_TEST.tsv`` (or .txt, .csv), separated by tabs, commas or spaces; one channel.

    Labels are any numbers, and become 0, 1, … in ascending order. The two files are the split. Give bounds and radii
    yourself; without them they are taken from the data, with a warning.
    """

    name: Literal["ucr"] = "ucr"
    path: str
    """A folder with the two files, the beginning of their names, or a name below ``ASSAY_DATA``/ucr."""
    low: float | None = None
    high: float | None = None
    epsilons: tuple[float, ...] = ()
    units: str = "units of the file"
    licence: str = "unknown"
    citation: str = "Dau et al. (2019), The UCR time series archive, IEEE/CAA J. Autom. Sinica 6(6)"
    public_preprocessing: bool = False
    """True if the files were scaled with public figures only; otherwise, and without both bounds, no ε is claimed on
    them."""

    def owes(self) -> str:
        if not self.public_preprocessing:
            return "how the files were scaled is unknown; if public figures did it, say public_preprocessing: true"
        return "bounds are taken from the data; give low and high" if None in (self.low, self.high) else ""

    def load(self) -> Dataset:
        train, test = self._files()
        parts = {"train": _read(train), "test": _read(test)}
        lengths = {part: x.shape[1] for part, (_, x) in parts.items()}
        if lengths["train"] != lengths["test"]:
            raise DataError(
                f"{str(test)!r} has {lengths['test']} samples a record and {str(train)!r} {lengths['train']}; all must "
                "be of one length"
            )
        known = np.unique(parts["train"][0])
        strange = np.setdiff1d(parts["test"][0], known)
        if len(strange):
            raise DataError(
                f"{str(test)!r}: label {strange[0]:g} does not occur in {str(train)!r}, whose labels are "
                f"{', '.join(f'{label:g}' for label in known[:8])}; no model could learn it"
            )
        labels, x = (np.concatenate(arrays) for arrays in zip(*parts.values(), strict=True))
        x = x.astype(np.float32)[:, None]
        low, high, warnings = bounds_of(x, self.low, self.high, path=str(train), modality="signal")
        return Dataset(
            name=train.name.rpartition("_TRAIN")[0],
            x=x,
            y=np.searchsorted(known, labels).astype(np.int64),
            class_names=tuple(f"{label:g}" for label in known),
            feature_names=(),
            low=low,
            high=high,
            units=self.units,
            epsilons=self.epsilons or usual_radii(low, high),
            licence=self.licence,
            citation=self.citation,
            preprocessing="as in the files",
            unpaid_preprocessing=not self.public_preprocessing or None in (self.low, self.high),
            warnings=warnings,
            reading=tuple(
                f"{len(arrays[0]):,} series of {arrays[1].shape[1]:,} samples in {file.name}"
                for arrays, file in zip(parts.values(), (train, test), strict=True)
            ),
            modality="signal",
            official=np.repeat(list(parts), [len(arrays[0]) for arrays in parts.values()]),
        )

    def _files(self) -> tuple[Path, Path]:
        for prefix in self._prefixes():
            files = [_with_suffix(prefix, part) for part in ("TRAIN", "TEST")]
            if files[0] and files[1]:
                return files[0], files[1]
            if files[0] or files[1]:
                raise DataError(f"{str(files[0] or files[1])!r} stands alone; a data set is a _TRAIN and a _TEST file")
        name = Path(self.path).name
        raise locate.absent(
            self.name,
            wanted=f"ucr/{name}/{name}_TRAIN.tsv",
            obtain=f"{self.path!r} is no folder of such files, nor what their names begin with: download the archive "
            "from https://www.cs.ucr.edu/~eamonn/time_series_data_2018/",
        )

    def _prefixes(self) -> list[Path]:
        """Returns possible beginnings of the names of the two files, the most probable first."""
        given = Path(self.path).expanduser().absolute()
        beside = sorted({given / path.name.rpartition("_TRAIN")[0] for path in given.glob("*_TRAIN*")})
        if len(beside) > 1 and given / given.name not in beside:
            raise DataError(
                f"{self.path!r} holds {len(beside)} data sets: {', '.join(path.name for path in beside)}; name one: "
                f"path={beside[0]}"
            )
        places = [root / "ucr" / place / given.name for root in locate.looked_in() for place in (given.name, "")]
        return [given, given / given.name, *beside, *(places if given.name == self.path else [])]


def _with_suffix(prefix: Path, part: str) -> Path | None:
    if not prefix.name:
        return None
    paths = (prefix.with_name(f"{prefix.name}_{part}{suffix}") for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (n,) and series (n, samples), both float64."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data file {str(path)!r} cannot be read as text: {error}") from None
    rows = [
        _numbers(line, f"data file {str(path)!r}, line {place}") for place, line in enumerate(lines, 1) if line.strip()
    ]
    lengths = sorted({len(row) for row in rows})
    if not rows or lengths[0] < 2:
        raise DataError(f"data file {str(path)!r}: a line must hold a label and at least one sample")
    if len(lengths) > 1:
        raise DataError(
            f"data file {str(path)!r}: series have {lengths[0] - 1} to {lengths[-1] - 1} samples; all must be of one "
            "length: cut, pad or resample them"
        )
    table = np.stack(rows)
    return table[:, 0], table[:, 1:]


def _numbers(line: str, where: str) -> np.ndarray:
    separator = next((mark for mark in ("\t", ",") if mark in line), None)
    fields = [field.strip() for field in line.strip().split(separator)]
    try:
        row = np.array(["nan" if field in ("", "?") else field for field in fields]).astype(np.float64)
    except ValueError:
        raise DataError(f"{where}: {_first_word(fields)!r} is no number; a line holds a label and samples") from None
    if not np.isfinite(row).all():
        place = int(np.flatnonzero(~np.isfinite(row))[0])
        raise DataError(
            f"{where}: value {place + 1} is {fields[place]!r}; the archive so marks what is missing, and the end of "
            "shorter series: impute, cut or pad them first"
        )
    return row


def _first_word(fields: list[str]) -> str:
    for field in fields:
        try:
            float(field)
        except ValueError:
            return field
    return ""
