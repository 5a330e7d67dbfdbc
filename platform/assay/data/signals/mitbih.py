"""MIT-BIH Arrhythmia Database: single heartbeats, as (channels, samples)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from assay.data import locate
from assay.data.array_files import read_npz
from assay.data.base import Dataset, Normalisation, Source
from assay.data.intended_use import IntendedUse
from assay.data.signals import wfdb_records
from assay.data.signals.mitbih_sums import SHA256
from assay.data.subgroups import subgroups_of
from assay.errors import DataError
from assay.registry import register

# De Chazal, O'Dwyer & Reilly (2004), IEEE Trans. Biomed. Eng. 51(7), table II: no patient is on both sides, except
# for records 201 and 202, which are of one person.
DS1 = (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
DS2 = (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
AAMI = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
"""PhysioNet's symbols of each class of ANSI/AAMI EC57."""
_CLASS_OF = {symbol: name for name, symbols in AAMI.items() for symbol in symbols}

FREQUENCY = 360
"""Sampling rate, in samples a second."""
BEFORE, AFTER = 90, 161
"""Number of samples before and after the R peak."""
COUNTS = 200
"""Counts of the analogue-digital converter per millivolt."""
_URL = "https://physionet.org/files/mitdb/1.0.0"
_PLACES = (("mitbih", "records"), ("mitdb", "1.0.0"), ("mitdb", ""), ("mit-bih-arrhythmia-database-1.0.0", ""))

AAMIClass = Literal["N", "S", "V", "F", "Q"]


