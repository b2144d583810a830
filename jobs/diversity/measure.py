"""Features of the training clips, measured once for the same clips and stored."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.storage.base import Storage
from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import diversity_key
from jobs.diversity.clips import FEATURES, OTHER_SIMILARITY, ClipFeatures
from jobs.metrics.base import FunctionScorer, Metric, MetricError, score_clip
from jobs.metrics.catalogue import build_scorers, metric_of
from jobs.metrics.signal import FRAME, HALF_STEP, RATE, VAD_VERSION, at_16k, speech_frames
from jobs.metrics.speaker import SPEAKER_NAMES, VoiceEmbedder
from jobs.spec.metric import MetricSpec

T = TypeVar("T")

WINDOW = 400
"""Samples: 25 ms at ``RATE``."""

DYNAMICS = Metric(
    name="dynamics",
    unit="dB",
    direction="neither",
    version=f"1 {VAD_VERSION}",
    low=0.0,
    high=96.4,  # from half a 16-bit step to full scale
    description="90th less 10th percentile of the log-energy of 25 ms windows of speech",
)

FILE = "diversity.json"
UNNAMED = "unnamed"
"""The speaker of clips whose manifest names none."""
_SCORED = [
    MetricSpec(name=name)
    for name in (
        *("level", "dnsmos_ovrl", "dnsmos_p808", "wada_snr", "dnsmos_bak"),
        *("f0_mean", "f0_sd", "speaking_rate", "duration"),
    )
]
"""What the metrics measure; of ``f0_mean`` the logarithm is kept."""
_SIMILARITY = "centroid_similarity"


def dynamics(audio: NDArray[np.float32]) -> float:
    """P90 - P10 in dB of the energy of the windows around the speech frames of 16 kHz ``audio``.

    A window is centred on its 10 ms frame; those that would reach beyond the clip are left out.

    Raises:
        MetricError: there is no speech, or none with a whole window around it.
    """
    first = np.flatnonzero(speech_frames(audio)) * FRAME + (FRAME - WINDOW) // 2
    first = first[(first >= 0) & (first + WINDOW <= len(audio))]
    if not first.size:
        raise MetricError(f"no {WINDOW / RATE:g} s of audio around any speech")
    windows = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[first]
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    low, high = np.percentile(10 * np.log10(np.maximum(power, HALF_STEP**2)), (10, 90))
    return float(high - low)


def training_clips(clips: Sequence[TargetClip]) -> list[TargetClip]:
    """The clips that adapters train on."""
    return [clip for clip in clips if clip.row.split == "train"]


def measure_once(clips: Sequence[TargetClip], storage: Storage) -> str:
    """Measure the training clips of ``clips`` unless that was done before; returns the key.

    Raises:
        ScorerUnavailable: a library or the weights of a metric cannot be loaded.
    """
    training = training_clips(clips)
    metrics = [metric_of(each) for each in (*_SCORED, MetricSpec(name=SPEAKER_NAMES[0]))]
    versions = {metric.name: metric.version for metric in (*metrics, DYNAMICS)}
    versions["features"] = "1"
    # What the features follow from: clips, texts, speakers and what measures.
    measured = [[clip.pcm, clip.row.text, clip.row.speaker] for clip in training]
    digest = hashlib.sha256(json.dumps([versions, measured]).encode()).hexdigest()
    key = diversity_key(digest)
    if not storage.is_committed(key):
        with storage.commit(key) as directory:
            lines = ",\n".join(json.dumps(asdict(clip)) for clip in measure_clips(training))
            text = f'{{"versions": {json.dumps(versions)},\n"clips": [\n{lines}\n]}}\n'
            (directory / FILE).write_text(text, encoding="utf-8")
    return key


def read_measured(storage: Storage, key: str) -> list[ClipFeatures]:
    """The features that :func:`measure_once` stored. Raises FileNotFoundError without them."""
    return [ClipFeatures(**clip) for clip in json.loads(storage.read_from(key, FILE))["clips"]]


def measure_clips(clips: Sequence[TargetClip]) -> list[ClipFeatures]:
    """The features of every clip, in their order; what fails is in its ``failures``."""
    of_dynamics = FunctionScorer(DYNAMICS, lambda clip: dynamics(at_16k(clip)))
    scorers, embedder = [*build_scorers(_SCORED), of_dynamics], VoiceEmbedder()
    values: list[dict[str, float]] = []
    failures: list[dict[str, str]] = []
    embeddings: dict[int, NDArray[np.float32]] = {}
    for place, row in enumerate(clip.row for clip in clips):
        clip = SpokenClip(*read_audio(row.audio), row.text, reached_end=True)
        scores = score_clip(scorers, clip, variant="", prompt="", seed=0)
        found, missing = dict(scores.values), dict(scores.failures)
        if "f0_mean" in found:
            found["log2_f0"] = math.log2(found["f0_mean"])
        else:
            missing["log2_f0"] = missing["f0_mean"]
        try:
            if "level" in missing:  # it has no speech
                raise MetricError(missing["level"])
            embeddings[place] = embedder.embed(clip)
        except MetricError as error:
            missing[_SIMILARITY] = str(error)
        values.append(found)
        failures.append(missing)
    speakers = [clip.row.speaker or UNNAMED for clip in clips]
    for place, similarities in _similarities(speakers, embeddings).items():
        values[place] |= similarities
        if _SIMILARITY not in similarities:
            failures[place][_SIMILARITY] = "no other clip of its speaker to compare with"
    return [
        ClipFeatures(speaker, clip.row.text, _kept(found), _kept(missing))
        for speaker, clip, found, missing in zip(speakers, clips, values, failures, strict=True)
    ]


def leave_one_out(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each row to the mean of the others, shape (clips,); NaN for a single row.

    ``embeddings`` have unit length, shape (clips, dimensions).
    """
    others = embeddings.sum(axis=0) - embeddings
    lengths = np.linalg.norm(others, axis=1)
    if len(embeddings) < 2:
        return np.full(len(embeddings), np.nan)
    cosines: NDArray[np.float64] = (embeddings * others).sum(axis=1) / lengths
    return cosines


def _similarities(
    speakers: Sequence[str], embeddings: Mapping[int, NDArray[np.float32]]
) -> dict[int, dict[str, float]]:
    """By the clip's place, its cosines to its own speaker and to the nearest other one."""
    places: dict[str, list[int]] = {}
    for place in embeddings:
        places.setdefault(speakers[place], []).append(place)
    matrices = {s: np.array([embeddings[p] for p in of], np.float64) for s, of in places.items()}
    centroids = {s: m.mean(axis=0) / np.linalg.norm(m.mean(axis=0)) for s, m in matrices.items()}
    found: dict[int, dict[str, float]] = {place: {} for place in embeddings}
    for speaker, matrix in matrices.items():
        for place, cosine in zip(places[speaker], leave_one_out(matrix), strict=True):
            if not math.isnan(cosine):
                found[place][_SIMILARITY] = float(cosine)
        others = [centroid for name, centroid in centroids.items() if name != speaker]
        if others:
            nearest = (matrix @ np.array(others).T).max(axis=1)
            for place, cosine in zip(places[speaker], nearest, strict=True):
                found[place][OTHER_SIMILARITY] = float(cosine)
    return found


def _kept(by_name: Mapping[str, T]) -> dict[str, T]:
    names = {*FEATURES, OTHER_SIMILARITY}
    return {name: value for name, value in by_name.items() if name in names}
