from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics.base import MetricError
from jobs.metrics.signal import (
    ACTIVE_LEVEL,
    FRAME,
    PEAK_LIMIT,
    RATE,
    WadaSnr,
    active_level,
    at_16k,
    clipping,
    level,
    normalise_level,
    speech_frames,
    wada_snr,
)


def gamma_speech(samples, snr):
    """Amplitudes exactly as WADA-SNR models them: gamma(0.4) speech and Gaussian noise."""
    source = np.random.default_rng(0)
    speech = source.gamma(0.4, size=samples) * source.choice([-1, 1], samples)
    noise = source.standard_normal(samples) * np.sqrt(0.4 * 1.4) * 10 ** (-snr / 20)
    return ((speech + noise) / 20).astype(np.float32)


def test_level_is_of_the_speech_and_not_of_the_silence_around_it(clips):
    padding = np.zeros(5 * clips[0].rate, dtype=np.float32)
    padded = replace(clips[0], audio=np.concatenate([clips[0].audio, padding]))
    alone = level(clips[0])
    assert level(padded) == pytest.approx(alone, abs=0.3)


def test_level_is_the_rms_of_the_speech_frames(clips):
    """In numbers that the module under test has not computed."""
    audio = at_16k(clips[0])
    frames = audio[: len(audio) - len(audio) % FRAME].reshape(-1, FRAME)[speech_frames(audio)]
    expected = 20 * np.log10(np.sqrt(np.mean(frames.astype(np.float64) ** 2)))
    assert level(clips[0]) == pytest.approx(expected, abs=1e-6)
    assert -40 < expected < -10


def test_level_follows_gain(clips):
    halved = replace(clips[0], audio=clips[0].audio * np.float32(0.5))
    difference = level(clips[0]) - level(halved)
    assert difference == pytest.approx(20 * np.log10(2), abs=1e-3)


def test_speech_frames_do_not_depend_on_gain(clips):
    audio = at_16k(clips[0])
    assert np.mean(speech_frames(audio) == speech_frames(audio * np.float32(0.05))) > 0.995


def test_normalised_speech_has_the_active_level(clips):
    audio = normalise_level(at_16k(clips[0]) * np.float32(0.1))
    assert active_level(audio) == pytest.approx(ACTIVE_LEVEL, abs=0.05)


def test_normalising_never_clips(clips):
    spiky = at_16k(clips[0]) * np.float32(0.01)
    spiky[RATE] = 1.0
    assert np.max(np.abs(normalise_level(spiky))) == pytest.approx(PEAK_LIMIT, abs=1e-6)


@pytest.mark.parametrize(
    "audio", [np.zeros(RATE), np.full(RATE, 1e-4), np.full(RATE, np.nan), np.zeros(0)]
)
def test_silence_has_no_speech(audio):
    with pytest.raises(MetricError, match="silence: RMS"):
        speech_frames(audio.astype(np.float32))


def test_less_than_a_frame_is_not_speech():
    scrap = np.full(FRAME - 1, 0.1, dtype=np.float32)
    with pytest.raises(MetricError, match=r"no speech found in 0\.01 s"):
        speech_frames(scrap)


def test_clipping_counts_samples_at_full_scale(clips):
    audio = np.array([0.0, 0.5, 0.998, 0.999, -1.0], dtype=np.float32)
    assert clipping(replace(clips[0], audio=audio)) == 0.4
    driven = np.clip(clips[0].audio * 8, -1, 1)
    assert clipping(clips[0]) == 0.0
    assert clipping(replace(clips[0], audio=driven)) > 0.01


@pytest.mark.parametrize("snr", [-5, 0, 10, 20, 30])
def test_wada_snr_inverts_its_own_model(snr):
    assert wada_snr(gamma_speech(500_000, snr)) == pytest.approx(snr, abs=1.0)


def test_wada_snr_is_capped_at_both_ends():
    sparse = np.where(np.arange(16_000) % 100, 2.0**-14, 0.5).astype(np.float32)
    assert wada_snr(sparse) == 60.0
    noise = np.random.default_rng(0).standard_normal(500_000).astype(np.float32) / 10
    assert wada_snr(noise) < -10.0
    constant = np.full(1000, 0.1, dtype=np.float32)
    assert wada_snr(constant) == -20.0


def test_wada_snr_of_noisy_speech_follows_the_noise(recordings, noisy):
    """On the shipped voice the steps are right and the level is low: it is vocoded and without
    pauses, so its own amplitudes are less spread than the gamma distribution's.
    """
    truth = np.array([20.0, 10.0, 0.0])
    read = [
        np.mean([WadaSnr().measure(noisy(clip, snr))["wada_snr"] for clip in recordings[10:20]])
        for snr in truth
    ]
    assert -np.diff(read) == pytest.approx([10.0, 10.0], abs=2.5)
    assert np.all((truth - 10.0 < read) & (read < truth + 1.0)), read


def test_wada_snr_does_not_hear_digital_silence(clips):
    padding = np.zeros(3 * clips[0].rate, dtype=np.float32)
    padded = replace(clips[0], audio=np.concatenate([padding, clips[0].audio, padding]))
    alone = WadaSnr().measure(clips[0])["wada_snr"]
    assert WadaSnr().measure(padded)["wada_snr"] == pytest.approx(alone, abs=1.0)
    assert alone < 60.0


def test_wada_snr_of_digital_silence():
    with pytest.raises(MetricError, match="half a 16-bit step"):
        wada_snr(np.zeros(RATE, dtype=np.float32))
