"""An adapter comes and goes without a trace, and PEFT reads what is saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from cluster.storage import LocalStorage
from jobs.families.codec_lm import CodecLM
from jobs.spec import TrainingSpec
from jobs.training.adapter import Adapter
from jobs.training.host import Host
from tests.toy import toy_base, toy_clips, toy_trial

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@torch.inference_mode()
def logits(base: CodecLM) -> Tensor:
    batch = base.collate(base.examples(toy_clips(count=4)))
    output: Tensor = base.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    return output


@pytest.fixture
def base() -> CodecLM:
    return toy_base()


@pytest.fixture
def untouched() -> Tensor:
    return logits(toy_base())


@pytest.fixture
def adapter(base: CodecLM) -> Iterator[Adapter]:
    """An adapter that matters: a fresh one has B = 0 and changes nothing."""
    attached = Adapter.attach(base.model, TrainingSpec(rank=4, alpha=6.0))
    generator = torch.Generator().manual_seed(1)
    for parameter in attached.parameters().values():
        parameter.data.normal_(std=0.2, generator=generator)
    attached.model.eval()
    return attached


def test_a_fresh_adapter_is_the_base(base: CodecLM, untouched: Tensor):
    Adapter.attach(base.model, TrainingSpec(rank=4)).model.eval()
    assert torch.equal(logits(base), untouched)


def test_scale_zero_is_the_base_exactly(base: CodecLM, adapter: Adapter, untouched: Tensor):
    assert not torch.allclose(logits(base), untouched, **TOLERANCE)
    adapter.set_scale(0.0)
    assert torch.equal(logits(base), untouched)


def test_a_scale_is_absolute(base: CodecLM, adapter: Adapter):
    whole = logits(base)
    adapter.set_scale(0.5)
    half = logits(base)
    adapter.set_scale(0.5)
    assert torch.equal(logits(base), half)
    adapter.set_scale(2.0)
    adapter.set_scale(0.5)
    assert torch.equal(logits(base), half)
    adapter.set_scale(1.0)
    assert torch.equal(logits(base), whole)
    assert not torch.allclose(half, whole, **TOLERANCE)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_strength_is_scale_times_alpha_over_rank(base: CodecLM, adapter: Adapter, scale: float):
    adapter.set_scale(scale)
    name = "model.layers.1.self_attn.v_proj"
    layer = base.model.get_submodule(name)
    weights = dict(base.model.named_parameters())
    product = weights[f"{name}.lora_B.default.weight"] @ weights[f"{name}.lora_A.default.weight"]
    inputs = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = layer.base_layer(inputs) + inputs @ product.T * scale * 6.0 / 4
        torch.testing.assert_close(layer(inputs), expected, **TOLERANCE)


@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_merged_is_unmerged(base: CodecLM, adapter: Adapter, scale: float):
    adapter.set_scale(scale)
    unmerged = logits(base)
    adapter.model.merge_adapter()
    torch.testing.assert_close(logits(base), unmerged, **TOLERANCE)


def test_detached_the_base_is_as_it_was(base: CodecLM, adapter: Adapter, untouched: Tensor):
    names = [name for name, _ in toy_base().model.named_modules()]
    adapter.detach()
    assert torch.equal(logits(base), untouched)
    assert [name for name, _ in base.model.named_modules()] == names


def test_targets_that_are_nowhere_are_named(base: CodecLM):
    with pytest.raises(ValueError, match="no_such_proj"):
        Adapter.attach(base.model, TrainingSpec(targets=("no_such_proj",)))


@pytest.mark.usefixtures("process_group")
def test_peft_loads_a_committed_checkpoint(base: CodecLM, tmp_path: Path):
    storage = LocalStorage(tmp_path)
    host = Host(base, toy_clips())
    host.attach(toy_trial(rank=3, alpha=4.5, learning_rate=2e-2))
    losses = host.advance()
    with storage.commit("epoch-001") as directory:
        host.save(directory, losses)
    trained = logits(base)

    other = toy_base()
    loaded = PeftModel.from_pretrained(other.model, str(storage.fetch("epoch-001")))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(logits(other), trained)

    assert not torch.allclose(trained, logits(toy_base()), **TOLERANCE)
