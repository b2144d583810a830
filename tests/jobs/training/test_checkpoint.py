"""What a committed epoch consists of."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.storage.base import LocalStorage
from cluster.storage.committed import COMMITTED
from jobs.spec.trial import EngineSpec
from jobs.training.checkpoint import read_state
from jobs.training.epochs import (
    EpochLosses,
    SlotState,
    checkpoint_key,
    write_losses,
)
from jobs.training.host import Host
from tests.losses import read_losses
from tests.toy import toy_base, toy_clips, toy_trial

LOSSES = EpochLosses(
    epoch=2,
    training_loss=1.5,
    validation_loss=1.75,
    step_losses=(1.25, 1.75),
    learning_rates=(1e-3, 5e-4),
    seconds=0.5,
    finished_at=1700000000.25,
)


@pytest.fixture
def checkpoint(tmp_path: Path, process_group: None) -> Path:
    """The second epoch of a trial of 7 clips in batches of 4, committed."""
    host = Host(toy_base(), toy_clips(), EngineSpec())
    host.attach("slot", toy_trial(rank=3, seed=5, batch_size=4))
    storage, key = LocalStorage(tmp_path), checkpoint_key("sweep", "t0", 2)
    host.advance("slot")
    losses = host.advance("slot")
    with storage.commit(key) as directory:
        host.snapshot("slot").write(directory, losses)
    return storage.fetch(key)


def test_files_are_those_documented(checkpoint: Path):
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        COMMITTED,
        "adapter_config.json",
        "adapter_model.safetensors",
        "losses.json",
        "optimizer.safetensors",
        "state.json",
    ]


def test_state_says_where_training_goes_on(checkpoint: Path):
    moments, state = read_state(checkpoint)
    assert state == SlotState(seed=5, epoch=2, steps=4)
    weights = load_file(checkpoint / "adapter_model.safetensors")
    assert len(moments) == 2 * len(weights) > 0
    assert all(torch.isfinite(moment).all() for moment in moments.values())
    assert {tensor.dtype for tensor in (*moments.values(), *weights.values())} == {torch.float32}


def test_adapter_config_names_no_place_of_this_machine(checkpoint: Path):
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (3, 6.0, "LORA")
    assert config["target_modules"] == sorted(config["target_modules"])


def test_losses_come_back_as_they_were(tmp_path: Path):
    write_losses(tmp_path, LOSSES)
    assert read_losses(tmp_path) == LOSSES


def test_checkpoints_sort_by_epoch():
    assert checkpoint_key("s", "t0", 7) == "s/trials/t0/checkpoints/epoch-007"
