from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.metrics.base import MetricError
from jobs.metrics.references import MIN_REFERENCES, References
from jobs.metrics.speaker import SpeakerSimilarity


def of_one(recordings) -> References:
    return {None: recordings}


@pytest.fixture(scope="module")
def references(recordings):
    return [(clip.audio, clip.rate) for clip in recordings[:MIN_REFERENCES]]


@pytest.fixture(scope="module")
def scorer(references):
    return SpeakerSimilarity(of_one(references))


def similarity(scorer, clip):
    return scorer.measure(clip)["similarity"]


def test_the_same_voice_is_near_and_another_is_not(scorer, clips):
    for clip in clips:
        same = similarity(scorer, clip)
        # Played at another rate, pitch and formants move together: a longer or shorter throat.
        giant = similarity(scorer, replace(clip, rate=round(clip.rate * 0.75)))
        child = similarity(scorer, replace(clip, rate=round(clip.rate * 1.35)))
        assert same > 0.85
        assert max(giant, child) < same - 0.08


def test_noise_lowers_similarity(scorer, clips, noisy):
    falling = [similarity(scorer, noisy(clips[0], snr)) for snr in (np.inf, 20.0, 10.0, 0.0)]
    assert falling == sorted(falling, reverse=True)


def test_gain_does_not_matter(scorer, clips):
    quiet = replace(clips[0], audio=(clips[0].audio * 0.03).astype(np.float32))
    assert similarity(scorer, quiet) == pytest.approx(similarity(scorer, clips[0]), abs=2e-3)


def test_torch_threads_are_given_back(scorer, clips):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scorer.measure(clips[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_too_few_references(references):
    with pytest.raises(ValueError, match=r"at least 10 reference clips.*got 9"):
        SpeakerSimilarity(of_one(references[1:]))


def test_a_silent_reference_is_named(references):
    silent = (np.zeros(16_000, dtype=np.float32), 16_000)
    with pytest.raises(ValueError, match="clip 3 of 11: silence"):
        SpeakerSimilarity(of_one([*references[:2], silent, *references[2:]]))


def test_silence_has_no_voice(scorer, clips):
    with pytest.raises(MetricError, match="silence"):
        scorer.measure(replace(clips[0], audio=np.zeros(8000, dtype=np.float32)))
