"""Which pack sizes pay, how many slots fit, and what people are told."""

import pytest

from jobs.training.packing import LEAST_GAIN, PackingPlan, best_width, reason, slots_that_fit


@pytest.mark.parametrize(
    ("ratios", "width"),
    [
        ({}, 1),
        ({2: 0.8}, 1),
        ({2: LEAST_GAIN - 0.001}, 1),
        ({2: LEAST_GAIN}, 2),
        ({2: 1.3, 4: 1.6, 8: 1.9}, 8),
        # More is not always better: where larger packs lose again, the best one is kept.
        ({2: 1.3, 4: 1.2, 8: 0.7}, 2),
        ({2: 0.9, 4: 0.95, 5: 1.2}, 5),
        # As good with fewer: the smaller pack makes nobody wait.
        ({2: 1.4, 4: 1.4}, 2),
    ],
)
def test_the_pack_that_gains_most_is_taken_if_it_gains_enough(ratios: dict[int, float], width: int):
    assert best_width(ratios) == width


def test_a_batch_size_between_those_measured_packs_as_the_larger_one():
    plan = PackingPlan(8, {2: 8, 6: 4, 12: 1}, {}, 0.0, "")
    widths = {size: plan.width(size) for size in (1, 2, 3, 6, 7, 12, 20)}
    assert widths == {1: 8, 2: 8, 3: 4, 6: 4, 7: 1, 12: 1, 20: 1}


@pytest.mark.parametrize(
    ("free", "adapter", "activations", "slots"),
    [
        (10_000, 500, 500, 9),  # a tenth is left alone
        (10_000, 500, 1_500, 4),
        (10_000, 4_500, 4_500, 1),
        (10_000, 9_000, 9_000, 1),  # one must do, whatever the measurement says
        (0, 1, 1, 1),
    ],
)
def test_slots_share_nine_tenths_of_the_memory(
    free: int, adapter: int, activations: int, slots: int
):
    assert slots_that_fit(free, adapter, activations) == slots


def test_the_reason_says_what_was_measured_for_every_batch_size():
    ratios = {1: {2: 1.31, 4: 1.62}, 8: {2: 0.97, 4: 0.9}}
    assert reason({1: 4, 8: 1}, ratios, 0.0) == (
        "packs of 4 at batch size 1 (1.62x one after another); "
        "one after another at batch size 8 (packs of 2 are 0.97x, 4 are 0.90x); "
        "a pack trains to the same bits as alone"
    )


@pytest.mark.parametrize(
    ("difference", "uneven_rows", "equality"),
    [
        (
            3.2e-6,
            "",
            "a pack differs from alone by up to 3.2e-06 in weights and optimiser state: "
            "matrix products here depend on how many rows they have",
        ),
        (
            3.2e-6,
            "rows are 56 wide",
            "a pack differs from alone by up to 3.2e-06 in weights and optimiser state: "
            "rows are 56 wide",
        ),
        (
            0.0,
            "rows are 56 wide",
            "a pack may differ from alone, though it did not when measured: rows are 56 wide",
        ),
    ],
)
def test_the_reason_says_by_how_much_a_pack_differs_and_why(
    difference: float, uneven_rows: str, equality: str
):
    said = reason({2: 2}, {2: {2: 1.5}}, difference, uneven_rows)
    assert said == f"packs of 2 at batch size 2 (1.50x one after another); {equality}"


def test_without_packs_there_is_no_word_of_equality():
    said = reason({4: 1}, {4: {2: 0.9}}, 0.0)
    assert said == "one after another at batch size 4 (packs of 2 are 0.90x)"
