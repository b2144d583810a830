"""A host trains one trial after another, or several at once, and none of them sees the others."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from cluster.storage.base import LocalStorage
from cluster.storage.committed import DamagedError
from jobs.clips import SpokenClip
from jobs.families import items as item_module
from jobs.families.codec_lm import CodecLM
from jobs.spec.trial import DecodingSpec, EngineSpec, Precision, PromptSpec, TrialSpec
from jobs.training.epochs import DivergedError, SlotGoneError
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.row_products import rows_are_independent
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

PROMPTS = [PromptSpec(id="p", text="one two"), PromptSpec(id="q", text="three")]
LINEAR = torch.nn.functional.linear
"""As it is before DeepSpeed replaces it."""
WIDE = 256
"""From 100,000 weights on, ZeRO stage 3 cuts a layer."""
STAGES = (0, 1, 2, 3)


def new_host(precision: Precision = "fp32", storage: LocalStorage | None = None) -> Host:
    return Host(toy_base(), toy_clips(), EngineSpec(precision=precision), storage)


def wide_host(zero_stage: int, storage: LocalStorage | None = None) -> Host:
    base = toy_base(hidden=WIDE, layers=1)
    return Host(base, toy_clips(), EngineSpec(zero_stage=zero_stage), storage)


def trained(host: Host, trial: TrialSpec, epochs: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and adapter of a fresh training, after which the slot is empty."""
    host.attach("trained", trial)
    losses: list[float] = []
    for _ in range(epochs):
        epoch = host.advance("trained")
        losses += [*epoch.step_losses, epoch.validation_loss]
    weights = host.weights("trained")
    host.detach("trained")
    return losses, weights


def assert_same_bits(
    one: tuple[list[float], dict[str, Tensor]], other: tuple[list[float], dict[str, Tensor]]
) -> None:
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert len(one[1]) > 0
    assert [name for name in one[1] if not torch.equal(one[1][name], other[1][name])] == []


def samples(clips: list[SpokenClip]) -> list[list[float]]:
    return [clip.audio.tolist() for clip in clips]


@pytest.mark.parametrize("zero_stage", STAGES)
def test_a_trial_does_not_see_the_one_before_it(zero_stage: int):
    used = wide_host(zero_stage)
    before = toy_trial(zero_stage=zero_stage, rank=8, learning_rate=1e-2, seed=1)
    trained(used, before, epochs=1)
    trial = toy_trial(zero_stage=zero_stage, seed=2)
    assert_same_bits(trained(used, trial), trained(wide_host(zero_stage), trial))


@pytest.mark.full
@pytest.mark.parametrize("before", STAGES)
@pytest.mark.parametrize("after", [0, 3])
def test_a_base_does_not_show_which_engine_it_had(before: int, after: int):
    base = toy_base(hidden=WIDE, layers=1)
    first = toy_trial(zero_stage=before, rank=8, learning_rate=1e-2, seed=1)
    trained(Host(base, toy_clips(), first.engine), first, epochs=1)
    trial = toy_trial(zero_stage=after, seed=2)
    again = Host(base, toy_clips(), trial.engine)
    assert_same_bits(trained(again, trial), trained(wide_host(after), trial))


def advanced(host: Host) -> None:
    host.advance("slot")


def only_attached(host: Host) -> None:
    pass


