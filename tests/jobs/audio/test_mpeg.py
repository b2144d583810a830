"""MP3 files whose header claims another length than they have, or none."""

import io

import numpy as np
import pytest
import soundfile

from jobs.audio.files import AudioError, decode
from jobs.audio.mpeg import read_mpeg


def chirp(seconds, rate):
    at = np.arange(int(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * at) * at)).astype("float32")


def mp3(seconds=2.0, rate=24_000, channels=1, mode="CONSTANT"):
    held = io.BytesIO()
    sound = np.stack([chirp(seconds, rate)] * channels, axis=1)
    soundfile.write(held, sound, rate, format="MP3", bitrate_mode=mode)
    return held.getvalue()


def without_header(data):
    """The frames of ``data``, as they go through a pipe."""
    title = max(data.find(b"Info"), data.find(b"Xing"))
    assert title > 0
    return data[data.index(data[:2], 4) :]


def claim(data, frames):
    title = max(data.find(b"Info"), data.find(b"Xing"))
    return data[: title + 8] + frames.to_bytes(4, "big") + data[title + 12 :]


def decoded(tmp_path, data):
    (tmp_path / "a.mp3").write_bytes(data)
    return decode(str(tmp_path / "a.mp3"))


def frame_size(rate):
    return 576 if rate < 32_000 else 1152


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(
    ("rate", "channels"), [(8_000, 1), (16_000, 2), (22_050, 1), (44_100, 1), (48_000, 2)]
)
def test_a_stream_without_a_header_is_decoded_to_its_end(tmp_path, rate, channels, mode):
    whole = mp3(2.0, rate, channels, mode)
    recording = decoded(tmp_path, without_header(whole))
    assert recording.claimed is None
    assert len(recording.samples) % frame_size(rate) == 0
    delay = 576 + 529  # LAME's and the decoder's, which only a header tells
    sound = chirp(2.0, rate)
    assert 0 <= len(recording.samples) - len(sound) - delay < 2 * frame_size(rate) + 576
    np.testing.assert_allclose(
        recording.samples[delay : delay + len(sound)][500:-500],
        decoded(tmp_path, whole).samples[: len(sound)][500:-500],
        atol=1e-3,
    )


def test_chunks_joined_end_to_end_are_all_read_and_the_first_ones_claim_is_told(tmp_path):
    one = mp3(1.0)
    recording = decoded(tmp_path, one * 3)
    assert recording.claimed is not None
    assert recording.claimed / recording.rate == pytest.approx(1.0, abs=0.06)
    assert len(recording.samples) / recording.rate == pytest.approx(3.0, abs=0.2)
    assert np.abs(recording.samples[-4800:]).max() > 0.3


def test_a_true_header_is_taken_at_its_word(tmp_path):
    data = mp3(2.0)
    assert read_mpeg(data).rebuilt is None
    assert len(decoded(tmp_path, data).samples) == 48_000


def test_a_header_that_counts_itself_is_no_disagreement(tmp_path):
    data = mp3(2.0)
    frames = read_mpeg(data).samples // 576
    recording = decoded(tmp_path, claim(data, frames + 1))
    assert (recording.claimed, len(recording.samples)) == (None, 48_000)


def test_a_header_that_claims_more_than_there_is_is_refused_with_both_lengths(tmp_path):
    data = mp3(2.0)
    frames = read_mpeg(data).samples // 576
    with pytest.raises(AudioError, match=r"must have the 4\.\d\d s .*, but has 2\.\d\d s") as error:
        decoded(tmp_path, claim(data, 2 * frames))
    assert error.value.rule == "audio-truncated"


TAGS = {
    "ID3": b"ID3\x04\0\0\0\0\x02\x00" + b"\xff\xfb\x90\x64" * 64,
    "ID3 before another": b"ID3\x04\0\0\0\0\0\x05hello" * 2,
    "APE": b"APETAGEX" + bytes(4) + (40).to_bytes(4, "little") + bytes(16) + b"\xff\xf3" * 20,
    "noise": b"\xff\xf3" + np.random.default_rng(0).bytes(300),
}


@pytest.mark.parametrize("name", TAGS)
def test_what_stands_between_frames_is_passed_over(tmp_path, name):
    plain = without_header(mp3(1.0))
    expected = decoded(tmp_path, plain * 2)
    at_the_end = b"TAG" + bytes(125)
    tagged = TAGS[name] + plain + TAGS[name] + plain + at_the_end
    recording = decoded(tmp_path, tagged)
    np.testing.assert_array_equal(recording.samples, expected.samples)


def test_parts_of_different_rates_are_refused_with_the_place(tmp_path):
    first, second = without_header(mp3(1.0, 24_000)), without_header(mp3(1.0, 22_050))
    with pytest.raises(AudioError, match=f"24,000 Hz mono, but .* from byte {len(first):,} on"):
        decoded(tmp_path, first + second)


def test_a_fraunhofer_header_is_no_sound(tmp_path):
    data = mp3(1.0)
    plain = without_header(data)
    header = bytearray(data[:4] + bytes(len(data) - len(plain) - 4))
    header[36:40] = b"VBRI"
    header[50:54] = (7).to_bytes(4, "big")
    recording = decoded(tmp_path, bytes(header) + plain)
    np.testing.assert_array_equal(recording.samples, decoded(tmp_path, plain).samples)
    assert recording.claimed == 7 * 576


def test_a_header_alone_has_no_samples(tmp_path):
    data = mp3(1.0)
    only = data[: len(data) - len(without_header(data))]
    for header, rule in ((only, "audio-truncated"), (claim(only, 0), "audio-no-samples")):
        with pytest.raises(AudioError) as error:
            decoded(tmp_path, header)
        assert error.value.rule == rule


def test_another_layer_is_left_to_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.audio.files.has_ffmpeg", lambda: False)
    frame = bytes((0xFF, 0xFD, 0x84, 0xC0)).ljust(384, b"\0")  # 128 kbit/s, 48 kHz, mono
    with pytest.raises(AudioError, match=r"layer I or II \(MP2\) is read through ffmpeg, which"):
        decoded(tmp_path, frame * 40)


@pytest.mark.parametrize("data", [b"", b"ID3", b"\xff\xfb", b"RIFF" + bytes(99), bytes(4000)])
def test_what_is_no_mpeg_is_left_alone(data):
    assert read_mpeg(data) is None
