"""The rule for choosing, written and hashed before anything is scored."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constraint(_Strict):
    """A variant must not be worse than the base by more than a margin, on average over prompts."""

    metric: str
    margin: Annotated[float, Field(ge=0)]
    """In the metric's unit, towards the worse: 0.10 on ``word_error`` allows ten points more."""


class Gates(_Strict):
    """Per-clip conditions; a clip that fails one is a failed clip, never a dropped one."""

    duration_ratio: tuple[float, float] = (0.5, 2.0)
    """Allowed range of a clip's duration over the base's on the same prompt."""
    tail_silence: Annotated[float, Field(gt=0)] = 2.0
    """Longest allowed silence at the end, seconds."""
    clipping: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest allowed share of clipped samples."""
    excess_failures: Annotated[float, Field(ge=0, le=1)] = 0.02
    """A variant is out when its failed clips exceed the base's by max(1, this share of clips)."""


class MetricVersion(_Strict):
    """A metric as it will be measured."""

    name: str
    version: str
    unit: str
    direction: Literal["higher", "lower", "neither"]
    low: float
    high: float


class Prompt(_Strict):
    """A text to be spoken."""

    id: str
    text: str


class Protocol(_Strict):
    """Prompts, seeds, metrics, gates and margins of one sweep's judgement."""

    prompt_set: str
    prompts: tuple[Prompt, ...]
    seed: int
    lora_scales: tuple[float, ...]
    temperature: float
    top_k: int
    primary: str
    min_effect: float
    """Smallest mean improvement of the primary metric over the base that counts, in its unit."""
    constraints: tuple[Constraint, ...]
    gates: Gates
    metrics: tuple[MetricVersion, ...]
    finalists: int
    """How many of the best variants also get ``finalist_metrics``."""
    finalist_metrics: tuple[str, ...]
    bootstrap_resamples: int
    confidence: float
    family_digests: dict[str, str]
    """What else decides the sound: base, codec, recogniser, prepared data."""

    def digest(self) -> str:
        """SHA-256 of the canonical JSON text."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
