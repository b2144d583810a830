"""Panels that stop early: what group-sequential and anytime-valid rules save, and what they cost.

Command: python benchmarks/stopping.py [--quick] [--json]

Claim: none of the rules has at most 5 % false promotions, 93 % coverage of the final interval, and
at most 60 % of the ratings of a fixed panel of equal power, level and checks, in every case.
Baseline: fixed panels of 3 to 24 listeners that decide by the same test at the same level.
Where it loses: at the bar of 60 % in the cases where listeners differ, for each of the rules.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from _panels import SEED, Shown
from listening import Pairs
from numpy.typing import NDArray
from scipy.stats import norm, t

from orchestrator.verdict.protocol import Listening

Floats = NDArray[np.float64]
MOST = 24
LEVELS = {"its interval's": 0.025, "all that may be": 0.045}
"""One-sided: of a 95 % interval; and of 93 % coverage, less 2.5 % for the upper end."""
LOOKS = ((3, 5, 8), (4, 6, 9), (4, 8, 12), (5, 8, 12), (6, 9, 12))
CASES = tuple(
    Pairs(gain, MOST, taste=taste, item=item)
    for taste, item in ((0.2, 0.35), (0.4, 0.35), (0.2, 0.0))
    for gain in (0.0, 0.4, 0.6)
)
RAISED = 20.0
"""An e-value that stops: 5 % of tests without a gain reach it, however often one looks."""
PRIOR = 4.0
"""Variance of the effect size, in the mixture of the t-test's e-process."""


@dataclass(frozen=True)
class Look:
    """What so many listeners say, of every panel: arrays of shape (panels,)."""

    mean: Floats
    error: Floats
    freedom: Floats
    p: Floats
    """One-sided, of no gain: the largest, where any one listener may be left out."""

    @classmethod
    def at(cls, scores: Floats, leave_out: bool) -> "Look":
        """Of scores of shape (panels, raters, sentences)."""
        whole = cls.of(scores)
        if not leave_out:
            return whole
        parts = [cls.of(np.delete(scores, i, axis=1)) for i in range(scores.shape[1])]
        return replace(whole, p=np.max([whole.p, *(part.p for part in parts)], axis=0))

    @classmethod
    def of(cls, scores: Floats) -> "Look":
        """By the mean squares of raters, sentences and the rest, with Satterthwaite's degrees of
        freedom: raters and sentences are both samples."""
        _, raters, sentences = scores.shape
        by_rater, by_sentence = scores.mean(axis=2), scores.mean(axis=1)
        mean = by_rater.mean(axis=1)
        of_raters = sentences * by_rater.var(axis=1, ddof=1)
        of_sentences = raters * by_sentence.var(axis=1, ddof=1)
        whole = ((scores - mean[:, None, None]) ** 2).sum(axis=(1, 2))
        free = (raters - 1) * (sentences - 1)
        rest = whole - (raters - 1) * of_raters - (sentences - 1) * of_sentences
        rest = np.maximum(rest / free, 1e-9)
        squares = np.maximum(of_raters + of_sentences - rest, np.maximum(of_raters, of_sentences))
        freedom = squares**2 / (
            of_raters**2 / (raters - 1) + of_sentences**2 / (sentences - 1) + rest**2 / free
        )
        freedom = np.maximum(freedom, 1.0)
        error = np.sqrt(squares / (raters * sentences))
        return cls(mean, error, freedom, t.sf(mean / error, freedom))

    def promotes(self, level: float) -> NDArray[np.bool_]:
        """By the test, with a gain that counts."""
        return (self.p <= level) & (self.mean >= Listening().min_effect)

    def covers(self, truth: float, level: float) -> NDArray[np.bool_]:
        """Whether the interval with this much beyond each end has the truth in it."""
        return np.abs(truth - self.mean) <= t.isf(level, self.freedom) * self.error


