"""The models of a sweep's metrics, loaded into this process."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from jobs.spec.items import ITEM_METRICS
from orchestrator.spec.model import ScoringSpec


def load_scorers(
    scoring: ScoringSpec, names: Sequence[str], data: Path, speakers: Collection[str | None]
) -> Any:  # noqa: ANN401 (list[Scorer]: a heavy module)
    """The scorers of those metrics of these names that measure clips, with their models.

    Args:
        scoring: has the options of the metrics.
        names: of metrics.
        data: the folder of prepared clips, with the recordings that clips are compared with.
        speakers: of the prompts that are scored.

    Raises:
        ScorerUnavailable: a metric cannot be measured here.
    """
    from jobs.audio.files import read_audio
    from jobs.codecs.recogniser import WordRecogniser
    from jobs.data.prepared.files import reference_recordings
    from jobs.embedded import RECOGNISER_DIR
    from jobs.metrics.catalogue import METRICS, build_scorers
    from jobs.metrics.references import reference_speaker

    names = [name for name in names if name not in ITEM_METRICS]
    recordings = {}
    if any(METRICS[name].needs_references for name in names):
        files = reference_recordings(data)
        needed = {reference_speaker(speaker, files) for speaker in speakers}
        recordings = {who: [read_audio(path) for path in files[who]] for who in needed}
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    return build_scorers(scoring.metric_specs(names), recordings, recogniser)
