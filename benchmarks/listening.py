"""Panels that compare: error rates of the decision and of the checks.

Command: python benchmarks/listening.py [--quick] [--json]

Claim: of panels of 8 listeners who compare over 20 sentences, at most 5 % promote a variant that
is no better, though a listener cheats, sleeps, or uses half of the scale; so do panels that choose
among three finalists; eight hidden repeats exclude at most 5 % of honest listeners.
Baseline: the two-way interval of all comparisons alone, without checks and leaving nobody out.
Where it loses: small gains are promoted less often than by the interval alone; who agree to cheat
are not found.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from _panels import SEED, WINNER, Panel, Shown, pending_verdict, protocol_of, simulate
from numpy.random import Generator

from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.panel_stats import Scores
from orchestrator.verdict.listening.ratings import COMPARISON_SCALE, PREFERENCE, Rating, Ratings
from orchestrator.verdict.protocol import Listening


@dataclass(frozen=True)
class Pairs:
    """What is true of a panel that compares. Spreads are standard deviations in points."""

    gain: float = 0.0
    raters: int = 8
    sentences: int = 20
    taste: float = 0.2
    """Of a rater's liking for the variant, whatever it says."""
    item: float = 0.35
    """Of how much better the variant speaks a sentence."""
    ear: float = 0.7
    """Of a rater's ear from one hearing to the next."""

    def liking(self, rng: Generator) -> Scores:
        """What raters think: shape (raters, sentences), above 0 where the variant is preferred."""
        return np.asarray(
            self.gain
            + rng.normal(0, self.taste, (self.raters, 1))
            + rng.normal(0, self.item, (1, self.sentences))
        )

    def answers(self, rng: Generator, liking: Scores) -> Scores:
        """What they answer, this time."""
        heard = liking + rng.normal(0, self.ear, liking.shape)
        return np.asarray(np.clip(np.round(heard), COMPARISON_SCALE[0], COMPARISON_SCALE[-1]))

    def scores(self, rng: Generator) -> Scores:
        """A panel's answers."""
        return self.answers(rng, self.liking(rng))

    def rows(self, scores: Scores) -> list[Rating]:
        """As a file of comparisons has them."""
        return [
            Rating(f"r{r:02d}", f"b{s:02d}", WINNER, PREFERENCE, int(scores[r, s]))
            for r, s in np.ndindex(*scores.shape)
        ]


def honest(rng: Generator, pairs: Pairs) -> Scores:
    return pairs.scores(rng)


def lazy(rng: Generator, pairs: Pairs) -> Scores:
    """Two of them take the middle of the scale for all but what is far away."""
    scores = pairs.scores(rng)
    scores[:2] = np.where(np.abs(scores[:2]) < 2, 0, scores[:2])
    return scores


def harsh(rng: Generator, pairs: Pairs) -> Scores:
    """Two of them only know the ends of the scale."""
    scores = pairs.scores(rng)
    scores[:2] = 3 * np.sign(scores[:2])
    return scores


def sleepy(rng: Generator, pairs: Pairs) -> Scores:
    """One of them answers anything, and no trap finds it."""
    scores = pairs.scores(rng)
    scores[0] = rng.choice(COMPARISON_SCALE, pairs.sentences)
    return scores


def cheats(rng: Generator, pairs: Pairs, count: int) -> Scores:
    """So many of them always answer that the variant is better by two points."""
    scores = pairs.scores(rng)
    scores[:count] = np.clip(2 + np.round(rng.normal(0, 0.5, (count, pairs.sentences))), -3, 3)
    return scores


def one_person(rng: Generator, pairs: Pairs) -> Scores:
    """One person under all names, who changes one answer in ten by a point."""
    scores = pairs.scores(rng)
    scores[:] = scores[0]
    steps = rng.choice([-1, 1], scores.shape) * (rng.random(scores.shape) < 0.1)
    steps[0] = 0
    return np.asarray(np.clip(scores + steps, COMPARISON_SCALE[0], COMPARISON_SCALE[-1]))


