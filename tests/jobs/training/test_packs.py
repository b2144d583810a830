"""A trial in a pack equals the trial alone, and both equal PEFT with torch's AdamW."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn

from cluster.storage.base import LocalStorage
from jobs.clips import PreparedClip
from jobs.data.order.batches import BatchPlan
from jobs.families.base import FrozenBase
from jobs.families.codec_lm import CodecLM
from jobs.families.registry import load_base
from jobs.spec.data import MixSpec
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrialSpec
from jobs.training import adapter
from jobs.training.epochs import EpochLosses
from jobs.training.host import Host
from jobs.training.packed import Part, add_adapters
from jobs.training.packing import AdapterUse
from jobs.training.slot import learning_rate, stream_seed
from tests.embedded_voice import EMBEDDED_HOST
from tests.row_products import rows_are_independent
from tests.toy import toy_base, toy_clips, toy_clips_behind_a_reference, toy_trial
from tests.trained_voice import few_clips

pytestmark = pytest.mark.usefixtures("process_group")

STEPS = 20
Weights = Mapping[str, Tensor]


def five(dropout: float) -> dict[str, TrialSpec]:
    """Everything that a pack must keep apart differs."""
    training = [
        {"rank": 8, "learning_rate": 5e-3, "batch_size": 2, "clip": 1.0},
        {"rank": 16, "learning_rate": 2e-3, "batch_size": 1, "clip": 0.1, "accumulation": 2},
        {"rank": 32, "learning_rate": 1e-3, "batch_size": 3, "clip": None, "accumulation": 3},
        {"rank": 64, "learning_rate": 3e-3, "batch_size": 4, "clip": 0.5, "schedule": "cosine"},
        {"rank": 128, "learning_rate": 5e-4, "batch_size": 2, "weight_decay": 0.1, "alpha": 32.0},
    ]
    return {
        f"r{each['rank']}": toy_trial(**each, dropout=dropout, seed=seed, epochs=40, warmup_steps=3)
        for seed, each in enumerate(training)
    }


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    """Of one to three words, so that every batch is ragged."""
    return toy_clips(count=26, validation=2)


def new_host(clips: list[PreparedClip], storage: LocalStorage | None = None) -> Host:
    return Host(toy_base(hidden=64), clips, EngineSpec(), storage)


def train(host: Host, slots: list[str]) -> None:
    """One pass; whoever ends an epoch with it begins the next."""
    assert host.step(slots) == {}
    for slot in slots:
        if host.epoch_is_over(slot):
            host.end_epoch(slot)


def alone(trial: TrialSpec, clips: list[PreparedClip], passes: int) -> Weights:
    host = new_host(clips)
    host.attach("alone", trial)
    for _ in range(passes):
        train(host, ["alone"])
    return host.weights("alone")


def difference(one: Weights, other: Weights, tensors: int = 28) -> float:
    assert one.keys() == other.keys()
    assert len(one) == tensors
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_clips_behind_a_reference_are_packed_as_they_are_alone():
    trials = {"two": toy_trial(batch_size=2), "one": toy_trial(rank=2, batch_size=1, seed=1)}

    def weights(names: list[str]) -> dict[str, Weights]:
        host = Host(
            toy_base(hidden=64, reference_prefix=True),
            toy_clips_behind_a_reference(),
            EngineSpec(),
        )
        for name in names:
            host.attach(name, trials[name])
        train(host, names)
        train(host, names)
        return {name: host.weights(name) for name in names}

    together = weights([*trials])
    for name in trials:
        apart = difference(together[name], weights([name])[name])
        assert apart <= (0.0 if rows_are_independent() else 1e-5)


def plain(
    trial: TrialSpec, clips: list[PreparedClip], passes: int, base: CodecLM | None = None
) -> Weights:
    """PEFT with its LoRA+, torch's AdamW, Hugging Face's attention; nothing of the host's.

    ``base`` is the toy's by default, and becomes PEFT's.
    """
    spec, base = trial.training, base or toy_base(hidden=64)
    base.model.set_attn_implementation("sdpa")
    examples = [e for e, c in zip(base.examples(clips), clips, strict=True) if c.split == "train"]
    torch.manual_seed(stream_seed(spec.seed, "adapter"))
    model = get_peft_model(
        base.model,
        LoraConfig(
            r=spec.rank,
            lora_alpha=spec.scaling_alpha,
            use_rslora=spec.rslora,
            lora_dropout=spec.dropout,
            target_modules=list(spec.targets),
            layers_to_transform=spec.layers_to_transform and list(spec.layers_to_transform),
        ),
    ).train()
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimiser = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=1.0,
        loraplus_lr_ratio=spec.loraplus_lr_ratio,
        loraplus_weight_decay=spec.weight_decay,
        betas=spec.betas,
        fused=True,
    )
    ratios = [group["lr"] for group in optimiser.param_groups]
    plan = BatchPlan(len(examples), spec.batch_size, spec.accumulation, spec.seed)
    for step, position, micro_batches in passes_of(plan, passes):
        if position == 0:
            torch.manual_seed(stream_seed(spec.seed, f"step {step}, rank 0"))
        batch = base.collate([examples[i] for i in micro_batches[position]])
        logits = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits
        loss = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
        )
        targets = base.targets([examples[i] for each in micro_batches for i in each])
        (loss / targets).backward()
        if position < len(micro_batches) - 1:
            continue
        if spec.clip:
            nn.utils.clip_grad_norm_(parameters.values(), spec.clip)
        for group, ratio in zip(optimiser.param_groups, ratios, strict=True):
            group["lr"] = ratio * learning_rate(spec, step, plan.steps(spec.epochs))
        optimiser.step()
        optimiser.zero_grad()
    return {n.replace(".default.", "."): p.detach().clone() for n, p in parameters.items()}


def passes_of(
    plan: BatchPlan, passes: int
) -> Iterator[tuple[int, int, tuple[tuple[int, ...], ...]]]:
    """The first ``passes`` of a training: optimiser step, micro-batch in it, all of the step's."""
    step = 0
    for epoch in range(1, passes + 1):
        for micro_batches in plan.epoch(epoch):
            for position in range(len(micro_batches)):
                if passes == 0:
                    return
                passes -= 1
                yield step, position, micro_batches
            step += 1


