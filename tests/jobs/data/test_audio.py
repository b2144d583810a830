import numpy as np
import pytest
import soundfile

from jobs.data.audio import RESAMPLER, read_audio, resample, write_flac


def tone(rate, seconds=0.5, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(
        np.float32
    )


def test_flac_round_trip_within_half_a_16_bit_step(tmp_path):
    path = tmp_path / "a.flac"
    write_flac(path, tone(24_000), 24_000)
    audio, rate = read_audio(path)
    assert rate == 24_000
    assert audio.dtype == np.float32
    assert np.max(np.abs(audio - tone(24_000))) <= 2.0**-15
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


def test_an_older_file_stays_whole_when_writing_fails(tmp_path):
    path = tmp_path / "a.flac"
    write_flac(path, tone(16_000), 16_000)
    before = path.read_bytes()
    with pytest.raises(soundfile.SoundFileError):
        write_flac(path, tone(16_000), 10_000_000)  # not a rate FLAC can hold
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


@pytest.mark.parametrize("bad", [1.5, -1.01, np.nan, np.inf])
def test_samples_that_flac_cannot_hold_are_refused(tmp_path, bad):
    audio = tone(16_000)
    audio[7] = bad
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        write_flac(tmp_path / "a.flac", audio, 16_000)
    assert not list(tmp_path.iterdir())


def test_channels_are_averaged(tmp_path):
    left, right = tone(16_000), np.zeros(8000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    audio, _ = read_audio(tmp_path / "a.wav")
    assert audio.shape == (8000,)
    np.testing.assert_allclose(audio, left / 2, atol=1e-7)


def test_resampling_keeps_a_tone_and_its_length():
    resampled = resample(tone(24_000), 24_000, 16_000)
    assert resampled.dtype == np.float32
    assert len(resampled) == 8000
    np.testing.assert_allclose(resampled[500:-500], tone(16_000)[500:-500], atol=1e-3)


def test_resampling_to_the_same_rate_changes_nothing():
    audio = tone(16_000)
    assert resample(audio, 16_000, 16_000) is audio


def test_resampling_does_not_alias():
    assert np.max(np.abs(resample(tone(24_000, hertz=11_000), 24_000, 16_000)[500:-500])) < 1e-3


def test_the_resampler_names_its_version():
    assert RESAMPLER.startswith("soxr-1")
