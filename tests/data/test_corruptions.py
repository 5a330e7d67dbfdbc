"""Every corruption keeps shape, type and bounds, repeats from its seed, and does more at each severity."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from assay.data.base import Dataset
from assay.data.corruptions.base import SEVERITIES, corrupted, corruption, names_for
from assay.data.corruptions.text import misspelt
from assay.errors import DataError, SpecError
from assay.registry import names

N = 12
ROWS = np.arange(N)


def dataset(x: np.ndarray, modality: str, low: Any, high: Any, **about: Any) -> Dataset:
    return Dataset(
        **{
            "name": "made",
            "x": x,
            "y": np.arange(len(x)) % 2,
            "class_names": ("a", "b"),
            "feature_names": (),
            "low": np.asarray(low, np.float32),
            "high": np.asarray(high, np.float32),
            "units": "units",
            "epsilons": (0.0,),
            "modality": modality,
            **about,
        }
    )


def image(*shape: int) -> Dataset:
    """Smooth shapes with some texture, from −1 to 3."""
    generator = np.random.default_rng(sum(shape))
    smooth = gaussian_filter(generator.normal(size=(N, *shape)), (0, 0, 2, 2))
    x = smooth / smooth.std() + 0.2 * generator.normal(size=smooth.shape)
    return dataset(np.clip(1 + x, -1, 3).astype(np.float32), "image", [[[-1]]], [[[3]]])


def signal(channels: int, samples: int) -> Dataset:
    generator = np.random.default_rng(channels)
    x = np.sin(np.arange(samples) / 9 + generator.normal(size=(N, channels, 1))) + generator.normal(
        0.1, 0.2, (N, channels, samples)
    )
    return dataset(x.astype(np.float32), "signal", [[-5]], [[5]])


def table(*shape: int) -> Dataset:
    x = np.random.default_rng(0).gamma(2, size=(N, *shape)) * np.arange(1, 1 + np.prod(shape)).reshape(shape)
    return dataset(x.astype(np.float32), "tabular", np.zeros(shape), x.max(0) * 2)


DATA = {
    "image": [image(1, 16, 16), image(3, 16, 16), image(2, 9, 12)],
    "signal": [signal(1, 240), signal(3, 61)],
    "tabular": [table(8), table(2, 4)],
}
CASES = [
    pytest.param(name, data, id=f"{name} {data.shape}")
    for modality, several in DATA.items()
    for data in several
    for name in names_for(modality)  # type: ignore[arg-type]
]
every_corruption = pytest.mark.parametrize(("name", "data"), CASES)


def at(data: Dataset, name: Any, severity: int, seed: int = 0, rows: np.ndarray = ROWS) -> np.ndarray:
    return corrupted(data, rows, name, severity, generator=np.random.default_rng(seed))


def distance(data: Dataset, name: Any, severity: int, seed: int = 0) -> float:
    """Root of the mean squared change."""
    return float(np.sqrt(((at(data, name, severity, seed).astype(float) - data.x[ROWS]) ** 2).mean()))


def test_each_modality_has_its_corruptions() -> None:
    assert names_for("image") == ("blur", "contrast", "crop", "gaussian_noise", "jpeg")
    assert names_for("signal") == ("baseline_wander", "lead_off", "missing_samples", "powerline")
    assert names_for("tabular") == ("drift", "sensor_drop_out", "unit_error")
    assert names_for("text") == ("typos",)
    assert sum(len(names_for(modality)) for modality in ("image", "signal", "tabular", "text")) == len(
        names("corruption")
    )


@every_corruption
@settings(max_examples=12)
@given(seed=st.integers(0, 99))
def test_every_severity_keeps_shape_type_and_bounds_and_repeats(name: str, data: Dataset, seed: int) -> None:
    before = np.array(data.x)
    rows = np.array([3, 0, 7])
    for severity in SEVERITIES:
        found = at(data, name, severity, seed, rows)
        assert found.shape == (3, *data.shape)
        assert found.dtype == np.float32
        assert (found >= data.low).all()
        assert (found <= data.high).all()
        assert np.array_equal(found, at(data, name, severity, seed, rows))
    assert np.array_equal(data.x, before)


@every_corruption
@settings(max_examples=12)
@given(seed=st.integers(0, 99))
def test_distance_grows_with_severity(name: str, data: Dataset, seed: int) -> None:
    found = [distance(data, name, severity, seed) for severity in (0, *SEVERITIES)]
    assert found[0] == 0
    assert all(after >= before for before, after in pairwise(found))
    assert found[-1] > found[1] > 0


@pytest.mark.parametrize("name", sorted({*names("corruption")} - {"blur", "contrast", "jpeg", "typos"}))
def test_another_seed_gives_another_mishap(name: str) -> None:
    data = DATA[corruption(name).modality][0]
    assert not np.array_equal(at(data, name, 3, 0), at(data, name, 3, 1))


def on(x: np.ndarray, modality: str, span: float = 10.0) -> Dataset:
    wide = (1,) * (x.ndim - 1)
    return dataset(x.astype(np.float32), modality, np.full(wide, -span), np.full(wide, span))


def test_noise_has_the_deviation_of_its_strength() -> None:
    change = at(on(np.zeros((N, 1, 40, 40)), "image", 1.0), "gaussian_noise", 2)
    # Of a range of 2; 19,200 draws.
    assert change.std() == pytest.approx(0.24, rel=0.03)
    assert abs(change.mean()) < 0.01


def test_contrast_keeps_the_mean_of_each_image() -> None:
    data = image(2, 9, 12)
    found = at(data, "contrast", 3)
    np.testing.assert_allclose(found.mean((2, 3)), data.x.mean((2, 3)), atol=1e-5)
    np.testing.assert_allclose(found.std((2, 3)), 0.2 * data.x.std((2, 3)), rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_jpeg_file_holds(channels: int) -> None:
    data = image(channels, 16, 16)
    pixels = np.rint((data.x[0] + 1) / 4 * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=25)
    read = np.asarray(Image.open(file)).reshape(16, 16, channels).transpose(2, 0, 1)
    np.testing.assert_allclose(at(data, "jpeg", 1)[0], read / 255 * 4 - 1, atol=1e-5)


def test_a_crop_shows_a_part_of_the_image_enlarged() -> None:
    x = np.broadcast_to(np.linspace(-1, 1, 40), (N, 1, 40, 40))
    found = at(on(x, "image", 1.0), "crop", 5)[:, 0]
    # 30 % is cut off, so the slope is 70 % of what it was; and wherever the part was, all rows are equal.
    slope = np.diff(found, axis=2)[:, :, 2:-2].mean() / (2 / 39)
    assert slope == pytest.approx(0.7, abs=0.01)
    assert np.ptp(found, axis=1).max() < 1e-6
    assert np.ptp(found.mean((1, 2))) > 0.1


def frequency_of(wave: np.ndarray) -> float:
    """The strongest frequency, cycles a sample."""
    return float(np.abs(np.fft.rfft(wave - wave.mean())).argmax() / len(wave))


def test_powerline_hums_at_its_frequency_with_its_signal_to_noise_ratio() -> None:
    data = signal(2, 720)
    hum = at(data, "powerline", 4) - data.x
    assert frequency_of(hum[0, 0]) == pytest.approx(50 / 360)
    # At 0 dB it has the power of the signal.
    np.testing.assert_allclose(hum.std(2), data.x.std(2), rtol=0.01)
    american = at(data, {"name": "powerline", "mains": 60, "sampling_rate": 500}, 4) - data.x
    assert frequency_of(american[0, 0]) == pytest.approx(60 / 500, abs=1 / 720)


def test_the_baseline_wanders_slowly_and_each_lead_by_itself() -> None:
    data = signal(2, 7200)
    wander = at(data, "baseline_wander", 4) - data.x
    for lead in wander.reshape(-1, 7200):
        assert 0.1 <= 360 * frequency_of(lead) <= 0.55
    assert not np.allclose(wander[:, 0] / wander[:, 0].std(), wander[:, 1] / wander[:, 1].std(), atol=0.1)


def test_one_lead_is_off_for_a_while() -> None:
    off = at(on(np.ones((N, 3, 100)), "signal"), "lead_off", 3) == 0
    assert (off.any(2).sum(1) == 1).all()
    assert (off.sum((1, 2)) == 20).all()
    # One flat segment: it begins once at most and ends once at most.
    assert (np.abs(np.diff(off.any(1).astype(int), axis=1)).sum(1) <= 2).all()
    assert len({int(one.any(0).argmax()) for one in off}) > 3


def test_a_longer_gap_holds_the_shorter_one() -> None:
    data = on(np.ones((N, 1, 97)), "signal")
    gaps = [at(data, "lead_off", severity) == 0 for severity in SEVERITIES]
    assert all((shorter <= longer).all() for shorter, longer in pairwise(gaps))


def test_lost_packets_hold_the_last_sample_of_all_leads() -> None:
    x = np.broadcast_to(np.arange(120) / 12, (N, 2, 120))
    found = at(on(x, "signal"), {"name": "missing_samples", "packet": 12}, 4)
    packets = found.reshape(N, 2, 10, 12)
    lost = np.ptp(packets, axis=3) == 0
    assert 0.3 < lost.mean() < 0.7
    assert np.array_equal(lost[:, 0], lost[:, 1])
    for record, channel, place in zip(*np.nonzero(lost), strict=True):
        last = packets[record, channel, place - 1, -1] if place else x[0, 0, 0]
        assert (packets[record, channel, place] == last).all()


def test_lost_packets_may_be_zero() -> None:
    found = at(on(np.ones((N, 1, 600)), "signal"), {"name": "missing_samples", "fill": "zero", "packet": 1}, 4)
    assert set(np.unique(found)) == {0, 1}
    assert found.mean() == pytest.approx(0.5, abs=0.03)


def test_an_absent_feature_stands_at_the_median_of_the_data() -> None:
    data = table(8)
    found = at(data, "sensor_drop_out", 3)
    absent = found != data.x
    # 30 % of 8 features, rounded up.
    assert (absent.sum(1) == 3).all()
    medians = np.broadcast_to(np.median(data.x, axis=0), found.shape)
    np.testing.assert_allclose(found[absent], medians[absent], rtol=1e-6)


def test_a_unit_error_multiplies_or_divides_what_was_measured() -> None:
    # Standardised records whose measured zero is the lower bound, as those of wdbc.
    measured = np.random.default_rng(1).uniform(1, 2, (N, 5))
    data = dataset(((measured - 1.5) / 0.3).astype(np.float32), "tabular", np.full(5, -5), np.full(5, 1e3))
    found = at(data, {"name": "unit_error", "share": 0.4}, 4) * 0.3 + 1.5
    factors = found / measured
    changed = ~np.isclose(factors, 1)
    assert (changed.sum(1) == 2).all()
    assert set(np.round(factors[changed], 3)) == {0.1, 10.0}


def test_a_drifted_device_reads_all_features_too_high_or_all_too_low() -> None:
    data = on(np.random.default_rng(2).normal(size=(N, 4)) * [1, 2, 0.5, 0], "tabular", 100)
    moved = (at(data, "drift", 3) - data.x)[:, :3] / data.x.std(0)[:3]
    np.testing.assert_allclose(np.abs(moved), 0.5, rtol=1e-4)
    assert (np.sign(moved) == np.sign(moved[:, :1])).all()
    assert len(set(np.sign(moved[:, 0]))) == 2
    assert (at(data, "drift", 3)[:, 3] == data.x[:, 3]).all()


class Lengths:
    """A language whose records are the lengths of words, and which keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        self.given = [list(sentence) for sentence in sentences]
        found = np.zeros((len(sentences), 4), np.int32)
        for row, sentence in enumerate(sentences):
            found[row, : len(sentence)] = [len(word) for word in sentence]
        return found


