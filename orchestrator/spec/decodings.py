"""The decodings that a spec asks to be tried."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.spec.trial import DecodingSpec
from orchestrator.spec.model import Dimension, VariantsSpec

Point = dict[str, int | float]
"""Searched keys of decoding, with a value for each."""

_FIXED = ("max_tokens", "seed")
SEARCHABLE = tuple(name for name in DecodingSpec.model_fields if name not in _FIXED)
"""Keys of ``decoding`` that may be searched: the others do not say how a token is picked."""
_ONLY_SAMPLED = ("top_k", "top_p")
"""What has no effect at temperature 0."""
_DRAWS = 64
"""Points that are drawn at most for each candidate: choices repeat, and draws with them."""
_DIGITS = 3
"""Significant digits of a value from a range."""


def decoding_points(variants: VariantsSpec) -> tuple[Point, ...]:
    """What ``variants.decoding_search`` tries, the point of ``variants.decoding`` first.

    All combinations of choices, where they are few enough; else scrambled Halton points over the
    ranges and choices, of a fixed seed. Points that decode alike are one. None without a search.
    """
    search, default = variants.decoding_search, variants.decoding
    if search is None:
        return ()
    points: dict[DecodingSpec, Point] = {}
    for point in itertools.chain([{}], _combinations(search.space, search.candidates)):
        decoding = _as_it_decodes(default.at(point), default)
        points.setdefault(decoding, {name: getattr(decoding, name) for name in search.space})
        if len(points) == search.candidates:
            break
    return tuple(points.values())


def _as_it_decodes(decoding: DecodingSpec, default: DecodingSpec) -> DecodingSpec:
    if decoding.temperature:
        return decoding
    return decoding.model_copy(update={name: getattr(default, name) for name in _ONLY_SAMPLED})


def _combinations(space: Mapping[str, Dimension], few: int) -> Iterator[dict[str, Any]]:
    choices = [dimension.choices for dimension in space.values()]
    if all(choices) and math.prod(map(len, choices)) <= few:
        for values in itertools.product(*choices):
            yield dict(zip(space, values, strict=True))
        return
    from scipy.stats import qmc  # whoever reads a spec would wait

    for place in qmc.Halton(len(space), rng=0).random(_DRAWS * few):
        yield {
            name: _value(
                dimension, float(at), is_whole=DecodingSpec.model_fields[name].annotation is int
            )
            for (name, dimension), at in zip(space.items(), place, strict=True)
        }


def _value(dimension: Dimension, at: float, *, is_whole: bool) -> Any:  # noqa: ANN401 (a choice)
    """The value of a dimension at a place from 0 to below 1."""
    if dimension.choices:
        return dimension.choices[int(at * len(dimension.choices))]
    low, high = dimension.low, dimension.high
    assert low is not None
    assert high is not None
    value = low * (high / low) ** at if dimension.log else low + (high - low) * at
    rounded = round(value) if is_whole else float(f"{value:.{_DIGITS}g}")
    return min(max(rounded, low), high)
