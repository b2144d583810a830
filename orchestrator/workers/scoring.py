"""Clips to scores, in parallel: warm Ray actors that hold the metrics' models."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.preemption import end_with_raylet
from cluster.storage.base import open_storage
from cluster.storage.committed import DamagedError
from jobs.data.prepared.keys import data_key
from jobs.metrics.base import ClipScores
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger, PromptSet
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.protocol import Protocol
from orchestrator.workers.scorers import load_scorers


class ClipScorer:
    """Scores the clips of variants; one process, models loaded at the first clip."""

    def __init__(
        self, spec: SweepSpec, storage_url: str, data_digest: str, protocol: Protocol
    ) -> None:
        end_with_raylet()
        self._scoring = spec.scoring.without([metric.name for metric in protocol.omitted])
        self._ledger = Ledger(open_storage(storage_url), spec.name)
        self._data_key, self._protocol = data_key(data_digest), protocol
        self._scorers: dict[PromptSet, Any] = {}
        """The models of each prompt set's metrics, once it had a clip."""

    def score(self, variant: str, prompts: PromptSet) -> list[ClipScores]:
        """Score every clip and answer of ``variant`` and record it; what was scored is read."""
        known = self._ledger.scores(variant, prompts)
        if known is not None:
            return known
        from jobs.metrics.base import score_clip
        from jobs.metrics.text import score_answer
        from jobs.speech.clips import read_answers, read_clips

        with self._ledger.storage.borrow(self._ledger.clips(variant, prompts)) as directory:
            clips, answers = read_clips(directory), read_answers(directory)
        names, seed = self._scoring.measured, self._protocol.seed
        if prompts == CONFIRMATION:
            names, seed = self._scoring.confirmed_by, self._protocol.confirmation_seed
        if prompts not in self._scorers:
            self._scorers[prompts] = self._load(names)
        scorers = self._scorers[prompts]
        rows = [
            score_clip(scorers, clip, variant=variant, prompt=prompt, seed=seed).only(names)
            for prompt, clip in clips.items()
        ]
        rows += [score_answer(each, variant=variant, seed=seed) for each in answers]
        self._ledger.write_scores(variant, rows, prompts)
        return rows

    def _load(self, names: Sequence[str]) -> Any:  # noqa: ANN401 (list[Scorer]: a heavy module)
        from jobs.metrics.catalogue import ScorerUnavailable

        protocol = self._protocol
        speakers = {prompt.speaker for prompt in (*protocol.prompts, *protocol.confirmation)}
        data = self._ledger.storage.fetch(self._data_key)
        scorers = load_scorers(self._scoring, names, data, speakers)
        expected = {metric.name: metric.version for metric in protocol.metrics}
        found = {metric.name: metric.version for s in scorers for metric in s.metrics}
        for name in found.keys() & names:
            if found[name] != expected[name]:
                raise ScorerUnavailable(
                    f"scores are made under the protocol's versions, and here {name} has version "
                    f"{found[name]!r}, not {expected[name]!r}; install on every machine that "
                    "scores what the machine that runs voxsweep has"
                )
        return scorers


class ScorerPool:
    """Scorers on the cluster; hand it to trials, each of which takes turns among them."""

    def __init__(
        self, spec: SweepSpec, storage_url: str, data_digest: str, protocol: Protocol
    ) -> None:
        # They take no CPU from Ray's count: while one scores, the trial it scores for waits.
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(ClipScorer)
        self._actors: list[Any] = [
            actor.remote(spec, storage_url, data_digest, protocol)
            for _ in range(spec.resources.scorers)
        ]
        self._turn = count()

    def score(self, variants: Sequence[str], prompts: PromptSet = SCREEN) -> list[ClipScores]:
        """Score every clip of every one of ``variants``, at the same time where there is room.

        Raises:
            DamagedError: the clips of a variant are damaged, and were set aside.
        """
        pending = [
            self._actors[next(self._turn) % len(self._actors)].score.remote(variant, prompts)
            for variant in variants
        ]
        try:
            return [row for rows in ray.get(pending) for row in rows]
        except RayTaskError as error:
            if isinstance(error.cause, DamagedError):
                raise error.cause from None
            raise
