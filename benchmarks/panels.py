"""Error rates of listening panels: panels of known truth are simulated, and judged by real code.

Command: python benchmarks/panels.py [--quick] [--json]

Claim: where a variant is no better than the base, at most 5 % of panels of 8 listeners promote it,
though one listener cheats, one person rates under all eight names (also with one score in ten
changed), or most listeners rated little; where it is worse in one of two languages, at most 5 %
promote it for both.
Baseline: the two-way interval of all ratings alone, above 0 with a mean gain of `min_effect`, which
decided before listeners were checked and left out one by one.
Where it loses: a panel promotes a true gain less often than the interval alone; three listeners
who agree to cheat, and one person who listens anew under every name, are not found out.
"""

import argparse
import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from _panels import (
    SEED,
    WINNER,
    Panel,
    Shown,
    Tally,
    by_interval_alone,
    pending_verdict,
    protocol_of,
    simulate,
)
from numpy.random import Generator

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.panel_stats import Scores
from orchestrator.verdict.listening.ratings import AXES, SCALE, Rating, Ratings
from orchestrator.verdict.protocol import Listening


@dataclass(frozen=True)
class World:
    """What is true of a panel. Spreads are standard deviations in points, before rounding."""

    gain: float = 0.0
    raters: int = 8
    sentences: int = 20
    taste: float = 0.15
    """Of a rater's liking for a system, whatever it says."""
    level: float = 0.5
    """Of how high a rater scores in general."""
    text: float = 0.3
    """Of how well a sentence is spoken by both systems."""
    item: float = 0.25
    """Of how well a system speaks a sentence."""
    clip: float = 0.5
    """Of a rater's ear from clip to clip, in all axes alike."""
    axis: float = 0.5
    """Of the same in each axis by itself."""

    def scores(self, rng: Generator) -> Scores:
        """Of shape (raters, sentences, systems, axes), the base first."""
        return self.answers(rng, self.liking(rng))

    def liking(self, rng: Generator) -> Scores:
        """What raters think of clips, shape (raters, sentences, systems, 1)."""
        raters, sentences = self.raters, self.sentences
        return np.asarray(
            3.3
            + rng.normal(0, self.level, (raters, 1, 1, 1))
            + rng.normal(0, self.text, (1, sentences, 1, 1))
            + np.array([0.0, self.gain])[:, None]
            + rng.normal(0, self.taste, (raters, 1, 2, 1))
            + rng.normal(0, self.item, (1, sentences, 2, 1))
        )

    def answers(self, rng: Generator, liking: Scores) -> Scores:
        """What they answer, this time."""
        heard = (
            liking
            + rng.normal(0, self.clip, liking.shape)
            + rng.normal(0, self.axis, (*liking.shape[:-1], len(AXES)))
        )
        return np.asarray(np.clip(np.round(heard), SCALE[0], SCALE[-1]))

    def rows(self, scores: Scores, raters: str = "r", sentences: str = "b") -> list[Rating]:
        """Long rows of scores, as a file of ratings has them."""
        return [
            Rating(f"{raters}{r:02d}", f"{sentences}{s:02d}", system, axis, int(scores[r, s, y, x]))
            for r, s in np.argwhere(~np.isnan(scores[:, :, 0, 0]))
            for y, system in enumerate((BASE_VARIANT, WINNER)[: scores.shape[2]])
            for x, axis in enumerate(AXES)
        ]


def honest(rng: Generator, world: World) -> Scores:
    return world.scores(rng)


def cheats(rng: Generator, world: World, count: int, favour: float) -> Scores:
    """The first ``count`` raters hear ``favour`` points more in the variant than there is."""
    scores = world.scores(rng)
    theirs = replace(world, gain=world.gain + favour).scores(rng)
    scores[:count] = theirs[:count]
    return scores


def one_person(rng: Generator, world: World, changed: float = 0.0, names: int = 8) -> Scores:
    """The first ``names`` raters are one, who then changes this share of scores by a point."""
    scores = world.scores(rng)
    scores[:names] = scores[0]
    steps = rng.choice([-1, 1], scores[1:names].shape)
    steps = steps * (rng.random(steps.shape) < changed)
    scores[1:names] = np.clip(scores[1:names] + steps, SCALE[0], SCALE[-1])
    return scores


def listens_anew(rng: Generator, world: World) -> Scores:
    """One person listens to everything again under each name: taste and level are one."""
    bias = rng.normal(0, world.taste * np.sqrt(2))
    own = replace(world, gain=world.gain + bias, taste=0.0, level=0.0)
    return own.scores(rng)


def uneven(rng: Generator, world: World) -> Scores:
    """One rater hears everything, the others the first sentence."""
    scores = world.scores(rng)
    scores[1:, 1:] = np.nan
    return scores


