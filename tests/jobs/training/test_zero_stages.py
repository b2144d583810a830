"""One trial gives the same adapter at every ZeRO stage, interrupted or not."""

import json
import multiprocessing
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.multiprocessing import start_processes

from cluster.storage.base import LocalStorage
from jobs.training.checkpoint import read_state
from jobs.training.epochs import EpochLosses
from tests.jobs.training.ranks import (
    DAMAGED,
    EPOCHS,
    HALF,
    HALF_STAGES,
    MIDDLE,
    SLOT,
    STAGES,
    WIDE_STAGES,
    half_trial,
    pair_trials,
    run_rank,
    stage_host,
    stage_trial,
    train,
    train_and_resume,
    train_packs,
    wide_trial,
)
from tests.losses import read_losses
from tests.row_products import rows_are_independent

pytestmark = pytest.mark.full

WORLDS = (1, 2)
NAMES = [
    *(f"stage{stage}" for stage in STAGES),
    *(f"wide{stage}" for stage in WIDE_STAGES),
    *(f"half{stage}" for stage in HALF_STAGES),
]
LAST = f"epoch-{EPOCHS}"
BF16 = 2**-8
"""Relative: the rounding of a bf16 number."""
LOSS_TOLERANCE = 1e-6  # relative: ZeRO adds gradients up in another order


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, process_group: None) -> dict[int, Path]:
    """World size to a directory: everything the tests below look at, trained once."""
    roots = {world: tmp_path_factory.mktemp(f"world{world}") for world in WORLDS}
    storage = LocalStorage(roots[1])
    for stage in STAGES:
        host = stage_host(stage, 1, storage)
        train_and_resume(host, stage_trial(stage, ranks=1), storage, f"stage{stage}")
        if stage in WIDE_STAGES:
            train_and_resume(host, wide_trial(stage, ranks=1), storage, f"wide{stage}")
    for stage in HALF_STAGES:
        host = stage_host(stage, 1, storage, "bf16")
        train_and_resume(host, half_trial(stage, ranks=1), storage, f"half{stage}")
    trial = stage_trial(0, ranks=1, dropout=0.0)
    train(stage_host(0, 1, storage), trial, storage, "no-dropout/whole")
    train_packs(1, roots[1])
    multiprocessing.set_forkserver_preload(["jobs.training.host"])  # import it once for both
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        patch.setenv("LOCAL_RANK", "0")
        start_processes(
            run_rank,
            (free_port(), pair_trials(), roots[2]),
            nprocs=2,
            start_method="forkserver",
        )
    return roots


def losses_of(run: Path) -> list[EpochLosses]:
    return [read_losses(path) for path in sorted(run.glob("epoch-*"))]


def values(losses: list[EpochLosses]) -> list[float]:
    """What must repeat: all but the times."""
    return [
        value
        for epoch in losses
        for value in (
            epoch.training_loss,
            epoch.validation_loss,
            *epoch.step_losses,
            *epoch.learning_rates,
        )
    ]


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    moments, _ = read_state(checkpoint)
    return {**load_file(checkpoint / "adapter_model.safetensors"), **moments}


def assert_same_bits(run: Path, other: Path) -> None:
    ours, theirs = tensors(run), tensors(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("interrupted", ["resumed", "amid"])
def test_resumed_is_uninterrupted_bit_for_bit(
    runs: dict[int, Path], world: int, name: str, interrupted: str
):
    """Between two epochs, and between the two steps of one."""
    run = runs[world] / name
    middle = read_state(run / "whole" / MIDDLE)[1]
    assert (middle.epoch, middle.steps, len(middle.taken)) == (HALF, 2 * HALF + 1, 1)
    assert_same_bits(run / interrupted / LAST, run / "whole" / LAST)
    assert read_state(run / interrupted / LAST)[1] == read_state(run / "whole" / LAST)[1]
    resumed, whole = losses_of(run / interrupted), losses_of(run / "whole")
    assert [epoch.epoch for epoch in resumed] == [HALF + 1, EPOCHS]
    assert values(resumed) == values(whole[HALF:])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("0")])
def test_a_stage_trains_what_stage_0_trains(runs: dict[int, Path], world: int, name: str):
    staged = runs[world] / name / "whole"
    plain = runs[world] / f"{name[:-1]}0" / "whole"
    assert len(losses_of(plain)) == EPOCHS
    if name == "half3":
        # Its linear layers add the bias after the product has been rounded to bf16.
        assert values(losses_of(staged)) == pytest.approx(values(losses_of(plain)), rel=BF16)
        return
    assert values(losses_of(staged)) == pytest.approx(values(losses_of(plain)), rel=LOSS_TOLERANCE)
    ours, theirs = tensors(staged / LAST), tensors(plain / LAST)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("stage", HALF_STAGES)
