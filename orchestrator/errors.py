"""Exit codes of the commands."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    BAD_INPUT = 2
    """A spec or data problem; nothing was spent."""
    NO_VERDICT = 3
    """The sweep ended, but no variant could be judged."""
    INCOMPLETE = 3
    """The same code for ``say``: it ended, but not all of the text was synthesised."""
    INFRASTRUCTURE = 4
    """Ray, MLflow, the storage or the machine failed; the input was fine."""
    INTERRUPTED = 5
    """A signal ended the command: the same command goes on from what was committed."""


class InfrastructureError(Exception):
    """Ray, MLflow, the storage or the machine failed; the input was fine."""
