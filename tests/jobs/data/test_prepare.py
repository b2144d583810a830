"""Data is encoded once, and kept under the name of what it follows from."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.storage import LocalStorage
from jobs.data.audio import read_audio, resample, write_flac
from jobs.data.keys import data_key
from jobs.data.manifest import ManifestRow, read_manifest
from jobs.data.prepare import data_digest, prepare, reference_recordings
from jobs.data.prepared import read_prepared
from jobs.embedded import VOICE_DIR
from jobs.families.base import Base
from jobs.problems import InputError

TRAIN, VALIDATION = 3, 2


class Listening:
    """A base that keeps a list of what it was given to encode."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self.encoded: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def encode(
        self, audio: NDArray[np.float32], text: str
    ) -> tuple[NDArray[np.int64], tuple[int, ...] | None]:
        self.encoded.append(text)
        return self._base.encode(audio, text)


@pytest.fixture
def base(embedded_base: Base) -> Listening:
    return Listening(embedded_base)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture(scope="module")
def rows() -> list[ManifestRow]:
    """Splits alternate, so that no index is right by luck."""
    rows = read_manifest(VOICE_DIR / "manifest.jsonl")
    train = [row for row in rows if row.split == "train"][:TRAIN]
    validation = [row for row in rows if row.split == "validation"][:VALIDATION]
    return [train[0], validation[0], train[1], validation[1], train[2]]


def test_clips_are_encoded_once(rows: list[ManifestRow], base: Listening, storage: LocalStorage):
    first = prepare(rows, base, storage)
    assert base.encoded == [row.text for row in rows]
    base.encoded.clear()
    assert prepare(rows, base, storage) == first
    assert base.encoded == []


def test_clips_say_what_the_manifest_says(
    rows: list[ManifestRow], base: Listening, storage: LocalStorage
):
    clips = read_prepared(storage.fetch(data_key(prepare(rows, base, storage))))
    assert [(clip.text, clip.split) for clip in clips] == [(row.text, row.split) for row in rows]
    for row, clip in zip(rows, clips, strict=True):
        audio, rate = read_audio(row.audio)
        codes, starts = base.encode(resample(audio, rate, base.sample_rate), row.text)
        np.testing.assert_array_equal(clip.codes, codes)
        assert clip.word_starts == starts
        assert starts is not None
        assert len(starts) == len(row.text.split())
        assert len(codes) > 0
    assert base.examples(clips)


def test_references_are_the_validation_recordings(
    rows: list[ManifestRow], base: Listening, storage: LocalStorage
):
    directory = storage.fetch(data_key(prepare(rows, base, storage)))
    recorded = [row.audio for row in rows if row.split == "validation"]
    ((speaker, paths),) = reference_recordings(directory).items()
    assert speaker == "slt"
    assert len(paths) == VALIDATION
    for path, original in zip(paths, recorded, strict=True):
        audio, rate = read_audio(path)
        assert rate == base.sample_rate
        np.testing.assert_allclose(audio, resample(*read_audio(original), rate), atol=2**-15)


def test_a_recording_at_another_rate_is_resampled(
    rows: list[ManifestRow], base: Listening, storage: LocalStorage, tmp_path: Path
):
    audio, rate = read_audio(rows[1].audio)
    path = tmp_path / "high.flac"
    write_flac(path, 0.5 * resample(audio, rate, 2 * rate), 2 * rate)
    high = [rows[0], replace(rows[1], audio=str(path))]
    directory = storage.fetch(data_key(prepare(high, base, storage)))
    heard, at = read_audio(reference_recordings(directory)["slt"][0])
    assert at == base.sample_rate
    assert len(heard) == pytest.approx(len(audio) * base.sample_rate / rate, abs=2)


def test_data_that_cannot_be_encoded_leaves_nothing(
    rows: list[ManifestRow], base: Listening, storage: LocalStorage
):
    wrong = [rows[0], replace(rows[1], text="parsnip")]
    with pytest.raises(InputError, match="parsnip"):
        prepare(wrong, base, storage)
    assert not storage.is_committed(data_key(data_digest(wrong, base.encoder_digest)))
    assert storage.children("data") == []


def test_the_digest_is_of_the_content(rows: list[ManifestRow], tmp_path: Path):
    digest = data_digest(rows, "encoder")
    moved = Path(shutil.copy(rows[0].audio, tmp_path / "moved.flac"))
    elsewhere = replace(rows[0], audio=str(moved), speaker="ann")
    assert data_digest([elsewhere, *rows[1:]], "encoder") == digest

    others = [
        data_digest(rows, "another encoder"),
        data_digest(rows[:-1], "encoder"),
        data_digest([rows[1], rows[0], *rows[2:]], "encoder"),
        *(
            data_digest([replace(rows[0], **change), *rows[1:]], "encoder")
            for change in ({"text": "nine"}, {"split": "validation"}, {"audio": rows[1].audio})
        ),
    ]
    assert len({digest, *others}) == 7
