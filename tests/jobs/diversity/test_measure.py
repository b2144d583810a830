"""Training clips are measured once, each in every feature or with the reason why not."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio, write_flac
from jobs.data.clips import ManifestRow, TargetClip
from jobs.diversity import measure as module
from jobs.diversity.clips import FEATURES, ClipFeatures
from jobs.diversity.measure import (
    FILE,
    leave_one_out,
    measure_clips,
    measure_once,
    read_measured,
    training_clips,
)

RATE = 16_000


def buzz(pitch, seconds=1.5, level=-20.0):
    """A pulse train at ``pitch`` Hz, syllable by syllable: the detector takes it for speech."""
    time = np.arange(int(seconds * RATE)) / RATE
    harmonics = range(1, int(3500 / pitch))
    audio = sum(np.cos(2 * np.pi * pitch * h * time) / h for h in harmonics)
    audio *= np.sqrt(np.abs(np.sin(2 * np.pi * 3 * time)))
    audio *= 10 ** (level / 20) / np.sqrt(np.mean(audio**2))
    return audio.astype(np.float32)


def changed(clip, **keys) -> TargetClip:
    return replace(clip, row=replace(clip.row, **keys))


@pytest.fixture(scope="module")
def clips(tmp_path_factory, voice) -> list[TargetClip]:
    """Two clips of the shipped voice, a buzz of known level and pitch, and silence."""
    folder = tmp_path_factory.mktemp("clips")
    made = {"buzz": buzz(200.0, level=-22.0), "silence": np.zeros(RATE, np.float32)}
    for name, audio in made.items():
        write_flac(folder / f"{name}.flac", audio, RATE)
    buzzing = ManifestRow(
        where="m:1",
        audio=str(folder / "buzz.flac"),
        text="ab cd ef",
        split="train",
        speaker="slt",
    )
    silent = ManifestRow(
        where="m:1", audio=str(folder / "silence.flac"), text="nothing", split="train"
    )
    return [
        *(changed(clip, split="train") for clip in voice[:2]),
        TargetClip(buzzing, "buzz", RATE, 1.5),
        TargetClip(silent, "silence", RATE, 1.0),
        changed(voice[-1], split="validation"),
    ]


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> LocalStorage:
    return LocalStorage(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def key(clips, storage) -> str:
    return measure_once(clips, storage)


@pytest.fixture
def measured(storage, key) -> list[ClipFeatures]:
    return read_measured(storage, key)


def test_training_clips_alone_in_their_order(clips, measured):
    assert [clip.text for clip in measured] == [clip.row.text for clip in clips[:-1]]
    assert [clip.speaker for clip in measured] == ["slt", "slt", "slt", "unnamed"]


def test_every_feature_or_the_reason(measured):
    for clip in measured[:3]:
        assert clip.failures == {}
        assert set(clip.values) == set(FEATURES)
    silent = measured[3]
    assert set(silent.values) == {"duration"}
    assert set(silent.failures) == set(FEATURES) - {"duration"}
    assert all(why.startswith("silence: RMS") for why in silent.failures.values())


def test_features_of_a_known_signal(measured):
    buzzing = measured[2].values
    assert buzzing["log2_f0"] == pytest.approx(math.log2(200), abs=0.01)
    assert buzzing["f0_sd"] < 0.2
    assert buzzing["level"] == pytest.approx(-22.0, abs=1.5)
    assert buzzing["duration"] == 1.5
    assert buzzing["centroid_similarity"] < measured[0].values["centroid_similarity"]


def test_it_is_measured_once(clips, storage, key, monkeypatch):
    written = storage.read(f"{key}/{FILE}")

    def again(clips):
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measure_clips", again)
    assert measure_once(clips, storage) == key
    assert storage.read(f"{key}/{FILE}") == written
    # What is held out is not measured, so that another choice of it changes nothing.
    assert measure_once(clips[:-1], storage) == key


@pytest.mark.parametrize("change", [{"text": "other"}, {"speaker": "bea"}])
def test_other_data_is_measured_anew(clips, storage, key, monkeypatch, change):
    monkeypatch.setattr(module, "measure_clips", lambda clips: [])
    assert measure_once([changed(clips[0], **change), *clips[1:]], storage) != key


def test_other_sound_is_measured_anew(clips, storage, key, monkeypatch):
    monkeypatch.setattr(module, "measure_clips", lambda clips: [])
    assert measure_once([replace(clips[0], pcm="other"), *clips[1:]], storage) != key


def test_the_file_reads_as_it_was_written(tmp_path, clips, measured, monkeypatch):
    monkeypatch.setattr(module, "measure_clips", lambda clips: measured)
    storage = LocalStorage(tmp_path)
    assert read_measured(storage, measure_once(clips, storage)) == measured


def test_leave_one_out_by_hand():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    expected = [
        0.6 / math.hypot(0.6, 1.8),  # against the direction of (0.6, 1.8)
        0.8 / math.hypot(1.6, 0.8),
        (0.6 + 0.8) / math.hypot(1.0, 1.0),
    ]
    assert leave_one_out(vectors) == pytest.approx(expected)
    assert np.isnan(leave_one_out(vectors[:1])).all()


def test_another_speaker_is_compared_with_and_a_lone_clip_says_so(voice):
    speakers = ("ada", "ada", "bea")
    clips = [changed(clip, speaker=name) for clip, name in zip(voice[:3], speakers, strict=True)]
    ada, other, bea = measure_clips(clips)
    assert ada.values["centroid_similarity"] == pytest.approx(
        other.values["centroid_similarity"], abs=1e-4
    )
    assert 0 < ada.values["other_similarity"] < 1
    assert bea.failures == {"centroid_similarity": "no other clip of its speaker to compare with"}
    assert 0 < bea.values["other_similarity"] < 1


def test_held_out_clips_are_not_trained_on(voice):
    assert len(training_clips(voice)) == 450
    assert read_audio(training_clips(voice)[0].row.audio)[1] == RATE