ROUNDING = 1e-3
"""What rounding may come to in ``STEPS`` steps where they do: docs/hosts.md has 1.3e-5 in 6."""


@pytest.fixture(scope="module")
def tolerance() -> float:
    """0 where torch's matrix products of some rows do not depend on the rows beside them."""
    return 0.0 if rows_are_independent() else ROUNDING


@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.full), 0.1])
def test_a_pack_of_five_equals_each_alone_and_plain_peft(clips, tolerance, dropout):
    host = new_host(clips)
    for name, trial in five(dropout).items():
        host.attach(name, trial)
    for _ in range(STEPS):
        train(host, list(five(dropout)))
    for name, trial in five(dropout).items():
        together = host.weights(name)
        assert max(tensor.abs().max().item() for key, tensor in together.items() if "_B" in key) > 0
        assert difference(together, alone(trial, clips, STEPS)) <= tolerance
        assert difference(together, plain(trial, clips, STEPS)) <= tolerance


def kinds() -> dict[str, tuple[TrialSpec, int]]:
    """What else PEFT offers, each with how many tensors it trains."""
    shared = {"learning_rate": 2e-3, "batch_size": 2, "dropout": 0.1, "epochs": 40}
    some = {"targets": ("down_proj", "q_proj", "v_proj"), "layers_to_transform": (1,)}
    return {
        "rslora": (toy_trial(**shared, rank=16, alpha=12.0, rslora=True, seed=1), 28),
        "blocks": (toy_trial(**shared, **some, rank=8, seed=2), 6),
        "loraplus": (
            toy_trial(**shared, loraplus_lr_ratio=8.0, weight_decay=0.1, clip=0.3, seed=3),
            28,
        ),
        "all": (
            toy_trial(
                **shared,
                **some,
                rank=32,
                rslora=True,
                loraplus_lr_ratio=4.0,
                accumulation=2,
                seed=4,
            ),
            6,
        ),
    }


def test_rslora_blocks_and_loraplus_are_those_of_peft_in_a_pack_and_alone(clips, tolerance):
    host = new_host(clips)
    for name, (trial, _) in kinds().items():
        host.attach(name, trial)
    for _ in range(STEPS):
        train(host, list(kinds()))
    for name, (trial, tensors) in kinds().items():
        together = host.weights(name)
        assert max(tensor.abs().max().item() for key, tensor in together.items() if "_B" in key) > 0
        assert difference(together, alone(trial, clips, STEPS), tensors) <= tolerance
        assert difference(together, plain(trial, clips, STEPS), tensors) <= tolerance


