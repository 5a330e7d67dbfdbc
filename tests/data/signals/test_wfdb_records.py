"""WFDB samples are millivolts or gaps: never the code of an invalid sample, never another unit by its number."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from assay.data.signals import wfdb_records
from assay.data.signals.mitbih import MitBih
from assay.errors import DataError

SAMPLES = 3000
PEAKS = tuple(range(200, 2800, 260))
REAL = Path(os.environ.get("ASSAY_DATA", "")) / "mitbih" / "records"
INVALID = {"80": -128, "212": -2048, "16": -32768, "24": -(2**23), "32": -(2**31)}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes one record, of a lead MLII with counts around 0, and gives its header; ``changed`` replaces counts."""
    folder = tmp_path / "data" / "mitbih" / "records"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))

    def one(
        record: int = 101, *, form: str = "212", unit: str = "mV", gain: float = 200, changed: Any = None, **more: Any
    ) -> Path:
        counts = np.random.default_rng(record).integers(-40, 40, (SAMPLES, 1))
        for place, count in (changed or {}).items():
            counts[place] = count
        wfdb.wrsamp(
            str(record),
            fs=360,
            units=[unit],
            sig_name=["MLII"],
            d_signal=counts,
            fmt=[form],
            adc_gain=[gain],
            baseline=[0],
            write_dir=str(folder),
            **more,
        )
        wfdb.wrann(str(record), "atr", np.array(PEAKS), symbol=["N", "V"] * 5, write_dir=str(folder))
        return folder / f"{record}.hea"

    return one


