"""Does it sound like the speaker: the Resemblyzer voice encoder against reference clips."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import Metric, MetricError, SpokenClip
from jobs.metrics.signal import ACTIVE_LEVEL, VAD_VERSION, at_16k, normalise_level
from jobs.metrics.weights import fingerprint

if TYPE_CHECKING:
    from resemblyzer import VoiceEncoder

Reference = tuple[NDArray[np.float32], int]
"""Mono audio of the target speaker, shape (samples,), and its rate in Hz."""

MIN_REFERENCES = 10
"""Fewer clips give a centroid of those sentences rather than of the speaker."""
SPEAKER_NAMES = ("similarity",)


@cache
def speaker_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`SpeakerSimilarity`; reads the encoder's file once to identify it."""
    made_of = f"{fingerprint('resemblyzer', 'pretrained.pt')} librosa-{version('librosa')}"
    return (
        Metric(
            name=SPEAKER_NAMES[0],
            unit="cosine",
            direction="higher",
            version=f"2 {made_of} level{ACTIVE_LEVEL:.0f} {VAD_VERSION}",
            low=0.0,
            high=1.0,
            description="cosine of the voice embedding to the centroid of the reference clips",
        ),
    )


class VoiceEmbedder:
    """Clips to embeddings of the voice in them; what is said hardly matters."""

    def __init__(self) -> None:
        self._encoder = _load_encoder()

    def embed(self, clip: SpokenClip) -> NDArray[np.float32]:
        """Unit embedding, shape (256,), after Resemblyzer's own trimming of pauses.

        The level is set first: the encoder hears absolute mel power.

        Raises:
            MetricError: there is no speech.
        """
        from resemblyzer import preprocess_wav

        trimmed = preprocess_wav(normalise_level(at_16k(clip)))
        if not trimmed.size:
            raise MetricError("no speech left after trimming silences")
        with _one_thread():
            embedding: NDArray[np.float32] = self._encoder.embed_utterance(trimmed)
        return embedding


class SpeakerSimilarity:
    """Cosine between a clip's voice embedding and the centroid of the target speaker's."""

    def __init__(self, references: Sequence[Reference]) -> None:
        """Embed the reference clips, which must be recordings the adapters did not train on.

        Raises:
            ValueError: fewer than ``MIN_REFERENCES`` clips, or one that holds no speech.
        """
        if len(references) < MIN_REFERENCES:
            raise ValueError(
                f"similarity needs at least {MIN_REFERENCES} reference clips of the target "
                f"speaker, got {len(references)}; hold out more clips or drop the metric"
            )
        self.metrics: Sequence[Metric] = speaker_metrics()
        self._embedder = VoiceEmbedder()
        self._centroid = self._centre(references)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Cosine in [0, 1]. Raises MetricError when there is no speech."""
        cosine = float(self._embedder.embed(clip) @ self._centroid)
        return {SPEAKER_NAMES[0]: min(max(cosine, 0.0), 1.0)}

    def _centre(self, references: Sequence[Reference]) -> NDArray[np.float32]:
        """Mean of the unit embeddings, scaled to unit length, shape (256,)."""
        embeddings = []
        for number, (audio, rate) in enumerate(references, start=1):
            try:
                embeddings.append(
                    self._embedder.embed(SpokenClip(audio, rate, "", reached_end=True))
                )
            except MetricError as error:
                raise ValueError(
                    f"every reference clip must hold speech; clip {number} of "
                    f"{len(references)}: {error}; remove it"
                ) from error
        mean: NDArray[np.float32] = np.mean(embeddings, axis=0)
        return mean / np.linalg.norm(mean)


def _load_encoder() -> "VoiceEncoder":
    with warnings.catch_warnings():
        # resemblyzer 0.1.4, its last release, imports a name SciPy has moved.
        warnings.filterwarnings(
            "ignore", "Please import `binary_dilation`", category=DeprecationWarning
        )
        from resemblyzer import VoiceEncoder
    return VoiceEncoder("cpu", verbose=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread inside: clips are scored in parallel, and training beside is left alone."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
