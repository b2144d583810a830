"""Speaker similarity by the Resemblyzer voice encoder, against reference clips."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.models import fingerprint, library, one_thread
from jobs.metrics.references import References, SpeakerCentroids, similarity_metric
from jobs.metrics.signal import levelled

SPEAKER_NAMES = ("similarity",)


@cache
def speaker_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`SpeakerSimilarity`; reads the encoder's file once to identify it."""
    made_of = f"{fingerprint('resemblyzer', 'pretrained.pt')} {library('librosa')}"
    return (similarity_metric(SPEAKER_NAMES[0], f"2 {made_of}", "voice embedding"),)


class VoiceEmbedder:
    """Clips to embeddings of the voice in them; the words hardly matter."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # resemblyzer 0.1.4, its last release, imports a name SciPy has moved.
            warnings.filterwarnings(
                "ignore", "Please import `binary_dilation`", category=DeprecationWarning
            )
            from resemblyzer import VoiceEncoder
        self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, clip: SpokenClip) -> NDArray[np.float32]:
        """Unit embedding, shape (256,), after Resemblyzer's own trimming of pauses.

        The level is set first: the encoder takes absolute mel power.

        Raises:
            MetricError: there is no speech.
        """
        from resemblyzer import preprocess_wav

        trimmed = preprocess_wav(levelled(clip))
        if not trimmed.size:
            raise MetricError("no speech left after trimming silences")
        with one_thread():
            embedding: NDArray[np.float32] = self._encoder.embed_utterance(trimmed)
        return embedding


class SpeakerSimilarity:
    """Cosine between a clip's voice embedding and the centroid of its speaker's."""

    def __init__(self, references: References) -> None:
        """Embed the reference clips, which must be recordings the adapters did not train on.

        Raises:
            ValueError: a speaker has fewer than ``MIN_REFERENCES`` clips, or one holds no speech.
        """
        self.metrics: Sequence[Metric] = speaker_metrics()
        self._voices = SpeakerCentroids(SPEAKER_NAMES[0], references, VoiceEmbedder().embed)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Cosine in [0, 1]. Raises MetricError when there is no speech."""
        return {SPEAKER_NAMES[0]: self._voices.similarity(clip)}
