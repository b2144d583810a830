"""What every trial of a sweep shares."""

from dataclasses import dataclass
from typing import Any

from cluster.storage.base import open_storage
from jobs.spec.trial import TrialSpec
from orchestrator.ledger import Ledger
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.protocol import Protocol
from orchestrator.workers.scoring import ScorerPool


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
        training = self.spec.training_for(point)
        return TrialSpec(
            family=self.spec.family,
            base_digest=self.base_digest,
            data_digest=self.data_digest,
            training=training,
            engine=self.spec.engine,
            mix=self.spec.data.mix(training.mix),
        )
