import copy
import json

import numpy as np
import pytest
import soundfile

from jobs.audio.files import (
    RESAMPLER,
    AudioError,
    Recording,
    decode,
    pcm_digest,
    read_audio,
    resample,
    write_flac,
)
from jobs.embedded import VOICE_DIR


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
    with pytest.raises(OSError, match=r"cannot be written: .*sample rate"):
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


@pytest.mark.parametrize("rate", [8_000, 24_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_whole_recording_is_decoded_as_a_trusted_file_is_read(
    tmp_path, rate, channels, monkeypatch
):
    path = str(tmp_path / "a.wav")
    loud = np.stack([tone(rate, hertz=100 * (each + 1)) for each in range(channels)], axis=1)
    soundfile.write(path, loud, rate, subtype="PCM_24")
    audio, read_rate = read_audio(path)
    for block in (2**22, 1000):
        monkeypatch.setattr("jobs.audio.files._BLOCK", block)
        recording = decode(path)
        assert (recording.rate, recording.channels) == (read_rate, channels) == (rate, channels)
        assert recording.samples.dtype == np.float32
        np.testing.assert_array_equal(recording.samples, audio)


def test_the_shipped_clips_are_whole():
    rows = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        recording = decode(str(VOICE_DIR / row["audio"]))
        assert len(recording.samples) / recording.rate == pytest.approx(row["duration"], abs=0.01)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "DOUBLE"),
        ("WAV", "MS_ADPCM"),
        ("WAV", "ULAW"),
        ("WAVEX", "PCM_24"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
    ],
)
@pytest.mark.parametrize("seconds", [0.05, 1.0, 10.0])
def test_every_kind_of_whole_file_is_read(tmp_path, kind, subtype, seconds):
    path = str(tmp_path / "a")
    soundfile.write(path, tone(24_000, seconds), 24_000, format=kind, subtype=subtype)
    recording = decode(path)
    assert len(recording.samples) / 24_000 == pytest.approx(seconds, abs=0.05)
    assert np.sqrt(np.mean(recording.samples**2)) == pytest.approx(0.35, abs=0.1)


def test_one_live_channel_of_eight_does_not_cancel(tmp_path):
    sound = np.zeros((8000, 8))
    sound[:, 3] = tone(16_000)
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    assert decode(str(tmp_path / "a.wav")).channels == 8


def test_silent_channels_are_silent_and_no_antiphase(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((8000, 2)), 16_000)
    assert not decode(str(tmp_path / "a.wav")).samples.any()


def test_the_digest_is_of_the_sound_and_its_rate(tmp_path):
    whole = (tone(16_000) * 2**15).astype(np.int16)
    for name, kind in (("a.wav", "WAV"), ("a.flac", "FLAC")):
        soundfile.write(tmp_path / name, whole, 16_000, format=kind, subtype="PCM_16")
    soundfile.write(tmp_path / "b.wav", whole, 16_001)
    soundfile.write(tmp_path / "c.wav", np.concatenate([whole[:-1], whole[-1:] + 1]), 16_000)
    first, *others = (
        pcm_digest(decode(str(tmp_path / name))) for name in ("a.wav", "a.flac", "b.wav", "c.wav")
    )
    assert [each == first for each in others] == [True, False, False]


def test_the_digest_is_what_it_was():
    recording = Recording(np.array([0, 0.5, -1], dtype=np.float32), 24_000, 1)
    assert pcm_digest(recording)[:16] == "0937d7a3f9c105aa"


def test_recordings_are_read_in_s3(bucket, tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(16_000), 16_000)
    bucket.upload_file(str(tmp_path / "a.flac"), "v/a.flac")
    bucket.put_object(Key="v/cut.flac", Body=(tmp_path / "a.flac").read_bytes()[:-20])
    audio, rate = read_audio(tmp_path / "a.flac")
    recording = decode("s3://voices/v/a.flac")
    assert recording.rate == rate
    np.testing.assert_array_equal(recording.samples, audio)
    np.testing.assert_array_equal(read_audio("s3://voices/v/a.flac")[0], audio)
    for name, rule in (("cut", "audio-truncated"), ("gone", "audio-missing")):
        with pytest.raises(AudioError) as caught:
            decode(f"s3://voices/v/{name}.flac")
        assert caught.value.rule == rule


def test_an_error_can_be_taken_apart_and_put_together():
    """As it is when it goes from one process to another."""
    again = copy.copy(AudioError("audio-empty", "audio must have bytes", "Copy it again."))
    assert (again.rule, str(again)) == ("audio-empty", "audio must have bytes. Copy it again.")
