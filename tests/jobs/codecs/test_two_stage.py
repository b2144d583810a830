"""A codec in two stages: semantic codes, the vocoder's codes, sound."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobs.codecs.codec import codec_kind, load_codec
from jobs.codecs.table_stage import TableStage
from jobs.codecs.two_stage import TwoStageCodec
from jobs.embedded import CODEC_DIR
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.testing.speech import join_clips, shipped_recordings
from tests.toy import CODEBOOK, toy_base


def write_stage(directory, table, codes):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"acoustic_codes": codes}))
    save_file({"table": np.asarray(table)}, directory / "table.safetensors")


@pytest.fixture(scope="module")
def embedded():
    return load_codec(CODEC_DIR)


@pytest.fixture
def directory(tmp_path, embedded):
    """The embedded codec at both ends, each of its codes standing for itself."""
    size = embedded.codebook_size
    (tmp_path / "config.json").write_text('{"codec": "two_stage", "stage": "table"}')
    for part in ("semantic", "vocoder"):
        shutil.copytree(CODEC_DIR, tmp_path / part)
    write_stage(tmp_path / "acoustic", np.arange(size)[:, None], size)
    return tmp_path


def test_the_embedded_codec_in_two_stages_is_itself(directory, embedded):
    codec = load_codec(directory)
    assert isinstance(codec, TwoStageCodec)
    kind = codec_kind(directory)
    assert (kind.sample_rate, kind.speech_rate) == (codec.sample_rate, codec.speech_rate)
    assert kind.frame_rate == codec.frame_rate
    assert (codec.codebook_size, codec.frame_rate) == (embedded.codebook_size, embedded.frame_rate)
    clip = join_clips(shipped_recordings()[:2], 1.0)
    codes = codec.encode(clip.audio, clip.rate)
    assert np.array_equal(codes, embedded.encode(clip.audio, clip.rate))
    whole = codec.decode(codes)
    assert np.array_equal(whole, embedded.decode(codes))
    pieces = [*codec.decode_stream([codes[:9], codes[9:10], codes[10:]])]
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), whole)
    assert codec.digest != embedded.digest


class Classes:
    """Stands in for a semantic codec of 4,096 codes, half as many a second as the vocoder's."""

    codebook_size, frame_rate, sample_rate, speech_rate, digest = 4096, 12.5, 16_000, 16_000, "c"

    def encode(self, audio, rate):
        return np.arange(len(audio) * self.frame_rate // rate, dtype=np.int64) * 97 % 4096


def test_a_semantic_code_may_be_several_of_the_vocoder(embedded):
    draw = np.random.default_rng(0)
    table = draw.integers(0, embedded.codebook_size, (4096, 2))
    codec = TwoStageCodec(Classes(), TableStage(table, embedded.codebook_size, "t"), embedded, "d")
    assert (codec.codebook_size, codec.frame_rate) == (4096, 12.5)
    codes = codec.encode(np.zeros(16_000, np.float32), 16_000)
    rendered = [code for each in codes for code in table[each]]
    assert np.array_equal(codec.decode(codes), embedded.decode(np.array(rendered)))
    assert len(codec.decode(codes)) == len(codes) * codec.speech_rate / codec.frame_rate
    for wrong in (np.array([4096]), np.array([-1])):
        with pytest.raises(ValueError, match=r"codes must be in 0\.\.4095"):
            codec.decode(wrong)
        with pytest.raises(ValueError, match=r"codes must be in 0\.\.4095"):
            list(codec.decode_stream([wrong]))
    with pytest.raises(ValueError, match="empty sequence"):
        codec.decode(np.zeros(0, np.int64))


def test_a_llama_speaks_through_both_stages():
    base, prompt = toy_base(architecture="llama"), PromptSpec(id="p", text="one two")
    (clip,) = base.speak(base.model, [prompt], DecodingSpec())
    tones = base.codec
    shifted = (np.arange(CODEBOOK)[:, None] + 1) % CODEBOOK
    base.codec = TwoStageCodec(tones, TableStage(shifted, CODEBOOK, "t"), tones, "d")
    (rendered,) = base.speak(base.model, [prompt], DecodingSpec())
    (ids,) = base.generate(base.model, [prompt], DecodingSpec())
    codes = base.stream.codes(ids)
    assert np.array_equal(clip.audio, tones.decode(codes))
    assert np.array_equal(rendered.audio, tones.decode((codes + 1) % CODEBOOK))


def test_each_part_is_in_the_digest(directory, embedded):
    before = load_codec(directory).digest
    size = embedded.codebook_size
    write_stage(directory / "acoustic", np.arange(size)[::-1, None].copy(), size)
    assert load_codec(directory).digest != before


def test_parts_that_do_not_fit_are_refused(directory, embedded):
    size = embedded.codebook_size
    acoustic = directory / "acoustic"
    for table, codes, said in (
        (np.zeros((size - 1, 1), np.int64), size, f"reads {size - 1} different codes, but"),
        (np.zeros((size, 1), np.int64), size + 1, f"writes {size + 1} different codes, but"),
        (np.full((size, 1), size), size, "codes below acoustic_codes"),
        (np.full((size, 1), -1), size, "codes below acoustic_codes"),
        (np.zeros(size, np.int64), size, r"must be \(codes, acoustic codes of each\)"),
        (np.zeros((size, 1)), size, "must be of integers, got float64"),
        (np.zeros((size, 1), np.int64), None, "acoustic_codes None"),
    ):
        write_stage(acoustic, table, codes)
        with pytest.raises(ValueError, match=said):
            load_codec(directory)
    (directory / "config.json").write_text('{"codec": "two_stage", "stage": "tabel"}')
    with pytest.raises(ValueError, match="stage must be one of table, got 'tabel'"):
        load_codec(directory)
    shutil.rmtree(directory / "vocoder")
    with pytest.raises(FileNotFoundError):
        codec_kind(directory)
