"""Heartbeats: cut where the annotators put the peak, of the class that AAMI gives them, each patient on one side."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb

from assay.data import locate
from assay.data.base import Dataset
from assay.data.signals.mitbih import DS1, DS2, MitBih
from assay.data.signals.mitbih_sums import SHA256
from assay.errors import DataError, SpecError
from assay.registry import build

READY = Path(os.environ.get("ASSAY_DATA", "")) / "mitbih" / "mitbih_beats.npz"
real = pytest.mark.skipif(not READY.is_file(), reason=f"ASSAY_DATA holds no {READY.name}")
Write = Callable[..., None]

SAMPLES = 3000
PEAKS = tuple(range(200, 2800, 260))
"""Far enough from the ends and from one another that no window holds two."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the records are looked for; nowhere else."""
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "mitbih" / "records").mkdir(parents=True)
    return tmp_path / "data" / "mitbih" / "records"


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a record: noise, and in each lead a peak of its own height (1 mV, 2 mV, …) at each annotation."""

    def one(
        record: int,
        symbols: Sequence[str] = "NNAAVVFFNN",
        places: Sequence[int] = PEAKS,
        *,
        leads: Sequence[str] = ("MLII", "V1"),
        frequency: int = 360,
        gain: float = 200,
    ) -> None:
        counts = np.random.default_rng(record).integers(900, 1150, (SAMPLES, len(leads)))
        for place in places:
            counts[place] = 1024 + gain * (1 + np.arange(len(leads)))
        wfdb.wrsamp(
            str(record),
            fs=frequency,
            units=["mV"] * len(leads),
            sig_name=list(leads),
            d_signal=counts,
            fmt=["212"] * len(leads),
            adc_gain=[gain] * len(leads),
            baseline=[1024] * len(leads),
            write_dir=str(folder),
        )
        wfdb.wrann(str(record), "atr", np.array(places), symbol=list(symbols), write_dir=str(folder))

    return one


def records(**settings: object) -> Dataset:
    return MitBih(source="records", **settings).load()


def refusal(**settings: object) -> str:
    with pytest.raises(DataError) as caught:
        MitBih(**settings).load()
    return str(caught.value)


@pytest.fixture(scope="module")
def ready() -> Dataset:
    return MitBih(source="beats").load()


@real
@pytest.mark.parametrize("record", [100, 208])
def test_ready_beats_are_among_those_cut_from_the_records(ready: Dataset, record: int) -> None:
    cut = records()
    of_record = cut.groups == record
    known = {beat.tobytes(): label for beat, label in zip(cut.x[of_record], cut.y[of_record], strict=True)}
    own = ready.groups == record
    assert own.sum() > 250
    assert [known.get(beat.tobytes()) for beat in ready.x[own]] == ready.y[own].tolist()


@real
def test_the_ready_beats_are_what_they_are_known_to_be(ready: Dataset) -> None:
    assert (ready.shape, ready.x.dtype, ready.modality, ready.units) == ((1, 252), np.float32, "signal", "mV")
    assert ready.class_names == ("N", "S", "V", "F")
    assert ready.official is not None
    # 9,781 and 9,114 beats, less 8 and 7 of Q, less the 325 of record 202.
    assert [(ready.official == part).sum() for part in ("train", "test")] == [9773, 8782]
    assert (ready.x >= ready.low).all()
    assert (ready.x <= ready.high).all()
    assert ready.x.min() == -5.12  # the lower rail of the converter, which record 116 touches
    assert "prevalence" in ready.warnings[0]
    assert "not here" not in " ".join(ready.warnings)


@real
def test_the_inter_patient_split_is_de_chazals() -> None:
    with np.load(READY) as held:
        for part, named in (("DS1", DS1), ("DS2", DS2)):
            assert tuple(np.unique(held["record"][held["split"] == part]).tolist()) == named


@real
def test_all_five_classes_can_be_asked_for() -> None:
    data = MitBih(source="beats", classes=("Q", "N", "S", "V", "F")).load()
    assert np.bincount(data.y)[0] == 15
    assert len(data) == 18895 - 325


@real
def test_labels_that_disagree_with_their_symbols_are_refused(folder: Path) -> None:
    with np.load(READY) as held:
        arrays = dict(held)
    arrays["label"] = np.roll(arrays["label"], 7)
    np.savez(folder.parent / "mitbih_beats.npz", **arrays)
    assert "labels and symbols disagree" in refusal()


def test_beats_lie_around_their_peak_in_millivolts(write: Write) -> None:
    write(101)
    write(100)
    data = records()
    assert data.x.shape == (20, 1, 252)
    assert (data.x[:, 0, 90] == 1.0).all()
    assert np.delete(data.x[:, 0], 90, axis=1).max() < 0.7


def test_millivolts_follow_the_gain_of_the_header(write: Write) -> None:
    write(101, gain=100)
    write(100)
    assert (records().x[:, 0, 90] == 1.0).all()


@pytest.mark.parametrize(("symbols", "name"), [("NLRej", "N"), ("AaJS", "S"), ("VE", "V"), ("F", "F"), ("/fQ", "Q")])
def test_symbols_have_the_class_that_aami_gives_them(write: Write, symbols: str, name: str) -> None:
    write(101, [*symbols, "N", "V"], PEAKS[: len(symbols) + 2])
    write(100, "NV", PEAKS[:2])
    data = records(classes=("N", "S", "V", "F", "Q"))
    said = [data.class_names[label] for label in data.y[data.groups == 101]]
    assert said == [name] * len(symbols) + ["N", "V"]


def test_what_is_no_beat_and_what_the_ends_cut_off_is_left_out(write: Write) -> None:
    places = (89, 400, 700, 1000, 1300, SAMPLES - 161)
    write(101, "N+~VAN", places)
    write(100, "VV", (90, SAMPLES - 162))
    data = records(classes=("N", "S", "V"))
    assert [data.class_names[label] for label in data.y] == ["V", "V", "V", "S"]
    assert data.groups is not None
    assert data.groups.tolist() == [100, 100, 101, 101]


def test_classes_not_asked_for_are_left_out_and_said(write: Write) -> None:
    write(101)
    write(100)
    data = records(classes=("V", "N"))
    assert data.class_names == ("V", "N")
    assert np.bincount(data.y).tolist() == [4, 8]
    assert "classes other than V, N left out" in data.preprocessing


def test_paced_records_are_left_out(write: Write) -> None:
    for record in (100, 101, 102, 104, 107, 217):
        write(record)
    data = records()
    assert data.groups is not None
    assert np.unique(data.groups).tolist() == [100, 101]


@pytest.mark.parametrize(("setting", "groups"), [("drop", [100, 201]), ("join", [100, 201])])
def test_the_shared_patient_is_on_one_side(write: Write, setting: str, groups: list[int]) -> None:
    for record in (100, 201, 202):
        write(record)
    data = records(shared_patient=setting)
    assert data.groups is not None
    assert data.official is not None
    assert np.unique(data.groups).tolist() == groups
    assert np.unique(data.groups[data.official == "test"]).tolist() == [100]
    assert (data.groups == 201).sum() == (10 if setting == "drop" else 20)
    assert "record 202" in data.preprocessing
    assert any("record 202" in warning for warning in data.warnings)


def test_absent_records_are_counted(write: Write) -> None:
    write(101)
    write(100)
    assert records().warnings == ("42 of the 44 records of the split are not here, or lack MLII; the first is 103",)


def test_another_lead_can_be_asked_for(write: Write) -> None:
    write(101)
    write(100)
    write(106, leads=("MLII",))
    data = records(lead="V1")
    assert (data.x[:, 0, 90] == 2.0).all()
    assert data.groups is not None
    assert 106 not in data.groups
    assert data.feature_names[90] == "V1 +0 ms from R"


def test_a_lead_that_no_record_has_lists_the_known_ones(write: Write) -> None:
    write(101)
    assert "no record has a lead 'aVR'; allowed: MLII, V1" in refusal(source="records", lead="aVR")


def test_one_side_of_the_split_alone_is_refused(write: Write) -> None:
    write(101)
    message = refusal(source="records")
    assert "has no test records: usable are 101" in message
    assert "100, 103" in message


@pytest.mark.parametrize("suffix", ["dat", "atr"])
def test_a_header_without_its_file_is_named(write: Write, folder: Path, suffix: str) -> None:
    write(101)
    write(100)
    (folder / f"101.{suffix}").unlink()
    message = refusal(source="records")
    assert "101.hea" in message
    assert f"101.{suffix} is not beside it" in message


def test_a_signal_that_is_not_the_headers_is_refused(write: Write, folder: Path) -> None:
    write(101)
    write(100)
    content = bytearray((folder / "101.dat").read_bytes())
    content[300] ^= 1
    (folder / "101.dat").write_bytes(content)
    message = refusal(source="records")
    assert "101.hea" in message
    assert "damaged" in message


def test_a_signal_cut_short_is_refused(write: Write, folder: Path) -> None:
    write(101)
    write(100)
    (folder / "101.dat").write_bytes((folder / "101.dat").read_bytes()[:-600])
    assert "101.hea" in refusal(source="records")


@pytest.mark.parametrize("content", [b"", b"not a header\n", b"\xff\xfe\x00"], ids=["empty", "words", "bytes"])
def test_a_header_that_is_none_is_refused(write: Write, folder: Path, content: bytes) -> None:
    write(100)
    (folder / "101.hea").write_bytes(content)
    message = refusal(source="records")
    assert "101.hea" in message
    assert "cannot be read" in message


def test_another_sampling_rate_is_refused(write: Write) -> None:
    write(101, frequency=250)
    write(100)
    assert "has 250 samples a second; mitbih has 360" in refusal(source="records")


def test_a_folder_without_records_is_refused(folder: Path) -> None:
    assert "holds none of the records 101 to 234" in refusal(source="records")


def test_physionets_own_folder_is_found(write: Write, folder: Path) -> None:
    write(101)
    write(100)
    folder.rename(folder.parent.parent / "mitdb")
    assert len(records()) == 20


def test_absent_ready_beats_are_named_with_the_way_out(folder: Path) -> None:
    message = refusal(source="beats")
    assert "mitbih/mitbih_beats.npz is not here" in message
    assert "source=records" in message


@real
def test_the_ready_beats_have_no_other_lead() -> None:
    assert "holds MLII alone; use source=records" in refusal(source="beats", lead="V1")


def test_absent_records_without_a_network_name_the_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rmdir()

    def offline(*args: object, **settings: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("pooch.retrieve", offline)
    message = refusal()
    assert "https://physionet.org/files/mitdb/1.0.0/100.dat" in message
    assert "ASSAY_DATA" in message


def test_records_are_fetched_whole_and_their_header_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rmdir()
    fetched: list[str] = []
    monkeypatch.setattr(locate, "download", lambda url, *, name, **settings: fetched.append(name))
    # The cache is empty still, and says so.
    assert "holds none" in refusal()
    assert len(fetched) == 3 * 44
    assert fetched[:3] == ["100.dat", "100.atr", "100.hea"]
    assert not {"102.dat", "104.dat", "107.dat", "217.dat"} & set(fetched)


def test_every_fetched_file_has_its_published_checksum(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rmdir()
    asked: dict[str, str] = {}
    monkeypatch.setattr("pooch.retrieve", lambda url, *, known_hash, **how: asked.setdefault(url, known_hash))
    refusal()
    assert len(set(asked.values())) == 3 * 44
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", checksum) for checksum in asked.values())


@real
@pytest.mark.parametrize("record", [100, 208])
@pytest.mark.parametrize("suffix", ["dat", "atr", "hea"])
def test_checksums_are_those_of_the_real_files(record: int, suffix: str) -> None:
    path = READY.parent / "records" / f"{record}.{suffix}"
    content = path.read_bytes()
    if suffix == "hea":  # copies lose the carriage returns of the published text
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert hashlib.sha256(content).hexdigest() == SHA256[path.name]


def test_a_ready_file_without_an_array_is_refused(folder: Path) -> None:
    np.savez(folder.parent / "mitbih_beats.npz", signal=np.zeros((2, 252), np.int16))
    assert "has no 'label' (it holds: signal)" in refusal()


def test_a_ready_file_of_another_shape_is_refused(folder: Path) -> None:
    held = {"label": np.array([0, 2]), "symbol": np.array(["N", "V"]), "record": np.array([100, 101])}
    names = np.array(["N", "S", "V", "F", "Q"])
    np.savez(folder.parent / "mitbih_beats.npz", signal=np.zeros((2, 187), np.int16), class_names=names, **held)
    assert "signal is int16 of shape (2, 187)" in refusal()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["N"]}, "classes"),
        ({"classes": ["N", "N"]}, "names one twice"),
        ({"classes": ["N", "X"]}, "classes"),
        ({"shared_patient": "keep"}, "shared_patient"),
        ({"source": "web"}, "source"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("dataset", {"name": "mitbih", **settings})