WORDS = ("", "fever", "a", "no", "cough", ".", "42", "Llama")
WRITTEN = np.array([[1, 2, 3, 4], [4, 5, 0, 0], [6, 7, 2, 0], [3, 3, 1, 5]], np.int32)


def text(**about: Any) -> Dataset:
    return dataset(np.zeros((4, 4), np.int32), "text", [0], [9], words=WORDS, written=WRITTEN, **about)


def test_typos_are_written_in_words_and_read_by_the_language_of_the_data() -> None:
    language = Lengths()
    found = at(text(language=language), "typos", 5, rows=np.array([2, 0]))
    assert [len(sentence) for sentence in language.given] == [3, 4]
    assert found.tolist() == language.encode(language.given).tolist()
    assert at(text(language=language), "typos", 0, rows=np.array([1, 3])).shape == (2, 4)
    assert language.given == [["cough", "."], ["no", "no", "fever", "."]]


def test_typos_of_text_that_is_not_prepared_are_refused() -> None:
    with pytest.raises(DataError, match=r"made: typos need the prepared text.*Dataset\.prepared"):
        at(text(), "typos", 1, rows=np.arange(4))


SENTENCES = [["patient", "denies", "chest", "pain", ",", "a", "Löwe", "II", "b52"]] * 200


@settings(max_examples=12)
@given(seed=st.integers(0, 99))
def test_a_larger_share_of_typos_holds_the_smaller(seed: int) -> None:
    changed = []
    for share in (0.0, 0.1, 0.4, 1.0):
        found = misspelt(SENTENCES, share, generator=np.random.default_rng(seed))
        changed.append(
            {
                (row, place, word)
                for row, sentence in enumerate(found)
                for place, word in enumerate(sentence)
                if word != SENTENCES[row][place]
            }
        )
        assert all(len(sentence) == 9 and all(sentence) for sentence in found)
    assert all(less <= more for less, more in pairwise(changed))
    assert changed[0] == set()
    # 8 of 9 have a letter, and each of them is changed in the end.
    assert len(changed[3]) == 200 * 8
    assert len(changed[1]) / 1600 == pytest.approx(0.1, abs=0.04)


