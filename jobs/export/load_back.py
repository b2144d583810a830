"""What was seen when an export was loaded again by the tool that it is for."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One comparison of an export with the voice as voxsweep runs it."""

    what: str
    """What was compared, and in which unit its difference is."""
    difference: float
    """The largest that was found."""
    tolerance: float
    """The largest that passes."""

    @property
    def passed(self) -> bool:
        """Not so for NaN."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class LoadBack:
    """All comparisons of an export; it exists only where all have passed."""

    checks: tuple[Check, ...]
    not_done: str | None = None
    """What could not be tried here, and why."""


class LoadBackError(Exception):
    """An export is not the voice that it was made of. It is deleted again."""


def passed(checks: Sequence[Check], not_done: str | None = None) -> LoadBack:
    """The checks, if they all passed.

    Raises:
        LoadBackError: with every one that did not.
    """
    failed = [check for check in checks if not check.passed]
    if failed:
        differences = "; ".join(
            f"{c.what}: {c.difference:.4g}, at most {c.tolerance:g}" for c in failed
        )
        raise LoadBackError(
            "the export must be the voice that it was made of, but differs in "
            f"{differences}. Nothing was kept. The fault is voxsweep's, or a package's that it "
            "writes for: please report it"
        )
    return LoadBack(tuple(checks), not_done)


def count_differences(one: Sequence[object], other: Sequence[object]) -> int:
    """Positions at which the two differ; what only the longer one has counts."""
    same = sum(a == b for a, b in zip(one, other, strict=False))
    return max(len(one), len(other)) - same
