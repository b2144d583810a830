"""Error rates of recognised speech: the mean over clips, and over the whole corpus."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import ErrorRate
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import ScoreTable, Values


def error_rates(table: ScoreTable, variant: str, protocol: Protocol) -> Iterator[ErrorRate]:
    """For each metric ``X_error`` that comes with ``X_edits`` and ``X_count``, and each language.

    ``protocol`` is over the prompts of ``table``.
    """
    languages = {p.id: p.language for p in protocol.prompts}
    of_key = np.array([languages[prompt] for prompt, _ in table.keys], dtype=object)
    several = sorted({str(name) for name in of_key if name is not None})
    for metric in table.metrics:
        stem = metric.removesuffix("_error")
        if stem == metric or not {f"{stem}_edits", f"{stem}_count"} <= table.metrics.keys():
            continue
        for language in (None, *(several if len(several) > 1 else ())):
            kept = np.ones(len(of_key), bool) if language is None else of_key == language
            yield _rate(table, variant, stem, language, kept)


def _rate(
    table: ScoreTable, variant: str, stem: str, language: str | None, kept: NDArray[np.bool_]
) -> ErrorRate:
    prompts = {prompt for (prompt, _), keep in zip(table.keys, kept, strict=True) if keep}
    part = table.only(prompts)
    columns = part.values[variant]
    count, known = _counts(part, variant, f"{stem}_count")
    lost = _lost(part, variant, f"{stem}_edits")
    edits = np.where(lost, count, columns[f"{stem}_edits"])
    total = float(count[known].sum())
    return ErrorRate(
        variant=variant,
        metric=f"{stem}_error",
        language=language,
        macro=float(part.by_prompt(columns[f"{stem}_error"]).mean()),
        corpus=float(edits[known].sum()) / total if total else None,
        prompts=len(prompts),
    )


def _counts(table: ScoreTable, variant: str, metric: str) -> tuple[Values, NDArray[np.bool_]]:
    """How much there is to say in each clip; where a clip has no score the base's tells it."""
    lost, base_lost = _lost(table, variant, metric), _lost(table, BASE_VARIANT, metric)
    count = np.where(lost, table.values[BASE_VARIANT][metric], table.values[variant][metric])
    return count, ~(lost & base_lost)


def _lost(table: ScoreTable, variant: str, metric: str) -> NDArray[np.bool_]:
    missing = table.missing[variant].get(metric, {})
    return np.array([key in missing for key in table.keys])
