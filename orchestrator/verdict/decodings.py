"""Which decoding the base speaks with, and what the best checkpoints are tried with, on set A."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import best_variants
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import VariantInfo

BASE = VariantInfo.unlisted(BASE_VARIANT)
Decoding = Mapping[str, int | float]
"""Searched keys of decoding, each with its value."""


@dataclass(frozen=True)
class TriedDecoding:
    """How the base does on set A with a decoding, against the decoding of the spec."""

    decoding: dict[str, int | float]
    prompts: int
    """Of set A: all of them, or the first part for those that are not on the shortlist."""
    gain: Interval
    """In the primary metric; positive is better."""
    means: dict[str, float]
    """By metric, in its unit."""
    failed: int
    """Failed clips."""
    reasons: tuple[str, ...]
    """What the rule objects to."""


@dataclass(frozen=True)
class BaseDecoding:
    """How the base decodes for the rest of a sweep, and all that was tried: ``decodings.json``."""

    chosen: dict[str, int | float]
    tried: tuple[TriedDecoding, ...]
    """That of the spec first."""

    def to_json(self) -> str:
        """The text of the document."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "BaseDecoding":
        """The inverse of :meth:`to_json`."""
        return TypeAdapter(cls).validate_json(text)


def choose_base_decoding(whole: Comparison, first: Comparison) -> BaseDecoding:
    """The base's best decoding, by the rule that ranks variants on set A.

    That of the spec stays where no other gains and keeps gates and constraints.

    Args:
        whole: all of set A, the base with the spec's decoding, and with those on the shortlist as
            variants, as :func:`bases` has them.
        first: the part of set A that it spoke with every decoding.
    """
    best = next(iter(best_variants(whole)), BASE_VARIANT)
    if best == BASE_VARIANT or whole.gains(best).mean() <= 0:
        best = BASE_VARIANT
    table = whole.table.variants
    tried = []
    for name, info in first.table.variants.items():
        comparison = whole if name in table else first
        decoding = dict(info.own_decoding)
        tried.append(_tried(decoding, comparison.row(name), len(comparison.protocol.prompts)))
    return BaseDecoding(dict(first.table.variants[best].own_decoding), tuple(tried))


def _tried(decoding: dict[str, int | float], row: VariantRow, prompts: int) -> TriedDecoding:
    failed = len(row.failed_clips)
    return TriedDecoding(decoding, prompts, row.gain, dict(row.means), failed, row.reasons)


def bases(decodings: Sequence[Decoding]) -> list[VariantInfo]:
    """The base with each decoding: with the first it is the base, with the others a variant."""
    first, *others = decodings
    named = VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None, own_decoding=first)
    return [named, *(BASE.decoding_as(point) for point in others)]


def redecoded(checkpoints: Sequence[VariantInfo], protocol: Protocol) -> list[VariantInfo]:
    """The best checkpoints, each at its scale, with every decoding but the sweep's."""
    return [info.decoding_as(point) for info in checkpoints for point in protocol.other_decodings]
