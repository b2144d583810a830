from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics.base import MetricError
from jobs.metrics.dnsmos import WINDOW, Dnsmos808, Dnsmos835, Windows
from jobs.metrics.signal import RATE, at_16k, normalise_level


@pytest.fixture(scope="module")
def p808():
    return Dnsmos808()


@pytest.fixture(scope="module")
def p835():
    return Dnsmos835()


# Clips that speechmos doubles: two that are a whole number of frames and not of cells, one of both,
# one of neither; then windows that overlap, and so long that it drops some.
@pytest.mark.parametrize("seconds", [0.37, 1.17, 4.0, 4.1301, 12.3, 17.5])
def test_equals_speechmos_on_the_same_audio(p808, p835, clips, seconds):
    from speechmos import dnsmos as speechmos  # declares no dependencies: needs librosa, requests

    audio = np.tile(clips[0].audio, 2)[: round(seconds * clips[0].rate)]
    clip = replace(clips[0], audio=audio)
    ours = {**p808.measure(clip), **p835.measure(clip)}
    theirs = speechmos.run(normalise_level(at_16k(clip)), RATE)
    for name, key in (("p808", "p808"), ("ovrl", "ovrl"), ("sig", "sig"), ("bak", "bak")):
        assert ours[f"dnsmos_{name}"] == pytest.approx(theirs[f"{key}_mos"], abs=1e-5)


@pytest.mark.parametrize(
    ("seconds", "weights"),
    [
        # 16 s of copies hold seven windows, which are one, two, four or seven different ones.
        (0.5, [7]),
        (2.0, [4, 3]),
        (4.0, [2, 2, 2, 1]),
        (4.1, [1] * 7),
        (4.505, [1]),
        (9.01, [1]),
        (10.99, [1]),
        (11.0, [1, 1]),
        # Rounding drops windows 7 to 23.
        (20.0, [1] * 7),
        (40.0, [1] * 14),
    ],
)
def test_windows_of_each_length(seconds, weights):
    windows = Windows.of(np.arange(round(seconds * RATE), dtype=np.float32))
    assert list(windows.weights.values()) == weights
    pieces = [windows.piece(start, WINDOW) for start in windows.weights]
    assert len({piece.tobytes() for piece in pieces}) == len(pieces)


@pytest.mark.parametrize(("samples", "cells"), [(64_000, 104), (64_160, 375), (66_081, 375)])
def test_what_copies_share_is_computed_once(samples, cells):
    """A period of 4 s is 100 cells, and two more at either end belong to no window."""
    windows = Windows.of(np.zeros(samples, dtype=np.float32))
    count, columns = windows.columns(640, width=225, margin=2)
    assert count == cells
    for start, taken in zip(windows.weights, columns, strict=True):
        assert len(taken) == 221
        assert taken.min() >= 2
        assert taken.max() < count - 2
        at = start + 640 * np.arange(2, 223)
        assert np.all((640 * taken - at) % samples == 0)


def test_noise_lowers_quality(p808, p835, clips, noisy):
    means = []
    for snr in (np.inf, 20.0, 10.0, 0.0):
        heard = [noisy(clip, snr) for clip in clips]
        scores = [{**p808.measure(clip), **p835.measure(clip)} for clip in heard]
        means.append({name: np.mean([s[name] for s in scores]) for name in scores[0]})
    for name in ("dnsmos_p808", "dnsmos_ovrl", "dnsmos_bak"):
        falling = [row[name] for row in means]
        # OVRL may not tell 20 from 10 dB on a vocoded voice; nothing else may be out of order.
        if name != "dnsmos_ovrl":
            assert falling == sorted(falling, reverse=True), (name, falling)
        assert falling[0] == max(falling)
        assert falling[-1] == min(falling)
        assert falling[0] - falling[-1] > 0.4, (name, falling)


@pytest.mark.parametrize("decibels", [-6.0, -20.0, -30.0])
def test_gain_does_not_matter(p808, p835, clips, decibels):
    gain = np.float32(10 ** (decibels / 20))
    quiet = replace(clips[0], audio=clips[0].audio * gain)
    for scorer in (p808, p835):
        assert scorer.measure(quiet) == pytest.approx(scorer.measure(clips[0]), abs=1e-3)


def test_gain_would_matter_without_level_normalisation(p835, clips):
    """The reason for the normalisation, so that nobody removes it as needless."""
    from speechmos import dnsmos as speechmos

    audio = at_16k(clips[0])
    loud, quiet = (speechmos.run(audio * gain, RATE)["ovrl_mos"] for gain in (1.0, 0.03))
    assert abs(loud - quiet) > 0.05


def test_near_silence_is_refused(p808, clips):
    hiss = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 1e-4
    with pytest.raises(MetricError, match="silence: RMS -80"):
        p808.measure(replace(clips[0], audio=hiss, rate=RATE))
