"""Clips differ in nothing but the speech."""

import io
import wave

import numpy as np
import pyloudnorm
import pytest
import soundfile

from orchestrator.listening_room.sounds import beeps, levelled, low_anchor
from tests.simulated_raters import count_beeps

RATE = 16_000


def noise(seconds, gain, rate=RATE):
    return (
        (gain * np.random.default_rng(1).normal(size=round(seconds * rate))).astype(np.float32),
        rate,
    )


def loudness(wav):
    samples, rate = soundfile.read(io.BytesIO(wav))
    return pyloudnorm.Meter(rate).integrated_loudness(samples)


def test_all_have_one_loudness_rate_depth_and_header():
    sounds = [noise(1.0, 0.01), noise(2.0, 0.3), noise(1.5, 0.1, 22_050), beeps(3, RATE)]
    made = levelled(sounds)
    assert [round(seconds, 3) for _, seconds in made] == [1.0, 2.0, 1.5, 2.15]
    for wav, _ in made:
        with wave.open(io.BytesIO(wav)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
            assert len(wav) == 44 + 2 * file.getnframes()
    found = [loudness(wav) for wav, _ in made]
    assert max(found) - min(found) < 0.1


def test_a_peak_makes_all_quieter_rather_than_itself_clip():
    click = np.zeros(RATE, np.float32)
    click[::4000] = 1.0
    made = [wav for wav, _ in levelled([(click, RATE), noise(1.0, 0.05)])]
    peaks = [np.abs(soundfile.read(io.BytesIO(wav))[0]).max() for wav in made]
    assert max(peaks) == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert loudness(made[0]) == pytest.approx(loudness(made[1]), abs=0.1)


def test_silence_and_a_clip_shorter_than_a_block_pass():
    made = levelled([(np.zeros(RATE, np.float32), RATE), noise(0.1, 0.1), noise(1.0, 0.1)])
    assert [len(wav) for wav, _ in made] == [44 + 2 * RATE, 44 + 2 * 1600, 44 + 2 * RATE]
    assert abs(loudness(made[2][0]) + 23) < 0.2


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_beeps_can_be_counted(count):
    ((wav, _),) = levelled([beeps(count, RATE)])
    assert count_beeps(wav) == count


def test_the_low_anchor_lacks_what_is_high():
    samples, rate = low_anchor(noise(1.0, 0.1))
    power = np.abs(np.fft.rfft(samples)) ** 2
    high = power[round(4000 / rate * len(samples)) :].sum()
    assert high < 1e-3 * power.sum()
