"""Error rates of verdicts: whole sweeps are simulated, and judged by the code for real ones.

Command: python benchmarks/verdicts.py [--quick] [--json]

Claim: where no arm is better than the base, at most 5 % of sweeps promote one, with 1, 6 or 36
arms, correlated arms, skewed scores, ties, uneven prompts, 20 to 100 prompts; a true gain of 0.10
at a spread of 0.25 over 60 prompts is promoted in 80 % of sweeps or more; a finalist's interval
holds the truth in 92 % or more; an arm with the best loss and bad audio is never promoted.
Baseline: two habits, on the same scores of set A: promote the arm with the best mean if its own
test says p < 0.05, and promote the arm with the lowest loss.
Where it loses: the habits find a true gain more often, and need half of the prompts; small gains
among many arms are left INCONCLUSIVE. Of several finalists the winner's effect is printed: where
nothing is better, a false winner's interval misses the truth, so it holds less often than each.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.columns import Values
from orchestrator.verdict.judge import judge
from orchestrator.verdict.protocol import (
    LEAST_RESAMPLES,
    Constraint,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)
from orchestrator.verdict.stats import better_than_base
from orchestrator.verdict.table import ScoreTable, VariantInfo

PRIMARY, VOICE = "naturalness", "similarity"
PAIRED_SD = 0.25
"""Of the difference between an arm and the base on one prompt."""
TRAP = "trap"

Noise = Callable[[Generator, int], Values]


def normal(rng: Generator, prompts: int) -> Values:
    return rng.normal(size=prompts)


def skewed(rng: Generator, prompts: int) -> Values:
    """Exponential: a few prompts are very bad, mean 0 and standard deviation 1."""
    return 1.0 - rng.exponential(size=prompts)


@dataclass(frozen=True)
class World:
    """What is true of a sweep that is simulated."""

    name: str
    gains: tuple[float, ...]
    """Of each arm over the base, true."""
    screen: int = 50
    shortlist_after: int | None = None
    """Prompts of set A that every arm says; the shortlist says the rest."""
    confirmation: int = 60
    noise: Noise = normal
    shared: float = 0.5
    """Share of an arm's variance that it has in common with all other arms."""
    uneven: bool = False
    """Whether the spread of prompts differs tenfold."""
    grid: float = 0.0
    """Scores are whole multiples of this, as ratings are."""
    trap: bool = False
    """Whether an arm has the best loss and a worse voice, with better naturalness."""
    copies: int = 1
    """Prompts of set B that say nearly the same: they share 90 % of their noise."""
    paraphrased: bool = False
    """Whether such prompts have no words in common, so that nothing tells that they are copies."""

    def tables(self, rng: Generator, protocol: Protocol) -> tuple[ScoreTable, ScoreTable]:
        """Scores on set A and on set B."""
        losses = {
            name: float(loss) for name, loss in zip(self.arms, rng.normal(2, 0.1, 99), strict=False)
        }
        return (
            self._table(rng, self.screen, protocol, losses),
            self._table(rng, self.confirmation, protocol.confirming(), losses, self.copies),
        )

    @property
    def arms(self) -> dict[str, float]:
        """Each arm's true gain, by name."""
        arms = {f"arm{i}": gain for i, gain in enumerate(self.gains)}
        return {**arms, TRAP: 0.3} if self.trap else arms

    def _table(
        self,
        rng: Generator,
        prompts: int,
        protocol: Protocol,
        losses: dict[str, float],
        copies: int = 1,
    ) -> ScoreTable:
        spread = np.geomspace(0.2, 2.0, prompts) if self.uneven else np.ones(prompts)
        text = 3.0 + 0.2 * rng.normal(size=prompts)
        # Independent noise of base and arm make the paired spread.
        sd = PAIRED_SD / np.sqrt(2) * spread / np.sqrt((spread**2).mean())
        common = self._noise(rng, prompts, copies)
        scores = {BASE_VARIANT: text + sd * self._noise(rng, prompts, copies)}
        for arm, gain in self.arms.items():
            own = self._noise(rng, prompts, copies)
            both = np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own
            scores[arm] = text + gain + sd * both
        voices = {arm: np.full(prompts, 0.6 if arm == TRAP else 0.9) for arm in scores}
        return score_table(
            {arm: self._rounded(values) for arm, values in scores.items()},
            voices,
            {**losses, **({TRAP: 1.0} if self.trap else {})},
            protocol,
        )

    def _noise(self, rng: Generator, prompts: int, copies: int) -> Values:
        noise = self.noise(rng, prompts)
        if copies == 1:
            return noise
        of_text = np.repeat(self.noise(rng, -(-prompts // copies)), copies)[:prompts]
        return np.sqrt(0.9) * of_text + np.sqrt(0.1) * noise

    def _rounded(self, scores: Values) -> Values:
        return np.round(scores / self.grid) * self.grid if self.grid else scores


def score_table(
    scores: dict[str, Values],
    voices: dict[str, NDArray[np.float64]],
    losses: dict[str, float],
    protocol: Protocol,
) -> ScoreTable:
    """Healthy clips with these scores, one a prompt; ranks 8 to 64 come round."""
    count = len(protocol.prompts)
    healthy = {"end_of_speech_failure": 0.0, "duration": 3.0, "tail_silence": 0.1, "clipping": 0.0}
    rest = {name: np.full(count, value) for name, value in healthy.items()}
    ratio = {"duration_ratio": np.ones(count)}
    names = tuple(prompt.id for prompt in protocol.prompts)
    return ScoreTable(
        variants={
            arm: VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None)
            if arm == BASE_VARIANT
            else VariantInfo(arm, arm, 1, 1.0, 8 << place % 4, 1e-4, losses[arm])
            for place, arm in enumerate(scores)
        },
        metrics=protocol.judged_metrics(),
        prompts=names,
        keys=tuple((name, 0) for name in names),
        values={arm: {PRIMARY: scores[arm], VOICE: voices[arm], **rest, **ratio} for arm in scores},
        missing={arm: {} for arm in scores},
    )


def near_copy(sentence: int, copy: int) -> str:
    """A sentence of eight words that no other number has; a copy has one word of its own."""
    letters = "bcdfghklmnprstvaeiou"
    chance, of_copy = random.Random(f"{sentence}"), random.Random(f"{sentence} {copy}")
    words = ["".join(chance.choices(letters, k=5)) for _ in range(8)]
    if copy:
        words[copy % 8] = "".join(of_copy.choices(letters, k=5))
    return " ".join(words)


def protocol_of(world: World, resamples: int) -> Protocol:
    def metric(
        name: str, direction: Literal["higher", "lower", "neither"], low: float, high: float
    ) -> MetricVersion:
        return MetricVersion(
            name=name, version="1", unit="1", direction=direction, low=low, high=high
        )

    return Protocol(
        prompt_set="a",
        prompts=tuple(Prompt(id=f"a{i}", text=f"a {i}") for i in range(world.screen)),
        shortlist_after=world.shortlist_after,
        seed=0,
        confirmation_set="b",
        confirmation=tuple(
            Prompt(
                id=f"b{i}", text=near_copy(*(divmod(i, 1 if world.paraphrased else world.copies)))
            )
            for i in range(world.confirmation)
        ),
        confirmation_seed=1,
        lora_scales=(1.0,),
        temperature=1.0,
        top_k=1,
        primary=PRIMARY,
        min_effect=0.05,
        significance=0.05,
        constraints=(Constraint(metric=VOICE, margin=0.05),),
        gates=Gates(),
        metrics=(
            metric(PRIMARY, "higher", -10, 10),
            metric(VOICE, "higher", -1, 1),
            metric("end_of_speech_failure", "lower", 0, 1),
            metric("duration", "neither", 0, 30),
            metric("tail_silence", "lower", 0, 30),
            metric("clipping", "lower", 0, 1),
        ),
        finalists=3,
        finalist_metrics=(),
        listening=Listening(),
        bootstrap_resamples=LEAST_RESAMPLES,
        confidence=0.95,
        family_digests={},
    ).model_copy(update={"bootstrap_resamples": resamples})


@dataclass(frozen=True)
class Tally:
    """What came of the sweeps of one world."""

    world: str
    sweeps: int
    verdicts: dict[str, int]
    ours: dict[str, int]
    """How often each arm was promoted."""
    best_mean: dict[str, int]
    lowest_loss: dict[str, int]
    covered: int
    """Intervals on set B, one a finalist, that hold the true gain."""
    heard: int
    """Finalists."""
    printed: int
    """The same of the one effect that is printed."""
    bias: float
    """Mean of the printed effect less the truth."""

    def share(self, promoted: dict[str, int], arms: Iterable[str]) -> float:
        """Of sweeps that promoted one of these arms."""
        return sum(promoted.get(arm, 0) for arm in arms) / self.sweeps


def simulate(world: World, sweeps: int, seed: int, resamples: int = 1000) -> Tally:
    """Judge so many sweeps of a world."""
    protocol, rng = protocol_of(world, resamples), np.random.default_rng(seed)
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("verdicts", "ours", "best_mean", "lowest_loss")
    }
    errors, covered, heard, printed = [], 0, 0, 0
    for _ in range(sweeps):
        full, confirmation = world.tables(rng, protocol)
        screen = full.only({prompt.id for prompt in protocol.screening().prompts})
        verdict = judge(screen, confirmation, protocol, full if protocol.rest else None)
        counts["verdicts"][verdict.verdict] += 1
        if verdict.variant:
            counts["ours"][verdict.variant] += 1
        for each in verdict.confirmed:
            heard += 1
            covered += each.row.gain.low <= world.arms[each.row.id] <= each.row.gain.high
        if verdict.effect:
            true = world.arms[verdict.variant or verdict.runner_up or ""]
            printed += verdict.effect.low <= true <= verdict.effect.high
            errors.append(verdict.effect.mean - true)
        base = full.values[BASE_VARIANT][PRIMARY]
        gains = {arm: full.values[arm][PRIMARY] - base for arm in world.arms}
        best = max(gains, key=lambda arm: float(gains[arm].mean()))
        if better_than_base(gains[best]) < protocol.significance:
            counts["best_mean"][best] += 1
        lowest = min(full.adapted, key=lambda variant: variant.validation_loss or 0.0)
        counts["lowest_loss"][lowest.id] += 1
    return Tally(
        world=world.name,
        sweeps=sweeps,
        covered=covered,
        heard=heard,
        printed=printed,
        bias=float(np.mean(errors)) if errors else 0.0,
        **{name: dict(count) for name, count in counts.items()},
    )


NULL = World("no arm is better", (0.0,) * 6)
NULLS = (
    replace(NULL, name="1 arm", gains=(0.0,)),
    replace(NULL, name="6 arms"),
    replace(NULL, name="36 arms", gains=(0.0,) * 36),
    replace(NULL, name="36 arms, correlated 0.9", gains=(0.0,) * 36, shared=0.9),
    replace(NULL, name="6 arms, skewed", noise=skewed),
    replace(NULL, name="6 arms, ties", grid=0.25),
    replace(NULL, name="6 arms, uneven prompts", uneven=True),
    replace(NULL, name="36 arms, 20 prompts", gains=(0.0,) * 36, screen=20, confirmation=20),
    replace(NULL, name="6 arms, 100 prompts", screen=100, confirmation=100),
    replace(NULL, name="36 arms, a shortlist after 16", gains=(0.0,) * 36, shortlist_after=16),
)
COPIES = (
    replace(NULL, name="6 arms, 30 sentences twice", copies=2),
    replace(NULL, name="6 arms, 15 sentences four times", copies=4),
    replace(NULL, name="1 arm, 12 sentences eight times", gains=(0.0,), copies=8, confirmation=96),
)
PARAPHRASED = replace(COPIES[-1], name="1 arm, 12 sentences in eight paraphrases", paraphrased=True)
GAINS = (
    World("1 arm, gain 0.10", (0.10,)),
    World("1 of 6 arms, gain 0.10", (0.10,) + (0.0,) * 5),
    World("1 of 6 arms, gain 0.20", (0.20,) + (0.0,) * 5),
    World("all of 6 arms, gain 0.10", (0.10,) * 6),
    World("1 of 6 arms, gain 0.20, a shortlist after 16", (0.20,) + (0.0,) * 5, shortlist_after=16),
)
WORSE = World("all of 6 arms worse by 0.20", (-0.20,) * 6)
TRAPPED = World("trap: best loss, other voice", (0.15,) + (0.0,) * 4, trap=True)


def row(tally: Tally, world: World) -> dict[str, Any]:
    better = [arm for arm, gain in world.arms.items() if gain > 0 and arm != TRAP]
    wrong = [arm for arm in world.arms if arm not in better]
    pickers = {
        "voxsweep": tally.ours,
        "best mean": tally.best_mean,
        "lowest loss": tally.lowest_loss,
    }
    return {
        "world": tally.world,
        **{f"{name}, wrong": round(tally.share(p, wrong), 3) for name, p in pickers.items()},
        **(
            {f"{name}, right": round(tally.share(p, better), 3) for name, p in pickers.items()}
            if better
            else {}
        ),
        "covered": round(tally.covered / tally.heard, 3),
        "printed and covered": round(tally.printed / tally.sweeps, 3),
        "bias": round(tally.bias, 4),
        "verdicts": tally.verdicts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sweeps")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    sweeps, rows = (50 if options.quick else 300), []
    for world in (*NULLS, *COPIES, PARAPHRASED, *GAINS, WORSE, TRAPPED):
        rows.append(row(simulate(world, sweeps, seed=2026), world))
        if not options.json:
            print(json.dumps(rows[-1]), flush=True)
    nulls = rows[: len(NULLS) + len(COPIES)]
    result = {
        "name": "verdicts",
        "ratios": {
            "most false promotions": max(r["voxsweep, wrong"] for r in nulls),
            "most false promotions, best mean": max(r["best mean, wrong"] for r in nulls),
            "least coverage": min(r["covered"] for r in rows),
            "trap promoted": rows[-1]["voxsweep, wrong"],
        },
        "baseline": "best mean with p < 0.05 on set A; lowest loss",
        "conditions": {"sweeps": sweeps, "rows": rows, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