def pocock(level: float, share: Floats) -> Floats:
    """Spending of Lan and DeMets (1983), Biometrika 70(3), like Pocock's bounds."""
    return level * np.log(1 + (np.e - 1) * share)


def obrien_fleming(level: float, share: Floats) -> Floats:
    """The same, like O'Brien and Fleming's."""
    return np.asarray(2 * norm.sf(norm.isf(level / 2) / np.sqrt(share)))


Spending = Callable[[float, Floats], Floats]
SPENDINGS: dict[str, Spending] = {"Pocock": pocock, "O'Brien-Fleming": obrien_fleming}


def levels(looks: Sequence[int], level: float, spending: Spending, draws: int = 400_000) -> Floats:
    """The nominal level of each look, so that all together err at ``level``."""
    shares = np.array(looks) / looks[-1]
    steps = np.diff(shares, prepend=0.0)
    walks = np.random.default_rng(SEED).normal(size=(draws, len(looks))) * np.sqrt(steps)
    walks = walks.cumsum(axis=1) / np.sqrt(shares)
    alive, spent, found = np.ones(draws, bool), 0.0, []
    for place, wanted in enumerate(spending(level, shares)):
        reached = np.sort(walks[alive, place])[::-1]
        bound = reached[int((wanted - spent) * draws)]
        found.append(float(norm.sf(bound)))
        stops = alive & (walks[:, place] > bound)
        alive &= ~stops
        spent += stops.mean()
    return np.array(found)


@dataclass(frozen=True)
class Stopped:
    """Of all panels of a case."""

    promoted: float
    raters: float
    """Used, on average."""
    coverage: float


Looks = dict[int, Look]


def in_groups(looks: Looks, at: Sequence[int], of: Floats, truth: float) -> Stopped:
    """Stops for a gain at the level of each look, and for futility where the mean is below the
    smallest gain that counts, which no level depends on."""
    panels = len(looks[at[0]].mean)
    alive = np.ones(panels, bool)
    promoted, covered, used = np.zeros(panels, bool), np.zeros(panels, bool), np.zeros(panels)
    for raters, level in zip(at, of, strict=True):
        look = looks[raters]
        hit = look.promotes(level)
        futile = (look.mean < Listening().min_effect) | (raters == at[-1])
        ends = alive & (hit | futile)
        promoted[ends], used[ends] = hit[ends], raters
        covered[ends] = look.covers(truth, level)[ends]
        alive &= ~ends
    return Stopped(promoted.mean(), used.mean(), covered.mean())


def e_values(means: Floats, null: Floats) -> Floats:
    """The t-test's e-process over raters' means, shape (panels, raters from 2 on, nulls).

    The mixture over effect sizes of variance ``PRIOR`` with the right Haar prior on the spread; its
    chance of ever reaching 1/a is at most a where the mean is ``null`` (Wang and Ramdas 2025,
    "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance").
    """
    counts = np.arange(2, means.shape[1] + 1)
    mean = (means.cumsum(axis=1) / np.arange(1, means.shape[1] + 1))[:, 1:]
    spread = np.stack([means[:, :n].var(axis=1, ddof=1) for n in counts], axis=1)
    squared = (mean[:, :, None] - null) ** 2 * counts[:, None]
    squared = squared / np.maximum(spread, 1e-12)[:, :, None]
    wider = (1 + counts * PRIOR)[:, None]
    free = (counts - 1)[:, None]
    logs = -0.5 * np.log(wider) + counts[:, None] / 2 * (
        np.log1p(squared / free) - np.log1p(squared / (free * wider))
    )
    return np.asarray(np.exp(np.minimum(logs, 700.0)))


