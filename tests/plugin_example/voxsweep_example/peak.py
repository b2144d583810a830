"""The metric ``peak``: the largest sample of a clip."""

from collections.abc import Mapping

import numpy as np

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric
from jobs.metrics.catalogue import ScorerSource

METRIC = Metric(
    name="peak",
    unit="of full scale",
    direction="neither",
    version="1",
    low=0.0,
    high=10.0,
    description="Largest absolute sample",
)


class Peak:
    """Measures :data:`METRIC`."""

    metrics = (METRIC,)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """See :class:`jobs.metrics.base.Scorer`."""
        return {METRIC.name: float(np.abs(clip.audio).max())}


PEAK = ScorerSource(
    directions={METRIC.name: METRIC.direction},
    metrics=lambda asked: (METRIC,),
    build=lambda asked, inputs: Peak(),
)
