"""Several batches in one row attend as each does alone, in Hugging Face's own attention."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from jobs.families.codec_lm import CodecLM
from jobs.families.codec_lm_text import ARCHITECTURES
from jobs.families.segments import Segments
from tests.toy import toy_base

RAGGED = [[5, 3, 1], [7], [4, 4], [2, 6]]
"""Lengths of the clips of each batch."""


every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def ids_and_mask(lengths: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """(b, s) each, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
    return torch.randint(1, 30, shape, generator=generator) * mask, mask


def batches(ragged: list[list[int]]) -> list[tuple[Tensor, Tensor]]:
    return [ids_and_mask(lengths, seed) for seed, lengths in enumerate(ragged)]


def in_one_row(base: CodecLM, given: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Logits (b, s, v) of each batch, from one pass."""
    segments = Segments([mask for _, mask in given])
    logits = base.model(
        input_ids=torch.cat([ids.flatten() for ids, _ in given])[None],
        position_ids=segments.position_ids,
        attention_mask=segments.attention_mask,
        segments=segments,
        use_cache=False,
    ).logits
    return segments.split(logits)


def by_hugging_face(ids: Tensor, mask: Tensor, architecture: str) -> Tensor:
    """Logits of one batch as the model would give them without us."""
    base = toy_base(architecture=architecture)
    assert isinstance(base.model, PreTrainedModel)
    base.model.set_attn_implementation("sdpa")
    logits: Tensor = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits


@pytest.mark.parametrize("ragged", [[[4, 4]], [[5, 3, 1]], RAGGED], ids=["even", "ragged", "many"])
@every_architecture
def test_logits_are_those_of_hugging_face_to_the_last_bit(
    ragged: list[list[int]], architecture: str
):
    given = batches(ragged)
    with torch.no_grad():
        ours = in_one_row(toy_base(architecture=architecture), given)
        theirs = [by_hugging_face(ids, mask, architecture) for ids, mask in given]
    for mine, expected, (_, mask) in zip(ours, theirs, given, strict=True):
        assert mine.shape == expected.shape
        assert torch.equal(mine[mask.bool()], expected[mask.bool()])


@every_architecture
def test_a_batch_gets_the_same_alone_and_in_company(architecture: str):
    base, given = toy_base(architecture=architecture), batches(RAGGED)
    with torch.no_grad():
        together = in_one_row(base, given)
        alone = [in_one_row(base, [batch])[0] for batch in given]
        backwards = in_one_row(base, given[::-1])[::-1]
    for one, other, moved in zip(together, alone, backwards, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, moved)


def test_gradients_stay_in_their_batch():
    base, given = toy_base(), batches(RAGGED)
    embedded = []
    hook = base.model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: embedded.append(output.requires_grad_())
    )
    losses = in_one_row(base, given)
    hook.remove()
    (gradient,) = torch.autograd.grad(losses[1].sum(), embedded)
    segments = Segments([mask for _, mask in given])
    reached = [part.abs().sum().item() > 0 for part in segments.split(gradient)]
    assert reached == [False, True, False, False]


def test_positions_start_anew_with_every_clip():
    segments = Segments([mask for _, mask in batches([[3, 2], [2]])])
    assert segments.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert segments.sizes == [6, 2]


def test_split_gives_each_batch_its_shape():
    segments = Segments([mask for _, mask in batches([[3, 2], [2]])])
    first, second = segments.split(torch.arange(8)[None])
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.tolist() == [[6, 7]]
