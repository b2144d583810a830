"""The base tries decodings on set A, fewer of them on its rest, and what is found is written."""

import pytest

from cluster.storage.base import LocalStorage
from jobs.metrics.base import ClipScores
from jobs.spec.trial import PromptSpec
from orchestrator.ledger import SCREEN, SHORTLIST, Ledger
from orchestrator.scores.from_ledger import (
    base_decoding_id,
    protocol_for,
    stored_base_decoding,
)
from orchestrator.search.base_decoding import find_base_decoding
from orchestrator.workers.preparation import Prepared
from tests.orchestrator.search.fake_sweep import CONFIRMATION, HEALTHY, SECTIONS

PROMPTS = [PromptSpec(id=f"p{i}", text=f"text {word}") for i, word in enumerate("abcd")]
BY_TEMPERATURE = {0.0: 0.5, 0.2: 0.6, 0.4: 0.7, 0.6: 0.3, 0.8: 0.2}
"""Similarity."""


@pytest.fixture
def found(make_spec, tmp_path):
    """What was spoken, in order, and the ledger, after a search."""
    variants = (
        "variants: {lora_scales: [1.0], shortlist_after: 2, "
        "decoding_search: {space: {temperature: [0.2, 0.4, 0.6, 0.8]}}}"
    )
    spec = make_spec(**{**SECTIONS, "variants": variants})
    protocol = protocol_for(spec, PROMPTS, CONFIRMATION, Prepared("b", "d", "e"))
    ledger, spoken = Ledger(LocalStorage(tmp_path / "st"), spec.name), []
    points = {base_decoding_id(point): point for point in protocol.decodings}

    def speak(speech):
        for each in speech:
            prompts = tuple(prompt.id for prompt in each.prompts)
            spoken.append((each.prompt_set, each.decoding.temperature, prompts))
            assert each.decoding == spec.variants.decoding.at(points[each.name])

    def score(names, prompt_set):
        for name in names:
            similarity = BY_TEMPERATURE[points[name]["temperature"]]
            of = PROMPTS[:2] if prompt_set == SCREEN else PROMPTS[2:]
            scores = {**HEALTHY, "similarity": similarity}
            rows = [ClipScores(name, prompt.id, 0, scores) for prompt in of]
            ledger.write_scores(name, rows, prompt_set)

    find_base_decoding(ledger, protocol, speak, score)
    return spoken, ledger


def test_all_speak_the_first_part_and_the_best_third_the_rest(found):
    spoken, _ = found
    first, rest = ("p0", "p1"), ("p2", "p3")
    assert spoken == [
        *((SCREEN, temperature, first) for temperature in BY_TEMPERATURE),
        *((SHORTLIST, temperature, rest) for temperature in (0.0, 0.4, 0.2)),
    ]


def test_the_best_is_written_with_all_that_was_tried(found):
    _, ledger = found
    choice = stored_base_decoding(ledger)
    assert choice.chosen == {"temperature": 0.4}
    assert {each.decoding["temperature"]: each.prompts for each in choice.tried} == {
        0.0: 4,
        0.2: 4,
        0.4: 4,
        0.6: 2,
        0.8: 2,
    }


def test_no_score_of_the_base_lies_where_variants_are_judged(found):
    _, ledger = found
    assert ledger.scored_variants(SCREEN) == []
