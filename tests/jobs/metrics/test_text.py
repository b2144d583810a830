"""Scores of answers to text items, by hand."""

import math

import pytest

from jobs.clips import ItemAnswer
from jobs.metrics.catalogue import build_scorers, metric_of
from jobs.metrics.text import score_answer
from jobs.spec.items import ITEM_METRICS, ChoiceItem, PassageItem
from jobs.spec.metric import MetricSpec

QUESTION = ChoiceItem(id="q", question="Which?", choices=("ab", "abcdef"), answer=1)
PASSAGE = PassageItem(id="t", text="0123456789")


def scored(item, *found):
    return score_answer(ItemAnswer(item, found), variant="v", seed=3)


@pytest.mark.parametrize(
    ("found", "value"),
    [
        # -2 / 2 against -5 / 6: the sum alone would take the first.
        ((-2.0, -5.0), 1.0),
        ((-2.0, -7.0), 0.0),
    ],
)
def test_the_likeliest_choice_is_that_of_most_likelihood_a_character(found, value):
    row = scored(QUESTION, *found)
    assert (row.variant, row.prompt, row.seed) == ("v", "q", 3)
    assert row.values == {"choice_accuracy": value}
    assert row.failures == {}


def test_a_text_is_scored_by_nats_a_character_up_to_the_bound():
    assert scored(PASSAGE, -25.0).values == {"text_nll": 2.5}
    assert scored(PASSAGE, -1e6).values == {"text_nll": metric_of(MetricSpec(name="text_nll")).high}


@pytest.mark.parametrize("found", [(math.nan, -1.0), (-1.0, -math.inf)])
def test_a_likelihood_that_is_no_number_is_a_recorded_failure(found):
    row = scored(QUESTION, *found)
    assert row.values == {}
    assert "not finite" in row.failures["choice_accuracy"]


@pytest.mark.parametrize("name", ITEM_METRICS)
def test_no_clip_is_measured_by_a_metric_of_items(name):
    spec = MetricSpec(name=name)
    assert metric_of(spec).name == name
    with pytest.raises(ValueError, match=f"{name} measures answers to text items"):
        build_scorers([spec])
