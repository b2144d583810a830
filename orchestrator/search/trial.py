"""One trial: its epochs (train or read back, commit, speak, score), and what Ray Tune schedules."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from ray import tune
from ray.actor import ActorProxy

from cluster.storage.base import StorageKey
from cluster.storage.committed import DamagedError
from jobs.spec.trial import Variant
from jobs.training.epochs import DivergedError, EpochLosses
from orchestrator.context import SweepContext
from orchestrator.hosts.leased_slot import HostLostError, LeasedSlot, SlotPreemptedError
from orchestrator.hosts.pool import Pool
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.search.reports import CONSTRAINTS, DAMAGED, MEASURED, PROMISE, TRIAL
from orchestrator.spec.model import OBJECTIVE, SECONDS
from orchestrator.verdict.comparison import Assessment

Result = TypeVar("Result")


class TrialFailedError(Exception):
    """The trial cannot go on, and would fail in the same way if it were tried again."""


class HostsDiedError(Exception):
    """The trial's hosts died too often in a row; a later run of the sweep tries again."""


class TrialRun:
    """Runs a trial in ``slot``, one epoch a call."""

    def __init__(self, context: SweepContext, trial: str, slot: LeasedSlot) -> None:
        self._context = context
        self._slot = slot
        self._ledger = context.ledger()
        self._record = self._ledger.trial(trial)
        self._scored = ScoredSweep(self._ledger, context.spec, context.protocol)
        self._ended = self._ledger.final_result(trial)
        """How an earlier run ended the trial."""
        self._epoch = 0
        self._attached: int | None = None
        """The epoch that the slot stands at, if it holds this trial."""
        self._host_deaths = 0
        """Since the last commit."""
        self._best: Assessment | None = None
        self._seconds = 0.0
        self._damaged: list[str] = []

    def next_epoch(self) -> dict[str, Any]:
        """Train the next epoch, or read it where it is committed, and score its variants.

        Returns what Ray Tune is told: the epoch with its losses and checkpoint, and of the trial's
        variants so far the best. ``seconds`` is the cost so far: wall time times ranks. A replicate
        speaks nothing here: set B alone is for it.

        Raises:
            TrialFailedError: the loss stopped being finite, now or in an earlier run.
            HostsDiedError: more hosts died in a row than the spec has retries.
        """
        self._epoch += 1
        if self._ended is not None and self._epoch > self._ended.epochs:
            raise TrialFailedError(self._ended.reason)
        losses = self._train(self._epoch)
        self._seconds += losses.seconds * self._context.spec.engine.ranks
        heard = {} if self._record.replicate_of else self._hear(losses)
        damaged, self._damaged = self._damaged, []
        return {
            **heard,
            TRIAL: self._record.id,
            "checkpoint": self._checkpoint(self._epoch),
            "epoch": self._epoch,
            "training_iteration": self._epoch,
            "training_loss": losses.training_loss,
            "validation_loss": losses.validation_loss,
            "done": self._epoch >= self._last_epoch(),
            DAMAGED: damaged,
        }

    def _hear(self, losses: EpochLosses) -> dict[str, Any]:
        """What the epoch's variants make known of it, and of the best variant so far."""
        variants = self._scored.variants(self._record.id, self._epoch)
        promise = self._speak_and_score(variants, losses)
        assert self._best is not None
        return {
            OBJECTIVE: self._best.objective,
            PROMISE: promise,
            "best_variant": self._best.variant,
            MEASURED: {**self._best.measured, SECONDS: self._seconds},
            CONSTRAINTS: dict(self._best.constraints),
        }

    def _train(self, epoch: int) -> EpochLosses:
        """Train and commit the epoch, unless it is committed."""
        key = self._checkpoint(epoch)
        partial = self._ledger.partial(self._record.id, epoch)

        def train() -> EpochLosses:
            losses = self._slot.advance(key, partial)
            self._attached = epoch
            return losses

        while True:
            try:
                losses = self._commit([key], epoch - 1, train, partial=True)
                return losses or self._ledger.losses(self._record.id, epoch)
            except DivergedError as error:
                raise TrialFailedError(str(error)) from error
            except DamagedError as error:
                self._note_damage(error)

    def _note_damage(self, error: DamagedError) -> None:
        """Something was set aside: it is to be told, and to be made again."""
        self._damaged.append(str(error))
        # A ledger knows what it has read; this one has not.
        self._ledger = self._context.ledger()
        self._scored = ScoredSweep(self._ledger, self._context.spec, self._context.protocol)

    def _speak_and_score(self, variants: Sequence[Variant], losses: EpochLosses) -> float:
        """What the epoch promises."""
        while True:
            self._speak(variants)
            try:
                return self._score(variants, losses)
            except DamagedError as error:
                self._note_damage(error)

    def _speak(self, variants: Sequence[Variant]) -> None:
        """Synthesise the clips that are not committed yet, in one batch."""
        keys = {variant.lora_scale: self._ledger.clips(variant.id) for variant in variants}
        protocol = self._scored.protocol
        prompts = [prompt.spec for prompt in protocol.prompts]

        def speak() -> bool:
            is_committed = self._ledger.storage.is_committed
            missing = {scale: key for scale, key in keys.items() if not is_committed(key)}
            self._slot.speak(missing, prompts, protocol.decoding, protocol.items)
            return True

        self._commit(keys.values(), self._epoch, speak)

    def _commit(
        self,
        keys: Collection[StorageKey],
        epoch: int,
        work: Callable[[], Result],
        *,
        partial: bool = False,
    ) -> Result | None:
        """Have ``work`` commit what is missing of ``keys``, in the slot as it was at ``epoch``.

        When the host dies, work goes on elsewhere from what is committed: on a host without other
        trials, since this one may be what kills hosts. With ``partial`` the slot may stand further
        on, within the next epoch. Returns what ``work`` returned, or None if all was committed.
        """
        result = None
        while result is None and not all(map(self._ledger.storage.is_committed, keys)):
            try:
                self._attach(epoch, partial=partial)
                result = work()
            except SlotPreemptedError:
                self._attached = None  # nobody's fault
            except HostLostError as error:
                self._count_death(error)
        if self._host_deaths:
            # It has done no harm alone, so it need not keep a host to itself.
            self._host_deaths = 0
            self._slot.release()
            self._attached = None
        return result

    def _count_death(self, error: HostLostError) -> None:
        self._attached = None
        self._host_deaths += 1
        if self._host_deaths > self._context.spec.resources.trial_retries:
            what = f"{self._host_deaths} hosts died in a row that held it, the last: {error}"
            raise HostsDiedError(what) from error

    def _attach(self, epoch: int, *, partial: bool) -> None:
        """Have the slot hold this trial at ``epoch``, 0 being a fresh adapter, or as far on from
        there as the next epoch got before it was cut short. A damaged epoch is trained again."""
        while self._attached != epoch:
            checkpoint = self._checkpoint(epoch) if epoch else None
            if partial and (cut := self._ledger.furthest_partial(self._record.id, epoch + 1)):
                checkpoint = cut
            try:
                self._slot.attach(self._record.spec, checkpoint, alone=self._host_deaths > 0)
                self._attached = epoch
            except DamagedError as error:
                self._note_damage(error)
                if epoch:
                    self._train(epoch)

    def _score(self, variants: Sequence[Variant], losses: EpochLosses) -> float:
        """Score the variants' clips, keep the best variant, and return what the epoch promises."""
        rows = self._context.scorers.score([variant.id for variant in variants])
        assessments = self._scored.of_epoch(self._record, losses, rows)
        known = [self._best] if self._best else []
        self._best = max([*known, *assessments], key=lambda each: each.objective)
        return max(each.promise for each in assessments)

    def _checkpoint(self, epoch: int) -> StorageKey:
        return self._ledger.checkpoint(self._record.id, epoch)

    def _last_epoch(self) -> int:
        """Where the trial ends: an earlier run's decision to stop it still stands."""
        if self._ended is None or self._ended.end == "failed":
            return self._record.training.checkpoints
        return self._ended.epochs


