"""What a check needs to know of a recording, without keeping its samples."""

from dataclasses import dataclass

import numpy as np

from jobs.audio.bandwidth import spectral_edge
from jobs.audio.files import AudioError, decode, pcm_digest
from jobs.metrics.signal import CLIPPED, rms_dbfs


@dataclass(frozen=True, slots=True)
class Sound:
    """Facts of one recording."""

    pcm: str
    """SHA-256 of the rate and the mono samples."""
    rate: int
    """Hz."""
    seconds: float
    level: float
    """RMS in dBFS, a constant offset taken out; -inf for digital silence."""
    clipped: float
    """Share of the samples at full scale, 0 to 1."""
    edge: float | None
    """Hz where the spectrum ends; None where it does not."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """Why a recording cannot be used at all."""

    rule: str
    what: str
    next_step: str


def listen(location: str) -> Sound | Unheard:
    """Decode a recording and measure it; never raises for what is wrong with it."""
    try:
        recording = decode(location)
    except AudioError as error:
        return Unheard(error.rule, error.what, error.next_step)
    samples, rate = recording.samples, recording.rate
    return Sound(
        pcm=pcm_digest(recording),
        rate=rate,
        seconds=len(samples) / rate,
        level=rms_dbfs(samples - np.mean(samples, dtype=np.float64).astype(np.float32)),
        clipped=float(np.mean(np.abs(samples) >= CLIPPED)),
        edge=spectral_edge(samples, rate),
    )