@dataclass(frozen=True, kw_only=True)
class _Beats:
    """Heartbeats cut from recordings."""

    signal: np.ndarray
    """(n, samples) float32, mV."""
    symbol: np.ndarray
    """(n,) PhysioNet's code."""
    record: np.ndarray
    """(n,) int64."""
    remarks: tuple[str, ...] = ()
    """Warnings for readers of any figure on these beats."""
    reading: tuple[str, ...] = ()
    """Lines on what was read and left out."""
    people: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Age and sex by record, where headers are available."""

    def only(self, rows: np.ndarray) -> "_Beats":
        return replace(self, signal=self.signal[rows], symbol=self.symbol[rows], record=self.record[rows])


@register("dataset")
class MitBih(Source):
    """Heartbeats of the MIT-BIH Arrhythmia Database, by AAMI class, with de Chazal's inter-patient split.

    They are read from a prepared file of beats, ``mitbih/mitbih_beats.npz``, or from the database's own WFDB records,
    in ``mitbih/records`` or ``mitdb``; missing records are downloaded from PhysioNet. A beat has 252 samples at 360 Hz,
    from 90 before the annotated R peak to 161 after it, in mV and not filtered.

    Downloads are verified by the SHA-256 that PhysioNet publishes for each file. For records in a folder of your own,
    the samples are verified by the checksum in their header, and the annotations are not verified.
    """

    name: Literal["mitbih"] = "mitbih"
    source: Literal["auto", "beats", "records"] = "auto"
    """The prepared beats, the records, or automatic: the beats if they are present, otherwise the records."""
    classes: tuple[AAMIClass, ...] = Field(default=("N", "S", "V", "F"), min_length=2)
    """Beats of other classes are left out. Q, unclassifiable, has 15 beats where paced records are left out."""
    lead: str = "MLII"
    """Records without this lead are left out; the prepared beats are of MLII."""
    shared_patient: Literal["drop", "join"] = "drop"
    """Record 202 is of the same patient as 201, on the other side of the split: it is left out of the test records, or
    moved to training."""

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[AAMIClass, ...]) -> tuple[AAMIClass, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes names one twice: {', '.join(classes)}")
        return classes

    def load(self) -> Dataset:
        file = locate.find("mitbih", "mitbih_beats.npz")
        if self.source == "beats" or (self.source == "auto" and file is not None and self.lead == "MLII"):
            beats = self._ready(file)
        else:
            beats = self._cut(_records_folder())
        return self._dataset(beats)

    def _ready(self, file: Path | None) -> _Beats:
        if file is None:
            raise locate.absent(
                self.name,
                wanted="mitbih/mitbih_beats.npz",
                obtain="use source=records, which fetches the database from PhysioNet",
            )
        if self.lead != "MLII":
            raise DataError(
                f"mitbih: lead is {self.lead!r}, but {str(file)!r} holds MLII alone; use source=records or lead=MLII"
            )
        arrays = read_npz(file, ("signal", "label", "symbol", "record", "class_names"))
        signal, symbol = arrays["signal"], arrays["symbol"].astype(str)
        width = BEFORE + 1 + AFTER
        if signal.dtype != np.int16 or signal.shape != (len(symbol), width):
            raise DataError(
                f"data file {str(file)!r}: signal is {signal.dtype} of shape {signal.shape}; it must be int16 counts "
                f"of the converter, zero taken off, ({len(symbol)}, {width})"
            )
        classes = arrays["class_names"].astype(str)[arrays["label"]]
        if not np.array_equal(classes, _classes_of(symbol)):
            raise DataError(f"data file {str(file)!r}: labels and symbols disagree; fetch it anew")
        return _Beats(
            signal=signal.astype(np.float32) / np.float32(COUNTS),
            symbol=symbol,
            record=arrays["record"].astype(np.int64),
            reading=(f"{len(symbol):,} beats of {file.name}",),
            remarks=("a selection of beats, with the rare ones in excess: prevalence is not that of patients",),
        )

    def _cut(self, folder: Path) -> _Beats:
        headers = {int(path.stem): path for path in sorted(folder.glob("*.hea")) if path.stem.isdecimal()}
        wanted = {record: headers[record] for record in sorted((*DS1, *DS2)) if record in headers}
        if not wanted:
            raise DataError(f"mitbih: {str(folder)!r} holds none of the records {DS1[0]} to {DS2[-1]} of the database")
        with_lead = {record: path for record, path in wanted.items() if self.lead in wfdb_records.leads(path)}
        if not with_lead:
            leads = sorted({lead for path in wanted.values() for lead in wfdb_records.leads(path)})
            raise DataError(f"mitbih: no record has a lead {self.lead!r}; allowed: {', '.join(leads)}")
        cut = {record: self._beats_of(path) for record, path in with_lead.items()}
        remarks, reading = _told(cut)
        return _Beats(
            signal=np.concatenate([windows.signal for windows in cut.values()]),
            symbol=np.concatenate([windows.symbols for windows in cut.values()]),
            record=np.repeat(np.array(list(cut)), [len(windows.symbols) for windows in cut.values()]),
            remarks=remarks,
            reading=reading,
            people={record: wfdb_records.person(path) for record, path in with_lead.items()},
        )

    def _beats_of(self, path: Path) -> wfdb_records.Windows:
        recording = wfdb_records.read_record(path, lead=self.lead)
        if recording.frequency != FREQUENCY:
            raise DataError(
                f"WFDB record {str(path)!r} has {recording.frequency:g} samples a second; mitbih has {FREQUENCY}: "
                "resample it, or give its beats as an .npz to data set 'arrays'",
                setting="frequency",
                given=recording.frequency,
                allowed=FREQUENCY,
            )
        return wfdb_records.beats(recording, before=BEFORE, after=AFTER, kinds="".join(AAMI.values()))

    def _dataset(self, beats: _Beats) -> Dataset:
        official, patient = np.where(np.isin(beats.record, DS1), "train", "test"), beats.record.copy()
        lacking = _lacking(beats.record, self.lead)
        kept, remarks = np.isin(_classes_of(beats.symbol), self.classes), []
        second = beats.record == 202
        if second.any() and self.shared_patient == "drop":
            kept &= ~second
            remarks.append("record 202 left out of the test records, for it is of the patient of training record 201")
        elif second.any():
            official[second], patient[second] = "train", 201
            remarks.append("record 202 moved to the training records, for it is of the patient of record 201")
        official, patient, beats = official[kept], patient[kept], beats.only(kept)
        self._check_sides(official, beats)
        return Dataset(
            name=self.name,
            x=beats.signal[:, None],
            y=np.array([self.classes.index(name) for name in _classes_of(beats.symbol)], np.int64),
            class_names=self.classes,
            feature_names=tuple(
                f"{self.lead} {1000 * place / FREQUENCY:+.0f} ms from R" for place in range(-BEFORE, AFTER + 1)
            ),
            low=np.full((1, 1), -1024 / COUNTS, np.float32),
            high=np.full((1, 1), 1024 / COUNTS, np.float32),
            units="mV",
            epsilons=(0.0, 0.01, 0.02, 0.05, 0.1),
            groups=patient,
            subgroups=subgroups_of(
                {key: [beats.people.get(one, {}).get(key, "") for one in beats.record] for key in ("age", "sex")},
                asked=None,
                where=self.name,
            ),
            licence="ODC-By 1.0",
            citation="Moody & Mark (2001), The impact of the MIT-BIH Arrhythmia Database, IEEE Eng. Med. Biol. 20(3); "
            "Goldberger et al. (2000), PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101(23); split of de "
            "Chazal, O'Dwyer & Reilly (2004), IEEE Trans. Biomed. Eng. 51(7)",
            preprocessing="; ".join(
                [
                    f"lead {self.lead} in mV by the gain of the header, not filtered; beats cut 90 samples before to "
                    "161 after the annotated R peak; paced records (102, 104, 107, 217) and classes other than "
                    f"{', '.join(self.classes)} left out",
                    *remarks,
                    "bounds are those of the 11-bit converter over 10 mV; the network divides by 0.5 mV, a large "
                    "square of ECG paper",
                ]
            ),
            warnings=(*beats.remarks, *remarks, *lacking),
            stated=tuple(remarks),
            reading=(*beats.reading, f"{len(beats.symbol):,} beats of classes {', '.join(self.classes)} used"),
            modality="signal",
            rate=float(FREQUENCY),
            intended_use=IntendedUse(
                records="single heartbeats of ambulatory ECGs of 47 adults, Beth Israel Hospital, Boston, 1975 to 1979",
                species="human",
                ages=(23, 89),
                modalities=("ECG",),
                sites=("Beth Israel Hospital",),
            ),
            official=official,
            normalisation=Normalisation(mean=(0.0,), deviation=(0.5,)),
        )

    def _check_sides(self, official: np.ndarray, found: _Beats) -> None:
        for part, records in (("train", DS1), ("test", DS2)):
            if part not in official:
                usable = ", ".join(str(record) for record in np.unique(found.record)) or "none"
                raise DataError(
                    f"mitbih: the inter-patient split has no {part} records: usable are {usable}; add at least one "
                    f"with lead {self.lead} of {', '.join(str(record) for record in records)}"
                )


def _told(cut: Mapping[int, wfdb_records.Windows]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns warnings about beats that were left out or cut off, and lines on what was read, from beats by record."""
    gaps = {record: windows.with_gaps for record, windows in cut.items() if windows.with_gaps}
    limits = {record: windows.at_limit for record, windows in cut.items() if windows.at_limit}
    used = sum(len(windows.symbols) for windows in cut.values())
    ends = sum(windows.past_ends for windows in cut.values())
    remarks = []
    if gaps:
        remarks.append(f"{sum(gaps.values()):,} beats left out, for they hold invalid samples: {_by_record(gaps)}")
    if limits:
        remarks.append(
            f"{sum(limits.values()):,} beats reach a limit of the converter and may be cut off: {_by_record(limits)}"
        )
    read = f"{used + ends + sum(gaps.values()):,} annotated beats in {len(cut)} records, {used:,} whole"
    near = f"; {ends:,} too near to an end of the recording" if ends else ""
    return tuple(remarks), (read + near, *remarks)


