"""The diversity of the training data: measured beside the trials, reported, deciding nothing."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath

import numpy as np
import soundfile

from cluster.storage.base import open_storage
from jobs.audio.files import AudioError, decode, resample
from jobs.data.clips import TargetClip
from jobs.diversity.clips import judge_clips, worst
from jobs.diversity.forecast import forecasts
from jobs.diversity.measure import measure_once, read_measured, training_clips
from jobs.diversity.summary import QUALITY_FLOOR, summarise
from jobs.metrics.signal import RATE
from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import DATA_FILE, Ledger
from orchestrator.report.report_input import LONGEST_PLAYED, DataReport, Speaker, WorstClip
from orchestrator.verdict.table import ScoreTable

_QUALITY = "dnsmos_ovrl"
_ENOUGH = 8
"""Clips of the base from which on their standard deviation is taken for a floor."""
_NICENESS = 19


def measure_data(clips: list[TargetClip], storage_url: str) -> str:
    """Measure the training clips unless that was done; returns the key of their features.

    Runs beside the trials in a Ray worker of its own, which gives way to theirs.
    """
    os.nice(_NICENESS)
    return measure_once(clips, open_storage(storage_url))


def data_report(
    ledger: Ledger,
    key: str,
    targets: Sequence[TargetClip],
    prompts: Sequence[str],
    table: ScoreTable,
) -> DataReport:
    """The page's section on the data measured under ``key``; writes the sweep's data.json too.

    ``prompts`` are the texts that variants are judged on; the base's scores in ``table`` say, if
    they can, how far quality differs between texts alone.
    """
    training = training_clips(targets)
    clips = judge_clips(read_measured(ledger.storage, key))
    summaries = summarise(clips, prompts, quality_floor(table))
    speakers = [*map(Speaker, summaries, forecasts(summaries))]
    kept = {"features": key, "speakers": [asdict(speaker) for speaker in speakers]}
    ledger.write_text(DATA_FILE, json.dumps(kept, indent=1) + "\n")
    worst_clips = []
    for judged in worst(clips):
        audio = training[judged.place].row.audio
        worst_clips.append(WorstClip(judged, PurePosixPath(audio).name, _excerpt(audio)))
    return DataReport(speakers, clips, worst_clips)


def quality_floor(table: ScoreTable) -> float:
    """The sd of DNSMOS OVRL that texts alone make: the base's over set A, where it was scored."""
    if _QUALITY not in table.values[BASE_VARIANT]:
        return QUALITY_FLOOR
    missing = table.missing[BASE_VARIANT].get(_QUALITY, {})
    clips = zip(table.keys, table.values[BASE_VARIANT][_QUALITY], strict=True)
    scored = [value for clip, value in clips if clip not in missing]
    return float(np.std(scored, ddof=1)) if len(scored) >= _ENOUGH else QUALITY_FLOOR


def _excerpt(audio: str) -> bytes | None:
    """The beginning of a clip as FLAC, at the rate at which it was measured; None if it is gone."""
    try:
        recording = decode(audio)
    except AudioError:
        return None
    excerpt = recording.samples[: int(LONGEST_PLAYED * recording.rate)]
    beginning = resample(excerpt, recording.rate, RATE)
    file = io.BytesIO()
    soundfile.write(file, np.clip(beginning, -1.0, 1.0), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
