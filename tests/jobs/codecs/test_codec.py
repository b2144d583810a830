"""Which codec a directory holds, and what each promises."""

import json

import numpy as np
import pytest

from jobs.codecs.codec import CODECS, codec_kind, load_codec
from jobs.embedded import CODEC_DIR
from jobs.testing.speech import join_clips, shipped_recordings
from tests.jobs.codecs.tiny_neucodec import write_neucodec


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    neucodec = write_neucodec(tmp_path_factory.mktemp("codecs") / "neucodec")
    return {"world": load_codec(CODEC_DIR), "neucodec": load_codec(neucodec)}


def sound(seconds):
    """Speech."""
    return join_clips(shipped_recordings()[:5], seconds).audio[: round(16_000 * seconds)]


@pytest.mark.parametrize("name", CODECS)
def test_rates_are_those_of_the_sound(codecs, name):
    codec, kind = codecs[name], CODECS[name]
    assert (codec.sample_rate, codec.speech_rate) == (kind.sample_rate, kind.speech_rate)
    codes = codec.encode(sound(2.0), codec.sample_rate)
    assert codes.dtype == np.int64
    assert len(codes) == pytest.approx(2.0 * codec.frame_rate, abs=1)
    assert 0 <= codes.min() <= codes.max() < codec.codebook_size
    assert len(set(codes.tolist())) > 3
    audio = codec.decode(codes)
    assert len(audio) == len(codes) * codec.speech_rate / codec.frame_rate
    assert audio.dtype == np.float32
    assert 0 < np.abs(audio).max() <= 1


@pytest.mark.parametrize("name", CODECS)
def test_it_is_a_function_of_what_it_is_given(codecs, name):
    codec = codecs[name]
    codes = codec.encode(sound(0.5), codec.sample_rate)
    assert np.array_equal(codes, codec.encode(sound(0.5), codec.sample_rate))
    assert np.array_equal(codec.decode(codes), codec.decode(codes))


@pytest.mark.parametrize("name", CODECS)
def test_what_does_not_fit_is_refused(codecs, name):
    codec = codecs[name]
    with pytest.raises(ValueError, match=f"must be {codec.sample_rate} Hz, got 24000 Hz"):
        codec.encode(sound(0.5), 24_000)
    with pytest.raises(ValueError, match=r"with at least \d+, got \(10,\)"):
        codec.encode(sound(0.5)[:10], codec.sample_rate)
    with pytest.raises(ValueError, match="empty sequence"):
        codec.decode(np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match=r"codes must be in 0\.\."):
        codec.decode(np.array([codec.codebook_size]))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_have_the_length_of_the_whole(codecs, name, size):
    codec = codecs[name]
    codes = np.random.default_rng(0).integers(0, codec.codebook_size, 60)
    chunks = [codes[at : at + size] for at in range(0, len(codes), size)]
    pieces = [*codec.decode_stream(chunks)]
    assert all(piece.size for piece in pieces)
    assert sum(map(len, pieces)) == len(codec.decode(codes))
    assert [*codec.decode_stream([])] == []


@pytest.mark.parametrize("name", CODECS)
def test_the_first_piece_does_not_wait_for_the_last_code(codecs, name):
    codec, given = codecs[name], []

    def chunks():
        for _ in range(10):
            given.append(len(given))
            yield np.zeros(10, dtype=np.int64)

    next(codec.decode_stream(chunks()))
    assert len(given) <= 2


def test_a_directory_says_its_kind(tmp_path):
    assert codec_kind(CODEC_DIR) is CODECS["world"]
    with pytest.raises(FileNotFoundError):
        codec_kind(tmp_path)
    for written, said in (
        ("{", "must be JSON"),
        ('{"codec": "opus"}', "neucodec, two_stage, got 'op"),
    ):
        (tmp_path / "config.json").write_text(written)
        with pytest.raises(ValueError, match=said):
            load_codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"codec": "neucodec"}))
    assert codec_kind(tmp_path).speech_rate == 24_000
