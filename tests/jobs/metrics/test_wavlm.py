"""The real scorer over a tiny WavLM."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMForXVector

from jobs.metrics.base import MetricError
from jobs.metrics.catalogue import ScorerUnavailable, build_scorers, metric_of
from jobs.metrics.models import PICKLED, find_model
from jobs.metrics.references import MIN_REFERENCES, References
from jobs.metrics.signal import at_16k, normalise_level
from jobs.metrics.wavlm import DEFAULT_MODEL, WavLM
from jobs.spec.metric import MetricSpec
from tests.jobs.metrics.tiny_models import write_wavlm

NAME = "wavlm_similarity"


def asked(model):
    return MetricSpec(name=NAME, model=str(model))


def of_one(recordings) -> References:
    return {None: recordings}


@pytest.fixture(scope="module")
def references(recordings):
    return [(clip.audio, clip.rate) for clip in recordings[:MIN_REFERENCES]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_wavlm(tmp_path_factory.mktemp("hub") / "wavlm")


@pytest.fixture(scope="module")
def scorer(model, references):
    (scorer,) = build_scorers([asked(model)], of_one(references))
    return scorer


def test_it_is_the_cosine_of_transformers_embeddings(model, scorer, recordings, clips):
    prepare = Wav2Vec2FeatureExtractor.from_pretrained(model)
    network = WavLMForXVector.from_pretrained(model).eval()

    def voice(clip):
        audio = normalise_level(at_16k(clip))
        with torch.no_grad():
            heard = prepare(audio, sampling_rate=16_000, return_tensors="pt")
            return torch.nn.functional.normalize(network(**heard).embeddings[0], dim=0)

    centre = torch.stack([voice(clip) for clip in recordings[:MIN_REFERENCES]]).mean(dim=0)
    expected = torch.cosine_similarity(voice(clips[0]), centre, dim=0).item()
    assert scorer.measure(clips[0]) == {NAME: pytest.approx(expected, abs=1e-5)}


def test_gain_does_not_matter(scorer, clips):
    quiet = replace(clips[0], audio=(clips[0].audio * 0.03).astype(np.float32))
    assert scorer.measure(quiet)[NAME] == pytest.approx(scorer.measure(clips[0])[NAME], abs=2e-3)


def test_the_rest_of_a_long_clip_is_not_heard(scorer, clips, monkeypatch):
    monkeypatch.setattr("jobs.metrics.wavlm.MOST_SECONDS", 3)
    start = scorer.measure(clips[0])
    assert scorer.measure(replace(clips[0], audio=np.tile(clips[0].audio, 2))) == {
        NAME: pytest.approx(start[NAME], abs=1e-3)
    }
    monkeypatch.setattr("jobs.metrics.wavlm.MOST_SECONDS", 9)
    assert scorer.measure(clips[0]) != start


def test_the_shortest_clip_that_is_heard(scorer, recordings, monkeypatch):
    """One sample fewer would break the network, or leave a deviation of one frame."""
    monkeypatch.setattr("jobs.metrics.wavlm.levelled", lambda clip: clip.audio)
    least = scorer._min_samples
    clip = replace(recordings[0], rate=16_000)
    assert 0.0 <= scorer.measure(replace(clip, audio=clip.audio[:least]))[NAME] <= 1.0
    with pytest.raises(MetricError, match="too short"):
        scorer.measure(replace(clip, audio=clip.audio[: least - 1]))


def test_silence_has_no_voice(scorer, clips):
    with pytest.raises(MetricError, match="silence"):
        scorer.measure(replace(clips[0], audio=np.zeros(16_000, dtype=np.float32)))


def test_what_the_references_must_be(model, references):
    with pytest.raises(ValueError, match=r"wavlm_similarity needs at least 10 .*got 9"):
        WavLM(asked(model), of_one(references[1:]))
    silent = (np.zeros(16_000, dtype=np.float32), 16_000)
    with pytest.raises(ValueError, match="clip 3 of 11: silence"):
        WavLM(asked(model), of_one([*references[:2], silent, *references[2:]]))


def test_the_version_follows_the_weights(model, tmp_path):
    other = write_wavlm(tmp_path / "other", seed=1)
    assert metric_of(asked(model)).version != metric_of(asked(other)).version
    assert find_model(str(model), []).fingerprint().split()[0] in metric_of(asked(model)).version


def test_weights_that_are_no_safetensors_are_read_without_running_code(
    tmp_path, references, clips, monkeypatch
):
    """The default repository has nothing else."""
    model = write_wavlm(tmp_path / "bin", safetensors=False)
    assert (model / "pytorch_model.bin").is_file()
    load, how = torch.load, []

    def watched(*args, **kwargs):
        how.append(kwargs.get("weights_only"))
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    scorer = WavLM(asked(model), of_one(references))
    assert how
    assert all(how)
    assert 0.0 <= scorer.measure(clips[0])[NAME] <= 1.0


def test_a_pickle_that_runs_code_is_refused(tmp_path, references):
    model = write_wavlm(tmp_path / "evil")
    (model / "model.safetensors").unlink()
    torch.save({"weight": Trap(tmp_path / "sprung")}, model / "pytorch_model.bin")
    with pytest.raises(ScorerUnavailable, match="wavlm_similarity cannot be"):
        build_scorers([asked(model)], of_one(references))
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_model_that_is_not_there(references):
    with pytest.raises(ScorerUnavailable, match=r"run `hf download no/such .*pytorch_model.bin"):
        build_scorers([asked("no/such")], of_one(references))


@pytest.mark.weights
def test_the_default_model_knows_a_voice(references, clips):
    try:
        find_model(DEFAULT_MODEL, [], PICKLED)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    (scorer,) = build_scorers([MetricSpec(name=NAME)], of_one(references))
    same = scorer.measure(clips[0])[NAME]
    assert scorer.measure(replace(clips[0], rate=round(clips[0].rate * 1.35)))[NAME] < same - 0.05
