"""How often an epoch sees each clip: exact shares, nothing left out, nothing seen too often."""

from collections import Counter

import pytest

from jobs.data.order.mix import Mix, apply_mix, epoch_counts
from jobs.spec.data import MixSpec
from tests.toy import toy_clip


def by_language(**shares: float) -> MixSpec:
    return MixSpec(by="language", shares=shares)


def test_the_arithmetic_of_a_scarce_language():
    """3,345 Khmer clips brought to 40 % beside 14,092 Korean ones, as it was published."""
    counts = epoch_counts(by_language(km=0.4, ko=0.6), {"km": 3345, "ko": 14092})
    assert counts == {"km": 9395, "ko": 14092}
    assert sum(counts.values()) == 23487


@pytest.mark.parametrize(
    ("shares", "clips", "counts"),
    [
        # Shares are scaled to sum to 1.
        ({"km": 40, "ko": 60}, {"km": 3345, "ko": 14092}, {"km": 9395, "ko": 14092}),
        # As they are: nobody is repeated.
        ({"a": 0.25, "b": 0.75}, {"a": 10, "b": 30}, {"a": 10, "b": 30}),
        # 0.1 + 0.2 is not 0.3 in binary, and a ceiling of that would have one more.
        ({"a": 0.1, "b": 0.3}, {"a": 1, "b": 30}, {"a": 10, "b": 30}),
        ({"a": 0.7, "b": 0.1}, {"a": 7, "b": 10}, {"a": 70, "b": 10}),
        # The largest for its share is not the largest.
        ({"a": 0.9, "b": 0.1}, {"a": 50, "b": 10}, {"a": 90, "b": 10}),
        # Who is not named is left out.
        ({"a": 1.0}, {"a": 3, "b": 10}, {"a": 3}),
        ({"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 1, "b": 4, "c": 3}, {"a": 8, "b": 4, "c": 4}),
    ],
)
def test_shares_are_met_exactly_and_no_clip_is_lost(
    shares: dict[str, float], clips: dict[str, int], counts: dict[str, int]
):
    found = epoch_counts(MixSpec(by="speaker", shares=shares), clips)
    assert found == counts
    assert all(found[name] >= clips[name] for name in found)
    assert any(found[name] == clips[name] for name in found)


@pytest.mark.parametrize(
    ("temperature", "counts"),
    [
        (1, {"a": 25, "b": 100, "c": 1}),
        (2, {"a": 50, "b": 100, "c": 10}),  # the roots are 5, 10 and 1
        (3.5, {"a": 68, "b": 100, "c": 27}),  # 100 * 0.25 ** (1 / 3.5) = 67.3; 0.01: 26.8
        (1000, {"a": 100, "b": 100, "c": 100}),
    ],
)
def test_a_temperature_makes_groups_more_equal(temperature: float, counts: dict[str, int]):
    mix = MixSpec(by="speaker", temperature=temperature)
    assert epoch_counts(mix, {"a": 25, "b": 100, "c": 1}) == counts


def test_a_share_without_clips_is_named():
    with pytest.raises(ValueError, match="has language 'th', only 'km', 'ko': correct the name"):
        epoch_counts(by_language(th=0.4, ko=0.6), {"km": 3, "ko": 9})


MIX = Mix(groups=((0, 3, 4, 7), (1, 2, 5)), counts=(4, 8))
"""Four clips seen once, three seen twice with two of them a third time."""


def test_an_epoch_has_every_clip_evenly_and_the_rest_without_repeats():
    for epoch in range(1, 8):
        seen = MIX.epoch(seed=3, epoch=epoch)
        assert len(seen) == MIX.size == 12
        counts = Counter(seen)
        assert [counts[clip] for clip in (0, 3, 4, 7)] == [1, 1, 1, 1]
        assert sorted(counts[clip] for clip in (1, 2, 5)) == [2, 3, 3]
        assert MIX.epoch(seed=3, epoch=epoch) == seen


def test_over_epochs_the_clips_of_a_group_are_seen_equally_often():
    total: Counter[int] = Counter()
    for epoch in range(1, 10):
        total.update(MIX.epoch(seed=3, epoch=epoch))
        seen = [total[clip] for clip in (1, 2, 5)]
        assert max(seen) - min(seen) <= 1
    assert [total[clip] for clip in (1, 2, 5)] == [24, 24, 24]


def test_who_is_repeated_first_is_drawn():
    assert len({tuple(MIX.epoch(seed, epoch=1)) for seed in range(20)}) == 3


def test_clips_are_told_apart_by_what_the_mix_says():
    clips = [
        toy_clip("a", speaker="ann", language="km"),
        toy_clip("b", speaker="bob", language="ko"),
        toy_clip("c", speaker="ann", language="ko"),
    ]
    assert apply_mix(by_language(ko=1.0), clips) == Mix(groups=((1, 2),), counts=(2,))
    whose = MixSpec(by="speaker", shares={"bob": 0.5, "ann": 0.5})
    assert apply_mix(whose, clips) == Mix(groups=((0, 2), (1,)), counts=(2, 2))


def test_a_clip_that_does_not_say_whose_it_is_is_named():
    clips = [toy_clip("a", speaker="ann"), toy_clip("b", language="km")]
    with pytest.raises(ValueError, match="needs the speaker of every training clip, but clip 'b'"):
        apply_mix(MixSpec(by="speaker", temperature=2), clips)
