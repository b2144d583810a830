"""A speaker's training data as params of a run."""

from collections.abc import Iterator, Sequence

from orchestrator.records.names import legal_name
from orchestrator.report.training_data import Speaker

SPEAKERS = 20
"""Those with the most speech: params are for reading, and a run takes only so many."""


def data_params(speakers: Sequence[Speaker]) -> dict[str, str]:
    """Such as ``data.slt.minutes``, for the first ``SPEAKERS``; what is not known is left out."""
    params: dict[str, str] = {}
    taken: set[str] = set()
    for speaker in speakers[:SPEAKERS]:
        name = legal_name(speaker.summary.speaker, taken)
        taken.add(name)
        params |= {f"data.{name}.{key}": value for key, value in _of(speaker)}
    return params


def _of(speaker: Speaker) -> Iterator[tuple[str, str]]:
    summary = speaker.summary
    yield "forecast", speaker.forecast.outcome
    yield "clips", str(summary.clips)
    yield "unmeasured_clips", str(summary.unmeasured)
    numbers: dict[str, float | None] = {
        "minutes": summary.minutes,
        "clean_minutes": summary.clean_minutes,
        "bad_share": summary.bad_share,
        "near_duplicate_share": summary.repeated_share,
        "bigram_coverage": summary.bigram_coverage,
        "effective_rank": summary.effective_rank,
        "dnsmos_ovrl_sd_excess": summary.quality_excess,
    }
    for feature, of in summary.features.items():
        numbers |= {f"{feature}_{key}": getattr(of, key) for key in ("median", "p10", "sd", "iqr")}
    for name, value in numbers.items():
        if value is not None:
            yield name, f"{value:.4g}"
