"""A new voice against the one that holds the title: judged on the prompts that both said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import bootstrap_of, gains
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import ScoreTable, VariantInfo
from orchestrator.verdict.variant_rows import row_of

_CHAMPION, _CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Contest:
    """How it ended."""

    difference: Interval
    """Challenger minus champion in the primary metric, over prompts; positive is better."""
    wins: bool
    reason: str
    """Why it wins, or why not."""


def contest(
    champion: Sequence[ClipScores], challenger: Sequence[ClipScores], protocol: Protocol
) -> Contest:
    """Whether the challenger is better: its interval lies above 0 and no rule is broken.

    Args:
        champion: scores of the title's holder and its base on the prompts.
        challenger: those of the new voice and its base.
        protocol: the rule of both, over these prompts.

    Raises:
        ScoreTableError: the scores cannot be paired.
    """
    rows = [
        *(row for row in challenger if row.variant == BASE_VARIANT),
        *_as(_CHALLENGER, challenger),
        *_as(_CHAMPION, champion),
    ]
    infos = [VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None)]
    infos += [VariantInfo(n, n, 1, 1.0, None, None, None) for n in (_CHAMPION, _CHALLENGER)]
    table = ScoreTable.build(infos, rows, protocol)
    ahead = gains(table, _CHALLENGER, protocol) - gains(table, _CHAMPION, protocol)
    difference = bootstrap_of(protocol).interval(ahead)
    row = row_of(table, _CHALLENGER, protocol)
    told = (
        f"{protocol.primary} against the champion's is {difference.mean:+.3g} "
        f"({difference.low:+.3g} to {difference.high:+.3g} over {difference.n} prompts)"
    )
    if broken := list(sentences.broken_rules(row)):
        return Contest(difference, False, "; ".join(broken))
    if difference.low <= 0:
        return Contest(difference, False, f"not shown to be better: {told}")
    return Contest(difference, True, f"better: {told}")


def differing_keys(one: Protocol, other: Protocol) -> tuple[str, ...]:
    """Names of what two protocols do not share; none where voices under them compare."""
    return tuple(
        name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)
    )


def _as(name: str, rows: Iterable[ClipScores]) -> list[ClipScores]:
    return [replace(row, variant=name) for row in rows if row.variant != BASE_VARIANT]
