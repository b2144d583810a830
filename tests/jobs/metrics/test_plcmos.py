from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics.base import MetricError
from jobs.metrics.plcmos import RATERS_SEED, Plcmos
from jobs.metrics.signal import RATE, at_16k


@pytest.fixture(scope="module")
def plcmos():
    return Plcmos()


# Frames that fill up and that do not; shorter than they are, too.
@pytest.mark.parametrize("samples", [1281, 16_000, 64_000, 66_081])
# speechmos makes a number of an array of one, which numpy has deprecated.
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
def test_equals_speechmos_that_draws_the_same_raters(plcmos, clips, samples):
    from speechmos import plcmos as speechmos

    audio = at_16k(clips[0])[:samples].copy()
    audio[samples // 2 : samples // 2 + 600] = 0.0  # a lost packet, and frames without any power
    np.random.seed(RATERS_SEED)
    theirs = speechmos.run(audio, RATE)["plcmos"]
    assert plcmos.opinion(audio) == pytest.approx(theirs, abs=1e-4)


def test_lost_packets_lower_it(plcmos, clips):
    lost = clips[0].audio.copy()
    for start in range(0, len(lost), lost.size // 20):
        lost[start : start + clips[0].rate // 25] = 0.0
    broken = plcmos.measure(replace(clips[0], audio=lost))["plcmos"]
    assert broken < plcmos.measure(clips[0])["plcmos"] - 0.2


def test_it_must_not_rank(plcmos, clips, noisy):
    """Why it is a flag only: of white noise alone it thinks better than of noisy speech."""
    speech = at_16k(clips[0])
    noise = np.random.default_rng(0).standard_normal(len(speech)) * np.std(speech)
    noisy_speech = plcmos.opinion(at_16k(noisy(clips[0], 10.0)))
    assert plcmos.opinion(noise.astype(np.float32)) > noisy_speech + 0.3


def test_gain_does_not_matter_and_asking_again_neither(plcmos, clips):
    quiet = replace(clips[0], audio=clips[0].audio * np.float32(0.03))
    first = plcmos.measure(clips[0])
    assert plcmos.measure(clips[0]) == first
    assert plcmos.measure(quiet) == pytest.approx(first, abs=1e-3)


def test_too_short_to_be_heard(plcmos):
    with pytest.raises(MetricError, match=r"0\.08 s of audio are too short"):
        plcmos.opinion(np.ones(1280, dtype=np.float32))
