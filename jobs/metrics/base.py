"""What a metric is: its name, unit, direction and version, and the score it gives one clip."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from jobs.clips import SpokenClip

Direction = Literal["higher", "lower", "neither"]


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

    @property
    def worst(self) -> float:
        """The value that stands for a clip that could not be scored."""
        return self.low if self.direction == "higher" else self.high


class MetricError(Exception):
    """A metric that cannot score this clip; the message is the recorded reason."""


class Scorer(Protocol):
    """Measures clips; one model run may give several metrics."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What it measures; :meth:`measure` gives a value for each."""
        ...

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Score every metric in ``metrics`` on ``clip``.

        Raises:
            MetricError: the clip cannot be scored, with the reason.
        """
        ...


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
