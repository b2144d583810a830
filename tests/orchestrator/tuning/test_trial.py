"""A trial that an earlier run ended is not taken up again."""

import pytest

from orchestrator.ledger import TrialResult
from orchestrator.tuning.trial import SweepContext, TrialFailedError, TrialRun


def test_a_trial_that_diverged_is_not_trained_again(make_spec, tmp_path):
    context = SweepContext(make_spec(), str(tmp_path), "b", "d", protocol=None, scorers=None)
    point = {"rank": 2}
    record = context.ledger().start_trial(context.trial_spec(point), point)
    context.ledger().end_trial(record.id, TrialResult("failed", 0, "the loss must be finite"))
    # No host is there to train it.
    run = TrialRun(context, point, hosts=None)
    with pytest.raises(TrialFailedError, match="the loss must be finite"):
        run.next_epoch()
