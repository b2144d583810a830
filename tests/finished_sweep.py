"""A sweep that ended, made up but for its one adapter, which was trained: seconds, not minutes."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from cluster.storage.base import open_storage
from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT, EngineSpec, TrialSpec, Variant
from jobs.speech.voice_files import VoiceFiles
from orchestrator.ledger import (
    CONFIRMATION,
    PROTOCOL_FILE,
    SPEC_FILE,
    VARIANTS_FILE,
    VERDICT_FILE,
    Ledger,
)
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.scores.variants import variant_lines
from orchestrator.spec.model import SweepSpec
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

CONSENT = "records/ann-2026.pdf"
HEALTHY = {
    "similarity": 0.5,
    "word_error": 0.1,
    "duration": 2.0,
    "end_of_speech_failure": 0.0,
    "tail_silence": 0.2,
    "clipping": 0.0,
}
_BOUNDS = {"duration": ("neither", 30.0), "similarity": ("higher", 1.0)}
BETTER = [0.1, 0.12, 0.14, 0.16]
"""Gains over the base, prompt by prompt, that come round again."""


def metrics() -> tuple[MetricVersion, ...]:
    return tuple(
        MetricVersion(name=name, version="1", unit="1", direction=way, low=0.0, high=high)
        for name in HEALTHY
        for way, high in [_BOUNDS.get(name, ("lower", 1.0))]
    )


def protocol_of(voice: VoiceFiles, languages: Sequence[str | None], **changes: object) -> Protocol:
    """Of 4 prompts in set A and 12 in set B, in turn in these languages."""

    def prompts(name: str, count: int) -> tuple[Prompt, ...]:
        return tuple(
            Prompt(
                id=f"{name}{i}",
                text=f"{i:03d}" if name == "a" else f"{i:04d}",
                language=languages[i % len(languages)],
            )
            for i in range(count)
        )

    facts = voice.facts
    known = {"base_digest": facts.base_digest, "encoder_digest": facts.encoder_digest}
    return Protocol.model_validate(
        {
            "prompt_set": "a",
            "prompts": prompts("a", 4),
            "shortlist_after": None,
            "seed": 7,
            "confirmation_set": "b",
            "confirmation": prompts("b", 6 * len(languages) if len(languages) > 1 else 12),
            "confirmation_seed": 8,
            "lora_scales": (1.3,),
            "temperature": 0.7,
            "top_k": 50,
            "primary": "similarity",
            "min_effect": 0.02,
            "significance": 0.05,
            "constraints": (Constraint(metric="word_error", margin=0.2),),
            "gates": Gates(),
            "metrics": metrics(),
            "finalists": 1,
            "finalist_metrics": (),
            "listening": Listening(raters=3, sentences=4),
            "bootstrap_resamples": 1000,
            "confidence": 0.95,
            "family_digests": {**known, "data_digest": "d"},
            **changes,
        }
    )


def clips_of(
    variant: str, prompts: Sequence[Prompt], gains: Mapping[str | None, Sequence[float]]
) -> list[ClipScores]:
    """Healthy clips, better than the base by the gains of their language, or those under None."""
    return [
        ClipScores(
            variant,
            prompt.id,
            0,
            {**HEALTHY, "similarity": HEALTHY["similarity"] + of[i % len(of)]},
        )
        for i, prompt in enumerate(prompts)
        for of in [gains.get(prompt.language, gains.get(None, [0.0]))]
    ]


def finish(
    root: Path,
    spec: SweepSpec,
    voice: VoiceFiles,
    gains: Mapping[str | None, Sequence[float]] | None = None,
    languages: Sequence[str | None] = (None,),
    **changes: object,
) -> FinishedSweep:
    """A finished sweep in ``root``, whose one variant is ``voice`` with these gains."""
    gains = {None: BETTER} if gains is None else gains
    ledger = Ledger(open_storage(str(root)), spec.name)
    protocol = protocol_of(voice, languages, **changes)
    trial = TrialSpec(
        family=spec.family,
        base_digest=voice.facts.base_digest,
        data_digest="d",
        training=voice.facts.training,
        engine=EngineSpec(),
    )
    ledger.start_trial(trial, {"rank": trial.training.rank})
    with ledger.storage.commit(ledger.checkpoint(trial.id, 1)) as directory:
        shutil.copytree(voice.directory.parent / "checkpoint", directory, dirs_exist_ok=True)
    variant = Variant(trial=trial.id, epoch=1, lora_scale=1.3)
    infos = [
        VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None),
        VariantInfo(variant.id, trial.id, 1, 1.3, 4, 3e-3, 2.0),
    ]
    nothing: dict[str | None, Sequence[float]] = {}
    both = ((BASE_VARIANT, nothing), (variant.id, gains))
    screen = ScoreTable.build(
        infos, [row for v, g in both for row in clips_of(v, protocol.prompts, g)], protocol
    )
    on_b = {v: clips_of(v, protocol.confirmation, g) for v, g in both}
    fresh = ScoreTable.build(
        infos, [row for rows in on_b.values() for row in rows], protocol.confirming()
    )
    for name, rows in on_b.items():
        ledger.write_scores(name, rows, CONFIRMATION)
    verdict = judge(screen, fresh, protocol)
    ledger.write_text(SPEC_FILE, yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    ledger.write_text(PROTOCOL_FILE, protocol.model_dump_json())
    ledger.write_text(VARIANTS_FILE, variant_lines(screen.variants.values()))
    ledger.write_text(VERDICT_FILE, verdict.to_json())
    return read_finished(ledger)


def write_ratings(
    path: Path, sweep: FinishedSweep, better: bool = True, worse_in: str | None = None
) -> Path:
    """Three listeners who agree on which of base and winner is better, but for one language."""
    lines = ["rater,sentence,system,axis,score"]
    for rater in range(3):
        for place, prompt in enumerate(sweep.protocol.confirmation):
            base = 2 + (place >> rater) % 2
            step = 1 if better and prompt.language != (worse_in or "none") else -1
            for system, score in (
                (BASE_VARIANT, base),
                (sweep.verdict.variant, base + step),
            ):
                lines += [
                    f"r{rater},{prompt.id},{system},{axis},{score}"
                    for axis in ("naturalness", "prosody", "pronunciation")
                ]
    path.write_text("\n".join(lines) + "\n")
    return path
