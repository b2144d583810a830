"""What every metric promises to scoring and to the verdict."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import ClipScores, Scorer, score_clip
from jobs.metrics.catalogue import METRICS, build_scorers, metric_of
from jobs.metrics.references import MIN_REFERENCES, References
from jobs.metrics.words import Recogniser
from jobs.spec.metric import MetricSpec
from jobs.testing.speech import join_clips, shipped_recordings


class MetricBattery:
    """Subclass it in a test file and set ``specs``."""

    specs: ClassVar[Sequence[MetricSpec]]
    """The metrics to test, with their options: ``[MetricSpec(name="...")]``."""
    recogniser: ClassVar[Recogniser | None] = None
    """For metrics of words."""

    @pytest.fixture(scope="class")
    @classmethod
    def scorers(cls) -> list[Scorer]:
        """The scorers of ``specs``, with recordings of the speaker to compare with."""
        recordings = shipped_recordings()[:MIN_REFERENCES]
        references: References = {None: [(clip.audio, clip.rate) for clip in recordings]}
        return build_scorers(cls.specs, references, cls.recogniser)

    @pytest.fixture(scope="class")
    @classmethod
    def speech(cls) -> SpokenClip:
        """About ten seconds of speech that the references do not have."""
        return join_clips(shipped_recordings()[MIN_REFERENCES : MIN_REFERENCES + 5], seconds=10.0)

    def test_metrics_are_described(self) -> None:
        for spec in self.specs:
            found = metric_of(spec)
            assert found.name == spec.name
            assert found.unit
            assert found.description
            assert found.version
            assert found.direction == METRICS[spec.name].directions[spec.name]
            assert -math.inf < found.low < found.high < math.inf

    def test_scorers_measure_every_metric(self, scorers: list[Scorer]) -> None:
        assert {spec.name for spec in self.specs} <= _names(scorers)

    def test_speech_has_every_score_within_its_bounds(
        self, scorers: list[Scorer], speech: SpokenClip
    ) -> None:
        scores = _score(scorers, speech)
        assert scores.failures == {}
        assert set(scores.values) == _names(scorers)
        for metric in (metric for scorer in scorers for metric in scorer.metrics):
            assert metric.low <= scores.values[metric.name] <= metric.high, metric.name

    @pytest.mark.parametrize(
        ("audio", "reason"),
        [
            (np.zeros(0), "empty audio"),
            (np.full(8000, np.nan), "8000 of 8000 samples are not finite"),
            (np.array([0.1, np.inf]), "1 of 2 samples are not finite"),
            (np.zeros((100, 2)), "must be mono"),
            (np.broadcast_to(0.1, 16_000 * 601), "lasts 601 s"),
        ],
    )
    def test_a_broken_clip_fails_every_metric_with_the_reason(
        self, scorers: list[Scorer], speech: SpokenClip, audio: NDArray[np.float64], reason: str
    ) -> None:
        scores = _score(scorers, replace(speech, audio=audio.astype(np.float32), rate=16_000))
        assert scores.values == {}
        assert set(scores.failures) == _names(scorers)
        assert all(reason in why for why in scores.failures.values())

    @pytest.mark.parametrize("samples", [1, 100, 1600])
    def test_very_little_sound_is_never_an_exception(
        self,
        scorers: list[Scorer],
        speech: SpokenClip,
        samples: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        little = replace(speech, audio=speech.audio[1600 : 1600 + samples])
        _assert_no_crash(scorers, little, caplog)

    def test_silence_is_never_an_exception(
        self, scorers: list[Scorer], speech: SpokenClip, caplog: pytest.LogCaptureFixture
    ) -> None:
        silence = replace(speech, audio=np.zeros(16_000, dtype=np.float32))
        _assert_no_crash(scorers, silence, caplog)


def _assert_no_crash(
    scorers: list[Scorer], clip: SpokenClip, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        scores = _score(scorers, clip)
    assert set(scores.values) | set(scores.failures) == _names(scorers)
    assert not caplog.records, "a crash where a MetricError was due"


def _names(scorers: Sequence[Scorer]) -> set[str]:
    return {metric.name for scorer in scorers for metric in scorer.metrics}


def _score(scorers: Sequence[Scorer], clip: SpokenClip) -> ClipScores:
    return score_clip(scorers, clip, variant="v", prompt="p", seed=1)
