"""Speaker similarity by WavLM's x-vectors, against reference clips.

Chen et al., "WavLM" (2022), with the x-vector head of Snyder et al. (2018), as transformers has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Direction, Metric, MetricError
from jobs.metrics.models import PICKLED, HubModel, find_model, library, one_thread
from jobs.metrics.references import References, SpeakerCentroids, similarity_metric
from jobs.metrics.signal import RATE, levelled
from jobs.spec.metric import MetricSpec

DEFAULT_MODEL = "microsoft/wavlm-base-plus-sv"
"""Its repository has no safetensors, so that its ``.bin`` is read, with ``weights_only``."""
MOST_SECONDS = 60
"""What is used of a longer clip: the memory of attention grows with the square of the length."""

WAVLM_METRICS: Mapping[str, Direction] = {"wavlm_similarity": "higher"}


def wavlm_metrics(spec: MetricSpec) -> tuple[Metric, ...]:
    """Metadata of :class:`WavLM`; reads the model's files once to identify them.

    Raises:
        FileNotFoundError: the model is not there, with the command that downloads it.
    """
    made_of = f"{_find_model(spec).fingerprint()} {library('transformers')} first-{MOST_SECONDS}s"
    return tuple(similarity_metric(n, f"1 {made_of}", "WavLM x-vector") for n in WAVLM_METRICS)


class WavLM:
    """Cosine between a clip's x-vector and the centroid of its speaker's."""

    def __init__(self, spec: MetricSpec, references: References) -> None:
        """Embed the reference clips, which must be recordings the adapters did not train on.

        Raises:
            FileNotFoundError: the model is not there.
            ValueError: too few clips, or one that holds no speech.
        """
        import torch
        from transformers import Wav2Vec2FeatureExtractor, WavLMForXVector

        self.metrics: Sequence[Metric] = wavlm_metrics(spec)
        model = _find_model(spec)
        self._prepare: Any = Wav2Vec2FeatureExtractor.from_pretrained(
            model.directory, local_files_only=True
        )
        self._model: Any = WavLMForXVector.from_pretrained(
            model.directory,
            local_files_only=True,
            use_safetensors=model.is_safetensors,
            weights_only=True,
            dtype=torch.float32,
        ).eval()
        self._min_samples = _min_samples(self._model.config)
        self._voices = SpeakerCentroids(spec.name, references, self._embed)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Cosine in [0, 1]. Raises MetricError when there is no speech."""
        return dict.fromkeys(WAVLM_METRICS, self._voices.similarity(clip))

    def _embed(self, clip: SpokenClip) -> NDArray[np.float32]:
        """Unit x-vector, shape (dimensions,)."""
        import torch

        audio = levelled(clip)[: MOST_SECONDS * RATE]
        if len(audio) < self._min_samples:
            raise MetricError(
                f"{len(audio) / RATE:.2f} s of audio are too short: "
                f"{self._min_samples / RATE:.2f} s are needed"
            )
        features = self._prepare(audio, sampling_rate=RATE, return_tensors="pt")
        with one_thread(), torch.no_grad():
            voice: NDArray[np.float32] = self._model(**features).embeddings[0].numpy()
        return voice / np.linalg.norm(voice)


def _min_samples(config: Any) -> int:  # noqa: ANN401 (transformers' WavLMConfig)
    """The shortest clip that leaves the pooling two frames, which their deviation needs."""
    layers = zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)
    samples = 2 + sum((kernel - 1) * dilation for kernel, dilation in layers)
    convolutions = zip(config.conv_kernel, config.conv_stride, strict=True)
    for kernel, stride in reversed([*convolutions]):
        samples = (samples - 1) * stride + kernel
    return int(samples)


def _find_model(spec: MetricSpec) -> HubModel:
    return find_model(spec.model or DEFAULT_MODEL, ["preprocessor_config.json"], PICKLED)