def test_a_pack_that_scales_by_three_is_none_of_these(clips, tolerance, monkeypatch):
    """The tolerance is far below what an error in the code comes to."""

    def wrong(result: Tensor, x: Tensor, parts: list[Part], weights: list[Any]) -> Tensor:
        scales = 3.0 if len(parts) > 1 else 1.0
        return add_adapters(
            result, x, [each._replace(scale=each.scale * scales) for each in parts], weights
        )

    monkeypatch.setattr(adapter, "add_adapters", wrong)
    trials = five(dropout=0.0)
    weights = packed(new_host(clips), trials, STEPS)
    for name in ("r8", "r64"):
        assert difference(weights[name], alone(trials[name], clips, STEPS)) > 5 * ROUNDING
        assert difference(weights[name], plain(trials[name], clips, STEPS)) > 5 * ROUNDING
    assert tolerance <= ROUNDING


def packed(host: Host, trials: Mapping[str, TrialSpec], passes: int) -> dict[str, Weights]:
    """What the trials train together in so many passes; the host is left empty."""
    for name, trial in trials.items():
        host.attach(name, trial)
    for _ in range(passes):
        train(host, list(trials))
    weights = {name: host.weights(name) for name in trials}
    for name in trials:
        host.detach(name)
    return weights


def test_packs_of_the_shipped_base_equal_each_alone_and_plain_peft_to_the_last_bit(
    embedded_base: FrozenBase,
):
    """On the CPUs that docs/hosts.md names, whatever a host's own check finds."""
    clips, trials = few_clips(embedded_base), five(dropout=0.1)
    host = Host(embedded_base, clips, EngineSpec())
    for name, together in packed(host, trials, 4).items():
        by_itself = packed(host, {name: trials[name]}, 4)[name]
        by_peft = plain(trials[name], clips, 4, cast(CodecLM, load_base(EMBEDDED_HOST)))
        assert max(tensor.abs().max().item() for key, tensor in together.items() if "_B" in key) > 0
        assert difference(together, by_itself, tensors=56) == 0.0
        assert difference(together, by_peft, tensors=56) == 0.0


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_packs_on_another_architecture_equal_each_alone_and_plain_peft(
    clips, tolerance, architecture
):
    def base() -> CodecLM:
        return toy_base(hidden=64, layers=1, architecture=architecture, tied=False)

    trials = {name: trial for name, trial in five(dropout=0.1).items() if name in ("r8", "r128")}
    host = Host(base(), clips, EngineSpec())
    for name, together in packed(host, trials, 4).items():
        by_itself = packed(host, {name: trials[name]}, 4)[name]
        assert max(tensor.abs().max().item() for key, tensor in together.items() if "_B" in key) > 0
        assert difference(together, by_itself, tensors=14) <= tolerance
        assert difference(together, plain(trials[name], clips, 4, base()), tensors=14) <= tolerance


def test_packs_on_a_layer_of_0_5b_equal_each_alone_and_plain_peft_to_the_last_bit(clips):
    """Its products are wide enough for MKL to cut their sums by the number of rows."""

    def base() -> CodecLM:
        return toy_base(hidden=896, layers=1, intermediate=4864, heads=14)

    trials = {name: trial for name, trial in five(dropout=0.1).items() if name in ("r8", "r128")}
    host = Host(base(), clips, EngineSpec())
    for name, together in packed(host, trials, 4).items():
        by_itself = packed(host, {name: trials[name]}, 4)[name]
        assert max(tensor.abs().max().item() for key, tensor in together.items() if "_B" in key) > 0
        assert difference(together, by_itself, tensors=14) == 0.0
        assert difference(together, plain(trials[name], clips, 4, base()), tensors=14) == 0.0


def test_who_joins_and_who_leaves_changes_nothing_for_the_others(clips, tolerance):
    trials = five(dropout=0.1)
    host = new_host(clips)
    here = ["r8", "r16", "r64"]
    for name in here:
        host.attach(name, trials[name])
    for passed in range(STEPS):
        if passed == 5:
            host.detach("r16")
            here.remove("r16")
        if passed == 8:
            for name in ("r32", "r128"):
                host.attach(name, trials[name])
                here.append(name)
        train(host, here)
    for name in ("r8", "r64"):
        assert difference(host.weights(name), alone(trials[name], clips, STEPS)) <= tolerance
    for name in ("r32", "r128"):
        assert difference(host.weights(name), alone(trials[name], clips, STEPS - 8)) <= tolerance


