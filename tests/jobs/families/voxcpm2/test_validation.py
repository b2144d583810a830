"""Validation is the same for a clip whatever surrounds it; known defects of upstream's are seen."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.families.voxcpm2 import noise
from jobs.spec.trial import TrainingSpec
from jobs.training import slot
from tests.tiny_voxcpm2 import random_clips

CLIPS = random_clips((5, 9, 6, 7))


def by_clip(base: Any, clips: Sequence[Any], together: int) -> dict[str, Tensor]:
    """Each clip's two losses, ``together`` of them a pass."""
    examples = base.examples(clips)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for start in range(0, len(examples), together):
            some = examples[start : start + together]
            sums = base.loss_sums(base.model, [base.collate([each]) for each in some])
            found |= {each.clip: loss for each, loss in zip(some, sums, strict=True)}
    return found


def check_validation(base: Any) -> None:
    """What makes losses of trials comparable."""
    torch.manual_seed(11)
    before = torch.get_rng_state()
    alone = by_clip(base, CLIPS, 1)
    assert torch.equal(torch.get_rng_state(), before), "validation moves the training's noise"
    torch.manual_seed(12)
    for clips, together in ((CLIPS, 4), (CLIPS[::-1], 2), (CLIPS, 1)):
        again = by_clip(base, clips, together)
        assert again.keys() == alone.keys()
        assert all(torch.equal(again[clip], alone[clip]) for clip in alone), "it draws new noise"
    batch = base.collate(base.examples(CLIPS))
    assert batch["kept"].all(), "validation drops conditions"


def test_a_clip_has_one_loss_in_any_batch_and_order(tiny: Any):
    check_validation(tiny)


def _new_noise(
    right: Callable[..., noise.PatchNoise],
) -> Callable[..., noise.PatchNoise]:
    def wrong(clips: Sequence[str], counts: Sequence[int], shape: tuple[int, int]) -> Any:
        found = right(clips, counts, shape)
        state = torch.get_rng_state()
        drawn = found._replace(noise=torch.randn(sum(counts), *shape))
        torch.set_rng_state(state)
        torch.manual_seed(int(hashlib.sha256(repr(clips).encode()).hexdigest()[:8], 16))
        torch.set_rng_state(state)
        return drawn

    return wrong


def _reset(right: Callable[..., noise.PatchNoise]) -> Callable[..., noise.PatchNoise]:
    def wrong(*args: Any) -> noise.PatchNoise:
        torch.manual_seed(42)
        return right(*args)

    return wrong


def _dropped(right: Callable[..., noise.PatchNoise]) -> Callable[..., noise.PatchNoise]:
    def wrong(*args: Any) -> noise.PatchNoise:
        found = right(*args)
        return found._replace(kept=(torch.arange(len(found.kept)) % 10 > 0).float())

    return wrong


@pytest.mark.parametrize(
    ("defect", "said"),
    [(_new_noise, "draws new noise"), (_reset, "moves the training's"), (_dropped, "drops")],
)
def test_a_defect_of_upstreams_validation_is_seen(
    tiny: Any, defect: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(noise, "fixed", defect(noise.fixed))
    with pytest.raises(AssertionError, match=said):
        check_validation(tiny)


def test_times_are_stratified_within_a_clip_and_as_the_package_draws_them():
    (time, _, kept) = noise.fixed(["clip"], [1000], (4, 8))
    normal = torch.logit(time.double()) + 0.4
    ranks = torch.special.ndtr(normal).mul(1000).floor()
    assert ranks.sort().values.tolist() == list(range(1000))
    assert not torch.equal(ranks, ranks.sort().values)
    assert kept.all()
    trained = noise.drawn(20_000, (1, 1), 0.1, torch.Generator().manual_seed(0))
    normal = torch.logit(trained.time.double())
    assert normal.mean().item() == pytest.approx(-0.4, abs=0.03)
    assert normal.std().item() == pytest.approx(1.0, abs=0.03)
    assert trained.kept.mean().item() == pytest.approx(0.9, abs=0.01)


def check_first_step(learning_rate: Callable[[TrainingSpec, int, int], float]) -> None:
    """The first step of a warm-up moves the weights, and the last one of a cosine does too."""
    spec = TrainingSpec(learning_rate=1e-4, warmup_steps=200, schedule="cosine")
    assert learning_rate(spec, 0, 10_000) == pytest.approx(1e-4 / 200)
    assert learning_rate(spec, 199, 10_000) == pytest.approx(1e-4)
    assert 0 < learning_rate(spec, 9_999, 10_000) < 1e-10


def test_no_step_is_taken_at_a_rate_of_zero():
    check_first_step(slot.learning_rate)


def test_the_defect_of_a_first_step_at_a_rate_of_zero_is_seen():
    def upstreams(spec: TrainingSpec, step: int, steps: int) -> float:
        return slot.learning_rate(spec, step - 1, steps) if step else 0.0

    with pytest.raises(AssertionError):
        check_first_step(upstreams)
