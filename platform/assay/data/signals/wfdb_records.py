"""Annotated recordings in PhysioNet's WFDB format: ``100.hea``, ``100.dat`` and ``100.atr`` form one record."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import DataError

MILLIVOLTS = {
    "mV": 1.0,
    "mv": 1.0,
    "uV": 1e-3,
    "uv": 1e-3,
    "\u00b5V": 1e-3,
    "\u03bcV": 1e-3,
    "nV": 1e-6,
    "V": 1e3,
    "v": 1e3,
}
"""Millivolts per unit, for the units that a header may name; the Greek letter has two codes."""
_WITHOUT_GAPS = "8"
"""The only format, of first differences, that has no code for an invalid sample."""


_PERSON = re.compile(r"(?P<age>\d{1,3}) (?P<sex>[MF])\b")
"""Beginning of MIT-BIH's comments: ``69 M 1085 1629 x1``."""
_AGE = re.compile(r"\bage\W+(\d{1,3})\b", re.IGNORECASE)
_SEX = re.compile(r"\bsex\W+(male|female|[mf])\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One lead of one recording, with its annotations."""

    signal: np.ndarray
    """(samples,) float32, mV; NaN where the file marks the sample as invalid."""
    limit: np.ndarray
    """(samples,) bool: at the least or the greatest value of the converter, so possibly clipped."""
    frequency: float
    """Samples a second."""
    places: np.ndarray
    """(marks,) sample of each annotation."""
    symbols: np.ndarray
    """(marks,) PhysioNet's code of each annotation: the type of a beat, or a rhythm or a note."""


def leads(header: Path) -> tuple[str, ...]:
    """Returns the names of the leads of a recording.

    Args:
        header: path of the header.

    Returns:
        The names, as the header spells them.

    Raises:
        DataError: the header cannot be read.
    """
    return tuple(_header(header).sig_name or ())


def person(header: Path) -> dict[str, str]:
    """Returns age and sex from the comments of a header.

    Args:
        header: path of the header.

    Returns:
        ``age`` in years and ``sex``, M or F; empty where unknown.

    Raises:
        DataError: the header cannot be read.
    """
    facts = {"age": "", "sex": ""}
    for comment in _header(header).comments or ():
        if match := _PERSON.match(comment):
            facts = {"age": match["age"], "sex": match["sex"]}
        for name, pattern in (("age", _AGE), ("sex", _SEX)):
            if match := pattern.search(comment):
                facts[name] = match[1][:1].upper() if name == "sex" else match[1]
    return facts


def read_record(header: Path, *, lead: str) -> Recording:
    """Reads one lead in millivolts with its annotations, and verifies the samples by the checksum of the header.

    Args:
        header: path of the header.
        lead: name of the lead.

    Returns:
        The recording.

    Raises:
        DataError: the signal or the annotations are absent, or the files cannot be read, or header, samples and
            annotations are not of one recording, or the header does not define samples in millivolts.
    """
    import wfdb

    record = str(header.with_suffix(""))
    described = _header(header)
    _refuse_other(header, described, lead)
    for name in sorted({*(described.file_name or ()), f"{header.stem}.atr"}):
        if not (header.parent / name).is_file():
            raise DataError(
                f"WFDB record {str(header)!r} is not whole: {name} is not beside it; a record is its .hea, .dat and "
                ".atr file: fetch the missing one from where the header came from, or remove the header"
            )
    try:
        channel = described.sig_name.index(lead)
        scale = _scale(header, described, channel)
        samples = wfdb.rdrecord(record, physical=False, channels=[channel])
        marks = wfdb.rdann(record, "atr")
    except DataError:
        raise
    except Exception as error:  # the reader may raise anything on a damaged file
        raise DataError(f"WFDB record {str(header)!r} cannot be read: {error}; fetch it anew") from None
    counts = samples.d_signal[:, 0].astype(np.int64)
    _refuse_other_marks(header, marks, len(counts), float(samples.fs))
    if described.checksum[channel] is None:
        raise DataError(
            f"WFDB record {str(header)!r}, lead {lead}: the header gives no checksum, so damaged samples could not be "
            "told; fetch it anew, or write the sum of the samples behind their first value"
        )
    if (int(counts.sum()) - described.checksum[channel]) % 2**16:
        raise DataError(
            f"WFDB record {str(header)!r} is damaged: lead {lead} sums up to {int(counts.sum()) % 2**16}, its header "
            f"says {described.checksum[channel] % 2**16}; fetch it anew"
        )
    signal = (counts - samples.baseline[0]).astype(np.float32) / np.float32(samples.adc_gain[0])
    signal[_invalid(samples)] = np.nan
    return Recording(
        signal=signal if scale == 1 else signal * np.float32(scale),
        limit=_at_limit(samples, counts),
        frequency=float(samples.fs),
        places=np.asarray(marks.sample),
        symbols=np.asarray(marks.symbol),
    )


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows around the annotations of a recording, and the numbers of those that were left out."""

    signal: np.ndarray
    """(n, before + 1 + after) float32, mV."""
    symbols: np.ndarray
    """(n,) PhysioNet's code of each."""
    past_ends: int
    """Number of annotations whose window would exceed the recording."""
    with_gaps: int
    """Number of annotations whose window contains an invalid sample."""
    at_limit: int
    """Number of windows of ``signal`` that reach a limit of the converter."""


def beats(recording: Recording, *, before: int, after: int, kinds: str) -> Windows:
    """Returns windows around annotations of some kinds; incomplete ones are left out and counted.

    Args:
        recording: one lead.
        before: number of samples before each annotation.
        after: number of samples after it.
        kinds: the symbols, one letter each.

    Returns:
        The windows.
    """
    selected = np.isin(recording.symbols, list(kinds))
    inside = selected & (recording.places >= before) & (recording.places + after < len(recording.signal))
    window = recording.places[inside][:, None] + np.arange(-before, after + 1)
    valid = np.isfinite(recording.signal[window]).all(1)
    return Windows(
        signal=recording.signal[window[valid]],
        symbols=recording.symbols[inside][valid],
        past_ends=int(selected.sum() - inside.sum()),
        with_gaps=int((~valid).sum()),
        at_limit=int(recording.limit[window[valid]].any(1).sum()),
    )


def _refuse_other(header: Path, described: Any, lead: str) -> None:
    """Raises unless the header is of the recording in its file name, with one lead of that name.

    Raises:
        DataError: it is of another recording, whose beats would be counted twice, or two leads have this name.
    """
    if described.record_name != header.stem:
        raise DataError(
            f"WFDB header {str(header)!r} is of record {described.record_name!r}: its beats would be those of another "
            f"patient; fetch the header of {header.stem}, or give the file back its name",
            setting="record",
            given=described.record_name,
            allowed=header.stem,
        )
    if described.sig_name.count(lead) > 1:
        raise DataError(
            f"WFDB record {str(header)!r} has {described.sig_name.count(lead)} leads called {lead!r}; correct their "
            "names in the header, or name another lead",
            setting="lead",
            given=lead,
            allowed="one lead of the name",
        )


def _refuse_other_marks(header: Path, marks: Any, samples: int, frequency: float) -> None:
    """Raises unless annotations are counted in samples of the recording and are within it.

    Raises:
        DataError: they use another unit of time, or belong to a longer recording.
    """
    where = f"annotations {str(header.with_suffix('.atr'))!r}"
    if marks.fs is not None and float(marks.fs) != frequency:
        raise DataError(
            f"{where} count {marks.fs:g} to the second, and the recording has {frequency:g} samples a second: marks "
            "would lie beside their beats; write them anew in samples of the recording",
            setting="frequency",
            given=float(marks.fs),
            allowed=frequency,
        )
    places = np.asarray(marks.sample)
    behind = int((places >= samples).sum())
    if behind:
        raise DataError(
            f"{where}: {behind} of {len(places)} marks lie behind the last of {samples} samples, "
            "so they are those of another recording, or the recording is cut short; fetch both anew",
            setting="annotations",
            given=int(places.max()),
            allowed=samples - 1,
        )


def _scale(header: Path, described: Any, channel: int) -> float:
    """Returns millivolts per physical unit of a lead.

    Raises:
        DataError: the header gives no gain or an unknown unit, or several samples a frame.
    """
    lead, frame = described.sig_name[channel], described.samps_per_frame[channel]
    where = f"WFDB record {str(header)!r}, lead {lead}"
    gain, unit = _calibration(header, channel)
    if gain == 0:
        raise DataError(
            f"{where}: the header gives no gain, so the samples are not calibrated: write the counts of the converter "
            "in a unit behind the format, such as 200/mV",
            setting="gain",
            given=gain,
        )
    if unit not in MILLIVOLTS:
        raise DataError(
            f"{where} is in {unit!r}; allowed: {', '.join(dict.fromkeys(MILLIVOLTS))}. Correct the header, or name a "
            "lead in one of them",
            setting="units",
            given=unit,
            allowed=sorted(MILLIVOLTS),
        )
    if frame not in (None, 1):
        raise DataError(
            f"{where} has {frame} samples a frame, so other leads have another rate; resample it to one",
            setting="samples per frame",
            given=frame,
            allowed=1,
        )
    return MILLIVOLTS[unit]


def _calibration(header: Path, channel: int) -> tuple[float, str]:
    """Returns gain and unit of a lead as the header writes them, 0 and "mV" where it does not.

    wfdb assumes a gain of 200 where there is none, and drops letters that are not ASCII, so that µV becomes V.
    """
    raw = header.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    written = lines[1 + channel][2] if len(lines[1 + channel]) > 2 else ""
    number = re.match(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?", written)
    return float(number[0]) if number else 0.0, written.partition("/")[2] or "mV"


def _invalid(held: Any) -> np.ndarray:
    """Returns (samples,) bool: samples that the format of the file marks as invalid."""
    if held.fmt[0] == _WITHOUT_GAPS:
        return np.zeros(len(held.d_signal), bool)
    return np.isnan(held.dac()[:, 0])


def _at_limit(held: Any, counts: np.ndarray) -> np.ndarray:
    """Returns (samples,) bool: samples at the least or greatest value of the converter, if its resolution is known."""
    bits, zero = held.adc_res[0], held.adc_zero[0]
    if not bits or zero is None:
        return np.zeros(len(counts), bool)
    half = 2 ** (bits - 1)
    return (counts <= zero - half) | (counts >= zero + half - 1)


def _header(header: Path) -> Any:
    import wfdb

    try:
        return wfdb.rdheader(str(header.with_suffix("")))
    except Exception as error:  # the reader may raise anything on a damaged header
        raise DataError(f"WFDB header {str(header)!r} cannot be read: {error}; fetch it anew") from None
