"""Metrics of answers to text items: what an adapter has left of the base's command of text."""

import math

import numpy as np

from jobs.clips import ItemAnswer
from jobs.metrics.base import ClipScores, Metric
from jobs.spec.items import CHOICE_ACCURACY, TEXT_NLL, ChoiceItem

_MOST_NLL = 10.0
"""Nats a character. A uniform guess among 128,256 tokens (Llama 3) of four characters each is 2.9;
what is worse than the bound counts as the bound."""

ANSWER_METRICS = (
    Metric(
        CHOICE_ACCURACY,
        unit="0 or 1",
        direction="higher",
        version="1",
        low=0.0,
        high=1.0,
        description="Whether the likeliest choice of a question is the right one.",
    ),
    Metric(
        TEXT_NLL,
        unit="nats/character",
        direction="lower",
        version="1",
        low=0.0,
        high=_MOST_NLL,
        description="Negative log-likelihood of a text that was not trained on.",
    ),
)


def score_answer(answer: ItemAnswer, *, variant: str, seed: int) -> ClipScores:
    """The score of ``answer`` by its item's metric, or the recorded reason for none.

    The likeliest choice is that of the largest log-likelihood over its number of characters:
    ``acc_norm`` of lm-evaluation-harness. The sum alone prefers short choices.
    """
    item, found = answer.item, answer.log_likelihoods
    if not all(map(math.isfinite, found)):
        why = f"a log-likelihood is not finite: {list(found)}"
        return ClipScores(variant, item.id, seed, {}, {item.metric: why})
    if isinstance(item, ChoiceItem):
        normalised = np.array(found) / [len(choice) for choice in item.choices]
        value = float(int(normalised.argmax()) == item.answer)
    else:
        value = min(-found[0] / len(item.text), _MOST_NLL)
    return ClipScores(variant, item.id, seed, {item.metric: value})