def test_resumed_in_a_pack_equals_uninterrupted_alone(clips, tolerance, tmp_path):
    trials = five(dropout=0.1)
    host = new_host(clips)
    for name, trial in trials.items():
        host.attach(name, trial)
    passes = 0
    while not host.epoch_is_over("r64"):
        assert host.step(list(trials)) == {}
        passes += 1
    losses = host.end_epoch("r64")
    storage = LocalStorage(tmp_path)
    with storage.commit("r64") as directory:
        host.snapshot("r64").write(directory, losses)
    again = new_host(clips, storage)
    again.attach("r8", trials["r8"])
    for _ in range(3):
        train(again, ["r8"])
    again.attach("r64", trials["r64"], "r64")
    for _ in range(STEPS - passes):
        train(again, ["r8", "r64"])
    assert difference(again.weights("r64"), alone(trials["r64"], clips, STEPS)) <= tolerance


def interruptible() -> dict[str, TrialSpec]:
    """All that decides where a slot is in its data."""
    shared = {"batch_size": 3, "dropout": 0.1, "epochs": 40, "warmup_steps": 3}
    mix = MixSpec(by="speaker", shares={"ann": 0.8, "bob": 0.2})
    return {
        "plain": toy_trial(**shared, seed=1, schedule="cosine"),
        "accumulated": toy_trial(**shared, seed=2, accumulation=2),
        "budgeted": toy_trial(**shared, seed=3, accumulation=2, batch_tokens=66),
        "mixed": toy_trial(**shared, seed=4, batch_tokens=66).model_copy(update={"mix": mix}),
        # Three steps across the ends of epochs, which have four.
        "stepped": toy_trial(
            **{**shared, "epochs": None},
            seed=5,
            accumulation=2,
            schedule="cosine",
            steps=12,
            checkpoint_steps=3,
        ),
    }


@pytest.mark.parametrize(
    "name",
    ["plain", "accumulated", "budgeted", "stepped", pytest.param("mixed", marks=pytest.mark.full)],
)
def test_left_between_two_steps_and_resumed_in_a_pack_equals_uninterrupted_alone(
    clips, tolerance, tmp_path, name
):
    """Wherever in the second epoch that is; its losses are those of the whole epoch."""
    spoken_by = ("ann", "bob", "bob")
    clips = [replace(clip, speaker=spoken_by[i % 3]) for i, clip in enumerate(clips)]
    trial = interruptible()[name]
    whole = new_host(clips)
    whole.attach("whole", trial)
    whole.advance("whole")
    storage, kept = LocalStorage(tmp_path), list[str]()
    while not whole.epoch_is_over("whole"):
        for _ in range(trial.training.accumulation):
            if not whole.epoch_is_over("whole"):  # its last step may be shorter
                whole.step(["whole"])
        kept.append(str(len(kept)))
        with storage.commit(kept[-1]) as directory:
            whole.snapshot("whole").write(directory, None)
    losses = whole.end_epoch("whole")
    assert len(kept) == len(losses.step_losses) >= 3
    assert losses.group_losses.keys() == {"speaker/ann", "speaker/bob"}
    third = whole.advance("whole")
    for checkpoint in kept:
        host = new_host(clips, storage)
        host.attach("r8", five(dropout=0.1)["r8"])
        train(host, ["r8"])
        host.attach("resumed", trial, checkpoint)
        for expected in (losses, third):
            while not host.epoch_is_over("resumed"):
                assert host.step(["r8", "resumed"]) == {}
                if host.epoch_is_over("r8"):
                    host.end_epoch("r8")
            found = host.end_epoch("resumed")
            if tolerance == 0.0:
                assert untimed(found) == untimed(expected)
        assert difference(host.weights("resumed"), whole.weights("whole")) <= tolerance
        ours, theirs = host.snapshot("resumed"), whole.snapshot("whole")
        assert replace(ours.state, seconds=0.0) == replace(theirs.state, seconds=0.0)
        assert difference(ours.moments, theirs.moments, tensors=56) <= tolerance


def untimed(losses: EpochLosses) -> EpochLosses:
    return replace(losses, seconds=0.0, finished_at=0.0)


