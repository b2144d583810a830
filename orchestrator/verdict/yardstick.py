"""What a clip's duration and rate are compared with: the base's clip, where that is sound."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.columns import Values
from orchestrator.verdict.protocol import (
    DURATION,
    END_OF_SPEECH_FAILURE,
    RATIO_SOURCES,
    TAIL_SILENCE,
    Gates,
    Protocol,
)
from orchestrator.verdict.table import ScoreTable


@dataclass(frozen=True)
class Yardsticks:
    """By metric of :data:`RATIO_SOURCES` and prompt: the base's own value, and the text's.

    A base that runs away, or stops short, is no yardstick: whoever cures it would be called the
    failure. Where the base's clips of a prompt are unsound, what the text takes stands in. Where
    they look sound and still differ from that by more than a clip may, there is no telling which
    of the two is wrong, and a clip is compared with the nearer.
    """

    own: Mapping[str, Mapping[str, float]]
    """Mean over the sound clips of the base; NaN without one."""
    of_text: Mapping[str, Mapping[str, float]]
    """From the base's sound clips of the same language: the median of seconds a character, times
    the characters of the text; the median rate. NaN without such a clip."""
    gates: Gates

    @classmethod
    def of(cls, table: ScoreTable, protocol: Protocol) -> "Yardsticks":
        """``protocol`` is over the prompts of ``table``."""
        sources = [of for ratio, of in RATIO_SOURCES.items() if ratio in table.metrics]
        own = {source: _own(table, protocol.gates, source) for source in sources}
        return cls(
            own,
            {source: _of_text(protocol, source, values) for source, values in own.items()},
            protocol.gates,
        )

    def ratio(self, table: ScoreTable, variant: str, ratio: str) -> Values:
        """Each clip's value over that of its yardstick, shape (clips,); 1 without a yardstick.

        1 also for the base's own clips that are none. What was not scored gives no ratio that
        means anything.
        """
        source = RATIO_SOURCES[ratio]
        values = table.values[variant][source]
        own, of_text = self._at(self.own, table, source), self._at(self.of_text, table, source)
        low, high = self.gates.duration_ratio
        with np.errstate(invalid="ignore", divide="ignore"):
            by_own, by_text, apart = values / own, values / of_text, own / of_text
            nearer = np.abs(np.log(by_text)) < np.abs(np.log(by_own))
        by_text_here = np.isnan(own) | (nearer & ((apart < low) | (apart > high)))
        if variant == BASE_VARIANT:
            by_text_here |= ~_is_sound(table, self.gates, source)
            by_text = np.ones(len(values))
        ratios = np.where(by_text_here, by_text, by_own)
        return np.where(np.isnan(ratios), 1.0, ratios)

    def is_text(self, prompt: str) -> bool:
        """Whether the base has no sound clip of a prompt, so that its text is the yardstick."""
        return bool(np.isnan(self.own[DURATION][prompt]))

    @staticmethod
    def _at(of: Mapping[str, Mapping[str, float]], table: ScoreTable, source: str) -> Values:
        return np.array([of[source][prompt] for prompt, _ in table.keys])


def _is_sound(table: ScoreTable, gates: Gates, source: str) -> NDArray[np.bool_]:
    """Which clips of the base have a value that other clips may be measured by."""
    values = table.values[BASE_VARIANT]
    # What was not scored holds the worst bound, which is not sound.
    sound: NDArray[np.bool_] = (
        (values[source] > 0)
        & (values[END_OF_SPEECH_FAILURE] <= 0)
        & (values[TAIL_SILENCE] <= gates.tail_silence)
        & (values[TAIL_SILENCE] < values[DURATION])
        & ~table.lacks(BASE_VARIANT, source)
        & ~table.lacks(BASE_VARIANT, DURATION)
    )
    return sound


def _own(table: ScoreTable, gates: Gates, source: str) -> dict[str, float]:
    sound = _is_sound(table, gates, source)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for (prompt, _), value, fits in zip(
        table.keys, table.values[BASE_VARIANT][source], sound, strict=True
    ):
        if fits:
            found[prompt].append(float(value))
    return {p: float(np.mean(found[p])) if found[p] else np.nan for p in table.prompts}


def _of_text(protocol: Protocol, source: str, own: Mapping[str, float]) -> dict[str, float]:
    def length(text: str) -> float:
        # As the speaking rate counts.
        return max(1.0, len("".join(text.split()))) if source == DURATION else 1.0

    found: defaultdict[str | None, list[float]] = defaultdict(list)
    for prompt in protocol.prompts:
        if not np.isnan(own[prompt.id]):
            found[prompt.language].append(own[prompt.id] / length(prompt.text))
    medians = {language: float(np.median(values)) for language, values in found.items()}
    return {
        prompt.id: medians.get(prompt.language, np.nan) * length(prompt.text)
        for prompt in protocol.prompts
    }
