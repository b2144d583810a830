"""Answers to text items: against the model stepped one token at a time, alone and among others."""

import math

import pytest
import torch
from torch import nn

from jobs.families.base import FrozenBase, TextBase
from jobs.families.items import answer_items
from jobs.families.layout import IGNORED_LABEL
from jobs.spec.items import ChoiceItem, PassageItem, TextItem
from jobs.spec.trial import EngineSpec
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

ITEMS: list[TextItem] = [
    ChoiceItem(id="q", question="What is two less one?", choices=("one", "six two"), answer=0),
    PassageItem(id="t", text=" four seven one"),
    ChoiceItem(id="r", question="Is six three?", choices=("three", "one six", "nine"), answer=1),
]


def stepped(base: FrozenBase, model: nn.Module, context: str, continuation: str) -> float:
    """The log-likelihood of a continuation, whose tokens a model is asked for one by one."""
    assert isinstance(base, TextBase)
    example = base.text_example(context, continuation)
    total = 0.0
    for at, label in enumerate(example.labels):
        if label != IGNORED_LABEL:
            ids = torch.tensor([example.input_ids[:at]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, -1].float()
            total += logits.log_softmax(dim=-1)[example.input_ids[at]].item()
    return total


def test_a_likelihood_is_that_of_the_tokens_one_at_a_time(embedded_base):
    for answer in answer_items(embedded_base, embedded_base.model, ITEMS):
        expected = [
            stepped(embedded_base, embedded_base.model, *p) for p in answer.item.continuations
        ]
        assert answer.log_likelihoods == pytest.approx(expected, rel=1e-5)


def test_a_context_is_given_and_all_of_a_passage_is_asked(embedded_base):
    stream = embedded_base.stream
    read = stream._tokenizer
    for item in ITEMS:
        for context, continuation in item.continuations:
            example = embedded_base.text_example(context, continuation)
            asked = [each for each in example.labels if each != IGNORED_LABEL]
            assert read.decode(example.input_ids[1:]) == context + continuation
            assert read.decode(asked) == continuation
            assert example.labels[0] == IGNORED_LABEL


def test_a_continuation_that_merges_into_its_context_keeps_a_target():
    base = toy_base()
    example = base.text_example("one", "two")  # one word that the tokenizer does not know
    assert len([label for label in example.labels if label != IGNORED_LABEL]) == 1


@pytest.fixture
def host() -> Host:
    """Two slots that have learned something, and not the same."""
    host = Host(toy_base(), toy_clips(), EngineSpec())
    for slot, seed in (("one", 1), ("two", 2)):
        host.attach(slot, toy_trial(seed=seed, learning_rate=2e-2))
        host.advance(slot)
    return host


def test_a_variant_answers_at_its_scale_and_whoever_is_beside_it(host: Host):
    voices = [
        AdapterUse("one", 1.0),
        AdapterUse("two", 1.0),
        AdapterUse("one", 0.5),
        AdapterUse("one", 0.0),
        AdapterUse(None),
    ]
    together = host.answer(voices, ITEMS)
    for voice, answers in zip(voices, together, strict=True):
        assert host.answer([voice], ITEMS) == [answers]  # to the last bit
        for answer in answers:
            with host._adapters.rows.owned_by([voice]):

                class Whole(nn.Module):
                    def forward(self, input_ids: torch.Tensor) -> object:
                        with host._adapters.rows.share([input_ids.numel()]):
                            return host.base.model(input_ids=input_ids)

                expected = [stepped(host.base, Whole(), *p) for p in answer.item.continuations]
            assert answer.log_likelihoods == pytest.approx(expected, rel=1e-5)
    one, two, half, none, base = together
    assert none == base
    assert len({tuple(each[1].log_likelihoods) for each in (one, two, half, base)}) == 4
    assert all(math.isfinite(found) for each in one for found in each.log_likelihoods)


def test_a_base_without_a_head_over_text_is_refused(tiny_voxcpm2):
    with pytest.raises(TypeError, match="has text_example"):
        answer_items(tiny_voxcpm2, tiny_voxcpm2.model, ITEMS)
