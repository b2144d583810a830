"""The bounds that a clip must keep, and who set them."""

from dataclasses import dataclass

from jobs.families.description import DataRules
from jobs.spec.data import DataSpec


@dataclass(frozen=True)
class Limits:
    """Bounds of a clip; each ``..._by`` says where it comes from, in words."""

    min_seconds: float
    min_by: str
    max_seconds: float
    max_by: str
    max_tokens: int | None
    """None: as long as the base reads it."""
    tokens_by: str

    @classmethod
    def of(cls, data: DataSpec, rules: DataRules) -> "Limits":
        """The spec's bounds, and the family's where the spec sets none."""
        low, low_by = _chosen("min_seconds", data.min_seconds, rules.min_seconds)
        high, high_by = _chosen("max_seconds", data.max_seconds, rules.max_seconds)
        tokens = data.max_text_tokens or rules.max_text_tokens
        set_here = data.max_text_tokens is not None
        return cls(low, low_by, high, high_by, tokens, _source("max_text_tokens", set_here))


def _chosen(key: str, asked: float | None, default: float) -> tuple[float, str]:
    return default if asked is None else asked, _source(key, asked is not None)


def _source(key: str, set_here: bool) -> str:
    return f"data.{key}" if set_here else "the family's bound"
