"""How long, how fast, and whether it stopped: facts that catch accelerated and runaway speech."""

from collections.abc import Mapping

import numpy as np

from jobs.clips import SpokenClip
from jobs.metrics.base import LONGEST, Metric, MetricError
from jobs.metrics.signal import FRAME, RATE, VAD_VERSION, at_16k, speech_frames

FASTEST = 100.0
"""Characters per second, several times what anyone speaks; the rate is cut to it."""

DURATION = Metric(
    name="duration",
    unit="s",
    direction="neither",
    version="1",
    low=0.0,
    high=LONGEST,
    description="length of the clip",
)
SPEAKING_RATE = Metric(
    name="speaking_rate",
    unit="characters/s",
    direction="neither",
    version=f"1 {VAD_VERSION}",
    low=0.0,
    high=FASTEST,
    description="characters of the text, without spaces, per second of detected speech",
)
TAIL_SILENCE = Metric(
    name="tail_silence",
    unit="s",
    direction="lower",
    version=f"1 {VAD_VERSION}",
    low=0.0,
    high=LONGEST,
    description="time from the last detected speech to the end of the clip",
)
END_OF_SPEECH_FAILURE = Metric(
    name="end_of_speech_failure",
    unit="0 or 1",
    direction="lower",
    version="1",
    low=0.0,
    high=1.0,
    description="1 when generation hit its cap without an end-of-speech token",
)


class Duration:
    """Length of the clip."""

    metrics = (DURATION,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Seconds."""
        return {DURATION.name: len(clip.audio) / clip.rate}


class SpeakingRate:
    """Characters of the text per second of speech."""

    metrics = (SPEAKING_RATE,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Characters per second. Raises MetricError without speech or without text."""
        characters = len("".join(clip.text.split()))
        if not characters:
            raise MetricError("the clip's text is empty, so it has no speaking rate")
        spoken = int(speech_frames(at_16k(clip)).sum()) * FRAME / RATE
        return {SPEAKING_RATE.name: min(characters / spoken, FASTEST)}


class TailSilence:
    """Silence after the last speech: what a generator that missed its end leaves behind."""

    metrics = (TAIL_SILENCE,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Seconds. Raises MetricError when there is no speech."""
        last = int(np.flatnonzero(speech_frames(at_16k(clip)))[-1])
        end_of_speech = (last + 1) * FRAME / RATE
        return {TAIL_SILENCE.name: max(len(clip.audio) / clip.rate - end_of_speech, 0.0)}


class EndOfSpeechFailure:
    """Whether the generator failed to end the clip itself."""

    metrics = (END_OF_SPEECH_FAILURE,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """0.0 or 1.0."""
        return {END_OF_SPEECH_FAILURE.name: float(not clip.reached_end)}
