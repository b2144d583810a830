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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.panel import PENDING, hear
from orchestrator.verdict.listening.panel_stats import Scores, two_way_interval
from orchestrator.verdict.listening.ratings import AXES, SCALE, Rating, Ratings
from orchestrator.verdict.outcome import GroupVerdict, Verdict
from orchestrator.verdict.protocol import (
    GATE_METRICS,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)

WINNER = "tuned"
SEED = 2026


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


Attack = Callable[[Generator, World], Scores]
"""A panel's scores in which something is wrong."""


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


@dataclass(frozen=True)
class Panel:
    """A row: a truth, and what is wrong with the panel."""

    name: str
    world: World
    attack: Attack = honest


@dataclass(frozen=True)
class Tally:
    """Shares of panels."""

    promoted: float
    by_interval_alone: float
    """Promoted by the baseline."""
    excluding: float
    """That exclude a rater."""
    verdicts: dict[str, float]


_FOUR = (0.0, 0.15, 0.3, 0.6)
HONEST = tuple(Panel(f"no gain, honest, taste {taste:g}", World(taste=taste)) for taste in _FOUR)
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
    Panel(f"gain {gain:g}, {raters} raters, taste {taste:g}", World(gain, raters, taste=taste))
    for taste in (0.15, 0.3)
    for raters in (8, 12)
    for gain in (0.3, 0.4, 0.6, 0.8)
)
ALIKE = (
    Panel("steady ears", World(0.3, clip=0.25, axis=0.25, text=0.5, item=0.5, level=0.3)),
    Panel("three axes answered as one", World(0.3, clip=0.5, axis=0.0, text=0.5, item=0.5)),
    Panel("both", World(0.3, clip=0.35, axis=0.0, text=0.5, item=0.5, level=0.2)),
    Panel("a base that fails on half", World(text=0.5, item=0.5), half_broken),
)
"""Honest panels that agree more than most: nobody may be taken for a copy."""


def protocol_of(resamples: int, languages: Sequence[str] = (), sentences: int = 20) -> Protocol:
    """A protocol whose set B has so many sentences, of each language if there are several."""
    bounds = {"naturalness": ("higher", 5.0), **{name: ("lower", 30.0) for name in GATE_METRICS}}
    fresh = [
        Prompt(id=f"{language or 'b'}{i:02d}", text=f"{language} {i}", language=language)
        for language in languages or (None,)
        for i in range(sentences)
    ]
    protocol = Protocol(
        prompt_set="a",
        prompts=(Prompt(id="a0", text="a"),),
        shortlist_after=None,
        seed=SEED,
        confirmation_set="b",
        confirmation=tuple(fresh),
        confirmation_seed=1,
        lora_scales=(1.0,),
        temperature=1.0,
        top_k=1,
        primary="naturalness",
        min_effect=0.05,
        significance=0.05,
        constraints=(),
        gates=Gates(),
        metrics=tuple(
            MetricVersion.model_validate(
                {"name": n, "version": "1", "unit": "1", "direction": way, "low": 0.0, "high": high}
            )
            for n, (way, high) in bounds.items()
        ),
        finalists=1,
        finalist_metrics=(),
        listening=Listening(),
        bootstrap_resamples=1000,
        confidence=0.95,
        family_digests={},
    )
    # Fewer than a protocol may have: a share over many panels does not need as many for each.
    return protocol.model_copy(update={"bootstrap_resamples": resamples})


def rating_rows(scores: Scores, raters: str = "r", sentences: str = "b") -> list[Rating]:
    """Long rows of scores, as a file of ratings has them."""
    return [
        Rating(f"{raters}{r:02d}", f"{sentences}{s:02d}", system, axis, int(scores[r, s, y, x]))
        for r, s in np.argwhere(~np.isnan(scores[:, :, 0, 0]))
        for y, system in enumerate((BASE_VARIANT, WINNER)[: scores.shape[2]])
        for x, axis in enumerate(AXES)
    ]


