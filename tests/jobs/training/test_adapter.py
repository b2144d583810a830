"""An adapter comes and goes without a trace, and PEFT reads what is saved."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from cluster.storage.base import LocalStorage
from jobs.families.codec_lm import CodecLM
from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training.adapter import Adapters, PackedLinear
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.toy import toy_base, toy_clips, toy_trial

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
SPEC = TrainingSpec(rank=4, alpha=6.0)


@torch.inference_mode()
def logits(base: CodecLM) -> Tensor:
    batch = base.collate(base.examples(toy_clips(count=4)))
    output: Tensor = base.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    return output


def adapted(base: CodecLM, adapters: Adapters, scale: float, slot: str = "slot") -> Tensor:
    """Logits with a slot's adapter at a strength, on all rows."""
    with owning(adapters, scale, slot):
        return logits(base)


@contextmanager
def owning(adapters: Adapters, scale: float, slot: str = "slot") -> Iterator[None]:
    with adapters.rows.owned_by([AdapterUse(slot, scale)]), adapters.rows.share([1]):
        yield


@pytest.fixture
def base() -> CodecLM:
    return toy_base()


@pytest.fixture
def untouched() -> Tensor:
    return logits(toy_base())


def fill(adapters: Adapters, slot: str, seed: int = 1) -> None:
    """Make it an adapter that matters: a fresh one has B = 0 and changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapters.parameters(slot).values():
        parameter.data.normal_(std=0.2, generator=generator)


@pytest.fixture
def adapters(base: CodecLM) -> Adapters:
    attached = Adapters(base)
    attached.add("slot", SPEC)
    fill(attached, "slot")
    return attached


def test_a_fresh_adapter_is_the_base(base: CodecLM, untouched: Tensor):
    adapters = Adapters(base)
    adapters.add("slot", TrainingSpec(rank=4))
    assert torch.equal(adapted(base, adapters, 1.0), untouched)


def test_rows_of_nobody_are_the_base(base: CodecLM, adapters: Adapters, untouched: Tensor):
    assert torch.equal(logits(base), untouched)


def test_scale_zero_is_the_base_exactly(base: CodecLM, adapters: Adapters, untouched: Tensor):
    assert not torch.allclose(adapted(base, adapters, 1.0), untouched, **TOLERANCE)
    assert torch.equal(adapted(base, adapters, 0.0), untouched)


def test_a_scale_is_absolute(base: CodecLM, adapters: Adapters):
    whole = adapted(base, adapters, 1.0)
    half = adapted(base, adapters, 0.5)
    assert torch.equal(adapted(base, adapters, 0.5), half)
    adapted(base, adapters, 2.0)
    assert torch.equal(adapted(base, adapters, 0.5), half)
    assert torch.equal(adapted(base, adapters, 1.0), whole)
    assert not torch.allclose(half, whole, **TOLERANCE)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_strength_is_scale_times_alpha_over_rank(base: CodecLM, adapters: Adapters, scale: float):
    name = "model.layers.1.self_attn.v_proj"
    layer = base.model.get_submodule(name)
    weights = dict(base.model.named_parameters())
    product = weights[f"{name}.lora_B.slot.weight"] @ weights[f"{name}.lora_A.slot.weight"]
    inputs = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), owning(adapters, scale):
        expected = layer.base_layer(inputs) + inputs @ product.T * scale * 6.0 / 4
        torch.testing.assert_close(layer(inputs), expected, **TOLERANCE)


@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_merged_is_unmerged(base: CodecLM, adapters: Adapters, scale: float):
    unmerged = adapted(base, adapters, scale)
    weights = {name: p.detach() for name, p in base.model.named_parameters()}
    merged = toy_base()
    with torch.no_grad():
        for name, parameter in merged.model.named_parameters():
            layer = name.removesuffix(".weight")
            if f"{layer}.lora_A.slot.weight" in weights:
                a, b = (weights[f"{layer}.lora_{x}.slot.weight"] for x in "AB")
                parameter += b @ a * scale * 6.0 / 4
    torch.testing.assert_close(logits(merged), unmerged, **TOLERANCE)


def test_detached_the_base_is_as_it_was(base: CodecLM, adapters: Adapters, untouched: Tensor):
    names = [name for name, _ in toy_base().model.named_modules()]
    adapters.remove("slot")
    assert torch.equal(logits(base), untouched)
    assert [name for name, _ in base.model.named_modules()] == names
    assert not any(p.requires_grad for p in base.model.parameters())


def test_an_adapter_does_not_see_others_come_and_go(base: CodecLM, adapters: Adapters):
    before = adapted(base, adapters, 1.0)
    spec = TrainingSpec(rank=2, targets=("q_proj", "up_proj"))
    adapters.add("other", spec)
    fill(adapters, "other", seed=2)
    assert torch.equal(adapted(base, adapters, 1.0), before)
    assert not torch.allclose(adapted(base, adapters, 1.0, "other"), before, **TOLERANCE)
    everybodys = [*adapters.parameters("slot").values(), *adapters.parameters("other").values()]
    assert len(everybodys) == 2 * (7 + 2) * 2
    assert all(parameter.requires_grad for parameter in everybodys)
    adapters.remove("other")
    assert torch.equal(adapted(base, adapters, 1.0), before)
    assert all(parameter.requires_grad for parameter in adapters.parameters("slot").values())


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize(
    ("spec", "where", "expected"),
    [
        (TrainingSpec(targets=("q_proj", "no_such_proj")), 99, "no_such_proj is no layer"),
        (TrainingSpec(targets=("q_proj", "embed_tokens")), 99, "embed_tokens is no layer"),
        (TrainingSpec(targets=("lm_head",)), 99, "lm_head is no layer"),
        (TrainingSpec(targets=("q_proj",), layers_to_transform=(2,)), 99, "0 to 1, not in 2"),
        (TrainingSpec(), 0, "no memory"),
        (TrainingSpec(), 5, "no memory"),
    ],
)
def test_an_adapter_that_cannot_be_added_leaves_nothing_behind(
    base: CodecLM,
    monkeypatch: pytest.MonkeyPatch,
    neighbours: int,
    spec: TrainingSpec,
    where: int,
    expected: str,
):
    """``where`` is the layer of which PEFT fails."""
    adapters = Adapters(base)
    if neighbours:
        adapters.add("neighbour", SPEC)
        fill(adapters, "neighbour")
    before, speech = state(base), adapted(base, adapters, 1.0, "neighbour")
    calls = itertools.count()
    initialise = PackedLinear.reset_lora_parameters

    def fail(layer: PackedLinear, *arguments: object) -> None:
        if next(calls) == where:
            raise ValueError("no memory")
        initialise(layer, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(PackedLinear, "reset_lora_parameters", fail)
        with pytest.raises(ValueError, match=expected):
            adapters.add("slot", spec)
    assert state(base) == before
    assert adapters.parameters("slot") == {}
    assert torch.equal(adapted(base, adapters, 1.0, "neighbour"), speech)
    adapters.add("slot", SPEC)
    fill(adapters, "slot", seed=2)
    assert not torch.equal(adapted(base, adapters, 1.0), speech)


def test_layers_that_peft_does_not_adapt_are_an_error(
    base: CodecLM, monkeypatch: pytest.MonkeyPatch
):
    names = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.elsewhere"]
    monkeypatch.setattr(base, "layers", lambda targets, blocks: names)
    before = state(base)
    with pytest.raises(RuntimeError, match=r"adapt 2 layers, but not so .*elsewhere"):
        Adapters(base).add("slot", SPEC)
    assert state(base) == before


def state(base: CodecLM) -> list[tuple[str, str, bool]]:
    """Modules, parameters and what is trained."""
    modules = [(name, type(module).__name__, False) for name, module in base.model.named_modules()]
    parameters = base.model.named_parameters()
    marks = [(name, str(p.dtype), p.requires_grad) for name, p in parameters]
    return modules + marks + [(name, "", False) for name in vars(base.model)]


LORAS: dict[str, dict[str, Any]] = {
    "plain": {"alpha": 4.5},
    "rslora": {"alpha": 4.5, "rslora": True},
    "blocks": {"targets": ("down_proj", "q_proj"), "layers_to_transform": (1,)},
    "loraplus": {"loraplus_lr_ratio": 4.0},
}


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("lora", LORAS)
def test_peft_loads_a_committed_checkpoint(base: CodecLM, tmp_path: Path, lora: str):
    storage = LocalStorage(tmp_path)
    host = Host(base, toy_clips(), EngineSpec())
    host.attach("slot", toy_trial(rank=3, learning_rate=1e-2, **LORAS[lora]))
    losses = host.advance("slot")
    with storage.commit("epoch-001") as directory:
        host.snapshot("slot").write(directory, losses)
    trained = adapted(base, host._adapters, 1.0)

    config = json.loads((storage.fetch("epoch-001") / "adapter_config.json").read_text())
    expected = base.layers(*chosen(LORAS[lora]))
    assert config["target_modules"] == sorted(expected)
    assert len(host.weights("slot")) == 2 * len(expected)
    other = toy_base()
    loaded = PeftModel.from_pretrained(other.model, str(storage.fetch("epoch-001")))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(logits(other), trained)

    assert not torch.allclose(trained, logits(toy_base()), **TOLERANCE)


def chosen(training: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    spec = TrainingSpec(**training)
    return spec.targets, spec.layers_to_transform
