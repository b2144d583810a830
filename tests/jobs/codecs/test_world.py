"""The embedded codec keeps speech intelligible and refuses what it would spoil."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs.codecs.recogniser import WordRecogniser
from jobs.codecs.world import (
    FEATURES,
    SAMPLE_RATE,
    SAMPLES_PER_CODE,
    UNSETTLED,
    WorldCodec,
    analyse,
)
from jobs.embedded import CODEC_DIR, RECOGNISER_DIR, VOICE_DIR
from jobs.metrics.words import word_edits

CLIPS = 20


@pytest.fixture(scope="module")
def codec() -> WorldCodec:
    return WorldCodec.load(CODEC_DIR)


@pytest.fixture(scope="module")
def clips() -> list[tuple[np.ndarray, list[str]]]:
    rows = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    return [
        (soundfile.read(VOICE_DIR / row["audio"], dtype="float32")[0], row["text"].split())
        for row in rows[:CLIPS]
    ]


def test_coded_speech_is_still_understood(codec: WorldCodec, clips: list):
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    coded = [codec.decode(codec.encode(audio, SAMPLE_RATE)) for audio, _ in clips]
    heard = recogniser.transcribe_batch(coded, SAMPLE_RATE)
    edits = sum(word_edits(h, words) for h, (_, words) in zip(heard, clips, strict=True))
    assert edits / sum(len(words) for _, words in clips) < 0.12


def test_rates_are_those_of_the_codes(codec: WorldCodec, clips: list):
    audio, _ = clips[0]
    codes = codec.encode(audio, SAMPLE_RATE)
    assert codes.dtype == np.int64
    assert len(codes) == pytest.approx(len(audio) / SAMPLE_RATE * codec.frame_rate, abs=1)
    assert len(codec.decode(codes)) == len(codes) * SAMPLES_PER_CODE
    assert (codec.sample_rate, codec.frame_rate, codec.codebook_size) == (16_000, 25.0, 1024)


def test_encoding_is_a_function_of_the_audio(codec: WorldCodec, clips: list):
    audio, _ = clips[0]
    first, second = (codec.encode(audio.copy(), SAMPLE_RATE) for _ in range(2))
    assert (first == second).all()


def test_wrong_rate_is_refused_rather_than_resampled(codec: WorldCodec, clips: list):
    with pytest.raises(ValueError, match="must be 16000 Hz, got 24000 Hz"):
        codec.encode(clips[0][0], 24_000)


@pytest.mark.parametrize("shape", [(SAMPLES_PER_CODE - 1,), (SAMPLE_RATE, 2)])
def test_audio_of_another_shape_is_refused(codec: WorldCodec, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must be \(samples,\)"):
        codec.encode(np.zeros(shape, dtype=np.float32), SAMPLE_RATE)


@pytest.mark.parametrize("codes", [[], [-1], [1024]])
def test_codes_outside_the_book_are_refused(codec: WorldCodec, codes: list[int]):
    with pytest.raises(ValueError, match="codes"):
        codec.decode(np.array(codes, dtype=np.int64))


def test_silence_has_finite_features_and_codes(codec: WorldCodec):
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    features = analyse(silence)
    assert features.shape[1] == FEATURES
    assert np.isfinite(features).all()
    assert np.abs(codec.decode(codec.encode(silence, SAMPLE_RATE))).max() < 0.05


def test_another_codec_directory_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"codec": "neucodec"}')
    with pytest.raises(ValueError, match="must be 'world', got 'neucodec'"):
        WorldCodec.load(tmp_path)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_pieces_are_the_whole_to_the_last_bit(codec: WorldCodec, clips: list, size: int):
    """Voiced and unvoiced speech; each piece before the codes that follow are known."""
    for audio, _ in clips[:2]:
        codes = codec.encode(audio, SAMPLE_RATE)
        chunks = [codes[at : at + size] for at in range(0, len(codes), size)]
        pieces = [*codec.decode_stream(chunks)]
        assert np.array_equal(np.concatenate(pieces), codec.decode(codes))
        assert len(pieces) > 1


def test_what_is_not_settled_would_change(codec: WorldCodec, clips: list):
    """The last code's worth of a piece depends on what follows it."""
    codes = codec.encode(clips[0][0], SAMPLE_RATE)
    whole, half = codec.decode(codes), codec.decode(codes[: len(codes) // 2])
    settled = len(half) - UNSETTLED
    assert np.array_equal(half[:settled], whole[:settled])
    assert not np.array_equal(half, whole[: len(half)])
