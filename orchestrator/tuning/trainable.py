"""The thin object that Ray Tune schedules: it runs a trial on this process's warm hosts."""

from typing import Any

from ray import tune

from jobs.data.keys import data_key
from orchestrator.tuning.ranks import HostGroup
from orchestrator.tuning.study import OBJECTIVE
from orchestrator.tuning.trial import EpochReport, SweepContext, TrialFailedError, TrialRun


class TrialTrainable(tune.Trainable):
    """One step is one epoch. Ray Tune decides when to stop; nothing here is checkpointed by it,
    because every epoch is committed to the storage before a step returns."""

    def setup(  # type: ignore[override]  # with_parameters passes the context
        self, config: dict[str, Any], context: SweepContext
    ) -> None:
        """Keep what is needed; load nothing before the first step.

        Tune may set up two actors for one trial and use only one of them.
        """
        self._context = context
        self._hosts = HostGroup(
            context.spec.host(),
            context.storage_url,
            data_key(context.data_digest),
            context.spec.engine.ranks,
        )
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the hosts stay as they are."""
        self._point = new_config["point"]
        self._run: TrialRun | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch and report it."""
        try:
            if self._run is None:
                self._run = TrialRun(self._context, self._point, self._hosts)
            return reported(self._run.next_epoch())
        except TrialFailedError as error:
            # The trial is over, and its process goes on to the next one.
            return self._failed(str(error))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the epochs are in the storage."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: a trial that starts again reads its epochs from the storage."""

    def _failed(self, reason: str) -> dict[str, Any]:
        trial = self._context.trial_spec(self._point).id
        return {
            "trial": trial,
            OBJECTIVE: worst_objective(self._context),
            "validation_loss": float("inf"),
            "failed": reason,
            "done": True,
        }


def reported(report: EpochReport) -> dict[str, Any]:
    """An epoch as Ray Tune's flat result."""
    return {
        "trial": report.trial,
        OBJECTIVE: report.objective,
        "best_variant": report.best_variant,
        "epoch": report.losses.epoch,
        "training_loss": report.losses.training_loss,
        "validation_loss": report.losses.validation_loss,
        "done": report.done,
    }


def worst_objective(context: SweepContext) -> float:
    """Below whatever a trial that speaks can reach."""
    bounds = {metric.name: metric.high - metric.low for metric in context.protocol.metrics}
    return -100.0 * bounds[context.protocol.primary]
