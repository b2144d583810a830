"""Error rates of recognised speech: the mean over clips, and over the whole corpus."""

from collections.abc import Iterator

import numpy as np

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import ErrorRate
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import ScoreTable


def error_rates(table: ScoreTable, variant: str, protocol: Protocol) -> Iterator[ErrorRate]:
    """For each metric ``X_error`` that comes with ``X_edits`` and ``X_count``, and each language.

    ``protocol`` is over the prompts of ``table``.
    """
    languages = {prompt.id: prompt.language for prompt in protocol.prompts}
    several = sorted({name for name in languages.values() if name is not None})
    for metric in table.metrics:
        stem = metric.removesuffix("_error")
        if stem == metric or not {f"{stem}_edits", f"{stem}_count"} <= table.metrics.keys():
            continue
        for language in (None, *(several if len(several) > 1 else ())):
            named = {p for p, of in languages.items() if language in (None, of)}
            yield _rate(table.only(named), variant, stem, language)


def _rate(table: ScoreTable, variant: str, stem: str, language: str | None) -> ErrorRate:
    """The rate over all prompts of ``table``, which are those of ``language``."""
    edits, count = f"{stem}_edits", f"{stem}_count"
    ours, base = table.values[variant], table.values[BASE_VARIANT]
    # A clip without a count takes that of the base's clip of the same prompt.
    uncounted = table.lacks(variant, count)
    known = ~(uncounted & table.lacks(BASE_VARIANT, count))
    counts = np.where(uncounted, base[count], ours[count])
    errors = np.where(table.lacks(variant, edits), counts, ours[edits])
    total = float(counts[known].sum())
    return ErrorRate(
        variant=variant,
        metric=f"{stem}_error",
        language=language,
        macro=float(table.by_prompt(ours[f"{stem}_error"]).mean()),
        corpus=float(errors[known].sum()) / total if total else None,
        prompts=len(table.prompts),
    )
