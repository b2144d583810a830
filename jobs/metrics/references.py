"""What the target speaker sounds like to a voice encoder: the centroid of reference clips."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import MetricError, SpokenClip

Reference = tuple[NDArray[np.float32], int]
"""Mono audio of the target speaker, shape (samples,), and its rate in Hz."""

MIN_REFERENCES = 10
"""Fewer clips give a centroid of those sentences rather than of the speaker."""

Embed = Callable[[SpokenClip], NDArray[np.float32]]
"""A clip to its voice, a vector of unit length; MetricError when it holds no speech."""


def check_enough(metric: str, references: Sequence[Reference]) -> None:
    """Raises ValueError when there are fewer than ``MIN_REFERENCES``."""
    if len(references) < MIN_REFERENCES:
        raise ValueError(
            f"{metric} needs at least {MIN_REFERENCES} reference clips of the target "
            f"speaker, got {len(references)}; hold out more clips or drop the metric"
        )


def centroid(references: Sequence[Reference], embed: Embed) -> NDArray[np.float32]:
    """Mean of the unit embeddings of the references, scaled to unit length, shape (dimensions,).

    Raises:
        ValueError: a clip holds no speech.
    """
    embeddings = []
    for number, (audio, rate) in enumerate(references, start=1):
        try:
            embeddings.append(embed(SpokenClip(audio, rate, "", reached_end=True)))
        except MetricError as error:
            raise ValueError(
                f"every reference clip must hold speech; clip {number} of "
                f"{len(references)}: {error}; remove it"
            ) from error
    mean: NDArray[np.float32] = np.mean(embeddings, axis=0)
    return mean / np.linalg.norm(mean)


def cosine(voice: NDArray[np.float32], centre: NDArray[np.float32]) -> float:
    """Of two unit vectors; below 0 is no nearer than 0, where another voice already is."""
    return min(max(float(voice @ centre), 0.0), 1.0)
