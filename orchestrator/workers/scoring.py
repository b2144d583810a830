"""Clips to scores, in parallel: warm Ray actors that hold the metrics' models."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import ray

from cluster.preemption import end_with_raylet
from cluster.storage.base import open_storage
from jobs.metrics.base import ClipScores
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger, PromptSet
from orchestrator.spec.model import ScoringSpec
from orchestrator.verdict.protocol import Protocol


@dataclass(frozen=True)
class ScoringTask:
    """What every scorer of a sweep needs to know."""

    storage_url: str
    sweep: str
    data_key: str
    scoring: ScoringSpec
    protocol: Protocol


class ClipScorer:
    """Scores the clips of variants; one process, models loaded at the first clip."""

    def __init__(self, task: ScoringTask) -> None:
        end_with_raylet()
        self._task = task
        self._scoring = task.scoring.without([metric.name for metric in task.protocol.omitted])
        self._ledger = Ledger(open_storage(task.storage_url), task.sweep)
        self._scorers: dict[str, Any] = {}

    def score(self, variant: str, prompts: PromptSet) -> list[ClipScores]:
        """Score every clip of ``variant`` and record it; what was scored before is read."""
        known = self._ledger.scores(variant, prompts)
        if known is not None:
            return known
        from jobs.metrics.base import score_clip
        from jobs.speech.clips import read_clips

        with self._ledger.storage.borrow(self._ledger.clips(variant, prompts)) as directory:
            clips = read_clips(directory)
        names, protocol = self._names(prompts), self._task.protocol
        seed = protocol.confirmation_seed if prompts == CONFIRMATION else protocol.seed
        rows = [
            score_clip(self._models(prompts), clip, variant=variant, prompt=prompt, seed=seed).only(
                names
            )
            for prompt, clip in clips.items()
        ]
        self._ledger.write_scores(variant, rows, prompts)
        return rows

    def _names(self, prompts: PromptSet) -> Sequence[str]:
        scoring = self._scoring
        return scoring.confirmed_by if prompts == CONFIRMATION else scoring.measured

    def _models(self, prompts: PromptSet) -> Any:  # noqa: ANN401 (list[Scorer]: a heavy module)
        if prompts not in self._scorers:
            self._scorers[prompts] = self._load(self._names(prompts))
        return self._scorers[prompts]

    def _load(self, names: Sequence[str]) -> Any:  # noqa: ANN401 (as above)
        from jobs.codecs.recogniser import WordRecogniser
        from jobs.embedded import RECOGNISER_DIR
        from jobs.metrics.catalogue import ScorerUnavailable, build_scorers

        specs = self._scoring.metric_specs(names)
        expected = {metric.name: metric.version for metric in self._task.protocol.metrics}
        scorers = build_scorers(specs, self._references(names), WordRecogniser.load(RECOGNISER_DIR))
        found = {metric.name: metric.version for s in scorers for metric in s.metrics}
        for name in names:
            if found[name] != expected[name]:
                raise ScorerUnavailable(
                    f"scores are made under the protocol's versions, and here {name} has version "
                    f"{found[name]!r}, not {expected[name]!r}; install on every machine that "
                    "scores what the machine that runs voxsweep has"
                )
        return scorers

    def _references(self, names: Sequence[str]) -> Any:  # noqa: ANN401 (References: as above)
        """Recordings of the speakers that clips are compared with; none if no metric compares."""
        from jobs.audio.files import read_audio
        from jobs.data.prepared.files import reference_recordings
        from jobs.metrics.catalogue import METRICS
        from jobs.metrics.references import reference_speaker

        if not any(METRICS[name].needs_references for name in names):
            return {}
        data = self._ledger.storage.fetch(self._task.data_key)
        files = reference_recordings(data)
        protocol = self._task.protocol
        speakers = {prompt.speaker for prompt in (*protocol.prompts, *protocol.confirmation)}
        needed = {reference_speaker(speaker, files) for speaker in speakers}
        recordings = {who: [read_audio(path) for path in files[who]] for who in needed}
        return recordings


class ScorerPool:
    """Scorers on the cluster; hand it to trials, each of which takes turns among them."""

    def __init__(self, task: ScoringTask, size: int) -> None:
        # They take no CPU from Ray's count: while one scores, the trial it scores for waits.
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(ClipScorer)
        self._actors: list[Any] = [actor.remote(task) for _ in range(size)]
        self._turn = count()

    def score(self, variants: Sequence[str], prompts: PromptSet = SCREEN) -> list[ClipScores]:
        """Score every clip of every one of ``variants``, at the same time where there is room."""
        pending = [
            self._actors[next(self._turn) % len(self._actors)].score.remote(variant, prompts)
            for variant in variants
        ]
        return [row for rows in ray.get(pending) for row in rows]