def hooks(base: CodecLM) -> list[object]:
    """All that runs beside the modules' own forward passes."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = base.model.modules()
    return [hook for module in modules for kind in kinds for hook in vars(module)[kind].values()]


@pytest.mark.parametrize("use", [advanced, only_attached])
@pytest.mark.parametrize("zero_stage", STAGES)
def test_detached_the_base_is_whole_again(zero_stage: int, use: Callable[[Host], None]):
    base = toy_base(hidden=WIDE, layers=1)
    weights = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    said = base.generate(base.model, PROMPTS, DecodingSpec())
    attributes = {name: set(vars(module)) for name, module in base.model.named_modules()}
    host = Host(base, toy_clips(), EngineSpec(zero_stage=zero_stage))
    host.attach("slot", toy_trial(zero_stage=zero_stage))
    use(host)
    host.detach("slot")
    after = dict(base.model.named_parameters())
    # What DeepSpeed wants of a model without slots; it has no part in any product.
    assert (after.pop("engine_anchor", None) is not None) == (zero_stage == 0)
    assert after.keys() == weights.keys()
    assert [name for name in weights if not torch.equal(after[name], weights[name])] == []
    assert not any(p.requires_grad for p in after.values())
    assert base.generate(base.model, PROMPTS, DecodingSpec()) == said
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
    # What ZeRO stage 3 hangs on modules would be called by the next engine, too.
    left = {name: set(vars(module)) for name, module in base.model.named_modules()}
    assert left == attributes
    assert zero_stage == 0 or hooks(base) == []
    assert torch.nn.functional.linear is LINEAR


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_a_slot_can_go_on_training_after_it_spoke(zero_stage: int):
    trial = toy_trial(zero_stage=zero_stage)
    spoken = wide_host(zero_stage)
    spoken.attach("slot", trial)
    first = spoken.advance("slot")
    spoken.speak([AdapterUse("slot", 0.5)], PROMPTS, DecodingSpec())
    second = spoken.advance("slot")
    silent = trained(wide_host(zero_stage), trial)[0]
    assert silent == [
        *first.step_losses,
        first.validation_loss,
        *second.step_losses,
        second.validation_loss,
    ]


@pytest.mark.parametrize("zero_stage", STAGES[1:])
def test_a_partitioned_adapter_speaks_as_it_does_whole(zero_stage: int, tmp_path: Path):
    """Of a rank at which ZeRO stage 3 cuts the adapter, too."""
    host = wide_host(zero_stage)
    host.attach("slot", toy_trial(zero_stage=zero_stage, rank=200))
    losses = host.advance("slot")
    storage = LocalStorage(tmp_path)
    with storage.commit("adapter") as directory:
        host.snapshot("slot").write(directory, losses)
    (said,) = host.speak([AdapterUse("slot", 0.8)], PROMPTS, DecodingSpec())
    whole = wide_host(0, storage)
    whole.attach("slot", toy_trial(rank=200), "adapter")
    (expected,) = whole.speak([AdapterUse("slot", 0.8)], PROMPTS, DecodingSpec())
    (silent,) = whole.speak([AdapterUse(None)], PROMPTS, DecodingSpec())
    assert samples(said) == samples(expected) != samples(silent)


def advance_often(host: Host) -> None:
    for _ in range(8):
        host.advance("slot")


def test_divergence_ends_the_trial_and_not_its_host():
    host = new_host()
    host.attach("slot", toy_trial(learning_rate=1e30, clip=None, epochs=8))
    with pytest.raises(DivergedError, match="the loss must be finite"):
        advance_often(host)
    trial = toy_trial(seed=3)
    fresh = trained(new_host(), trial)
    assert_same_bits(trained(host, trial), fresh)  # beside it
    host.detach("slot")
    assert_same_bits(trained(host, trial), fresh)


def test_a_diverged_partitioned_trial_leaves_the_base_whole():
    base = toy_base(hidden=WIDE, layers=1)
    said = base.generate(base.model, PROMPTS, DecodingSpec())
    host = Host(base, toy_clips(), EngineSpec(zero_stage=3))
    host.attach("slot", toy_trial(zero_stage=3, learning_rate=1e30, clip=None, epochs=8))
    with pytest.raises(DivergedError):
        advance_often(host)
    host.detach("slot")
    assert base.generate(base.model, PROMPTS, DecodingSpec()) == said


@pytest.mark.parametrize(("batch_size", "seed"), [(1, 0), (2, 0), (5, 0), (2, 1)])
def test_validation_does_not_depend_on_the_training_batches(batch_size: int, seed: int):
    # A rate too small to move a float32 weight: only the batches differ.
    host = new_host()
    trial = toy_trial(learning_rate=1e-30, batch_size=batch_size, seed=seed, dropout=0.5)
    host.attach("slot", trial)
    reference = new_host()
    reference.attach("slot", toy_trial(learning_rate=1e-30, batch_size=4, seed=9, dropout=0.5))
    assert host.advance("slot").validation_loss == reference.advance("slot").validation_loss


@pytest.mark.parametrize("tokens", [1, 60])
def test_validation_in_passes_of_several_clips_is_that_of_one_at_a_time(
    tokens: int, monkeypatch: pytest.MonkeyPatch
):
    """To the last bit where torch's products of some rows do not depend on those beside them."""
    spoken_by = ("ann", "bob", "bob")
    clips = [
        replace(clip, speaker=spoken_by[at % 3])
        for at, clip in enumerate(toy_clips(count=20, validation=14))
    ]
    hosts = [Host(toy_base(hidden=64), clips, EngineSpec()) for _ in range(2)]
    for each in hosts:
        each.attach("slot", toy_trial(rank=16, learning_rate=2e-2))
    together = hosts[0].advance("slot")
    monkeypatch.setattr(item_module, "_PASS_TOKENS", tokens)
    fewer = hosts[1].advance("slot")
    assert together.step_losses == fewer.step_losses
    assert together.group_losses.keys() == {"speaker/ann", "speaker/bob"}
    exact = rows_are_independent()
    assert fewer.validation_loss == (
        together.validation_loss if exact else pytest.approx(together.validation_loss, rel=1e-6)
    )
    assert fewer.group_losses == (
        together.group_losses if exact else pytest.approx(together.group_losses, rel=1e-6)
    )


