"""Real speech to measure: the shipped voice, joined into clips of about ten seconds.

A clip of 9 to 11 s is one DNSMOS window, so it costs least there and says most.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from jobs.clips import SpokenClip
from jobs.testing.speech import join_clips, shipped_recordings

Noisy = Callable[[SpokenClip, float], SpokenClip]


@pytest.fixture(scope="session")
def recordings() -> list[SpokenClip]:
    """The shipped clips of one speaker, as they are."""
    clips = shipped_recordings()
    assert len(clips) >= 20
    return clips


@pytest.fixture(scope="session")
def clips(recordings) -> list[SpokenClip]:
    """Two long clips, of recordings after the first ten (which tests use as references)."""
    return [join_clips(recordings[start : start + 5], seconds=10.0) for start in (10, 15)]


@pytest.fixture(scope="session")
def noisy() -> Noisy:
    """Adds white noise at an SNR in dB, relative to the whole clip's power."""

    def add(clip: SpokenClip, snr: float) -> SpokenClip:
        noise = np.random.default_rng(0).standard_normal(len(clip.audio))
        power = float(np.mean(np.square(clip.audio, dtype=np.float64)))
        audio = clip.audio + noise * np.sqrt(power / 10 ** (snr / 10))
        return replace(clip, audio=np.clip(audio, -1.0, 1.0).astype(np.float32))

    return add
