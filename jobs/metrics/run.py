"""The scores of one clip: every scorer run, every failure kept with its reason."""

import logging
import math
from collections.abc import Iterable, Mapping

import numpy as np

from jobs.clips import SpokenClip
from jobs.metrics import timing
from jobs.metrics.base import ClipScores, MetricError, Scorer

log = logging.getLogger(__name__)


def score_clip(
    scorers: Iterable[Scorer], clip: SpokenClip, *, variant: str, prompt: str, seed: int
) -> ClipScores:
    """Run every scorer on ``clip``: each of their metrics gets a value or a recorded reason."""
    values: dict[str, float] = {}
    failures: dict[str, str] = {}
    unscorable = _defect(clip)
    for scorer in scorers:
        measured = unscorable or _measure(scorer, clip)
        for metric in scorer.metrics:
            value = _finite(metric.name, measured)
            if isinstance(value, str):
                failures[metric.name] = value
            else:
                values[metric.name] = value
    return ClipScores(variant, prompt, seed, values, failures)


def _defect(clip: SpokenClip) -> str | None:
    """Why no metric at all can be had of ``clip``, if so."""
    if clip.audio.ndim != 1:
        return f"audio must be mono, shape (samples,), got shape {clip.audio.shape}"
    if not clip.audio.size:
        return "empty audio: the clip has no samples"
    if broken := int(np.count_nonzero(~np.isfinite(clip.audio))):
        return f"{broken} of {clip.audio.size} samples are not finite"
    seconds = clip.audio.size / clip.rate
    if seconds > timing.LONGEST:
        return f"the clip lasts {seconds:.0f} s, and at most {timing.LONGEST:.0f} s are scored"
    return None


def _measure(scorer: Scorer, clip: SpokenClip) -> Mapping[str, float] | str:
    """What ``scorer`` makes of ``clip``, or the reason it makes nothing."""
    try:
        return scorer.measure(clip)
    except MetricError as error:
        return str(error)
    except Exception as error:
        # One metric on one clip: a crash here must cost this score, counted with its reason,
        # and neither the clip's other scores nor the sweep.
        log.exception("%s crashed on a clip of %r", type(scorer).__name__, clip.text)
        return f"{type(error).__name__}: {error}"


def _finite(name: str, measured: Mapping[str, float] | str) -> float | str:
    """The value of metric ``name``, or the reason it has none."""
    if isinstance(measured, str):
        return measured
    if name not in measured:
        return "the scorer gave no value"
    value = float(measured[name])
    return value if math.isfinite(value) else f"not a finite number: {value}"
