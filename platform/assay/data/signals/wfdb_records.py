"""Annotated recordings in PhysioNet's WFDB format: ``100.hea``, ``100.dat`` and ``100.atr`` are one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One lead of one recording, with what the annotators marked."""

    signal: np.ndarray
    """(samples,) float32, in the physical units of the header."""
    frequency: float
    """Samples a second."""
    places: np.ndarray
    """(marks,) sample of each mark."""
    symbols: np.ndarray
    """(marks,) PhysioNet's code of each mark: of a beat its type, otherwise a rhythm or a note."""


def leads(header: Path) -> tuple[str, ...]:
    """The leads of a recording, in its own words.

    Raises:
        DataError: the header cannot be read.
    """
    return tuple(_header(header).sig_name or ())


def read(header: Path, *, lead: str) -> Recording:
    """One lead with its annotations; the samples are held against the checksum of the header.

    Raises:
        DataError: the signal or the annotations are absent, or the files cannot be read, or samples are not those
            that the header was written for.
    """
    import wfdb

    record = str(header.with_suffix(""))
    described = _header(header)
    for name in sorted({*(described.file_name or ()), f"{header.stem}.atr"}):
        if not (header.parent / name).is_file():
            raise DataError(
                f"WFDB record {str(header)!r} is not whole: {name} is not beside it; a record is its .hea, .dat and "
                ".atr file: fetch the missing one from where the header came from, or remove the header"
            )
    try:
        channel = described.sig_name.index(lead)
        held = wfdb.rdrecord(record, physical=False, channels=[channel])
        marks = wfdb.rdann(record, "atr")
    except Exception as error:  # a damaged file fails anywhere inside the reader
        raise DataError(f"WFDB record {str(header)!r} cannot be read: {error}; fetch it anew") from None
    counts = held.d_signal[:, 0].astype(np.int64)
    if (int(counts.sum()) - described.checksum[channel]) % 2**16:
        raise DataError(
            f"WFDB record {str(header)!r} is damaged: lead {lead} sums up to {int(counts.sum()) % 2**16}, its header "
            f"says {described.checksum[channel] % 2**16}; fetch it anew"
        )
    signal = (counts - held.baseline[0]).astype(np.float32) / np.float32(held.adc_gain[0])
    return Recording(
        signal=signal, frequency=float(held.fs), places=np.asarray(marks.sample), symbols=np.asarray(marks.symbol)
    )


def beats(recording: Recording, *, before: int, after: int, kinds: str) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, before + 1 + after) around the marks of some kinds, and the symbol of each (n,).

    A mark whose window would pass an end of the recording is left out.

    Args:
        kinds: the symbols, one letter each.
    """
    whole = (recording.places >= before) & (recording.places + after < len(recording.signal))
    chosen = whole & np.isin(recording.symbols, list(kinds))
    window = np.arange(-before, after + 1)
    return recording.signal[recording.places[chosen][:, None] + window], recording.symbols[chosen]


def _header(header: Path) -> Any:
    import wfdb

    try:
        return wfdb.rdheader(str(header.with_suffix("")))
    except Exception as error:  # whatever a file that is no header makes of the reader
        raise DataError(f"WFDB header {str(header)!r} cannot be read: {error}; fetch it anew") from None
