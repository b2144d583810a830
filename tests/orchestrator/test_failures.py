"""What is said where trials failed for good."""

from cluster.storage.base import LocalStorage
from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from orchestrator.ledger import Ledger, TrialResult
from orchestrator.status import failures


def test_the_trials_that_failed_and_what_can_be_done(tmp_path):
    ledger = Ledger(LocalStorage(tmp_path), "small")
    assert list(failures(ledger)) == []
    ids = []
    for seed, end in enumerate(("failed", "finished", "failed")):
        training = TrainingSpec(seed=seed)
        spec = TrialSpec(
            family="", base_digest="", data_digest="", training=training, engine=EngineSpec()
        )
        ids.append(ledger.start_trial(spec, {"seed": seed}).id)
        ledger.end_trial(ids[-1], TrialResult(end, 1, "the loss must be finite, got nan"))
    first, second, last = failures(ledger)
    assert first == f"trial {ids[0]} failed: the loss must be finite, got nan"
    assert second.startswith(f"trial {ids[2]} ")
    assert "a lower learning_rate" in last
    assert "--retry-failed tries these 2 again" in last
