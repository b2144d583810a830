"""Recordings as voxsweep and as ffmpeg read them, over a grid of encoders, rates and channels."""

import itertools
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from jobs.audio.files import AudioError, decode, read_audio, resample
from jobs.embedded import VOICE_DIR

pytestmark = [
    pytest.mark.ffmpeg,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on the PATH"),
]

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
LAME = {
    "constant": ("-c:a", "libmp3lame", "-b:a", "64k"),
    "average": ("-c:a", "libmp3lame", "-b:a", "64k", "-abr", "1"),
    "variable": ("-c:a", "libmp3lame", "-q:a", "4"),
    "without a header": ("-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0"),
}


PARTS = 3


def run(*arguments, data=b""):
    command = ["ffmpeg", "-v", "error", "-y", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def ffmpeg_samples(path, channels):
    return len(run("-i", str(path), "-f", "s16le", "-")) // (2 * channels)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    audio, rate = read_audio(sorted(VOICE_DIR.rglob("*.flac"))[0])
    path = tmp_path_factory.mktemp("speech") / "a.wav"
    second = 0.5 * np.roll(audio, 40)
    soundfile.write(path, np.tile(np.stack([audio, second], axis=1), (3, 1)), rate)
    return path


def encodings(speech, folder, channels):
    """Every MP3 of the grid with this number of channels, and its rate."""
    for rate, (name, options), piped in itertools.product(RATES, LAME.items(), (False, True)):
        path = folder / f"{name} {rate} {channels} {piped}.mp3"
        shape = ("-i", str(speech), "-ar", str(rate), "-ac", str(channels), *options, "-f", "mp3")
        made = run(*shape, "-" if piped else str(path))
        if piped:
            path.write_bytes(made)
        yield path, rate
    sound, speech_rate = soundfile.read(speech, dtype="float32")
    for rate, mode in itertools.product(RATES, ("CONSTANT", "AVERAGE", "VARIABLE")):
        path = folder / f"libsndfile {mode} {rate} {channels}.mp3"
        resampled = resample(sound[:, :channels], speech_rate, rate)
        soundfile.write(path, np.clip(resampled, -1, 1), rate, bitrate_mode=mode)
        yield path, rate
        joined = folder / f"joined {path.name}"
        joined.write_bytes(path.read_bytes() * PARTS)
        yield joined, rate


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 2])
def test_every_mp3_is_as_long_as_ffmpeg_finds_it(tmp_path, speech, channels):
    wrong: list[tuple[str, int, int]] = []
    count = 0
    for path, rate in encodings(speech, tmp_path, channels):
        frames = PARTS if path.name.startswith("joined") else 1  # ffmpeg may lose one at each joint
        most = frames * (576 if rate < 32_000 else 1152)
        ours, theirs = len(decode(str(path)).samples), ffmpeg_samples(path, channels)
        count += 1
        if abs(ours - theirs) > most:
            wrong.append((path.name, ours, theirs))
    assert count == len(RATES) * (2 * len(LAME) + 6)
    assert not wrong


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FOREIGN = {
    "m4a": ("-c:a", "aac", "-f", "ipod"),
    "aac": ("-c:a", "aac", "-f", "adts"),
    "wma": ("-c:a", "wmav2", "-f", "asf"),
    "webm": ("-c:a", "libopus", "-ar", "48000", "-f", "webm"),
    "mp2": ("-c:a", "mp2", "-b:a", "128k", "-f", "mp2"),
    "ac3": ("-c:a", "ac3", "-ar", "48000", "-f", "ac3"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_format_that_libsndfile_does_not_know_is_decoded_once(
    tmp_path, speech, kind, cache, monkeypatch
):
    path = tmp_path / f"a.{kind}"
    run("-i", str(speech), "-ar", "44100", *FOREIGN[kind], str(path))
    first = decode(str(path))
    expected = soundfile.info(speech).duration
    assert len(first.samples) / first.rate == pytest.approx(expected, abs=0.1)
    assert len(first.samples) == pytest.approx(ffmpeg_samples(path, 2), abs=0)
    monkeypatch.setattr("jobs.audio.foreign.subprocess", None)
    np.testing.assert_array_equal(decode(str(path)).samples, first.samples)
    assert len(list((cache / "audio").glob("*.flac"))) == 1


def test_a_cut_file_of_such_a_format_is_refused_and_leaves_nothing(tmp_path, speech, cache):
    whole, path = tmp_path / "whole.m4a", tmp_path / "cut.m4a"
    run("-i", str(speech), *FOREIGN["m4a"], "-movflags", "+faststart", str(whole))
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(AudioError, match="decoded to its end, but: ffmpeg: "):
        decode(str(path))
    assert not [file for file in cache.rglob("*") if file.is_file()]
