"""DistillMOS: a second predictor of naturalness, from an optional package.

Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech
Quality Assessment" (ICASSP 2025); the package ``distillmos`` (MIT) has the weights inside.
"""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric
from jobs.metrics.dnsmos import opinion_metric
from jobs.metrics.models import PinnedFile, one_thread
from jobs.metrics.signal import levelled
from jobs.vendor import distillmos

DISTILLMOS_NAMES = ("distillmos",)
DISTILLMOS_WEIGHTS = PinnedFile(
    "distillmos",
    "0.9.1",
    "distillmos",
    "weights/distill_mos_v7.pt",
    "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40",
    also=("xls-r-sqa==0.1.0",),
)
WINDOW = 122_880
"""Samples that the network takes: 7.68 s at 16 kHz; a shorter clip is followed by silence."""
MOST_STEP = 16_000
"""Samples between the windows of a longer clip, at most."""
_AT_ONCE = 4
"""Windows in one pass: a long clip takes no more memory than they do."""


@cache
def distillmos_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`DistillMos`; reads the weights once to identify them."""
    made_of = f"{DISTILLMOS_WEIGHTS.fingerprint()} {DISTILLMOS_WEIGHTS.also[0]}"
    note = "; a second opinion that misses wrong words: it must not rank"
    return (opinion_metric(DISTILLMOS_NAMES[0], f"1 {made_of}", "quality (DistillMOS)", note),)


class DistillMos:
    """Overall quality; of the words it knows nothing, so it ranks nothing."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            FileNotFoundError: the package is missing.
            ImportError: another version of it is installed.
        """
        self.metrics: Sequence[Metric] = distillmos_metrics()
        # It loads its own file, which was checked above, with weights_only, and prints that.
        with redirect_stdout(StringIO()):
            self._network: Any = distillmos().ConvTransformerSQAModel(segmenting_in_forward=False)
        self._network.eval()

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinion over the windows. Raises MetricError when there is no speech."""
        return {DISTILLMOS_NAMES[0]: self.opinion(levelled(clip))}

    def opinion(self, audio: NDArray[np.float32]) -> float:
        """Of 16 kHz ``audio`` (samples,), which the network scales by its peak.

        Windows lie as ``ConvTransformerSQAModel.forward`` puts them: evenly, the last at the end.
        """
        import torch

        audio = np.pad(audio, (0, max(WINDOW - len(audio), 0)))
        over = len(audio) - WINDOW
        starts = [int(at * over) for at in np.linspace(0, 1, -(-over // MOST_STEP) + 1)]
        windows = torch.from_numpy(np.stack([audio[start : start + WINDOW] for start in starts]))
        with one_thread(), torch.no_grad():
            opinions = [self._network(of) for of in torch.split(windows, _AT_ONCE)]
        return float(torch.cat(opinions).mean())
