"""The thin object that Ray Tune schedules: it leases a slot for a trial, and reports."""

from typing import Any

from ray import tune
from ray.actor import ActorProxy

from orchestrator.context import SweepContext
from orchestrator.hosts.leased_slot import LeasedSlot
from orchestrator.hosts.pool import Pool
from orchestrator.search.reports import PROMISE, TRIAL
from orchestrator.search.trial import HostsDiedError, TrialFailedError, TrialRun
from orchestrator.spec.model import OBJECTIVE

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
            return self._run.next_epoch().to_result()
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
