"""Adapters on the rows of one layer: values, gradients and dropout against the plain formula."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from jobs.training.packed import Part, Rows, add_adapters
from jobs.training.packing import AdapterUse

IN, OUT = 6, 5
Pair = tuple[Tensor, Tensor]


def pair(rank: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Pair:
    generator = torch.Generator().manual_seed(100 * rank + seed)
    a = torch.randn(rank, IN, generator=generator, dtype=dtype, requires_grad=True)
    return a, torch.randn(OUT, rank, generator=generator, dtype=dtype, requires_grad=True)


def inputs(rows: int, dtype: torch.dtype = torch.float32) -> Pair:
    """What the frozen layer gives, and its input."""
    generator = torch.Generator().manual_seed(rows)
    result = torch.randn(rows, OUT, generator=generator, dtype=dtype, requires_grad=True)
    return result, torch.randn(rows, IN, generator=generator, dtype=dtype, requires_grad=True)


def dropout(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts(keep: float = 1.0) -> list[Part]:
    """Three adapters; rows 3 and 4 are the base's."""
    return [
        Part(0, 3, scale=2.0, keep=keep, dropout=dropout(1)),
        Part(5, 6, scale=0.7, keep=keep, dropout=dropout(2)),
        Part(6, 10, scale=1.5, keep=keep, dropout=dropout(3)),
    ]


def plain(result: Tensor, x: Tensor, whose: Sequence[Part], weights: Sequence[Pair]) -> Tensor:
    """PEFT's formula, part by part, through autograd; torch's own dropout draws the masks."""
    rows = list(result.split(1))
    for part, (a, b) in zip(whose, weights, strict=True):
        own = x[part.start : part.stop].to(a.dtype)
        if part.dropout is not None and part.keep < 1:
            torch.manual_seed(part.dropout.initial_seed())
            own = torch.nn.functional.dropout(own, 1 - part.keep)
        added = result[part.start : part.stop] + own @ a.t() @ b.t() * part.scale
        rows[part.start : part.stop] = added.to(result.dtype).split(1)
    return torch.cat(rows)


