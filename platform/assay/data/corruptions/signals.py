"""What happens to signals on the way: breathing, mains, loose electrodes and lost packets.

Noise has a signal-to-noise ratio against the record's own power about its mean, as in the noise stress test of Moody,
Muldrow & Mark 1984 (Computers in Cardiology 11): a record that does not vary gets none.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import Dataset, Modality
from assay.data.corruptions.base import Corruption, Decibels, StrengthShares
from assay.registry import register


class _OfSignals(Corruption):
    modality: ClassVar[Modality] = "signal"


@register("corruption")
class BaselineWander(_OfSignals):
    """A slow wave under the signal, from breathing and movement; the strength is −SNR in dB.

    A record shorter than the wave sees a slope or an offset of it.
    """

    name: Literal["baseline_wander"] = "baseline_wander"
    strengths: Decibels = (-18, -12, -6, 0, 6)
    sampling_rate: float = Field(default=360.0, gt=0)
    """Samples a second."""
    slowest: float = Field(default=0.15, gt=0)
    """Hz."""
    fastest: float = Field(default=0.5, gt=0)
    """Hz."""

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        where, when = generator.random((2, *x.shape[:2], 1))
        frequency = (self.slowest + where * (self.fastest - self.slowest)) / self.sampling_rate
        return x + _amplitude(x, strength) * _wave(frequency, when, x.shape[2])


@register("corruption")
class Powerline(_OfSignals):
    """Hum of the mains; the strength is −SNR in dB."""

    name: Literal["powerline"] = "powerline"
    strengths: Decibels = (-18, -12, -6, 0, 6)
    sampling_rate: float = Field(default=360.0, gt=0)
    """Samples a second."""
    mains: float = Field(default=50.0, gt=0)
    """Hz; 60 in the Americas."""

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        # The leads hang on one amplifier: they hum together.
        when = generator.random((len(x), 1, 1))
        return x + _amplitude(x, strength) * _wave(self.mains / self.sampling_rate, when, x.shape[2])


@register("corruption")
class LeadOff(_OfSignals):
    """An electrode comes off: one lead reads 0 for a while; the strength is the share of the record."""

    name: Literal["lead_off"] = "lead_off"
    strengths: StrengthShares = (0.05, 0.1, 0.2, 0.3, 0.5)

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        records, channels, samples = x.shape
        lead, place = generator.integers(channels, size=records), generator.random(records)
        length = round(strength * samples)
        # The same place in what room there is: a longer gap holds the shorter one.
        start = np.floor(place * (samples - length)).reshape(-1, 1, 1)
        sample, channel = np.arange(samples), np.arange(channels).reshape(-1, 1)
        off = (sample >= start) & (sample < start + length) & (channel == lead.reshape(-1, 1, 1))
        return np.where(off, 0.0, x)


@register("corruption")
class MissingSamples(_OfSignals):
    """Packets are lost, of all leads together, and the last sample before is held; the strength is the share lost."""

    name: Literal["missing_samples"] = "missing_samples"
    strengths: StrengthShares = (0.1, 0.2, 0.3, 0.5, 0.7)
    packet: int = Field(default=12, ge=1)
    """Samples."""
    fill: Literal["hold", "zero"] = "hold"

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        samples = x.shape[2]
        luck = generator.random((len(x), 1, -(-samples // self.packet)))
        lost = np.repeat(luck < strength, self.packet, axis=2)[:, :, :samples]
        if self.fill == "zero":
            return np.where(lost, 0.0, x)
        # Of a record that begins with a lost packet there is nothing to hold but its first sample.
        last = np.maximum.accumulate(np.where(lost, 0, np.arange(samples)), axis=2)
        return np.take_along_axis(x, np.broadcast_to(last, x.shape), axis=2)


def _amplitude(x: np.ndarray, strength: float) -> np.ndarray:
    """(n, channels, 1) of a sine that is so many dB above the signal."""
    return np.sqrt(2) * x.std(2, keepdims=True) * 10 ** (strength / 20)


def _wave(frequency: np.ndarray | float, phase: np.ndarray, samples: int) -> np.ndarray:
    """A sine of so many cycles a sample, begun so many cycles in."""
    return np.sin(2 * np.pi * (frequency * np.arange(samples) + phase))