REPORTED = "reported"
"""In a trial's config: how many of its epochs were reported to Tune before its process died."""


class TrialTrainable(tune.Trainable):
    """One step is one epoch. Ray Tune decides when to stop.

    There is nothing for Tune to checkpoint: every epoch is committed to the storage before a step
    returns, and its result says where. What a new process has to know, the driver knows, and puts
    in the trial's config: a checkpoint of Tune's is another call after the result, and a process
    that died in between would report the epoch again.
    """

    _run: TrialRun | None

    def setup(  # type: ignore[override]  # with_parameters passes the rest
        self,
        config: dict[str, Any],
        context: SweepContext,
        pool: ActorProxy[Pool],
    ) -> None:
        """Keep what is needed; take no slot before the first step.

        Tune may set up two actors for one trial and use only one of them.
        """
        self._context, self._pool = context, pool
        self._set_trial(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Give the slot back and keep the next trial's config."""
        self._slot.release()
        self._set_trial(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch and report it."""
        try:
            if self._run is None:
                self._run = self._start()
            return self._run.next_epoch()
        except (TrialFailedError, HostsDiedError) as error:
            # The trial is over, and its process goes on to the next one.
            return self._failed(error)

    def cleanup(self) -> None:
        """Give the slot back."""
        self._slot.release()

    def _set_trial(self, config: dict[str, Any]) -> None:
        self._trial, self._reported = config[TRIAL], config.get(REPORTED, 0)
        self._slot = LeasedSlot(self._pool)
        self._run = None

    def _start(self) -> TrialRun:
        run = TrialRun(self._context, self._trial, self._slot)
        for _ in range(self._reported):
            run.next_epoch()  # read back, so that its best variant stays in the running
        return run

    def _failed(self, error: Exception) -> dict[str, Any]:
        protocol = self._context.protocol
        # Below whatever a trial that speaks can reach.
        worst = -100.0 * protocol.judged_metrics()[protocol.primary].span
        return {
            TRIAL: self._trial,
            OBJECTIVE: worst,
            PROMISE: worst,
            "validation_loss": float("inf"),
            "failed": str(error),
            "final": isinstance(error, TrialFailedError),
            "done": True,
        }
