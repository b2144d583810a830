"""SIGINT, SIGTERM and SIGUSR1: each ends a command in the same way."""

import os
import signal
import sys
from types import FrameType

from orchestrator.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the end of a job or a pod, and what Slurm's ``--signal=USR1`` sends before a limit."""

_received: list[signal.Signals] = []


class InterruptedRunError(Exception):
    """A signal ended the command; what was committed by then stays."""


def catch_signals() -> None:
    """Have the first signal raise KeyboardInterrupt in the main thread, and a second end it all.

    KeyboardInterrupt is the one exception that Ray lets through where it waits.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def received() -> str:
    """The name of the signal that came, or SIGINT's."""
    return (_received or [signal.SIGINT])[0].name


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _received:
        # Ray's processes notice that this one is gone, and end.
        sys.stderr.write("\033[?25h" if sys.stderr.isatty() else "")  # the cursor is back
        os._exit(Exit.INTERRUPTED)
    _received.append(signal.Signals(number))
    raise KeyboardInterrupt