def by_e_process(scores: Floats, truth: float, least: int = 4, most: int = 16) -> Stopped:
    """Looks after each listener, from the fourth to the sixteenth."""
    means = scores[:, :most].mean(axis=2)
    e = e_values(means, np.array([0.0, truth]))
    raised = e[:, least - 2 :, 0] >= RAISED
    stops = raised.any(axis=1)
    n = np.where(stops, least + raised.argmax(axis=1), most)
    every = np.arange(len(means))
    mean = means.cumsum(axis=1)[every, n - 1] / n
    promoted = stops & (mean >= Listening().min_effect)
    covered = e[every, n - 2, 1] < RAISED
    return Stopped(promoted.mean(), n.mean(), covered.mean())


def equal_power(looks: Looks, level: float, promoted: float) -> float | None:
    """Listeners of the fixed panel that promotes as often; None where the most do not, or the
    fewest already do."""
    counts = sorted(looks)
    power = np.maximum.accumulate([looks[n].promotes(level).mean() for n in counts])
    if not power[0] < promoted <= power[-1] or promoted > 0.995:
        return None
    return float(np.interp(promoted, power, counts))


def scores_of(case: Pairs, panels: int) -> Floats:
    """Of so many panels, shape (panels, raters, sentences)."""
    rng = np.random.default_rng(SEED)
    return np.stack([case.scores(rng) for _ in range(panels)])


def told(
    rule: str,
    level: float,
    found: dict[Pairs, Stopped],
    looks: dict[Pairs, dict[int, Look]],
    leave_out: bool,
) -> dict[str, object]:
    """A rule's row: its worst cases, and its listeners beside those of fixed panels of equal power.

    ``looks`` are those of the same panels, each case's by how many listeners were looked at.
    """
    ratios = {
        case: stopped.raters / fixed
        for case, stopped in found.items()
        if case.gain and (fixed := equal_power(looks[case], level, stopped.promoted))
    }
    return {
        "rule": rule,
        "leaves one out": leave_out,
        "level": level,
        "most promoted without a gain": max(
            stopped.promoted for case, stopped in found.items() if not case.gain
        ),
        "least coverage": min(stopped.coverage for stopped in found.values()),
        "listeners to those of a fixed panel": [
            round(min(ratios.values()), 2),
            round(max(ratios.values()), 2),
        ],
        "cases": [
            {
                "gain": case.gain,
                "taste": case.taste,
                "item": case.item,
                "promoted": round(stopped.promoted, 3),
                "listeners": round(stopped.raters, 2),
                "to a fixed panel": round(ratios[case], 2) if case in ratios else None,
            }
            for case, stopped in found.items()
        ],
    }


def rows(panels: int) -> Iterator[dict[str, object]]:
    """Each rule: its worst case of each kind."""
    drawn = {case: scores_of(case, panels) for case in CASES}
    for leave_out in (False, True):
        looks = {
            case: {n: Look.at(scores[:, :n], leave_out) for n in range(3, MOST + 1)}
            for case, scores in drawn.items()
        }

        for at, (name, spending), level in product(LOOKS, SPENDINGS.items(), LEVELS.values()):
            of = levels(at, level, spending)
            found = {case: in_groups(looks[case], at, of, case.gain) for case in CASES}
            yield told(f"{name}, looks at {at}", level, found, looks, leave_out)
        if not leave_out:
            found = {case: by_e_process(drawn[case], case.gain) for case in CASES}
            rule, level = "e-process, looks at each listener", LEVELS["its interval's"]
            yield told(rule, level, found, looks, leave_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the panels")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    panels, shown = (150 if options.quick else 1500), Shown(options.json)
    for row in rows(panels):
        shown.add(row)
    keeping = [
        row["listeners to those of a fixed panel"]
        for row in shown.rows
        if row["most promoted without a gain"] <= 0.05 and row["least coverage"] >= 0.93
    ]
    result = {
        "name": "stopping",
        "ratios": {
            "least of the largest shares of a fixed panel's ratings": min(
                (most for _, most in keeping), default=None
            )
        },
        "baseline": "fixed panels of equal power, by the same test at the same level",
        "conditions": {"panels": panels, "rows": shown.rows, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
