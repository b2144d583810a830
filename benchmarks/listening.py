"""Panels that compare: error rates of the decision, of the checks, and of stopping early.

Command: python benchmarks/listening.py [--quick] [--json]

Claim: of panels of 8 listeners who compare over 20 sentences, at most 5 % promote a variant that
is no better, though a listener cheats, sleeps, or uses half of the scale; eight hidden repeats
exclude at most 5 % of honest listeners.
Baseline: the two-way interval of all comparisons alone, without checks and leaving nobody out.
Where it loses: small gains are promoted less often than by the interval alone; who agree to cheat
are not found; and no rule that stops a panel early was found that keeps the error and saves 40 % of
the ratings at the fixed panel's power, so the room has none.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from panels import SEED, WINNER, protocol_of

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.panel import hear
from orchestrator.verdict.listening.panel_stats import two_way_interval
from orchestrator.verdict.listening.ratings import (
    COMPARISON_SCALE,
    PREFERENCE,
    Rating,
    Ratings,
)
from orchestrator.verdict.protocol import Listening

Answers = NDArray[np.float64]
"""Shape (raters, sentences), above 0 where the variant is preferred."""
RAISED = 20.0
"""An e-value that stops: 5 % of tests without a gain reach it, however often one looks."""
PRIOR = 4.0
"""Variance of the effect size, in the mixture of the t-test's e-process."""
LEAST, MOST = 4, 16
"""Raters before the first look, and at most."""


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

    def liking(self, rng: Generator) -> Answers:
        """What raters think."""
        return np.asarray(
            self.gain
            + rng.normal(0, self.taste, (self.raters, 1))
            + rng.normal(0, self.item, (1, self.sentences))
        )

    def answers(self, rng: Generator, liking: Answers) -> Answers:
        """What they answer, this time."""
        heard = liking + rng.normal(0, self.ear, liking.shape)
        return np.clip(np.round(heard), COMPARISON_SCALE[0], COMPARISON_SCALE[-1])

    def draw(self, rng: Generator) -> Answers:
        """A panel's answers."""
        return self.answers(rng, self.liking(rng))


Behaviour = Callable[[Generator, Answers], Answers]


def honest(rng: Generator, answers: Answers) -> Answers:
    return answers


def lazy(rng: Generator, answers: Answers) -> Answers:
    """Two of them take the middle of the scale for all but what is far away."""
    answers[:2] = np.where(np.abs(answers[:2]) < 2, 0, answers[:2])
    return answers


def harsh(rng: Generator, answers: Answers) -> Answers:
    """Two of them only know the ends of the scale."""
    answers[:2] = 3 * np.sign(answers[:2])
    return answers


def sleepy(rng: Generator, answers: Answers) -> Answers:
    """One of them answers anything, and no trap finds it."""
    answers[0] = rng.choice(COMPARISON_SCALE, answers.shape[1])
    return answers


def cheats(count: int) -> Behaviour:
    """So many of them always answer that the variant is better by two points."""

    def cheat(rng: Generator, answers: Answers) -> Answers:
        answers[:count] = np.clip(2 + np.round(rng.normal(0, 0.5, answers[:count].shape)), -3, 3)
        return answers

    return cheat


def one_person(rng: Generator, answers: Answers) -> Answers:
    """One person under all names, who changes one answer in ten by a point."""
    answers[:] = answers[0]
    steps = rng.choice([-1, 1], answers.shape) * (rng.random(answers.shape) < 0.1)
    steps[0] = 0
    return np.clip(answers + steps, -3, 3)


@dataclass(frozen=True)
class ComparingPanel:
    """A row."""

    name: str
    pairs: Pairs
    behaviour: Behaviour = honest


CAUGHT = (
    *(
        ComparingPanel(f"no gain, honest, taste {taste:g}", Pairs(taste=taste))
        for taste in (0.0, 0.2, 0.4, 0.8)
    ),
    ComparingPanel("no gain, two lazy of 8", Pairs(), lazy),
    ComparingPanel("no gain, two harsh of 8", Pairs(), harsh),
    ComparingPanel("no gain, one sleepy of 8", Pairs(), sleepy),
    ComparingPanel("no gain, one cheat of 8", Pairs(), cheats(1)),
)
MISSED = (
    ComparingPanel("no gain, two cheats of 8", Pairs(), cheats(2)),
    ComparingPanel("no gain, three cheats of 8", Pairs(), cheats(3)),
    ComparingPanel("no gain, one person under 8 names", Pairs(), one_person),
)
POWER = tuple(
    ComparingPanel(f"gain {gain:g}, taste {taste:g}", Pairs(gain, taste=taste))
    for taste in (0.2, 0.4)
    for gain in (0.3, 0.4, 0.6, 0.8)
) + tuple(
    ComparingPanel(f"gain 0.4, taste 0.2, {raters} raters", Pairs(0.4, raters))
    for raters in (12, 16)
)