def test_a_pass_of_validation_takes_as_many_tokens_as_it_may(monkeypatch: pytest.MonkeyPatch):
    host = Host(toy_base(), toy_clips(count=16, validation=12), EngineSpec())
    host.attach("slot", toy_trial())
    while not host.epoch_is_over("slot"):
        host.step(["slot"])
    passes: list[list[int]] = []
    loss_sums = host.base.loss_sums

    def noted(model: object, batches: list[dict[str, torch.Tensor]], share: object) -> object:
        assert all(len(batch["input_ids"]) == 1 for batch in batches)
        passes.append([batch["input_ids"].numel() for batch in batches])
        return loss_sums(model, batches, share)

    monkeypatch.setattr(host.base, "loss_sums", noted)
    monkeypatch.setattr(item_module, "_PASS_TOKENS", 60)
    host.end_epoch("slot")
    assert sum(map(len, passes)) == 12
    assert max(map(sum, passes)) <= 60
    for one, after in pairwise(passes):
        assert sum(one) + after[0] > 60


def mean_loss(base: CodecLM, split: str) -> float:
    """Nats per target of all clips of a split, in one batch."""
    examples = base.examples([clip for clip in toy_clips() if clip.split == split])
    with torch.inference_mode():
        (total,) = base.loss_sums(base.model, [base.collate(examples)])
    return total.item() / base.targets(examples)


def test_validation_is_the_mean_over_targets_without_dropout(tmp_path: Path):
    host = new_host()
    host.attach("slot", toy_trial(dropout=0.5, learning_rate=2e-2))
    losses = host.advance("slot")
    host.snapshot("slot").write(tmp_path, losses)
    base = toy_base()
    untrained = mean_loss(base, "validation")
    PeftModel.from_pretrained(base.model, str(tmp_path))  # puts the adapter into base.model
    assert losses.validation_loss == pytest.approx(mean_loss(base, "validation"), rel=1e-6)
    assert losses.validation_loss != pytest.approx(untrained, rel=1e-3)
    assert losses.validation_loss != pytest.approx(losses.training_loss, rel=1e-3)


