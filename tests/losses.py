"""What an epoch gave, as its checkpoint has it."""

from pathlib import Path

from jobs.training.epochs import LOSSES_FILE, EpochLosses, parse_losses


def read_losses(checkpoint: Path) -> EpochLosses:
    return parse_losses((checkpoint / LOSSES_FILE).read_bytes())