def simulate(panel: Panel, panels: int, resamples: int = 500) -> Tally:
    """Judge so many panels of one kind."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples)
    heard, alone, excluding = [], 0, 0
    for seed in range(panels):
        ratings = Ratings.build(rating_rows(panel.attack(rng, panel.world)))
        report = hear(ratings, WINNER, protocol.model_copy(update={"seed": seed}))
        heard.append(report.verdict)
        excluding += bool(report.excluded)
        alone += _by_interval_alone(ratings, seed, protocol)
    return Tally(
        promoted=heard.count("PROMOTE") / panels,
        by_interval_alone=alone / panels,
        excluding=excluding / panels,
        verdicts={name: heard.count(name) / panels for name in sorted(set(heard))},
    )


def _by_interval_alone(ratings: Ratings, seed: int, protocol: Protocol) -> bool:
    differences = ratings.differences(WINNER, BASE_VARIANT)
    found = two_way_interval(differences, seed, protocol.bootstrap_resamples, protocol.confidence)
    return found.low > 0 and found.mean >= protocol.listening.min_effect


def simulate_languages(truths: dict[str, World], tests: int, resamples: int = 500) -> Tally:
    """Let each language's panel rate its own sentences; the metrics chose one winner for all."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples, tuple(truths))
    heard, alone = [], 0
    for seed in range(tests):
        rows = [
            row
            for name, world in truths.items()
            for row in rating_rows(world.scores(rng), f"{name}-", name)
        ]
        ratings, rule = Ratings.build(rows), protocol.model_copy(update={"seed": seed})
        heard.append(apply_listening_test(pending_verdict(truths), ratings, rule).verdict)
        alone += _by_interval_alone(ratings, seed, rule)
    return Tally(
        promoted=heard.count("PROMOTE") / tests,
        by_interval_alone=alone / tests,
        excluding=0.0,
        verdicts={name: heard.count(name) / tests for name in sorted(set(heard))},
    )


def pending_verdict(languages: Iterable[str]) -> Verdict:
    """Of metrics that chose the winner for all, and for each of these languages."""
    groups = [GroupVerdict("language", n, None, PENDING, WINNER, None, None, ()) for n in languages]
    empty: dict[str, Any] = {
        name: () for name in ("rows", "shortlisted", "confirmed", "error_rates", "listening")
    }
    return Verdict(
        verdict=PENDING,
        sentence="Promote it, once listeners confirm it.",
        variant=WINNER,
        runner_up=None,
        protocol_hash="",
        primary="naturalness",
        effect=None,
        prompts_needed=None,
        groups=tuple(groups),
        unscored={},
        loss=None,
        **empty,
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
        rows = rating_rows(first) + [replace(row, item="repeat") for row in rating_rows(again)]
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
    panels, rows = (40 if options.quick else 400), []

    def show(name: str, tally: Tally) -> Tally:
        row = {
            "panel": name,
            "promoted": round(tally.promoted, 3),
            "promoted by the interval alone": round(tally.by_interval_alone, 3),
            "exclude a rater": round(tally.excluding, 3),
            "verdicts": tally.verdicts,
        }
        rows.append(row)
        if not options.json:
            print(json.dumps(row), flush=True)
        return tally

    caught = [show(each.name, simulate(each, panels)) for each in (*HONEST, *CAUGHT)]
    for each in (*MISSED, *POWER, *ALIKE):
        show(each.name, simulate(each, panels))
    for name, truths in LANGUAGES.items():
        show(name, simulate_languages(truths, panels // 2))
    checks = {str(n): check_rates(2 * panels, n) for n in (2, 4, 6)}
    if not options.json:
        print(json.dumps({"raters excluded, by repeated clips": checks}), flush=True)
    result = {
        "name": "panels",
        "ratios": {
            "most false promotions": max(tally.promoted for tally in caught),
            "most false promotions by the interval alone": max(
                tally.by_interval_alone for tally in caught
            ),
        },
        "baseline": "the two-way interval of all ratings alone",
        "conditions": {"panels": panels, "rows": rows, "checks": checks, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