def gradients(output: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    seed = torch.randn(output.shape, generator=torch.Generator().manual_seed(9))
    return list(torch.autograd.grad(output, leaves, seed.to(output.dtype)))


@pytest.mark.parametrize("keep", [1.0, 0.8, 0.5])
def test_values_and_gradients_are_those_of_the_plain_formula_to_the_last_bit(keep: float):
    result, x = inputs(10)
    weights = [pair(2), pair(3), pair(8)]
    leaves = [result, x, *(tensor for each in weights for tensor in each)]
    ours = add_adapters(result, x, parts(keep), weights)
    theirs = plain(result, x, parts(keep), weights)
    assert torch.equal(ours, theirs)
    for mine, expected in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("covered", [True, False])
def test_gradients_are_those_of_finite_differences(covered: bool):
    double = torch.float64
    result, x = inputs(4 if covered else 6, double)
    whose = [Part(0, 3, 2.0, 1.0, None), Part(3, 4, 0.7, 1.0, None)]
    (a, b), (c, d) = pair(2, double), pair(3, double)

    def run(*args: Tensor) -> Tensor:
        result, x, a, b, c, d = args
        return add_adapters(result, x, whose, [(a, b), (c, d)])

    assert torch.autograd.gradcheck(run, (result, x, a, b, c, d))


def test_gradients_go_through_the_mask_that_was_drawn():
    def run(*args: Tensor) -> Tensor:
        result, x, a, b = args
        return add_adapters(result, x, [Part(1, 4, 2.0, 0.5, dropout(4))], [(a, b)])

    double = torch.float64
    assert torch.autograd.gradcheck(run, (*inputs(5, double), *pair(2, double)))


def test_each_adapter_drops_by_its_own_stream_and_share():
    result, x = inputs(10)
    mixed = [
        Part(0, 3, 1.0, 0.5, dropout(1)),
        Part(3, 6, 1.0, 1.0, dropout(2)),
        Part(6, 8, 1.0, 0.9, None),  # speaks, or is validated
        Part(8, 10, 1.0, 0.8, dropout(3)),
    ]
    weights = [pair(2), pair(3), pair(4), pair(5)]
    together = add_adapters(result, x, mixed, weights)
    for number, part in enumerate(mixed):
        again = None if part.dropout is None else dropout(part.dropout.initial_seed())
        length = part.stop - part.start
        alone = add_adapters(
            result[part.start : part.stop],
            x[part.start : part.stop],
            [Part(0, length, part.scale, part.keep, again)],
            weights[number : number + 1],
        )
        assert torch.equal(together[part.start : part.stop], alone)


def test_without_dropout_nothing_is_drawn():
    generator = dropout(1)
    before = generator.get_state()
    add_adapters(*inputs(3), [Part(0, 3, 1.0, 1.0, generator)], [pair(2)])
    assert torch.equal(generator.get_state(), before)


def test_rows_of_the_base_are_left_as_they_are():
    result, x = inputs(10)
    output = add_adapters(result, x, parts(0.5), [pair(2), pair(3), pair(8)])
    assert torch.equal(output[3:5], result[3:5])
    (x_gradient,) = gradients(output, [x])
    assert torch.equal(x_gradient[3:5], torch.zeros(2, IN))
    assert (x_gradient[5:] != 0).any(dim=1).all()


def test_leading_dimensions_are_rows():
    result, x = inputs(10)
    weights = [pair(2), pair(3), pair(8)]
    flat = add_adapters(result, x, parts(), weights)
    shaped = add_adapters(result.view(2, 5, OUT), x.view(2, 5, IN), parts(), weights)
    assert torch.equal(shaped, flat.view(2, 5, OUT))


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_a_bf16_base_gets_its_sum_in_fp32_and_rounded_once(keep: float):
    result, x = inputs(10, torch.bfloat16)
    weights = [pair(2), pair(3), pair(8)]
    ours = add_adapters(result, x, parts(keep), weights)
    theirs = plain(result, x, parts(keep), weights)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    leaves = [result, x, *(tensor for each in weights for tensor in each)]
    for mine, expected in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        assert mine.dtype == expected.dtype
        assert torch.equal(mine, expected)


OWNERS = [AdapterUse("a"), AdapterUse(None), AdapterUse("b", 0.5)]


def test_rows_are_shared_out_in_order_and_in_proportion():
    rows = Rows()
    with rows.owned_by(OWNERS), rows.share([3, 1, 2]):
        assert list(rows.split(6)) == [
            (OWNERS[0], 0, 3),
            (OWNERS[1], 3, 4),
            (OWNERS[2], 4, 6),
        ]
        assert list(rows.split(12)) == [
            (OWNERS[0], 0, 6),
            (OWNERS[1], 6, 8),
            (OWNERS[2], 8, 12),
        ]


def test_neighbours_of_one_owner_are_one_part_and_an_owner_without_rows_is_none():
    one, other = AdapterUse("a"), AdapterUse("a", 0.5)
    rows = Rows()
    with rows.owned_by([one, one, other, one]), rows.share([2, 1, 0, 2]):
        assert list(rows.split(10)) == [(one, 0, 6), (one, 6, 10)]


@pytest.mark.parametrize(
    ("rows", "counts"), [(7, [3, 1, 2]), (6, [3, 3]), (6, []), (6, [0, 0, 0]), (3, [3, 1, 2])]
)
def test_rows_that_cannot_be_shared_out_are_an_error(rows: int, counts: list[int]):
    shared = Rows()
    with (
        shared.owned_by(OWNERS),
        shared.share(counts),
        pytest.raises(ValueError, match=f"{rows} rows cannot be shared out"),
    ):
        list(shared.split(rows))


def test_without_owners_all_rows_are_the_bases():
    rows = Rows()
    assert list(rows.split(5)) == []
    with rows.owned_by(OWNERS), rows.share([1, 1, 1]):
        pass
    assert list(rows.split(5)) == []


def test_an_error_in_a_pass_leaves_no_owners_behind():
    rows = Rows()
    with pytest.raises(KeyError), rows.owned_by(OWNERS), rows.share([1, 1, 1]):
        raise KeyError
    assert list(rows.split(5)) == []