def _by_record(counts: Mapping[int, int]) -> str:
    return ", ".join(f"record {record}: {count:,}" for record, count in counts.items())


def _classes_of(symbols: np.ndarray) -> np.ndarray:
    """Returns the AAMI class of each symbol, (n,); "?" for symbols that are not beats."""
    distinct, places = np.unique(symbols, return_inverse=True)
    return np.array([_CLASS_OF.get(str(symbol), "?") for symbol in distinct])[places]


def _lacking(records: np.ndarray, lead: str) -> tuple[str, ...]:
    absent = sorted({*DS1, *DS2} - set(records.tolist()))
    if not absent:
        return ()
    return (f"{len(absent)} of the 44 records of the split are not here, or lack {lead}; the first is {absent[0]}",)


def _records_folder() -> Path:
    """Returns the folder of the WFDB records. A user's folder is used as it is; the one in the cache is completed."""
    folder = next((path for place in _PLACES if (path := locate.find(*place)) is not None), None)
    if folder is not None and not folder.is_relative_to(locate.cache()):
        return folder
    for record in sorted((*DS1, *DS2)):
        # The header is downloaded last, so a record with a header is complete.
        for suffix in ("dat", "atr", "hea"):
            name = f"{record}.{suffix}"
            locate.download(
                f"{_URL}/{name}",
                checksum=f"sha256:{SHA256[name]}",
                folder="mitbih/records",
                name=name,
                dataset="mitbih",
            )
    return locate.cache() / "mitbih" / "records"