def test_a_base_in_bf16_stays_so_under_adapters_in_fp32(
    process_group: None, tmp_path: Path, stage: int
):
    host = stage_host(stage, 1, LocalStorage(tmp_path), "bf16")
    host.attach(SLOT, half_trial(stage, ranks=1))
    for _ in range(2):
        assert host.step([SLOT]) == {}
    named = [each for each in host.base.model.named_parameters() if "engine_anchor" not in each[0]]
    assert {p.dtype for name, p in named if ".lora_" not in name} == {torch.bfloat16}
    assert {p.dtype for name, p in named if ".lora_" in name} == {torch.float32}
    if stage == 3:
        parts = {p.ds_tensor.dtype for name, p in named if ".lora_" not in name}
        assert parts == {torch.bfloat16}
    snapshot = host.snapshot(SLOT)
    saved = [*snapshot.adapter.weights.values(), *snapshot.moments.values()]
    assert {tensor.dtype for tensor in saved} == {torch.float32}
    host.detach(SLOT)
    assert {
        p.dtype for name, p in host.base.model.named_parameters() if name != "engine_anchor"
    } == {torch.bfloat16}


def test_stage_3_cuts_the_base_and_a_wide_adapter(process_group: None, tmp_path: Path):
    host = stage_host(3, 1, LocalStorage(tmp_path))
    host.attach(SLOT, wide_trial(3, ranks=1))
    cut = [name for name, p in host.base.model.named_parameters() if p.numel() == 0]
    assert any("base_layer" in name for name in cut)
    assert any("lora_A" in name for name in cut)
    assert any("lora_B" in name for name in cut)
    host.detach(SLOT)


def test_something_was_learnt(runs: dict[int, Path]):
    losses = losses_of(runs[1] / "stage0" / "whole")
    assert losses[-1].training_loss < 0.9 * losses[0].training_loss


def test_two_ranks_train_what_one_trains(runs: dict[int, Path]):
    one = losses_of(runs[1] / "no-dropout" / "whole")
    two = losses_of(runs[2] / "no-dropout" / "whole")
    assert values(two) == pytest.approx(values(one), rel=1e-5)


def test_a_pack_with_rows_on_two_ranks_trains_what_each_slot_trains_alone(runs: dict[int, Path]):
    """And what one rank trains."""
    one = runs[1] / "pack-0" / "rows-plain"
    for name in ("rows", "plain"):
        first, second = (runs[2] / f"pack-{rank}" for rank in range(2))
        together = load_file(first / "rows-plain" / f"{name}.safetensors")
        assert any("trainable_tokens" in key for key in together) == (name == "rows")
        expected = load_file(one / f"{name}.safetensors")
        alone = load_file(first / name / f"{name}.safetensors")
        of_second = load_file(second / "rows-plain" / f"{name}.safetensors")
        for key, weight in together.items():
            assert torch.equal(weight, of_second[key])
            rounding = 0.0 if rows_are_independent() else 1e-5
            torch.testing.assert_close(weight, alone[key], atol=rounding, rtol=0)
            torch.testing.assert_close(weight, expected[key], atol=1e-4, rtol=0)


def test_ranks_draw_dropout_of_their_own(runs: dict[int, Path]):
    one = losses_of(runs[1] / "stage0" / "whole")
    two = losses_of(runs[2] / "stage0" / "whole")
    assert values(two) != pytest.approx(values(one), rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_one_rank_goes_on_where_two_stopped(runs: dict[int, Path], stage: int):
    storage, two, one = LocalStorage(runs[2]), "no-dropout/whole", f"one-rank{stage}"
    trial = stage_trial(stage, ranks=1, dropout=0.0)
    train(stage_host(stage, 1, storage), trial, storage, one, resume=f"{two}/epoch-{HALF}")
    expected = values(losses_of(runs[2] / two)[HALF:])
    assert values(losses_of(runs[2] / one)) == pytest.approx(expected, rel=1e-5)


def test_two_ranks_agree_on_a_damaged_checkpoint(runs: dict[int, Path]):
    told, losses = zip(
        *(json.loads((runs[2] / f"told-{rank}.json").read_text()) for rank in range(2)),
        strict=True,
    )
    assert "adapter_model.safetensors" in told[0]
    assert told[1] == f"another rank found {DAMAGED} damaged, and set it aside"
    assert losses[0] == losses[1]