CAUGHT = (
    *(
        Panel(f"no gain, honest, taste {taste:g}", Pairs(taste=taste), honest)
        for taste in (0.0, 0.2, 0.4, 0.8)
    ),
    Panel("no gain, two lazy of 8", Pairs(), lazy),
    Panel("no gain, two harsh of 8", Pairs(), harsh),
    Panel("no gain, one sleepy of 8", Pairs(), sleepy),
    Panel("no gain, one cheat of 8", Pairs(), partial(cheats, count=1)),
)
MISSED = (
    Panel("no gain, two cheats of 8", Pairs(), partial(cheats, count=2)),
    Panel("no gain, three cheats of 8", Pairs(), partial(cheats, count=3)),
    Panel("no gain, one person under 8 names", Pairs(), one_person),
)
POWER = tuple(
    Panel(f"gain {gain:g}, taste {taste:g}", Pairs(gain, taste=taste), honest)
    for taste in (0.2, 0.4)
    for gain in (0.3, 0.4, 0.6, 0.8)
) + tuple(
    Panel(f"gain 0.4, taste 0.2, {raters} raters", Pairs(0.4, raters), honest)
    for raters in (12, 16)
)


FINALISTS = (WINNER, "second", "third")
CHOICES = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.6), (0.4, 0.4, 0.4), (0.4, 0.4, 1.0))
"""Gains of three finalists, the winner of the metrics first."""


def simulate_choice(
    gains: Sequence[float], panels: int, raters: int = 8, resamples: int = 500
) -> dict[str, float]:
    """Shares of panels that promote a finalist, one without a gain, the winner, and the best."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples)
    verdict, chosen = pending_verdict((), FINALISTS), []
    for seed in range(panels):
        rows = []
        for name, gain in zip(FINALISTS, gains, strict=True):
            pairs = Pairs(gain, raters)
            rows += [replace(row, system=name) for row in pairs.rows(pairs.scores(rng))]
        rule = protocol.model_copy(update={"seed": seed})
        found = apply_listening_test(verdict, Ratings.build(rows), rule)
        chosen.append(found.variant if found.verdict == "PROMOTE" else None)
    of = dict(zip(FINALISTS, gains, strict=True))
    return {
        "promoted": sum(name is not None for name in chosen) / panels,
        "without a gain": sum(name is not None and of[name] == 0 for name in chosen) / panels,
        "the winner of the metrics": chosen.count(WINNER) / panels,
        "one of the largest gain": sum(
            name is not None and of[name] == max(gains) for name in chosen
        )
        / panels,
    }


def check_rates(raters: int, repeats: int) -> dict[str, float]:
    """Shares of listeners whom so many repeats exclude."""
    rng, limit, pairs = np.random.default_rng(SEED), Listening().repeat_change, Pairs(raters=raters)
    liking = pairs.liking(rng)
    honest_ = [pairs.answers(rng, liking)[:, :repeats] for _ in range(2)]
    anything = [rng.choice(COMPARISON_SCALE, (raters, repeats)) for _ in range(2)]
    return {
        who: float((np.abs(first - second).mean(axis=1) > limit).mean())
        for who, (first, second) in (("honest", honest_), ("random", anything))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the panels")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    panels, shown = (40 if options.quick else 400), Shown(options.json)
    caught = [shown.tally(each.name, simulate(each, panels)) for each in CAUGHT]
    for each in (*MISSED, *POWER):
        shown.tally(each.name, simulate(each, panels))
    for gains in CHOICES:
        shown.add({"gains of three finalists": gains, **simulate_choice(gains, panels // 2)})
    for repeats in (4, 6, 8, 10):
        shown.add({"repeats": repeats, "raters excluded": check_rates(5000, repeats)})
    result = {
        "name": "listening",
        "ratios": {
            "most false promotions": max(tally.promoted for tally in caught),
            "most false promotions by the interval alone": max(
                tally.by_interval_alone for tally in caught
            ),
        },
        "baseline": "the two-way interval of all comparisons alone",
        "conditions": {"panels": panels, "rows": shown.rows, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