def rows_of(answers: Answers) -> list[Rating]:
    """As a file of comparisons has them."""
    return [
        Rating(f"r{r:02d}", f"b{s:02d}", WINNER, PREFERENCE, int(answers[r, s]))
        for r, s in np.ndindex(*answers.shape)
    ]


def simulate(panel: ComparingPanel, panels: int, resamples: int = 500) -> dict[str, float]:
    """Shares of panels that promote, by the rule and by the interval alone, and that exclude."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples)
    least = protocol.listening.min_effect
    promoted = alone = excluding = 0
    for seed in range(panels):
        ratings = Ratings.build(rows_of(panel.behaviour(rng, panel.pairs.draw(rng))))
        report = hear(ratings, WINNER, protocol.model_copy(update={"seed": seed}))
        promoted += report.verdict == "PROMOTE"
        excluding += bool(report.excluded)
        differences = ratings.differences(WINNER, BASE_VARIANT)
        found = two_way_interval(differences, seed, resamples, protocol.confidence)
        alone += found.low > 0 and found.mean >= least
    return {
        "promoted": promoted / panels,
        "by the interval alone": alone / panels,
        "excluding": excluding / panels,
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


def e_values(means: NDArray[np.float64], null: float = 0.0) -> NDArray[np.float64]:
    """The t-test's e-process over raters' means, after each from the second on.

    The mixture over effect sizes of variance ``PRIOR`` with the right Haar prior on the spread; its
    chance of ever reaching 1/a is at most a where the mean is ``null`` (Wang and Ramdas 2025,
    "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance").
    """
    counts = np.arange(2, len(means) + 1)
    found = []
    for n in counts:
        part = means[:n] - null
        spread = part.std(ddof=1)
        t2 = n * part.mean() ** 2 / max(spread**2, 1e-12)
        wider = 1 + n * PRIOR
        log_e = -0.5 * np.log(wider) + n / 2 * (
            np.log1p(t2 / (n - 1)) - np.log1p(t2 / ((n - 1) * wider))
        )
        found.append(np.exp(min(log_e, 700.0)))
    return np.array(found)


def stopped_early(pairs: Pairs, panels: int) -> dict[str, float]:
    """A panel that is looked at after each rater, from the fourth to the sixteenth."""
    rng, least = np.random.default_rng(SEED), Listening().min_effect
    grid = np.linspace(-2, 3, 251)
    promoted = covered = 0
    used: list[int] = []
    for _ in range(panels):
        answers = replace(pairs, raters=MOST).draw(rng)
        means = answers.mean(axis=1)
        e = e_values(means)
        stops = [n for n in range(LEAST, MOST + 1) if e[n - 2] >= RAISED]
        n = stops[0] if stops else MOST
        used.append(n)
        promoted += bool(stops) and means[:n].mean() >= least
        inside = [null for null in grid if e_values(means[:n], null)[-1] < RAISED]
        covered += bool(inside) and inside[0] - 0.02 <= pairs.gain <= inside[-1] + 0.02
    return {
        "promoted": promoted / panels,
        "raters": float(np.mean(used)),
        "coverage": covered / panels,
    }


ADAPTIVE = tuple(
    (f"gain {gain:g}, taste {taste:g}, item {item:g}", Pairs(gain, taste=taste, item=item))
    for item in (0.35, 0.0)
    for taste in (0.2, 0.4)
    for gain in (0.0, 0.4, 0.6)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the panels")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    panels, rows = (40 if options.quick else 400), []

    def show(row: dict[str, Any]) -> dict[str, Any]:
        rows.append(row)
        if not options.json:
            print(json.dumps(row), flush=True)
        return row

    caught = [show({"panel": p.name, **simulate(p, panels)}) for p in CAUGHT]
    for panel in (*MISSED, *POWER):
        show({"panel": panel.name, **simulate(panel, panels)})
    checks = {n: check_rates(5000, n) for n in (4, 6, 8, 10)}
    for n, rates in checks.items():
        show({"repeats": n, **rates})
    for name, pairs in ADAPTIVE:
        fixed = simulate(ComparingPanel(name, pairs), panels)
        show({"early": name, **stopped_early(pairs, panels), "fixed panel": fixed["promoted"]})
    result = {
        "name": "listening",
        "ratios": {
            "most false promotions": max(row["promoted"] for row in caught),
            "most false promotions by the interval alone": max(
                row["by the interval alone"] for row in caught
            ),
        },
        "baseline": "the two-way interval of all comparisons alone",
        "conditions": {"panels": panels, "rows": rows, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