def test_in_the_middle_of_a_step_there_is_no_snapshot(clips):
    host = new_host(clips)
    host.attach("slot", toy_trial(batch_size=2, accumulation=3))
    host.step(["slot"])
    with pytest.raises(RuntimeError, match="between optimiser steps, but one is under way: 1 of 3"):
        host.snapshot("slot")


def test_a_loss_that_is_no_number_ends_one_trial_alone(clips, tolerance):
    trials = five(dropout=0.1)
    host = new_host(clips)
    for name, trial in trials.items():
        host.attach(name, trial)
    for _ in range(3):
        train(host, list(trials))
    spoilt = "model.layers.0.self_attn.q_proj.lora_A.r64.weight"
    host.base.model.get_parameter(spoilt).data[0, 0] = float("nan")
    lost = host.step(list(trials))
    assert list(lost) == ["r64"]
    assert "finite" in str(lost["r64"])
    host.detach("r64")
    here = [name for name in trials if name != "r64"]
    for _ in range(STEPS - 4):
        train(host, here)
    for name in here:
        assert difference(host.weights(name), alone(trials[name], clips, STEPS)) <= tolerance


def test_a_loud_neighbour_is_not_heard(clips, tolerance):
    """DeepSpeed clips by default, over the gradients of all slots together."""
    quiet = toy_trial(rank=8, clip=None, seed=1, epochs=40)
    loud = toy_trial(rank=8, clip=None, seed=2, epochs=40, alpha=4000.0)
    host = new_host(clips)
    host.attach("quiet", quiet)
    host.attach("loud", loud)
    before = host.weights("loud")
    for _ in range(5):
        train(host, ["quiet", "loud"])
    assert difference(before, host.weights("loud")) > 0
    assert difference(host.weights("quiet"), alone(quiet, clips, 5)) <= tolerance


def test_a_slot_that_is_not_in_a_pass_does_not_move(clips):
    """DeepSpeed has zeros for gradients that are missing, and Adam would go on by momentum."""
    trials = five(dropout=0.1)
    host = new_host(clips)
    for name in ("r8", "r16"):
        host.attach(name, trials[name])
    for _ in range(4):
        train(host, ["r8", "r16"])
    before = host.weights("r16")
    for _ in range(4):
        train(host, ["r8"])
    assert difference(before, host.weights("r16")) == 0.0


def test_a_pass_that_fails_moves_nobody(clips, tolerance, monkeypatch):
    trials = five(dropout=0.1)
    host = new_host(clips)
    for name, trial in trials.items():
        host.attach(name, trial)
    for passed in range(STEPS):
        if passed in {3, 4}:
            with monkeypatch.context() as broken:
                broken.setattr(host.base, "loss_sums", _out_of_memory)
                with pytest.raises(MemoryError):
                    host.step(list(trials))
        train(host, list(trials))
    for name, trial in trials.items():
        assert difference(host.weights(name), alone(trial, clips, STEPS)) <= tolerance


def _out_of_memory(*_: object) -> None:
    raise MemoryError


def test_several_voices_say_in_one_batch_what_each_says_alone(clips):
    trials = five(dropout=0.0)
    host = new_host(clips)
    for name in ("r8", "r64"):
        host.attach(name, trials[name])
    for _ in range(STEPS):
        train(host, ["r8", "r64"])
    prompts = [
        PromptSpec(id="p", text="one two three"),
        PromptSpec(id="q", text="four"),
        PromptSpec(id="r", text="nine eight"),
    ]
    voices = [
        AdapterUse(None),
        AdapterUse("r8", 1.0),
        AdapterUse("r8", 0.5),
        AdapterUse("r64", 1.3),
        AdapterUse("r64", 0.0),
        AdapterUse("r64", 1.0),
    ]
    for decoding in (DecodingSpec(), DecodingSpec(temperature=0.8, seed=3)):
        together = host.speak(voices, prompts, decoding)
        for voice, clips_together in zip(voices, together, strict=True):
            (by_itself,) = host.speak([voice], prompts, decoding)
            for one, other in zip(clips_together, by_itself, strict=True):
                np.testing.assert_array_equal(one.audio, other.audio)
        said = {b"".join(clip.audio.tobytes() for clip in clips) for clips in together}
        assert len(said) >= 4  # the base twice, and four that differ from it
        for silent, base in zip(together[4], together[0], strict=True):
            np.testing.assert_array_equal(silent.audio, base.audio)
