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

        def source(key: str) -> str:
            return "the family's bound" if getattr(data, key) is None else f"data.{key}"

        return cls(
            rules.min_seconds if data.min_seconds is None else data.min_seconds,
            source("min_seconds"),
            rules.max_seconds if data.max_seconds is None else data.max_seconds,
            source("max_seconds"),
            data.max_text_tokens or rules.max_text_tokens,
            source("max_text_tokens"),
        )
