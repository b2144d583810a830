"""A host trains one trial after another, and none of them sees the others."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.families.codec_lm import CodecLM
from jobs.spec import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.host import DivergedError, Host
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

PROMPTS = [PromptSpec(id="p", text="one two"), PromptSpec(id="q", text="three")]
LINEAR = torch.nn.functional.linear
"""As it is before DeepSpeed replaces it."""
WIDE = 256
"""From 100,000 weights on, ZeRO stage 3 cuts a layer."""


def trained(host: Host, trial: TrialSpec, epochs: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and adapter of a fresh training, after which the slot is empty."""
    host.attach(trial)
    losses: list[float] = []
    for _ in range(epochs):
        epoch = host.advance()
        losses += [*epoch.step_losses, epoch.validation_loss]
    named = host.base.model.named_parameters()
    weights = {name: p.detach().clone() for name, p in named if "lora_" in name}
    host.detach()
    return losses, weights


def assert_same_bits(
    one: tuple[list[float], dict[str, Tensor]], other: tuple[list[float], dict[str, Tensor]]
) -> None:
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert len(one[1]) > 0
    assert [name for name in one[1] if not torch.equal(one[1][name], other[1][name])] == []


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("after", [0, 3])
def test_a_trial_does_not_see_the_one_before_it(before: int, after: int):
    trial = toy_trial(zero_stage=after, seed=2)
    used = Host(toy_base(hidden=WIDE, layers=1), toy_clips())
    trained(used, toy_trial(zero_stage=before, rank=8, learning_rate=1e-2, seed=1), epochs=1)
    fresh = Host(toy_base(hidden=WIDE, layers=1), toy_clips())
    assert_same_bits(trained(used, trial), trained(fresh, trial))


def advanced(host: Host) -> None:
    host.advance()


def only_attached(host: Host) -> None:
    pass


@pytest.mark.parametrize("use", [advanced, only_attached])
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_detached_the_base_is_whole_again(zero_stage: int, use: Callable[[Host], None]):
    base = toy_base(hidden=WIDE, layers=1)
    weights = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    said = base.generate(base.model, PROMPTS, DecodingSpec())
    attributes = {name: set(vars(module)) for name, module in base.model.named_modules()}
    host = Host(base, toy_clips())
    host.attach(toy_trial(zero_stage=zero_stage))
    use(host)
    host.detach()
    after = dict(base.model.named_parameters())
    assert after.keys() == weights.keys()
    assert [name for name in weights if not torch.equal(after[name], weights[name])] == []
    assert not any(p.requires_grad for p in after.values())
    assert base.generate(base.model, PROMPTS, DecodingSpec()) == said
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
    # What ZeRO stage 3 hangs on modules would be called by the next engine, too.
    left = {name: set(vars(module)) for name, module in base.model.named_modules()}
    assert left == attributes
    assert torch.nn.functional.linear is LINEAR


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_a_slot_can_go_on_training_after_it_spoke(zero_stage: int):
    trial = toy_trial(zero_stage=zero_stage)
    spoken = Host(toy_base(hidden=WIDE, layers=1), toy_clips())
    spoken.attach(trial)
    first = spoken.advance()
    spoken.speak(PROMPTS, DecodingSpec(), lora_scale=0.5)
    second = spoken.advance()
    silent = trained(Host(toy_base(hidden=WIDE, layers=1), toy_clips()), trial)[0]
    assert silent == [
        *first.step_losses,
        first.validation_loss,
        *second.step_losses,
        second.validation_loss,
    ]


def advance_often(host: Host) -> None:
    for _ in range(8):
        host.advance()


def test_divergence_ends_the_trial_and_not_its_host():
    host = Host(toy_base(), toy_clips())
    host.attach(toy_trial(learning_rate=1e30, clip=None, epochs=8))
    with pytest.raises(DivergedError, match="the loss must be finite"):
        advance_often(host)
    trial = toy_trial(seed=3)
    assert_same_bits(trained(host, trial), trained(Host(toy_base(), toy_clips()), trial))


