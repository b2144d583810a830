"""From training clips to their features: measured once for the same clips, kept in the storage."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.storage.base import Storage
from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import diversity_key
from jobs.diversity.dynamics import DYNAMICS, Dynamics
from jobs.diversity.features import (
    FEATURES,
    OTHER_SIMILARITY,
    UNNAMED,
    ClipFeatures,
    MeasuredData,
)
from jobs.metrics.base import ClipScores, MetricError, score_clip
from jobs.metrics.catalogue import build_scorers, metric_of
from jobs.metrics.speaker import SPEAKER_NAMES, VoiceEmbedder
from jobs.spec.metric import MetricSpec

FILE = "diversity.json"
_SCORED = [
    MetricSpec(name=name)
    for name in (
        *("level", "dnsmos_ovrl", "dnsmos_p808", "wada_snr", "dnsmos_bak"),
        *("f0_mean", "f0_sd", "speaking_rate", "duration"),
    )
]
"""What the metrics measure; of ``f0_mean`` the logarithm is kept."""
_SIMILARITY = "centroid_similarity"

Embeddings = NDArray[np.float64]
"""Unit voice embeddings, shape (clips, 256)."""


def training_clips(clips: Sequence[TargetClip]) -> list[TargetClip]:
    """The clips that adapters train on."""
    return [clip for clip in clips if clip.row.split == "train"]


def measure_once(clips: Sequence[TargetClip], storage: Storage) -> str:
    """Measure the training clips of ``clips`` unless that was done before; returns the key.

    Raises:
        ScorerUnavailable: a library or the weights of a metric cannot be loaded.
    """
    training = training_clips(clips)
    versions = _versions()
    key = diversity_key(_digest(training, versions))
    if not storage.is_committed(key):
        with storage.commit(key) as directory:
            measured = MeasuredData(measure_clips(training), versions)
            (directory / FILE).write_text(measured.to_json(), encoding="utf-8")
    return key


def read_measured(storage: Storage, key: str) -> MeasuredData:
    """What :func:`measure_once` kept. Raises FileNotFoundError when it did not."""
    return MeasuredData.from_json(storage.read_from(key, FILE).decode())


def measure_clips(clips: Sequence[TargetClip]) -> list[ClipFeatures]:
    """The features of every clip, in their order; what fails is in its ``failures``."""
    scorers, embedder = [*build_scorers(_SCORED), Dynamics()], VoiceEmbedder()
    scores, embeddings = [], []
    for row in (clip.row for clip in clips):
        heard = SpokenClip(*read_audio(row.audio), row.text, reached_end=True)
        scored = score_clip(scorers, heard, variant="", prompt="", seed=0)
        scores.append(scored)
        embeddings.append(_embedding(embedder, heard, scored))
    speakers = [clip.row.speaker or UNNAMED for clip in clips]
    voices = _voices(speakers, embeddings)
    return [_features(*of_clip) for of_clip in zip(clips, speakers, scores, voices, strict=True)]


def leave_one_out(embeddings: Embeddings) -> NDArray[np.float64]:
    """Cosine of each row of (n, d) to the mean of all others, shape (n,); NaN for a single row."""
    others = embeddings.sum(axis=0) - embeddings
    lengths = np.linalg.norm(others, axis=1)
    if len(embeddings) < 2:
        return np.full(len(embeddings), np.nan)
    cosines: NDArray[np.float64] = (embeddings * others).sum(axis=1) / lengths
    return cosines


def _embedding(
    embedder: VoiceEmbedder, clip: SpokenClip, scored: ClipScores
) -> NDArray[np.float32] | str:
    """The clip's voice, or the reason it has none: a clip without a level has no speech."""
    if "level" in scored.failures:
        return scored.failures["level"]
    try:
        return embedder.embed(clip)
    except MetricError as error:
        return str(error)


def _voices(
    speakers: Sequence[str], embeddings: Sequence[NDArray[np.float32] | str]
) -> list[dict[str, float] | str]:
    """Each clip's cosines to its own speaker and to the nearest other one, or why it has none."""
    heard: dict[str, list[int]] = {}
    for place, (speaker, embedding) in enumerate(zip(speakers, embeddings, strict=True)):
        if not isinstance(embedding, str):
            heard.setdefault(speaker, []).append(place)
    matrices = {s: np.array([embeddings[p] for p in of], np.float64) for s, of in heard.items()}
    centroids = {s: m.mean(axis=0) / np.linalg.norm(m.mean(axis=0)) for s, m in matrices.items()}
    voices: list[dict[str, float] | str] = [e if isinstance(e, str) else {} for e in embeddings]
    for speaker, matrix in matrices.items():
        others = [centroid for name, centroid in centroids.items() if name != speaker]
        nearest = (matrix @ np.array(others).T).max(axis=1) if others else None
        for row, (place, cosine) in enumerate(
            zip(heard[speaker], leave_one_out(matrix), strict=True)
        ):
            found = {} if math.isnan(cosine) else {_SIMILARITY: float(cosine)}
            if nearest is not None:
                found[OTHER_SIMILARITY] = float(nearest[row])
            voices[place] = found
    return voices


def _features(
    clip: TargetClip, speaker: str, scored: ClipScores, voice: Mapping[str, float] | str
) -> ClipFeatures:
    values, failures = dict(scored.values), dict(scored.failures)
    if isinstance(voice, str):
        failures[_SIMILARITY] = voice
    else:
        values |= voice
        if _SIMILARITY not in voice:
            failures[_SIMILARITY] = "no other clip of its speaker to compare with"
    if "f0_mean" in values:
        values["log2_f0"] = math.log2(values["f0_mean"])
    else:
        failures["log2_f0"] = failures["f0_mean"]
    kept = {*FEATURES, OTHER_SIMILARITY}
    return ClipFeatures(
        speaker,
        clip.row.text,
        {name: value for name, value in values.items() if name in kept},
        {name: why for name, why in failures.items() if name in kept},
    )


def _versions() -> dict[str, str]:
    heard = [metric_of(each) for each in (*_SCORED, MetricSpec(name=SPEAKER_NAMES[0]))]
    return {
        **{metric.name: metric.version for metric in heard},
        DYNAMICS.name: DYNAMICS.version,
        "features": "1",
    }


def _digest(clips: Sequence[TargetClip], versions: Mapping[str, str]) -> str:
    """SHA-256 over what the features follow from: clips, texts, speakers and what measures."""
    measured = [[clip.pcm, clip.row.text, clip.row.speaker] for clip in clips]
    return hashlib.sha256(json.dumps([versions, measured]).encode()).hexdigest()