def unfinished(rng: Generator, world: World) -> Scores:
    """Every rater has left out a fifth of the sentences."""
    scores = world.scores(rng)
    for of_rater in scores:
        of_rater[rng.permutation(world.sentences)[: world.sentences // 5]] = np.nan
    return scores


def half_broken(rng: Generator, world: World) -> Scores:
    """The base fails on every other sentence, and everybody hears it."""
    scores = world.scores(rng)
    scores[:, ::2, 0] = SCALE[0]
    return scores


_FOUR = (0.0, 0.15, 0.3, 0.6)
HONEST = tuple(
    Panel(f"no gain, honest, taste {taste:g}", World(taste=taste), honest) for taste in _FOUR
)
CAUGHT = (
    *(
        Panel(
            f"one cheat of 8, +{favour:g}, taste {taste:g}",
            World(taste=taste),
            partial(cheats, count=1, favour=favour),
        )
        for favour in (1.0, 4.0)
        for taste in (0.0, 0.15, 0.3)
    ),
    *(
        Panel(
            f"one person under 8 names, {share:.0%} changed",
            World(taste=0.3),
            partial(one_person, changed=share),
        )
        for share in (0.0, 0.05, 0.1)
    ),
    Panel(
        "one person under 3 of 8 names",
        World(taste=0.3),
        partial(one_person, changed=0.05, names=3),
    ),
    Panel("1 rater x 20, 7 raters x 1", World(taste=0.3), uneven),
    Panel("each rater 16 of 20", World(taste=0.3), unfinished),
)
MISSED = (
    *(
        Panel(
            f"{count} cheats of 8, +{favour:g}",
            World(),
            partial(cheats, count=count, favour=favour),
        )
        for count in (2, 3)
        for favour in (1.0, 2.0, 4.0)
    ),
    *(
        Panel(
            f"one person under 8 names, {share:.0%} changed",
            World(taste=0.3),
            partial(one_person, changed=share),
        )
        for share in (0.15, 0.2)
    ),
    Panel("one person listens 8 times", World(taste=0.3), listens_anew),
)
POWER = tuple(
    Panel(
        f"gain {gain:g}, {raters} raters, taste {taste:g}", World(gain, raters, taste=taste), honest
    )
    for taste in (0.15, 0.3)
    for raters in (8, 12)
    for gain in (0.3, 0.4, 0.6, 0.8)
)
ALIKE = (
    Panel("steady ears", World(0.3, clip=0.25, axis=0.25, text=0.5, item=0.5, level=0.3), honest),
    Panel("three axes answered as one", World(0.3, clip=0.5, axis=0.0, text=0.5, item=0.5), honest),
    Panel("both", World(0.3, clip=0.35, axis=0.0, text=0.5, item=0.5, level=0.2), honest),
    Panel("a base that fails on half", World(text=0.5, item=0.5), half_broken),
)
"""Honest panels that agree more than most: nobody may be taken for a copy."""


def simulate_languages(truths: dict[str, World], tests: int, resamples: int = 500) -> Tally:
    """Let each language's panel rate its own sentences; the metrics chose one winner for all."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples, tuple(truths))
    heard, alone = [], 0
    for seed in range(tests):
        rows = [
            row
            for name, world in truths.items()
            for row in world.rows(world.scores(rng), f"{name}-", name)
        ]
        ratings, rule = Ratings.build(rows), protocol.model_copy(update={"seed": seed})
        heard.append(apply_listening_test(pending_verdict(truths), ratings, rule).verdict)
        alone += by_interval_alone(ratings, rule)
    return Tally(
        promoted=heard.count("PROMOTE") / tests,
        by_interval_alone=alone / tests,
        excluding=0.0,
        verdicts={name: heard.count(name) / tests for name in sorted(set(heard))},
    )


LANGUAGES = {
    "km +0.38 by 20, ko -0.17 by 8": {
        "km": World(0.38, 20),
        "ko": World(-0.17, 8),
    },
    "km +0.6 by 20, ko -0.6 by 8": {"km": World(0.6, 20), "ko": World(-0.6, 8)},
    "no gain in 2 languages by 8": {"km": World(), "ko": World()},
    "+0.6 in 2 languages by 8": {"km": World(0.6), "ko": World(0.6)},
}


def check_rates(raters: int, repeats: int) -> dict[str, float]:
    """Shares of raters whom this many repeated clips, or two traps, exclude."""
    rng, rule, world = np.random.default_rng(SEED), Listening(), World(raters=raters)
    liking = world.liking(rng)
    answers = {
        "honest": [world.answers(rng, liking) for _ in range(2)],
        "random": [rng.integers(1, 6, (*liking.shape[:-1], len(AXES))) for _ in range(2)],
    }
    found = {}
    for who, (first, second) in answers.items():
        again = second[:, :repeats, :1]
        rows = world.rows(first) + [replace(row, item="repeat") for row in world.rows(again)]
        missed = rng.integers(1, 6, (raters, 2)) if who == "random" else np.full((raters, 2), 2)
        rows += [
            Rating(f"r{r:02d}", f"trap{t}", "", AXES[0], int(missed[r, t]), "trap", 2)
            for r, t in np.ndindex(raters, 2)
        ]
        ratings = Ratings.build(rows)
        found[f"{who}, repeats"] = float((ratings.repeat_change > rule.repeat_change).mean())
        found[f"{who}, traps"] = float((ratings.traps[:, 1] > rule.missed_traps).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the panels")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    panels, shown = (40 if options.quick else 400), Shown(options.json)
    caught = [shown.tally(each.name, simulate(each, panels)) for each in (*HONEST, *CAUGHT)]
    for each in (*MISSED, *POWER, *ALIKE):
        shown.tally(each.name, simulate(each, panels))
    for name, truths in LANGUAGES.items():
        shown.tally(name, simulate_languages(truths, panels // 2))
    checks = {str(n): check_rates(2 * panels, n) for n in (2, 4, 6)}
    shown.add({"raters excluded, by repeated clips": checks})
    result = {
        "name": "panels",
        "ratios": {
            "most false promotions": max(tally.promoted for tally in caught),
            "most false promotions by the interval alone": max(
                tally.by_interval_alone for tally in caught
            ),
        },
        "baseline": "the two-way interval of all ratings alone",
        "conditions": {"panels": panels, "rows": shown.rows, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