def test_a_diverged_partitioned_trial_leaves_the_base_whole():
    base = toy_base(hidden=WIDE, layers=1)
    said = base.generate(base.model, PROMPTS, DecodingSpec())
    host = Host(base, toy_clips())
    host.attach(toy_trial(zero_stage=3, learning_rate=1e30, clip=None, epochs=8))
    with pytest.raises(DivergedError):
        advance_often(host)
    host.detach()
    assert base.generate(base.model, PROMPTS, DecodingSpec()) == said


@pytest.mark.parametrize(("batch_size", "seed"), [(1, 0), (2, 0), (5, 0), (2, 1)])
def test_validation_does_not_depend_on_the_training_batches(batch_size: int, seed: int):
    # A rate too small to move a float32 weight: only the batches differ.
    host = Host(toy_base(), toy_clips())
    host.attach(toy_trial(learning_rate=1e-30, batch_size=batch_size, seed=seed, dropout=0.5))
    reference = Host(toy_base(), toy_clips())
    reference.attach(toy_trial(learning_rate=1e-30, batch_size=4, seed=9, dropout=0.5))
    assert host.advance().validation_loss == reference.advance().validation_loss


def test_validation_is_the_mean_over_targets_without_dropout():
    base = toy_base()
    host = Host(base, toy_clips())
    host.attach(toy_trial(dropout=0.5))
    losses = host.advance()
    examples = base.examples([clip for clip in toy_clips() if clip.split == "validation"])
    with torch.inference_mode():
        total = base.loss_sum(base.model, base.collate(examples)).item()
    assert losses.validation_loss == pytest.approx(total / base.targets(examples), rel=1e-6)
    assert losses.validation_loss != pytest.approx(losses.training_loss, rel=1e-3)


def test_accumulated_micro_batches_are_one_batch():
    # Seven clips: every epoch ends in a step of three, and clips differ in length.
    whole = trained(Host(toy_base(), toy_clips()), toy_trial(dropout=0.0, batch_size=4))
    halves = toy_trial(dropout=0.0, batch_size=2, accumulation=2)
    cut = trained(Host(toy_base(), toy_clips()), halves)
    assert len(whole[0]) == 2 * (2 + 1)
    assert cut[0] == pytest.approx(whole[0], rel=1e-6)
    for name, weight in whole[1].items():
        torch.testing.assert_close(cut[1][name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_the_training_loss_is_the_mean_over_targets():
    host = Host(toy_base(), toy_clips())
    host.attach(toy_trial(learning_rate=1e-30, dropout=0.0, batch_size=3))
    losses = host.advance()
    base = toy_base()
    examples = base.examples([clip for clip in toy_clips() if clip.split == "train"])
    with torch.inference_mode():
        total = base.loss_sum(base.model, base.collate(examples)).item()
    assert losses.training_loss == pytest.approx(total / base.targets(examples), rel=1e-6)
    assert len(losses.step_losses) == len(losses.learning_rates) == math.ceil(len(examples) / 3)


def test_an_empty_slot_speaks_as_the_base():
    base: CodecLM = toy_base()
    host = Host(base, toy_clips())
    clips = host.speak(PROMPTS, DecodingSpec(), lora_scale=1.0)
    expected = base.speak(base.model, PROMPTS, DecodingSpec())
    assert [clip.audio.tolist() for clip in clips] == [clip.audio.tolist() for clip in expected]


def test_a_slot_from_a_checkpoint_speaks_as_the_one_that_was_saved(tmp_path: Path):
    """Without dropout, that is: its clips are what a resumed sweep judges."""
    host, trial = Host(toy_base(), toy_clips()), toy_trial(dropout=0.5)
    host.attach(trial)
    host.save(tmp_path, host.advance())
    before = host.speak(PROMPTS, DecodingSpec(), lora_scale=1.0)
    host.attach(trial, tmp_path)
    after = host.speak(PROMPTS, DecodingSpec(), lora_scale=1.0)
    assert [clip.audio.tolist() for clip in after] == [clip.audio.tolist() for clip in before]


def test_an_empty_slot_cannot_train(tmp_path: Path):
    host = Host(toy_base(), toy_clips())
    with pytest.raises(RuntimeError, match="a trial must be attached"):
        host.advance()


def test_a_bf16_base_gets_an_fp32_adapter():
    base = toy_base()
    base.model.to(torch.bfloat16)
    losses, weights = trained(Host(base, toy_clips()), toy_trial(precision="bf16"))
    assert all(map(math.isfinite, losses))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
