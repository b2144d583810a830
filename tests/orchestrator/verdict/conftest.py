"""Small tables whose numbers can be checked by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.judge import judge
from orchestrator.verdict.protocol import (
    Constraint,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)
from orchestrator.verdict.table import ScoreTable, VariantInfo

HEALTHY = {
    "p808": 3.0,
    "speaker_similarity": 0.9,
    "duration": 4.0,
    "speaking_rate": 12.0,
    "end_of_speech_failure": 0.0,
    "tail_silence": 0.2,
    "clipping": 0.0,
}


def metric(name: str, direction: Any, low: float, high: float, unit: str = "1") -> MetricVersion:
    return MetricVersion(name=name, version="1", unit=unit, direction=direction, low=low, high=high)


METRICS = (
    metric("p808", "higher", 1.0, 5.0, "MOS"),
    metric("speaker_similarity", "higher", -1.0, 1.0, "cosine"),
    metric("duration", "neither", 0.0, 30.0, "s"),
    metric("speaking_rate", "neither", 0.0, 40.0, "characters/s"),
    metric("end_of_speech_failure", "lower", 0.0, 1.0),
    metric("tail_silence", "lower", 0.0, 30.0, "s"),
    metric("clipping", "lower", 0.0, 1.0, "share"),
)


@pytest.fixture
def make_protocol() -> Callable[..., Protocol]:
    def make(length: int = 4, **changes: Any) -> Protocol:
        return Protocol(
            **{
                "prompt_set": "toy",
                "prompts": tuple(Prompt(id=f"p{i}", text=f"Text {i}.") for i in range(length)),
                "shortlist_after": None,
                "seed": 7,
                "confirmation_set": "fresh",
                "confirmation": tuple(
                    Prompt(id=f"c{i}", text=f"Fresh text {i}.") for i in range(2 * length)
                ),
                "confirmation_seed": 8,
                "lora_scales": (0.5, 1.0),
                "temperature": 0.8,
                "top_k": 50,
                "primary": "p808",
                "min_effect": 0.1,
                "significance": 0.05,
                "constraints": (Constraint(metric="speaker_similarity", margin=0.02),),
                "gates": Gates(),
                "metrics": METRICS,
                "finalists": 2,
                "finalist_metrics": (),
                "listening": Listening(),
                "bootstrap_resamples": 1000,
                "confidence": 0.95,
                "family_digests": {"base": "sha256:0"},
                **changes,
            }
        )

    return make


@pytest.fixture
def info() -> Callable[..., VariantInfo]:
    """A variant; its id names trial, epoch and scale."""

    def make(name: str, **changes: Any) -> VariantInfo:
        facts = {
            "trial": name,
            "epoch": 1,
            "lora_scale": 1.0,
            "rank": 16,
            "learning_rate": 1e-4,
            "validation_loss": 2.0,
        }
        return VariantInfo(id=name, **{**facts, **changes})

    return make


@pytest.fixture
def base() -> VariantInfo:
    return VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None)


@pytest.fixture
def speak() -> Callable[..., list[ClipScores]]:
    """Clips of one variant on set A, or ``of="c"`` on set B, which is twice as long.

    They are healthy but for the metrics given, whose numbers come round again.
    """

    def make(
        variant: str,
        prompts: int | None = None,
        seed: int = 0,
        of: str = "p",
        **scores: Sequence[float],
    ) -> Any:
        count = prompts or {"p": 4, "c": 8}[of]
        return [
            ClipScores(
                variant,
                f"{of}{i}",
                seed,
                {**HEALTHY, **{name: values[i % len(values)] for name, values in scores.items()}},
            )
            for i in range(count)
        ]

    return make


@pytest.fixture
def make_table(
    base: VariantInfo,
    info: Callable[..., VariantInfo],
    speak: Callable[..., list[ClipScores]],
    make_protocol: Callable[..., Protocol],
) -> Callable[..., ScoreTable]:
    """A table of a healthy base and the variants given as name to scores by metric."""

    def make(protocol: Protocol | None = None, **variants: dict[str, Sequence[float]]) -> Any:
        protocol = protocol or make_protocol()
        count = len(protocol.prompts)
        clips = speak(BASE_VARIANT, count)
        for name, scores in variants.items():
            clips += speak(name, count, **scores)
        return ScoreTable.build([base, *(info(name) for name in variants)], clips, protocol)

    return make


@pytest.fixture
def make_verdict(base: VariantInfo, make_protocol: Callable[..., Protocol]) -> Callable[..., Any]:
    """Judge clips of set A; set B says the same twice unless ``fresh`` says otherwise."""

    def make(
        variants: Sequence[VariantInfo],
        clips: Sequence[ClipScores],
        protocol: Protocol | None = None,
        fresh: Sequence[ClipScores] = (),
        replicates: Sequence[VariantInfo] = (),
    ) -> Any:
        protocol = protocol or make_protocol()
        changed = {clip.variant for clip in fresh}
        again = [
            replace(clip, prompt=f"c{int(clip.prompt[1:]) + half}")
            for half in (0, len(protocol.prompts))
            for clip in clips
            if clip.variant not in changed
        ]
        infos = [base, *variants]
        screen = ScoreTable.build(infos, clips, protocol)
        of_b = [*infos, *replicates]
        confirmation = ScoreTable.build(of_b, [*again, *fresh], protocol.confirming())
        return judge(screen, confirmation, protocol)

    return make
