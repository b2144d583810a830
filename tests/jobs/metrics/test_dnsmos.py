from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics.base import MetricError
from jobs.metrics.dnsmos import WINDOW, Dnsmos808, Dnsmos835, windows
from jobs.metrics.signal import RATE, at_16k, normalise_level


@pytest.fixture(scope="module")
def p808():
    return Dnsmos808()


@pytest.fixture(scope="module")
def p835():
    return Dnsmos835()


# One window, then so long that speechmos drops a window. A shorter clip is heard once by us and
# up to seven times by speechmos, at shifts of its copies: close, not equal.
@pytest.mark.parametrize(("seconds", "tolerance"), [(2.5, 0.2), (10.9, 1e-5), (17.5, 1e-5)])
def test_equals_speechmos_on_the_same_audio(p808, p835, clips, seconds, tolerance):
    from speechmos import dnsmos as speechmos  # declares no dependencies: needs librosa, requests

    audio = np.tile(clips[0].audio, 2)[: int(seconds * clips[0].rate)]
    clip = replace(clips[0], audio=audio)
    ours = {**p808.measure(clip), **p835.measure(clip)}
    theirs = speechmos.run(normalise_level(at_16k(clip)), RATE)
    for name, key in (("p808", "p808"), ("ovrl", "ovrl"), ("sig", "sig"), ("bak", "bak")):
        assert ours[f"dnsmos_{name}"] == pytest.approx(theirs[f"{key}_mos"], abs=tolerance)


@pytest.mark.parametrize(
    ("seconds", "count"),
    # Half a second is repeated to fill one; of 20 and 40 s, rounding drops windows 7 to 23.
    [(0.5, 1), (9.01, 1), (10.99, 1), (11.0, 2), (20.0, 7), (40.0, 14)],
)
def test_windows_of_each_length(seconds, count):
    pieces = windows(np.ones(round(seconds * RATE), dtype=np.float32))
    assert [len(piece) for piece in pieces] == [WINDOW] * count


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


def test_gain_does_not_matter(p808, p835, clips):
    quiet = replace(clips[0], audio=(clips[0].audio * 0.03).astype(np.float32))
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