def refusal(header: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        wfdb_records.read_record(header, lead="MLII")
    return caught.value


@pytest.mark.parametrize("form", sorted(INVALID))
def test_the_code_of_an_invalid_sample_is_a_gap_in_every_format(write: Callable[..., Path], form: str) -> None:
    header = write(form=form, changed={700: INVALID[form], 701: INVALID[form] + 1})
    signal = wfdb_records.read_record(header, lead="MLII").signal
    assert np.flatnonzero(np.isnan(signal)).tolist() == [700]
    assert signal[701] == np.float32(INVALID[form] + 1) / np.float32(200)
    # The library's own reading of the same file.
    assert np.allclose(signal, wfdb.rdrecord(str(header.with_suffix(""))).p_signal[:, 0], equal_nan=True, rtol=1e-6)


def test_beats_with_gaps_are_left_out_and_counted(write: Callable[..., Path]) -> None:
    write(101, changed={PEAKS[2] + 30: -2048, PEAKS[5] - 80: -2048, PEAKS[5] + 1: -2048})
    write(100)
    data = MitBih(source="records", classes=("N", "V")).load()
    assert np.bincount(data.groups, minlength=102)[100:].tolist() == [10, 8]  # type: ignore[arg-type]
    assert np.abs(data.x).max() <= 40 / 200
    told = "2 beats left out, for they hold invalid samples: record 101: 2"
    assert told in data.warnings
    assert data.reading == ("20 annotated beats in 2 records, 18 whole", told, "18 beats of classes N, V used")


@pytest.mark.parametrize(
    ("unit", "millivolts"), [("mV", 1.0), ("uV", 1e-3), ("\u00b5V", 1e-3), ("\u03bcV", 1e-3), ("V", 1e3), ("nV", 1e-6)]
)
def test_units_of_the_header_become_millivolts(write: Callable[..., Path], unit: str, millivolts: float) -> None:
    header = write(form="16", gain=4, unit="XX", changed={700: 1000})
    header.write_text(header.read_text().replace("/XX", f"/{unit}"), encoding="utf-8")
    assert wfdb_records.read_record(header, lead="MLII").signal[700] == pytest.approx(250 * millivolts)


@pytest.mark.parametrize("unit", ["mmHg", "MV", "bpm", "NU"])
def test_other_units_are_refused(write: Callable[..., Path], unit: str) -> None:
    error = refusal(write(unit=unit))
    assert (error.setting, error.given) == ("units", unit)
    assert "mV" in error.allowed


@pytest.mark.parametrize("written", ["0/mV", "0(0)/mV", "0"])
def test_samples_without_a_gain_are_refused(write: Callable[..., Path], written: str) -> None:
    header = write(gain=200)
    header.write_text(header.read_text().replace("200(0)/mV", written))
    error = refusal(header)
    assert (error.setting, error.given) == ("gain", 0)


def test_several_samples_a_frame_are_refused(write: Callable[..., Path]) -> None:
    header = write(form="16")
    header.write_text(header.read_text().replace(" 16 200", " 16x2 200", 1).replace(" 3000", " 1500"))
    error = refusal(header)
    assert (error.setting, error.given) == ("samples per frame", 2)


def test_a_header_of_another_record_is_refused(write: Callable[..., Path]) -> None:
    header = write(101)
    for suffix in (".hea", ".atr"):
        header.with_name(f"100{suffix}").write_bytes(header.with_suffix(suffix).read_bytes())
    error = refusal(header.with_name("100.hea"))
    assert (error.setting, error.given, error.allowed) == ("record", "101", "100")


def test_annotations_in_another_unit_of_time_are_refused(write: Callable[..., Path]) -> None:
    header = write()
    wfdb.wrann("101", "atr", np.array(PEAKS), symbol=["N", "V"] * 5, fs=250, write_dir=str(header.parent))
    error = refusal(header)
    assert (error.setting, error.given, error.allowed) == ("frequency", 250, 360)


def test_annotations_of_a_longer_recording_are_refused(write: Callable[..., Path]) -> None:
    header = write()
    wfdb.wrann("101", "atr", np.array([*PEAKS, SAMPLES]), symbol=["N"] * 11, write_dir=str(header.parent))
    error = refusal(header)
    assert (error.setting, error.given, error.allowed) == ("annotations", SAMPLES, SAMPLES - 1)


def test_two_leads_of_one_name_are_refused(write: Callable[..., Path]) -> None:
    header = write()
    first, lead = header.read_text().splitlines()
    header.write_text("\n".join([first.replace(" 1 ", " 2 "), lead, lead]))
    error = refusal(header)
    assert (error.setting, error.given) == ("lead", "MLII")


def test_samples_without_a_checksum_are_refused(write: Callable[..., Path]) -> None:
    header = write()
    first, lead = header.read_text().splitlines()
    header.write_text(f"{first}\n{' '.join([*lead.split()[:5], 'MLII'])}\n")
    assert "no checksum" in str(refusal(header))


def test_an_indented_remark_in_a_header_is_no_lead(write: Callable[..., Path]) -> None:
    header = write(form="16", gain=4, changed={700: 1000})
    first, lead = header.read_text().splitlines()
    header.write_text(f"{first}\n  # lead 200/V\n{lead}\n")
    assert wfdb_records.read_record(header, lead="MLII").signal[700] == pytest.approx(250)


def test_beats_at_the_limit_of_the_converter_are_counted(write: Callable[..., Path]) -> None:
    write(101, form="16", gain=6400, changed={PEAKS[1] + place: 32767 for place in range(5)})
    write(100)
    data = MitBih(source="records", classes=("N", "V")).load()
    assert "1 beats reach a limit of the converter and may be cut off: record 101: 1" in data.warnings


def test_beats_beyond_the_declared_bounds_are_refused(write: Callable[..., Path]) -> None:
    write(101, form="16", changed={PEAKS[1]: 1200})
    write(100)
    with pytest.raises(DataError) as caught:
        MitBih(source="records", classes=("N", "V")).load()
    assert (caught.value.setting, caught.value.given, caught.value.allowed) == (
        "bounds",
        6.0,
        pytest.approx((-5.12, 5.12)),
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ASSAY_DATA with mitbih/records")
def test_real_records_have_no_gaps_and_say_so() -> None:
    data = MitBih(source="records", classes=("N", "V", "S", "F")).load()
    assert data.reading[0].endswith("in 2 records, 5,225 whole") or "whole" in data.reading[0]
    assert not any("invalid" in line for line in data.warnings)
