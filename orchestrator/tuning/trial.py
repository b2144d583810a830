"""One trial's epochs: train or read back, commit, speak, score, and say how good it sounds."""

from dataclasses import dataclass
from typing import Any

import ray

from cluster.storage import open_storage
from jobs.metrics.base import ClipScores
from jobs.spec import BASE_VARIANT, PromptSpec, TrialSpec, Variant
from jobs.training.epochs import EpochLosses
from orchestrator.judgement import base_info, variant_info
from orchestrator.ledger import Ledger
from orchestrator.scoring import ScorerPool
from orchestrator.spec import SweepSpec
from orchestrator.tuning.ranks import HostGroup
from orchestrator.verdict.judge import objective
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import ScoreTable


@dataclass(frozen=True)
class SweepContext:
    """What every trial of a sweep shares."""

    spec: SweepSpec
    storage_url: str
    base_digest: str
    data_digest: str
    protocol: Protocol
    scorers: ScorerPool

    def ledger(self) -> Ledger:
        """The sweep's record."""
        return Ledger(open_storage(self.storage_url), self.spec.name)

    def trial_spec(self, point: dict[str, Any]) -> TrialSpec:
        """The trial at a point of the search space."""
        return TrialSpec(
            family=self.spec.family,
            base_digest=self.base_digest,
            data_digest=self.data_digest,
            training=self.spec.training_for(point),
            engine=self.spec.engine,
        )


@dataclass(frozen=True)
class EpochReport:
    """What a trial tells Ray Tune after an epoch."""

    trial: str
    losses: EpochLosses
    objective: float
    """Of the trial's best variant so far; always to be maximised."""
    best_variant: str
    done: bool


class TrialFailedError(Exception):
    """The trial can go no further; trying again would give the same."""


class TrialRun:
    """Runs the trial at ``point`` on ``hosts``, one epoch a call."""

    def __init__(self, context: SweepContext, point: dict[str, Any], hosts: HostGroup) -> None:
        self._context = context
        self._hosts = hosts
        self._ledger = context.ledger()
        self._record = self._ledger.trial(context.trial_spec(point).id)
        self._base_scores = self._ledger.scores(BASE_VARIANT, "all") or []
        result = self._ledger.result(self._record.id)
        self._ended = result if result and result.final else None
        """How an earlier run ended the trial."""
        self._epoch = 0
        self._attached: int | None = None
        """The epoch that the hosts' slot stands at, if it is this trial's."""
        self._best: tuple[float, str] | None = None

    def next_epoch(self) -> EpochReport:
        """Train the next epoch, or read it where it is committed, and score its variants.

        Raises:
            TrialFailedError: the loss stopped being finite, now or in an earlier run.
        """
        self._epoch += 1
        if self._ended is not None and self._epoch > self._ended.epochs:
            raise TrialFailedError(self._ended.reason)
        is_committed = self._ledger.storage.is_committed(self._checkpoint(self._epoch))
        losses = self._read_losses() if is_committed else self._train()
        self._judge(losses)
        assert self._best is not None
        return EpochReport(
            trial=self._record.id,
            losses=losses,
            objective=self._best[0],
            best_variant=self._best[1],
            done=self._epoch >= self._last_epoch(),
        )

    def _train(self) -> EpochLosses:
        from jobs.training.epochs import DivergedError

        self._attach(self._epoch - 1)
        try:
            losses = self._hosts.advance()
        except DivergedError as error:
            raise TrialFailedError(str(error)) from error
        self._hosts.commit(self._checkpoint(self._epoch), losses)
        self._attached = self._epoch
        return losses

    def _read_losses(self) -> EpochLosses:
        return self._ledger.epochs(self._record.id)[self._epoch - 1]

    def _attach(self, epoch: int) -> None:
        """Have the slot hold this trial at ``epoch``; 0 is a fresh adapter."""
        if self._attached != epoch:
            self._hosts.attach(self._record.spec, self._checkpoint(epoch) if epoch else None)
            self._attached = epoch

    def _judge(self, losses: EpochLosses) -> None:
        """Have every variant of this epoch speak, score them, and keep the best."""
        variants = [
            Variant(trial=self._record.id, epoch=self._epoch, lora_scale=scale)
            for scale in self._context.spec.variants.adapted_scales
        ]
        pending = []
        for variant in variants:
            self._speak(variant)
            pending += self._context.scorers.score([variant.id])
        rows = [row for scores in ray.get(pending) for row in scores]
        for value, name in self._objectives(variants, rows, losses):
            if self._best is None or value > self._best[0]:
                self._best = (value, name)

    def _speak(self, variant: Variant) -> None:
        key = self._ledger.clips(variant.id)
        if not self._ledger.storage.is_committed(key):
            self._attach(self._epoch)
            prompts = [PromptSpec(id=p.id, text=p.text) for p in self._context.protocol.prompts]
            self._hosts.speak(
                key, prompts, self._context.spec.variants.decoding, variant.lora_scale
            )

    def _objectives(
        self, variants: list[Variant], rows: list[ClipScores], losses: EpochLosses
    ) -> list[tuple[float, str]]:
        infos = [base_info(), *(variant_info(v, self._record, losses) for v in variants)]
        protocol = self._context.protocol
        table = ScoreTable.build(infos, [*self._base_scores, *rows], protocol)
        return [(objective(table, variant.id, protocol), variant.id) for variant in variants]

    def _checkpoint(self, epoch: int) -> str:
        return self._ledger.checkpoint(self._record.id, epoch)

    def _last_epoch(self) -> int:
        """Where the trial ends: an earlier run's decision to stop it still stands."""
        if self._ended is None or self._ended.end == "failed":
            return self._record.training.epochs
        return self._ended.epochs
