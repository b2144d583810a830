"""A sweep whose trials neither speak nor are scored: what there is to search and to train."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from jobs.spec.trial import Variant
from jobs.training.epochs import EpochLosses
from orchestrator.context import SweepContext
from orchestrator.hosts import fleet as fleets
from orchestrator.hosts.fleet import open_loop, start_hosts
from orchestrator.search import tune as searches
from orchestrator.search.budget import Budget
from orchestrator.search.trial import TrialRun, TrialTrainable
from orchestrator.verdict.comparison import Assessment


class SilentRun(TrialRun):
    """Trains, commits and reports; an adapter is as good as its validation loss is low."""

    def _speak(self, variants: Sequence[Variant]) -> None:
        return

    def _score(self, variants: Sequence[Variant], losses: EpochLosses) -> float:
        good = -losses.validation_loss
        self._best = Assessment(variants[0].id, good, good, {}, {})
        return good


class SilentTrainable(TrialTrainable):
    """The sweep's own, with such trials."""

    def _start(self) -> TrialRun:
        return SilentRun(self._context, self._trial, self._slot)


class Unobserved:
    """An observer that looks away."""

    def trial_started(self, trial: str) -> None:
        """Nothing."""

    def trial_reported(self, result: dict[str, Any]) -> None:
        """Nothing."""

    def trial_ended(self, trial: str, result: object) -> None:
        """Nothing."""


def run_silently(
    context: SweepContext,
    directory: Path,
    observer: searches.Observer,
    loop: Callable[..., Any] = open_loop,
) -> tuple[float, float]:
    """Run the sweep as ``voxsweep run`` would, on hosts that ``loop`` opens.

    Returns:
        Seconds until a host was warm, and from then to the end of the last trial.
    """
    hosts = functools.partial(start_hosts, open_loop=loop)
    with (
        mock.patch.object(fleets, "start_hosts", hosts),
        mock.patch.object(searches, "TrialTrainable", SilentTrainable),
    ):
        started = time.monotonic()
        with fleets.fleet(context, print) as fleet:
            warm = time.monotonic()
            budget = Budget(context.spec, context.ledger(), (), (), time.time())
            searches.search(context, fleet, directory, observer, budget)
            return warm - started, time.monotonic() - warm
