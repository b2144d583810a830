"""The learning rate at each optimiser step."""

import math

from jobs.spec.trial import TrainingSpec


def learning_rate(spec: TrainingSpec, step: int, total_steps: int) -> float:
    """The rate of optimiser step ``step`` (0-based) of a training of ``total_steps``.

    Warm-up rises linearly to ``spec.learning_rate`` over ``spec.warmup_steps``; after it the rate
    is constant, or falls to 0 at ``total_steps`` along a line or half a cosine.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    left = (total_steps - step) / max(total_steps - spec.warmup_steps, 1)
    match spec.schedule:
        case "constant":
            return spec.learning_rate
        case "linear":
            return spec.learning_rate * left
        case "cosine":
            return spec.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
