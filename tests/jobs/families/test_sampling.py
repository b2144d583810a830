"""Each row draws from its own stream, and from the distribution it says."""

import numpy as np
import torch
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jobs.families.sampling import Sampler, capped
from jobs.spec.trial import DecodingSpec

SAMPLED = DecodingSpec(temperature=1.0, top_k=8, seed=1)


def logits(rows: int, vocabulary: int = 8) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))


def draws(decoding: DecodingSpec, row: torch.Tensor, count: int = 20_000) -> np.ndarray:
    """Frequencies of tokens, each draw from the stream of a name of its own."""
    sampler = Sampler(decoding, [f"name {i}" for i in range(count)])
    return np.bincount(sampler.pick(row.expand(count, -1)).numpy(), minlength=len(row)) / count


def assert_frequencies(seen: np.ndarray, expected: torch.Tensor, count: int = 20_000) -> None:
    chance = expected.numpy()
    assert np.all(np.abs(seen - chance) < 4.5 * np.sqrt(chance * (1 - chance) / count) + 1e-9)


def test_temperature_zero_takes_the_likeliest():
    picked = Sampler(DecodingSpec(), ["a", "b", "c"]).pick(logits(3))
    assert picked.tolist() == logits(3).argmax(-1).tolist()


def test_top_one_takes_the_likeliest_at_any_temperature():
    decoding = DecodingSpec(temperature=5.0, top_k=1)
    assert Sampler(decoding, ["a", "b"]).pick(logits(2)).tolist() == logits(2).argmax(-1).tolist()


def test_draws_follow_the_softmax():
    row = logits(1)[0]
    assert_frequencies(draws(SAMPLED, row), row.softmax(-1))


def test_temperature_flattens_the_softmax():
    row = logits(1)[0]
    hot = SAMPLED.model_copy(update={"temperature": 2.0})
    assert_frequencies(draws(hot, row), (row / 2).softmax(-1))


def test_top_k_leaves_the_rest_out():
    row = logits(1)[0]
    kept = row.topk(3)
    expected = torch.zeros(len(row)).scatter(0, kept.indices, kept.values.softmax(-1))
    assert_frequencies(draws(SAMPLED.model_copy(update={"top_k": 3}), row), expected)


def test_top_k_may_exceed_the_vocabulary():
    decoding = DecodingSpec(temperature=1.0, top_k=1000)
    assert 0 <= Sampler(decoding, ["a"]).pick(logits(1)).item() < 8


def test_a_row_draws_the_same_whichever_rows_are_beside_it():
    together = Sampler(SAMPLED, ["a", "b", "c"])
    alone = Sampler(SAMPLED, ["b"])
    rows = logits(3, vocabulary=500)
    for _ in range(5):
        assert together.pick(rows)[1] == alone.pick(rows[1:2])[0]


def test_rows_that_are_kept_draw_on_as_if_the_others_were_there():
    decoding = SAMPLED.model_copy(update={"repetition_penalty": 1.5})
    whole, fewer = (Sampler(decoding, ["a", "b", "c"]) for _ in range(2))
    rows = logits(3)
    assert whole.pick(rows).tolist() == fewer.pick(rows).tolist()
    fewer.keep([0, 2])
    for _ in range(4):
        assert whole.pick(rows)[[0, 2]].tolist() == fewer.pick(rows[[0, 2]]).tolist()


def test_streams_differ_by_seed_and_name():
    row = logits(1, vocabulary=500)
    wide = SAMPLED.model_copy(update={"top_k": 500, "temperature": 3.0})
    other = wide.model_copy(update={"seed": 2})
    picks = [
        [sampler.pick(row).item() for _ in range(6)]
        for sampler in (
            Sampler(wide, ["a"]),
            Sampler(wide, ["a"]),
            Sampler(wide, ["b"]),
            Sampler(other, ["a"]),
        )
    ]
    assert picks[0] == picks[1]
    assert len({tuple(p) for p in picks}) == 3


def test_top_p_keeps_the_likeliest_that_reach_it():
    """As Hugging Face's warpers, one after the other, leave them."""
    row = logits(1, 16)
    decoding = DecodingSpec(temperature=0.8, top_k=12, top_p=0.7, seed=1)
    warped = row / 0.8
    for warper in (TopKLogitsWarper(12), TopPLogitsWarper(0.7)):
        warped = warper(None, warped)
    assert 1 < (warped > -torch.inf).sum() < 12
    assert_frequencies(draws(decoding, row[0]), warped[0].softmax(-1))


def test_what_was_picked_before_is_penalised_as_hugging_face_does():
    decoding = DecodingSpec(repetition_penalty=1.3)
    ours, theirs = Sampler(decoding, ["a", "b"]), RepetitionPenaltyLogitsProcessor(1.3)
    picked = torch.zeros(2, 0, dtype=torch.long)
    for step in range(12):
        scores = torch.randn(2, 6, generator=torch.Generator().manual_seed(step)) / 4
        expected = theirs(picked, scores).argmax(-1) if step else scores.argmax(-1)
        chosen = ours.pick(scores)
        assert chosen.tolist() == expected.tolist()
        picked = torch.cat([picked, chosen[:, None]], dim=1)
    assert any(len(set(row)) < len(row) for row in picked.tolist())


def test_the_lesser_cap_holds():
    assert [capped(10, DecodingSpec(max_tokens=cap)) for cap in (None, 4, 40)] == [10, 4, 10]
