"""Real speech to measure: the shipped voice, joined into clips of about ten seconds.

A clip of 9 to 11 s is one DNSMOS window, so it costs least there and says most.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from jobs import embedded
from jobs.audio.files import read_audio
from jobs.clips import SpokenClip

Noisy = Callable[[SpokenClip, float], SpokenClip]


@pytest.fixture(scope="session")
def recordings() -> list[SpokenClip]:
    """The shipped clips of one speaker, as they are."""
    lines = (embedded.VOICE_DIR / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    clips = [
        SpokenClip(*read_audio(embedded.VOICE_DIR / row["audio"]), row["text"], reached_end=True)
        for row in rows
    ]
    assert len(clips) >= 20
    return clips


@pytest.fixture(scope="session")
def clips(recordings) -> list[SpokenClip]:
    """Two long clips, of recordings after the first ten (which tests use as references)."""
    return [_join(recordings[start : start + 5], seconds=10.0) for start in (10, 15)]


def _join(parts: list[SpokenClip], seconds: float) -> SpokenClip:
    """``parts`` with even, nearly silent pauses, and no silence at either end."""
    rate = parts[0].rate
    missing = max(0, int(seconds * rate) - sum(len(part.audio) for part in parts))
    pause = np.zeros(missing // max(1, len(parts) - 1), dtype=np.float32)
    pieces = [piece for part in parts for piece in (part.audio, pause)][:-1]
    return SpokenClip(
        np.concatenate(pieces), rate, " ".join(part.text for part in parts), reached_end=True
    )


@pytest.fixture(scope="session")
def noisy() -> Noisy:
    """Adds white noise at an SNR in dB, relative to the whole clip's power."""

    def add(clip: SpokenClip, snr: float) -> SpokenClip:
        noise = np.random.default_rng(0).standard_normal(len(clip.audio))
        power = float(np.mean(np.square(clip.audio, dtype=np.float64)))
        audio = clip.audio + noise * np.sqrt(power / 10 ** (snr / 10))
        return replace(clip, audio=np.clip(audio, -1.0, 1.0).astype(np.float32))

    return add
