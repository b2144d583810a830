"""How the tests on set B share the significance: those on all prompts, of languages, of speakers.

The shares are fixed before set B is heard, so all claims of a sweep together err at one level
(weighted Holm, :func:`orchestrator.verdict.stats.holm`).
"""

from collections.abc import Sequence

ON_ALL = 0.5
"""Of the significance, where there are groups: for the sweep's finalists on all prompts. The groups
share the rest equally."""
OWN = 0.5
"""Of a group's share: for its own finalist. The sweep's finalists share the rest equally."""


def share_on_all(finalists: int, groups: int) -> float:
    """What share of the significance each of the sweep's finalists has on all prompts.

    Args:
        finalists: of the sweep, 1 or more.
        groups: languages and speakers that have a verdict of their own.
    """
    return (ON_ALL if groups else 1.0) / finalists


def shares_in_group(own: str | None, finalists: Sequence[str], groups: int) -> dict[str, float]:
    """What share of the significance each finalist has on one group's prompts, its own first.

    Args:
        own: the group's finalist; it may be one of the sweep's too.
        finalists: of the sweep.
        groups: languages and speakers that have a verdict of their own.
    """
    of_group = (1 - ON_ALL if finalists else 1.0) / groups
    shares: dict[str, float] = {}
    if own is not None:
        shares[own] = of_group * (OWN if finalists else 1.0)
    for name in finalists:
        of_finalists = of_group * (1.0 if own is None else 1 - OWN)
        shares[name] = shares.get(name, 0.0) + of_finalists / len(finalists)
    return shares
