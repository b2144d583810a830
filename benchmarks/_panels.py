"""What simulated panels of listeners have in common: the protocol, and how they are judged."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from typing import Protocol as Interface

import numpy as np
from numpy.random import Generator

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.panel import PENDING, hear
from orchestrator.verdict.listening.panel_stats import Scores, two_way_interval
from orchestrator.verdict.listening.ratings import Rating, Ratings
from orchestrator.verdict.outcome import Confirmation, GroupVerdict, VariantRow, Verdict
from orchestrator.verdict.protocol import (
    GATE_METRICS,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)
from orchestrator.verdict.stats import Interval

WINNER = "tuned"
SEED = 2026


class Truth(Interface):
    """What is true of a panel: raters, sentences, how they hear."""

    def rows(self, scores: Scores) -> list[Rating]:
        """Scores as a file of ratings has them."""


World = TypeVar("World", bound=Truth)
Attack = Callable[[Generator, World], Scores]
"""A panel's scores, in which something may be wrong."""


@dataclass(frozen=True)
class Panel(Generic[World]):
    """A row: a truth, and what is wrong with the panel."""

    name: str
    world: World
    attack: Attack[World]


@dataclass(frozen=True)
class Tally:
    """Shares of panels."""

    promoted: float
    by_interval_alone: float
    """Promoted by the baseline."""
    excluding: float
    """That exclude a rater."""
    verdicts: dict[str, float]


def simulate(panel: Panel[World], panels: int, resamples: int = 500) -> Tally:
    """Judge so many panels of one kind."""
    rng, protocol = np.random.default_rng(SEED), protocol_of(resamples)
    heard, alone, excluding = [], 0, 0
    for seed in range(panels):
        ratings = Ratings.build(panel.world.rows(panel.attack(rng, panel.world)))
        rule = protocol.model_copy(update={"seed": seed})
        report = hear(ratings, WINNER, rule)
        heard.append(report.verdict)
        excluding += bool(report.excluded)
        alone += by_interval_alone(ratings, rule)
    return Tally(
        promoted=heard.count("PROMOTE") / panels,
        by_interval_alone=alone / panels,
        excluding=excluding / panels,
        verdicts={name: heard.count(name) / panels for name in sorted(set(heard))},
    )


def by_interval_alone(ratings: Ratings, protocol: Protocol) -> bool:
    """Whether the two-way interval of all ratings promotes, unchecked, leaving nobody out."""
    differences = ratings.differences(WINNER, BASE_VARIANT)
    found = two_way_interval(
        differences, protocol.seed, protocol.bootstrap_resamples, protocol.confidence
    )
    return found.low > 0 and found.mean >= protocol.listening.min_effect


class Shown:
    """The rows of a result, printed one by one."""

    def __init__(self, quietly: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._quietly = quietly

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.rows.append(row)
        if not self._quietly:
            print(json.dumps(row), flush=True)

    def tally(self, name: str, tally: Tally) -> Tally:
        """Keep the shares of a panel, and return them."""
        self.add(
            {
                "panel": name,
                "promoted": round(tally.promoted, 4),
                "promoted by the interval alone": round(tally.by_interval_alone, 4),
                "exclude a rater": round(tally.excluding, 4),
                "verdicts": tally.verdicts,
            }
        )
        return tally


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


def pending_verdict(languages: Iterable[str], finalists: Sequence[str] = (WINNER,)) -> Verdict:
    """Of metrics that chose the winner for all, and for each of these languages.

    All of the ``finalists`` are better than the base by the metrics.
    """
    groups = [GroupVerdict("language", n, None, PENDING, WINNER, None, None, ()) for n in languages]
    rows = tuple(_row(name, "winner" if name == WINNER else "passed") for name in finalists)
    empty: dict[str, Any] = {name: () for name in ("shortlisted", "error_rates", "listening")}
    return Verdict(
        verdict=PENDING,
        sentence="Promote it, once listeners confirm it.",
        variant=WINNER,
        runner_up=None,
        protocol_hash="",
        primary="naturalness",
        effect=None,
        prompts_needed=None,
        rows=rows,
        confirmed=tuple(Confirmation(row, 0.01, 0.02, "better", None) for row in rows),
        groups=tuple(groups),
        unscored={},
        loss=None,
        **empty,
    )


def _row(name: str, standing: str) -> VariantRow:
    """Of the fields that a listening test reads or writes."""
    fields: dict[str, Any] = dict.fromkeys(VariantRow.__dataclass_fields__)
    gain = Interval(0.2, 0.1, 0.3, 20)
    return VariantRow(**{**fields, "id": name, "gain": gain, "standing": standing, "reasons": ()})