def test_accumulated_micro_batches_are_one_batch():
    # Seven clips: every epoch ends in a step of three, and clips differ in length.
    whole = trained(new_host(), toy_trial(dropout=0.0, batch_size=4))
    cut = trained(new_host(), toy_trial(dropout=0.0, batch_size=2, accumulation=2))
    assert len(whole[0]) == 2 * (2 + 1)
    assert cut[0] == pytest.approx(whole[0], rel=1e-6)
    for name, weight in whole[1].items():
        torch.testing.assert_close(cut[1][name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_the_training_loss_is_the_mean_over_targets():
    host = new_host()
    host.attach("slot", toy_trial(learning_rate=1e-30, dropout=0.0, batch_size=3))
    losses = host.advance("slot")
    assert losses.training_loss == pytest.approx(mean_loss(toy_base(), "train"), rel=1e-6)
    assert len(losses.step_losses) == len(losses.learning_rates) == math.ceil(7 / 3)


def test_a_host_without_slots_speaks_as_the_base():
    base = toy_base()
    expected = samples(base.speak(base.model, PROMPTS, DecodingSpec()))
    (clips,) = Host(base, toy_clips(), EngineSpec()).speak(
        [AdapterUse(None)], PROMPTS, DecodingSpec()
    )
    assert samples(clips) == expected


def test_a_slot_from_a_checkpoint_speaks_as_the_one_that_was_saved(tmp_path: Path):
    """Without dropout, that is: its clips are what a resumed sweep judges."""
    storage, trial = LocalStorage(tmp_path), toy_trial(dropout=0.5)
    host = new_host(storage=storage)
    host.attach("slot", trial)
    losses = host.advance("slot")
    with storage.commit("adapter") as directory:
        host.snapshot("slot").write(directory, losses)
    (before,) = host.speak([AdapterUse("slot")], PROMPTS, DecodingSpec())
    host.detach("slot")
    host.attach("again", trial, "adapter")
    (after,) = host.speak([AdapterUse("again")], PROMPTS, DecodingSpec())
    (silent,) = host.speak([AdapterUse(None)], PROMPTS, DecodingSpec())
    assert samples(after) == samples(before) != samples(silent)


def test_a_snapshot_does_not_move_with_its_slot(tmp_path: Path):
    host = new_host()
    host.attach("slot", toy_trial())
    host.advance("slot")
    snapshot = host.snapshot("slot")
    kept = {**snapshot.adapter.weights, **snapshot.moments}
    copies = {name: tensor.clone() for name, tensor in kept.items()}
    host.advance("slot")
    assert [name for name in kept if not torch.equal(kept[name], copies[name])] == []
    moved = host.snapshot("slot")
    assert not any(torch.equal(moved.moments[name], copies[name]) for name in moved.moments)


USES: dict[str, Callable[[Host], object]] = {
    "step": lambda host: host.step(["here", "gone"]),
    "epoch_is_over": lambda host: host.epoch_is_over("gone"),
    "end_epoch": lambda host: host.end_epoch("gone"),
    "weights": lambda host: host.weights("gone"),
    "snapshot": lambda host: host.snapshot("gone"),
    "speak": lambda host: host.speak(
        [AdapterUse("here"), AdapterUse("gone")], PROMPTS, DecodingSpec()
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_slot_that_is_gone_is_named_and_nobody_moves(use: str):
    host = new_host()
    host.attach("here", toy_trial())
    host.attach("gone", toy_trial(seed=1))
    host.detach("gone")
    before = host.weights("here")
    with pytest.raises(SlotGoneError, match=r"slot gone is not there, only \['here'\]"):
        USES[use](host)
    after = host.weights("here")
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


def test_a_slot_is_detached_twice_without_complaint():
    host = new_host()
    host.attach("slot", toy_trial())
    host.detach("slot")
    host.detach("slot")


@pytest.mark.parametrize("zero_stage", STAGES[1:])
def test_a_partitioned_host_holds_one_slot_and_says_so(zero_stage: int):
    host, trial = wide_host(zero_stage), toy_trial(zero_stage=zero_stage)
    host.attach("first", trial)
    with pytest.raises(RuntimeError, match=f"ZeRO stage {zero_stage} .* first is there: detach it"):
        host.attach("second", toy_trial(zero_stage=zero_stage, seed=1))
    host.advance("first")
    host.detach("first")
    assert_same_bits(trained(host, trial), trained(wide_host(zero_stage), trial))


def bad_targets(directory: Path) -> tuple[TrialSpec, str | None]:
    return toy_trial(targets=("no_such_proj",)), None


def other_shape(directory: Path) -> tuple[TrialSpec, str | None]:
    """A checkpoint of another rank."""
    return toy_trial(rank=8), directory.name


def no_moments(directory: Path) -> tuple[TrialSpec, str | None]:
    (directory / "optimizer.safetensors").unlink()
    return toy_trial(), directory.name


def no_checkpoint(directory: Path) -> tuple[TrialSpec, str | None]:
    return toy_trial(), "never-committed"


def name_in_use(directory: Path) -> tuple[TrialSpec, str | None]:
    return toy_trial(), None


@pytest.mark.parametrize(
    "fault", [bad_targets, other_shape, no_moments, no_checkpoint, name_in_use]
)
def test_what_cannot_be_attached_leaves_no_trace(
    fault: Callable[[Path], tuple[TrialSpec, str | None]], tmp_path: Path
):
    trial, storage = toy_trial(seed=1), LocalStorage(tmp_path)
    host, undisturbed = new_host(storage=storage), new_host()
    for each in (host, undisturbed):
        each.attach("there", trial)
        each.advance("there")
    with storage.commit("adapter") as directory:
        host.snapshot("there").write(directory, undisturbed.advance("there"))
    host.advance("there")
    names = [name for name, _ in host.base.model.named_parameters()]
    slot = "there" if fault is name_in_use else "new"
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError, DamagedError)):
        host.attach(slot, *fault(tmp_path / "adapter"))
    assert [name for name, _ in host.base.model.named_parameters()] == names
    assert host.advance("there").step_losses == undisturbed.advance("there").step_losses
    after, expected = host.weights("there"), undisturbed.weights("there")
    assert [name for name in expected if not torch.equal(after[name], expected[name])] == []
    other = toy_trial(seed=2)
    assert_same_bits(trained(host, other), trained(new_host(), other))


def test_a_bf16_base_gets_an_fp32_adapter():
    host = new_host("bf16")
    host.base.model.to(torch.bfloat16)
    losses, weights = trained(host, toy_trial(precision="bf16"))
    assert all(map(math.isfinite, losses))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {p.dtype for p in host.base.model.parameters()} == {torch.bfloat16}
