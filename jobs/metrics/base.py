"""Metrics: name, unit, direction and version; and how a clip is scored by them."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from jobs.clips import SpokenClip

Direction = Literal["higher", "lower", "neither"]

LONGEST = 600.0
"""Seconds. A longer clip is not scored: the runaway of a generator without a cap."""

BROKEN_AUDIO = "broken audio: "
"""How the reason begins where no metric can score a clip because of its samples."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """A measurement of one clip.

    ``low`` and ``high`` bound what the metric can give; a failed clip counts as the worse bound.
    ``direction`` says which way is better; ``neither`` for plain facts such as a duration.
    ``version`` changes whenever the same clip could score differently, given the same
    references and recogniser: those have digests of their own.
    """

    name: str
    unit: str
    direction: Direction
    version: str
    low: float
    high: float
    description: str


class MetricError(Exception):
    """A metric that cannot score this clip; the message is the recorded reason."""


class Scorer(Protocol):
    """Measures clips; one model run may give several metrics."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Its metrics; :meth:`measure` gives a value for each."""

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Score every metric in ``metrics`` on ``clip``.

        Raises:
            MetricError: the clip cannot be scored, with the reason.
        """


@dataclass(frozen=True)
class FunctionScorer:
    """Scores one metric by a function of the clip, which raises as :meth:`Scorer.measure`."""

    metric: Metric
    function: Callable[[SpokenClip], float]

    @property
    def metrics(self) -> Sequence[Metric]:
        return (self.metric,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        return {self.metric.name: self.function(clip)}


@dataclass(frozen=True)
class ClipScores:
    """All scores of one clip: one line of ``scores.jsonl``."""

    variant: str
    prompt: str
    seed: int
    values: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Metric name to the reason it has no value on this clip."""

    def only(self, names: Sequence[str]) -> "ClipScores":
        """The same clip with these metrics alone."""
        return replace(
            self,
            values={name: value for name, value in self.values.items() if name in names},
            failures={name: why for name, why in self.failures.items() if name in names},
        )

    def to_json(self) -> str:
        """One flat JSON object: ids, then a key per metric, then the failures."""
        row: dict[str, Any] = {"variant": self.variant, "prompt": self.prompt, "seed": self.seed}
        return json.dumps({**row, **self.values, "failures": dict(self.failures)})

    @classmethod
    def from_json(cls, line: str) -> "ClipScores":
        """The inverse of :meth:`to_json`."""
        row = json.loads(line)
        variant, prompt, seed = row.pop("variant"), row.pop("prompt"), row.pop("seed")
        return cls(variant, prompt, seed, failures=row.pop("failures"), values=row)


def score_clip(
    scorers: Iterable[Scorer], clip: SpokenClip, *, variant: str, prompt: str, seed: int
) -> ClipScores:
    """Run every scorer on ``clip``: each of their metrics gets a value or a recorded reason."""
    values: dict[str, float] = {}
    failures: dict[str, str] = {}
    defect = _defect(clip)
    unscorable = defect and f"{BROKEN_AUDIO}{defect}"
    for scorer in scorers:
        measured = unscorable or _measure(scorer, clip)
        for metric in scorer.metrics:
            if isinstance(measured, str):
                failures[metric.name] = measured
            elif metric.name not in measured:
                failures[metric.name] = "the scorer gave no value"
            elif math.isfinite(value := float(measured[metric.name])):
                values[metric.name] = value
            else:
                failures[metric.name] = f"not a finite number: {value}"
    return ClipScores(variant, prompt, seed, values, failures)


def _defect(clip: SpokenClip) -> str | None:
    """Why no metric can score ``clip``, if so."""
    if clip.audio.ndim != 1:
        return f"audio must be mono, shape (samples,), got shape {clip.audio.shape}"
    if not clip.audio.size:
        return "empty audio: the clip has no samples"
    if broken := int(np.count_nonzero(~np.isfinite(clip.audio))):
        return f"{broken} of {clip.audio.size} samples are not finite"
    seconds = clip.audio.size / clip.rate
    if seconds > LONGEST:
        return f"the clip lasts {seconds:.0f} s, and at most {LONGEST:.0f} s are scored"
    return None


def _measure(scorer: Scorer, clip: SpokenClip) -> Mapping[str, float] | str:
    """The values that ``scorer`` gives ``clip``, or the reason it gives none."""
    try:
        return scorer.measure(clip)
    except MetricError as error:
        return str(error)
    except Exception as error:
        # One metric on one clip: a crash here must cost this score, counted with its reason,
        # and neither the clip's other scores nor the sweep.
        names = ", ".join(metric.name for metric in scorer.metrics)
        log.exception("the scorer of %s crashed on a clip of %r", names, clip.text)
        return f"{type(error).__name__}: {error}"
