"""Corruptions of signals: breathing, mains hum, loose electrodes and lost packets.

Noise has a signal-to-noise ratio relative to the record's own power about its mean, as in the noise stress test of
Moody, Muldrow & Mark 1984 (Computers in Cardiology 11): a constant record gets none.
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
    """Adds a slow wave, as from breathing and movement; the strength is −SNR in dB.

    A record that is shorter than the wave gets a slope or an offset.
    """

    name: Literal["baseline_wander"] = "baseline_wander"
    strengths: Decibels = (-18, -12, -6, 0, 6)
    sampling_rate: float = Field(default=360.0, gt=0)
    """Samples a second."""
    slowest: float = Field(default=0.15, gt=0)
    """Lowest frequency, in Hz."""
    fastest: float = Field(default=0.5, gt=0)
    """Highest frequency, in Hz."""

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        where, when = generator.random((2, *x.shape[:2], 1))
        frequency = (self.slowest + where * (self.fastest - self.slowest)) / self.sampling_rate
        return x + _amplitude(x, strength) * _wave(frequency, when, x.shape[2])


@register("corruption")
class Powerline(_OfSignals):
    """Adds mains hum; the strength is −SNR in dB."""

    name: Literal["powerline"] = "powerline"
    strengths: Decibels = (-18, -12, -6, 0, 6)
    sampling_rate: float = Field(default=360.0, gt=0)
    """Samples a second."""
    mains: float = Field(default=50.0, gt=0)
    """Frequency of the mains, in Hz; 60 in the Americas."""

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        # All leads share an amplifier, so the hum has one phase.
        when = generator.random((len(x), 1, 1))
        return x + _amplitude(x, strength) * _wave(self.mains / self.sampling_rate, when, x.shape[2])


@register("corruption")
class LeadOff(_OfSignals):
    """Sets one lead to 0 for a while, as if an electrode came off; the strength is the fraction of the record."""

    name: Literal["lead_off"] = "lead_off"
    strengths: StrengthShares = (0.05, 0.1, 0.2, 0.3, 0.5)

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        records, channels, samples = x.shape
        lead, place = generator.integers(channels, size=records), generator.random(records)
        length = round(strength * samples)
        # The same relative position for each length: a longer gap contains the shorter one.
        start = np.floor(place * (samples - length)).reshape(-1, 1, 1)
        sample, channel = np.arange(samples), np.arange(channels).reshape(-1, 1)
        off = (sample >= start) & (sample < start + length) & (channel == lead.reshape(-1, 1, 1))
        return np.where(off, 0.0, x)


@register("corruption")
class MissingSamples(_OfSignals):
    """Loses packets of all leads together and repeats the last sample before; the strength is the fraction lost."""

    name: Literal["missing_samples"] = "missing_samples"
    strengths: StrengthShares = (0.1, 0.2, 0.3, 0.5, 0.7)
    packet: int = Field(default=12, ge=1)
    """Length of a packet, in samples."""
    fill: Literal["hold", "zero"] = "hold"

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        samples = x.shape[2]
        luck = generator.random((len(x), 1, -(-samples // self.packet)))
        lost = np.repeat(luck < strength, self.packet, axis=2)[:, :, :samples]
        if self.fill == "zero":
            return np.where(lost, 0.0, x)
        # A record that begins with a lost packet repeats its first sample.
        last = np.maximum.accumulate(np.where(lost, 0, np.arange(samples)), axis=2)
        return np.take_along_axis(x, np.broadcast_to(last, x.shape), axis=2)


def _amplitude(x: np.ndarray, strength: float) -> np.ndarray:
    """Returns the amplitude, (n, channels, 1), of a sine whose power is so many dB above that of the signal."""
    return np.sqrt(2) * x.std(2, keepdims=True) * 10 ** (strength / 20)


def _wave(frequency: np.ndarray | float, phase: np.ndarray, samples: int) -> np.ndarray:
    """Returns a sine with a frequency in cycles a sample and a phase in cycles."""
    return np.sin(2 * np.pi * (frequency * np.arange(samples) + phase))
