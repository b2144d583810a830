"""Retrying with exponential backoff while a service is out."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """A retry policy: pauses double from ``first_pause`` to ``longest_pause`` seconds."""

    seconds: float = 600.0
    """From the first failure on. A belief, not measured: throttling and a lost network pass in
    minutes, and an outage that lasts hours is for a person to hear of."""
    first_pause: float = 1.0
    longest_pause: float = 30.0

    def keep_trying(self, action: Callable[[], Result], transient: type[Exception]) -> Result:
        """Call ``action`` until it returns; any other error than ``transient`` is raised at once.

        Raises:
            Exception: the last ``transient`` error, after ``seconds``.
        """
        pause, failed_at = self.first_pause, None
        while True:
            try:
                return action()
            except transient as error:
                now = time.monotonic()
                failed_at = now if failed_at is None else failed_at
                if now + pause - failed_at > self.seconds:
                    raise
                _log.warning("%s; trying again", error)
            # Not all at the same moment: what fails for many at once is asked by all of them again.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self.longest_pause)
