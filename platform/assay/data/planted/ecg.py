"""Synthetic heartbeats with P, QRS and T waves, one of which is changed in half of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay import seeds
from assay.data.base import Dataset
from assay.data.planted.base import DRAWN, Planted
from assay.registry import register

SAMPLES, FREQUENCY = 252, 360
"""Length of a beat and samples a second, as in ``mitbih``."""
_R = 90
"""Sample of the R peak."""
_NOISE = 0.02
_WANDER = 0.05
Change = Literal["inverted_t", "wide_qrs", "st_elevation"]
_WAVES = {"p": (-60.0, 0.12, 8.0), "q": (-10.0, -0.12, 3.0), "s": (11.0, -0.2, 3.5), "t": (95.0, 0.3, 14.0)}
"""Samples from the R peak, height in mV, and width in samples (standard deviation) of each wave beside R."""
_EDGE = 3.0
"""Bound of a valid sample, in mV."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    x: np.ndarray
    """(n, 1, samples) float64, mV."""
    y: np.ndarray
    """(n,) whether the wave is changed."""
    truth: np.ndarray
    """(n, 1, samples) bool."""


@register("dataset")
class PlantedECG(Planted):
    """Beats of one lead, 252 samples at 360 Hz, whose waves are Gaussians of random place, height and width.

    In half of the beats one thing is changed, and this is the class: the T wave is inverted, the QRS complex is widened
    (all of its waves to 2.2 times their width), or the ST segment is raised by 0.2 mV. The truth is the window of that
    wave, in beats of both classes: its absence is seen there too.
    """

    name: Literal["planted_ecg"] = "planted_ecg"
    change: Change = "inverted_t"
    """What differs between the classes."""

    def load(self) -> Dataset:
        drawn = self._drawn()
        return Dataset(
            name=self.name,
            x=drawn.x.astype(np.float32),
            y=drawn.y,
            class_names=("usual", self.change.replace("_", " ")),
            feature_names=(),
            low=np.full((1, 1), -_EDGE, np.float32),
            high=np.full((1, 1), _EDGE, np.float32),
            units="mV",
            epsilons=(0.0, 0.01, 0.02, 0.05, 0.1),
            licence="none needed",
            warnings=(DRAWN,),
            stated=(DRAWN,),
            modality="signal",
            rate=float(FREQUENCY),
        )

    def truth(self, rows: np.ndarray | None = None) -> np.ndarray:
        truth = self._drawn().truth
        return truth if rows is None else truth[rows]

    def _drawn(self) -> _Drawn:
        generator = seeds.stream(self.draw, self.name, "records")
        n, time = self.size, np.arange(SAMPLES) - _R
        y = generator.permutation(np.arange(n) % 2).astype(np.int64)
        changed = y[:, None] == 1
        wide = np.where(changed & (self.change == "wide_qrs"), 2.2, 1.0)
        x = generator.uniform(0.8, 1.3, (n, 1)) * _gaussian(time, 0.0, 4.0 * wide)
        place = {}
        for name, (centre, height, width) in _WAVES.items():
            jitter = generator.uniform(-1, 1, (3, n, 1))
            place[name] = centre + 0.06 * abs(centre) * jitter[0]
            sized = width * (1 + 0.15 * jitter[2])
            if name in "qs":
                place[name], sized = place[name] * wide, sized * wide
            sign = np.where(changed & (self.change == "inverted_t") & (name == "t"), -1.0, 1.0)
            x += sign * height * (1 + 0.25 * jitter[1]) * _gaussian(time, place[name], sized)
        if self.change == "st_elevation":
            x += 0.2 * changed * _segment(time)
        x += self._noise(generator, time)
        return _Drawn(
            x=np.clip(x, -_EDGE, _EDGE)[:, None],
            y=y,
            truth=_window(self.change, time, place["t"])[:, None],
        )

    def _noise(self, generator: np.random.Generator, time: np.ndarray) -> np.ndarray:
        """Returns a slow wander of the baseline and white noise, (n, samples)."""
        phase, height = generator.uniform(0, 2 * np.pi, (self.size, 1)), generator.uniform(0, _WANDER, (self.size, 1))
        wander = height * np.sin(2 * np.pi * 0.5 * time / FREQUENCY + phase)
        return wander + _NOISE * generator.standard_normal((self.size, len(time)))


def _gaussian(time: np.ndarray, centre: np.ndarray | float, width: np.ndarray) -> np.ndarray:
    return np.exp(-((time - centre) ** 2) / (2 * width**2))


def _segment(time: np.ndarray) -> np.ndarray:
    """Returns 1 from the end of the S wave to the begin of the T wave, with soft edges, (samples,)."""
    return 1 / (1 + np.exp(-(time - 22) / 2)) / (1 + np.exp((time - 62) / 3))


def _window(change: Change, time: np.ndarray, t_wave: np.ndarray) -> np.ndarray:
    """Returns the samples of the wave that differs between the classes, (n, samples) bool."""
    if change == "inverted_t":
        return np.abs(time - t_wave) <= 2.5 * _WAVES["t"][2]
    first, last = (-36, 40) if change == "wide_qrs" else (16, 70)
    return np.broadcast_to((time >= first) & (time <= last), (len(t_wave), len(time))).copy()
