"""A sweep without a model: what its trials are told, and scores that need no ear."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobs.metrics.base import ClipScores
from jobs.spec.trial import PromptSpec
from orchestrator.context import SweepContext
from orchestrator.ledger import Ledger
from orchestrator.scores.from_ledger import protocol_for
from orchestrator.spec.model import SweepSpec
from orchestrator.workers.preparation import Prepared

PROMPTS = [PromptSpec(id="p0", text="one"), PromptSpec(id="p1", text="two")]
CONFIRMATION = [PromptSpec(id=f"c{i}", text=f"fresh {i}") for i in range(8)]

SECTIONS = {
    "training": "training: {epochs: 3}",
    "variants": "variants: {lora_scales: [0, 0.5, 1.0]}",
    "scoring": "scoring: {metrics: [similarity], primary: similarity, "
    "min_effect: 0.05, bootstrap_resamples: 1000}",
}

HEALTHY = {"end_of_speech_failure": 0.0, "duration": 1.0, "tail_silence": 0.0, "clipping": 0.0}


class FakeScorers:
    """Scores clips that are committed: the stronger the adapter and the more epochs, the better,
    and the later a trial was asked for, the worse."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def score(self, variants: Sequence[str], prompts: str = "screen") -> list[ClipScores]:
        loaded = {"torch", "transformers"} & sys.modules.keys()
        if "pytest" not in sys.modules:
            # This is a trial's own process, in the middle of its work.
            assert not loaded, f"it has {loaded}"
        return [row for variant in variants for row in self._rows(variant)]

    def _rows(self, variant: str) -> list[ClipScores]:
        assert self._ledger.storage.is_committed(self._ledger.clips(variant)), variant
        trial, epoch, scale = variant.replace("-e", " ").replace("-s", " ").split()
        order = self._ledger.trial(trial).order
        similarity = int(epoch) / 10 + float(scale) / 100 - order / 1000
        return [
            ClipScores(variant, p.id, 0, {**HEALTHY, "similarity": similarity}) for p in PROMPTS
        ]


def fake_context(spec: SweepSpec, storage: Path) -> SweepContext:
    """Everything up to the first trial is done."""
    prepared = Prepared(base_digest="b", data_digest="d", encoder_digest="e")
    protocol = protocol_for(spec, PROMPTS, CONFIRMATION, prepared)
    context = SweepContext(spec, str(storage), "b", "d", protocol, scorers=None)
    ledger = context.ledger()
    base = [ClipScores("base", p.id, 0, {**HEALTHY, "similarity": 0.0}) for p in PROMPTS]
    ledger.write_scores("base", base)
    return replace(context, scorers=FakeScorers(ledger))
