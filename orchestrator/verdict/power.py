"""Whether set B has the prompts that a rule needs, told before anything is trained."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from jobs.metrics.base import ClipScores
from jobs.spec.items import TextItem
from jobs.spec.trial import PromptSpec
from orchestrator.verdict.protocol import Constraint, prompts_of_groups
from orchestrator.verdict.shares import share_on_all, shares_in_group
from orchestrator.verdict.stats import prompts_needed

ENOUGH = 0.8
"""Power below which a rule is weak."""

ASSUMED: Mapping[str, float] = {
    "MOS": 0.25,
    "share": 0.10,
    "cosine": 0.05,
    "x base": 0.10,
    "0 or 1": 0.32,
}
"""Assumed standard deviation of paired differences on one prompt or item, by the metric's unit,
where nothing has been scored yet. A share is that of a text of ten words with one in twenty wrong:
the root of 2 * 0.05 * 0.95 / 10. Of 0 or 1 one in ten changes: the root of 0.1. That of a MOS is
the one of ``benchmarks/verdicts.py``; the others are guesses."""


class DecisionRule(Protocol):
    """What of a spec's scoring, or of a protocol, decides on set B."""

    @property
    def primary(self) -> str: ...
    @property
    def min_effect(self) -> float: ...
    @property
    def constraints(self) -> tuple[Constraint, ...]: ...
    @property
    def finalists(self) -> int: ...
    @property
    def significance(self) -> float: ...
    @property
    def confidence(self) -> float: ...


@dataclass(frozen=True)
class Spread:
    """Standard deviation of paired differences over prompts, in the metric's unit."""

    value: float
    source: str


def expected_spreads(
    units: Mapping[str, str], base: Sequence[ClipScores] = ()
) -> dict[str, Spread]:
    """How much a metric's paired differences will spread, by metric.

    Two systems whose scores spread equally over prompts and correlate by one half differ by just
    that spread, so the base's own scores tell it. Where there are none, it is assumed by the unit.

    Args:
        units: of the metrics, by name.
        base: what the base scored, on one prompt set.
    """
    of_prompt: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in base:
        for name, value in row.values.items():
            of_prompt[name][row.prompt].append(value)
    spreads = {}
    for name, unit in units.items():
        means = [float(np.mean(values)) for values in of_prompt[name].values()]
        if len(means) > 1:
            found = float(np.std(means, ddof=1))
            spreads[name] = Spread(found, "as the base's own scores do over prompts")
        elif unit in ASSUMED:
            spreads[name] = Spread(ASSUMED[unit], "as assumed for this unit")
    return spreads


def weak_rules(
    rule: DecisionRule,
    prompts: Sequence[PromptSpec],
    spreads: Mapping[str, Spread],
    items: Sequence[TextItem] = (),
) -> Iterator[str]:
    """Every constraint, and the smallest effect, that set B's prompts and items seldom decide.

    A sentence each, with the power and with what gives a power of :data:`ENOUGH`. A metric whose
    spread is not known is left out. Of languages and speakers, the one with the fewest prompts.
    """
    yield from _weak_margins(rule, len(prompts), spreads, Counter(item.metric for item in items))
    if not (spread := spreads.get(rule.primary)) or spread.value == 0:
        return
    groups = prompts_of_groups(prompts)
    share = share_on_all(rule.finalists, len(groups))
    yield from _weak_effect(rule, f"{len(prompts)} prompts of set B", len(prompts), share, spread)
    if groups:
        (kind, name), few = min(groups.items(), key=lambda item: len(item[1]))
        share = shares_in_group("own", ["sweep's"], len(groups))["own"]
        where = f"the {len(few)} prompts of {kind} {name}, by its own finalist,"
        yield from _weak_effect(rule, where, len(few), share, spread)


def _weak_effect(
    rule: DecisionRule, where: str, prompts: int, share: float, spread: Spread
) -> Iterator[str]:
    """Whether a test with this share of the significance seldom shows the smallest effect."""
    level = rule.significance * share
    # The signed-rank test is as good as 3/pi of the prompts: see prompts_needed.
    error = spread.value / math.sqrt(prompts * 3 / math.pi)
    power = float(ndtr(rule.min_effect / error - ndtri(1 - level)))
    # Its smallest p over n prompts is 2 to the -n.
    least = math.floor(-math.log2(level)) + 1
    if prompts < least:
        power = 0.0
    if power < ENOUGH:
        needed = max(least, prompts_needed(spread.value, rule.min_effect, level, ENOUGH))
        yield (
            f"{rule.primary}: a true gain of min_effect {rule.min_effect:g} is told from none "
            f"by {where} in {power:.0%} of sweeps, if differences spread by "
            f"{spread.value:.3g}, {spread.source}; {needed} prompts give {ENOUGH:.0%}"
        )


def _weak_margins(
    rule: DecisionRule, prompts: int, spreads: Mapping[str, Spread], items: Mapping[str, int]
) -> Iterable[str]:
    z = float(ndtri(rule.confidence))
    both = z + float(ndtri(ENOUGH))
    for constraint in rule.constraints:
        spread = spreads.get(constraint.metric)
        if spread is None or spread.value == 0:
            continue
        count = items.get(constraint.metric, prompts)
        units = "items" if constraint.metric in items else "prompts"
        error = spread.value / math.sqrt(count)
        power = float(ndtr(constraint.margin / error - z))
        if power >= ENOUGH:
            continue
        options = [f"a margin of {_rounded_up(both * error):g}"]
        if constraint.margin > 0:
            needed = math.ceil((both * spread.value / constraint.margin) ** 2)
            options.insert(0, f"{needed} {units}")
        yield (
            f"{constraint.metric}: a variant that does not change it is shown to keep the margin "
            f"of {constraint.margin:g} by {count} {units} of set B in {power:.0%} of sweeps, if "
            f"differences spread by {spread.value:.3g}, {spread.source}; {' or '.join(options)} "
            f"give{'s' if len(options) == 1 else ''} {ENOUGH:.0%}"
        )


def _rounded_up(value: float) -> float:
    """To two digits, never below."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step) * step