def test_each_typo_is_one_slip_of_the_keyboard() -> None:
    found = {word for (word,) in misspelt([["cat"]] * 500, 1.0, generator=np.random.default_rng(0))}
    assert found == {
        *("act", "cta"),
        *("at", "ct", "ca"),
        *("ccat", "caat", "catt"),
        *("xat", "vat", "cst", "car", "cay"),
    }


@pytest.mark.parametrize("word", ["aa", "a", "é", "i-"])
def test_a_word_too_short_for_a_slip_is_still_changed_and_never_empty(word: str) -> None:
    found = {said for (said,) in misspelt([[word]] * 100, 1.0, generator=np.random.default_rng(0))}
    assert word not in found
    assert "" not in found


@pytest.mark.parametrize("word", [",", "42", "..."])
def test_what_holds_no_letter_is_left_alone(word: str) -> None:
    assert misspelt([[word]] * 50, 1.0, generator=np.random.default_rng(0)) == [[word]] * 50


@pytest.mark.parametrize(
    ("name", "severity", "message"),
    [
        pytest.param("rain", 1, "unknown corruption 'rain'; allowed: baseline_wander", id="unknown"),
        pytest.param("jpeg", 1, "happens to records of modality image, those of made are signal", id="modality"),
        pytest.param("lead_off", 6, "severity 6 of lead_off is unknown; allowed: 0 \\(none\\) to 5", id="too severe"),
        pytest.param("lead_off", -1, "severity -1", id="negative"),
    ],
)
def test_what_no_corruption_means_is_refused(name: str, severity: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        at(DATA["signal"][0], name, severity)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "blur", "strengths": [0.1, 0.2, 0.3]},
        {"name": "blur", "strengths": [-0.1, 0, 0.1, 0.2, 0.3]},
        {"name": "jpeg", "strengths": [0.5, 0.4, 0.6, 0.7, 0.8]},
        {"name": "crop", "strengths": [0.1, 0.2, 0.3, 0.4, 1.0]},
        {"name": "unit_error", "strengths": [0.5, 1, 2, 3, 4]},
        {"name": "powerline", "sampling_rate": 0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=settings["name"]):
        corruption(settings)
