"""Metrics of timing: duration, speaking rate, silence at the end, missed end of speech."""

import numpy as np

from jobs.clips import SpokenClip
from jobs.metrics.base import LONGEST, Metric, MetricError
from jobs.metrics.signal import FRAME, RATE, VAD_VERSION, spoken_frames

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
    version=f"2 {VAD_VERSION}",
    low=0.0,
    high=LONGEST,
    description="time from the last detected speech, or the start, to the end of the clip",
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


def duration(clip: SpokenClip) -> float:
    """Seconds."""
    return len(clip.audio) / clip.rate


def speaking_rate(clip: SpokenClip) -> float:
    """Characters of the text per second of speech. Raises MetricError without speech or text."""
    characters = len("".join(clip.text.split()))
    if not characters:
        raise MetricError("the clip's text is empty, so it has no speaking rate")
    spoken = int(spoken_frames(clip).sum()) * FRAME / RATE
    return min(characters / spoken, FASTEST)


def tail_silence(clip: SpokenClip) -> float:
    """Seconds after the last speech, which a generator that missed its end leaves behind.

    All of the clip where there is no speech: a base that says nothing has failed, and is not to
    be taken for one whose score is missing.
    """
    try:
        last = int(np.flatnonzero(spoken_frames(clip))[-1])
    except MetricError:
        return duration(clip)
    return max(duration(clip) - (last + 1) * FRAME / RATE, 0.0)


def end_of_speech_failure(clip: SpokenClip) -> float:
    """1.0 where the generator failed to end the clip itself, else 0.0."""
    return float(not clip.reached_end)
