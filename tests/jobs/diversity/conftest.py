"""Clips to summarise, made up, and real ones to measure."""

import numpy as np
import pytest

from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.data.checks.target import target_rows
from jobs.data.clips import TargetClip
from jobs.diversity.clips import ClipFeatures
from jobs.spec.data import DataSpec

TYPICAL = {
    "level": -20.0,
    "dynamics": 25.0,
    "dnsmos_ovrl": 3.2,
    "dnsmos_p808": 3.6,
    "wada_snr": 40.0,
    "dnsmos_bak": 4.0,
    "log2_f0": 7.5,
    "f0_sd": 3.0,
    "speaking_rate": 14.0,
    "centroid_similarity": 0.9,
    "duration": 6.0,
}


@pytest.fixture
def typical():
    """A clean clip, with changes; ``failures`` take values away."""

    def make(text="a text", speaker="ada", failures=None, **changes) -> ClipFeatures:
        failures = failures or {}
        values = {k: v for k, v in {**TYPICAL, **changes}.items() if k not in failures}
        return ClipFeatures(speaker, text, values, failures)

    return make


@pytest.fixture
def varied(typical):
    """``count`` clean clips; each feature named has this standard deviation around the typical."""

    def make(count=120, speaker="ada", **sds) -> list[ClipFeatures]:
        ramp = np.linspace(-1, 1, count)
        ramp /= ramp.std(ddof=1)
        return [
            typical(f"text {i}", speaker, **{k: TYPICAL[k] + sd * x for k, sd in sds.items()})
            for i, x in enumerate(ramp)
        ]

    return make


@pytest.fixture(scope="session")
def voice() -> list[TargetClip]:
    """The shipped voice; its clips' names stand for the digests of their sound."""
    return [
        TargetClip(row, row.audio, 16_000, row.duration) for row in target_rows(DataSpec()).items
    ]


@pytest.fixture(scope="session")
def recordings(voice) -> list[SpokenClip]:
    rows = [clip.row for clip in voice[:3]]
    return [SpokenClip(*read_audio(row.audio), row.text, reached_end=True) for row in rows]
