"""The loss is that of the package's own training pass, and of its own generation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.families.base import LossTerms, unshared
from jobs.families.voxcpm2 import objective
from jobs.spec.trial import TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.packing import AdapterUse
from tests.jobs.families.voxcpm2.conftest import load_official
from tests.jobs.families.voxcpm2.official import losses, stepped

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_packages_own_on_a_padded_batch(
    tiny: Any, package: Any, clips: Any, training: bool, monkeypatch: pytest.MonkeyPatch
):
    """With conditions dropped here and there, on all positions, and again on patches alone."""
    examples = tiny.examples(clips)
    terms = LossTerms(draw=torch.Generator().manual_seed(3))
    batch = tiny.collate(examples, terms)
    assert 0 < batch["kept"].sum() < len(batch["kept"])
    package.fsq_layer.train(training)
    try:
        with torch.no_grad():
            expected = losses(package, examples, batch, monkeypatch)
            (found,) = tiny.loss_sums(tiny.model, [batch])
    finally:
        package.eval()
    found = found / tiny.targets(examples)
    torch.testing.assert_close(found[0], expected["loss/diff"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1], expected["loss/stop"], rtol=1e-5, atol=0)


def test_conditions_and_stops_are_those_of_generation_step_by_step(
    tiny: Any, package: Any, clips: Any
):
    examples = tiny.examples(clips)
    with torch.no_grad():
        found = objective.conditions(tiny.model, [tiny.collate(examples)], unshared)
        logits = objective.stop_logits(tiny.model, found.states)
    pairs = [stepped(package, example) for example in examples]
    torch.testing.assert_close(found.mu, torch.cat([mu for mu, _ in pairs]), rtol=0, atol=1e-4)
    stops = torch.cat([stop for _, stop in pairs])
    torch.testing.assert_close(logits, stops, rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1), stops.argmax(-1))


def test_an_adapter_has_the_loss_and_gradients_of_the_packages_own(
    tiny: Any, clips: Any, tiny_voxcpm2_source: Path, monkeypatch: pytest.MonkeyPatch
):
    """At zero dropout: the package drops what comes out of an adapter, PEFT what goes in."""
    official = load_official(tiny_voxcpm2_source, enable_lm=True, enable_dit=True, r=4, alpha=8)
    lora = {name: p for name, p in official.named_parameters() if ".lora_" in name}
    for name, parameter in official.named_parameters():
        parameter.requires_grad_(name in lora)
    examples = tiny.examples(clips)
    batch = tiny.collate(examples, LossTerms(draw=torch.Generator().manual_seed(4)))
    adapters = Adapters(tiny)
    adapters.add("own", TrainingSpec(rank=4, targets=ATTENTION, dropout=0.0))
    try:
        ours = adapters.parameters("own")
        theirs = {f"base_model.model.{name}.weight": parameter for name, parameter in lora.items()}
        assert ours.keys() == theirs.keys()
        assert len(ours) == 2 * 4 * (2 + 1 + 2)
        for start in (0.0, 0.05):  # as an adapter begins, then one that was trained
            for key, parameter in ours.items():
                if ".lora_B." in key:
                    parameter.data.normal_(std=start, generator=torch.Generator().manual_seed(1))
                theirs[key].data.copy_(parameter.data)
                parameter.grad = theirs[key].grad = None
            official.fsq_layer.train()
            expected = losses(official, examples, batch, monkeypatch)
            sum(expected.values()).backward()
            with adapters.rows.owned_by([AdapterUse("own")]):
                (found,) = tiny.loss_sums(tiny.model, [batch], adapters.rows.share)
                (found.sum() / tiny.targets(examples)).backward()
            with torch.no_grad():
                (base,) = tiny.loss_sums(tiny.model, [batch])
            assert torch.equal(found, base) == (start == 0.0)
            torch.testing.assert_close(
                found / tiny.targets(examples), torch.stack([*expected.values()]), rtol=1e-5, atol=0
            )
            for key, parameter in ours.items():
                torch.testing.assert_close(parameter.grad, theirs[key].grad, rtol=1e-3, atol=1e-5)
    finally:
        adapters.remove("own")


def test_the_parts_are_weighed(tiny: Any, clips: Any):
    examples = tiny.examples(clips)

    def parts(weight: float) -> torch.Tensor:
        draw = torch.Generator().manual_seed(5)
        with torch.no_grad():
            batch = tiny.collate(examples, LossTerms(stop_weight=weight, draw=draw))
            found: torch.Tensor = tiny.loss_sums(tiny.model, [batch])[0]
        return found

    torch.testing.assert_close(parts(3.0), parts(1.0) * torch.tensor([1.0, 3.0]))


def test_a_rounded_state_passes_its_gradient_on_though_the_base_is_frozen(tiny: Any):
    state = torch.randn(3, tiny.model.fsq_layer.in_dim, requires_grad=True)
    hard = objective.quantised(tiny.model.fsq_layer, state)
    torch.testing.assert_close(hard, tiny.model.fsq_layer(state), rtol=0, atol=0)
    hard.sum().backward()
    assert state.grad is not None
    assert state.grad.abs().sum() > 0
