"""What a sweep will cost, against numbers worked out by hand."""

import json

import pytest

from cluster.storage.base import LocalStorage
from jobs.spec.trial import TrialSpec
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.ledger import PLAN_FILE, SPEC_FILE, Ledger, SweepRun, TrialResult
from orchestrator.spec.cost import Measured, Pace, Range, Work, epochs_left, measured_before
from orchestrator.spec.machine import Gpu, machine_type
from orchestrator.spec.plan import plan
from tests.orchestrator.spec.test_plan import INPUTS

HERE = "H100"
PACE = Pace(epoch=20.0, clip=1.0)
WORK = Work(Range(3, 6), clips=20, prompts=4, slots=2, hosts=1, gpus=1.0)
SECTIONS = {
    "variants": "variants: {lora_scales: [0, 0.5, 1.0]}",
    "search": "search: {trials: 4, space: {rank: [2, 4]}}",
    "resources": "resources: {slots_per_host: 2}",
}


@pytest.fixture
def earlier(make_spec, tmp_path, monkeypatch):
    """Two trials at once from 110 s on, two epochs of 20 s each, 10 s of them training."""
    storage = LocalStorage(tmp_path / "st")

    def make(name="earlier", machine=HERE, scale=1.0, **sections):
        spec = make_spec(**{**SECTIONS, "name": f"name: {name}"} | sections)
        ledger = Ledger(storage, name)
        clock = [100.0 * scale]
        monkeypatch.setattr("orchestrator.ledger.time.time", lambda: clock[0])
        ledger.begin(machine)
        ledger.write_text(SPEC_FILE, json.dumps(spec.model_dump(mode="json")))
        ledger.write_text(PLAN_FILE, json.dumps({"training_clips": 10, "prompts": 5}))
        clock[0] = 110.0 * scale
        for rank in (2, 4):
            trial = TrialSpec(
                family=spec.family,
                base_digest="b",
                data_digest="d",
                training=spec.training_for({"rank": rank}),
                engine=spec.engine,
            )
            ledger.start_trial(trial, {"rank": rank})
            for epoch, at in ((1, 130.0), (2, 150.0)):
                losses = EpochLosses(epoch, 2.0, 2.0, (), (), 10.0 * scale, at * scale)
                with storage.commit(ledger.checkpoint(trial.id, epoch)) as folder:
                    write_losses(folder, losses)
        clock[0] = 160.0 * scale
        for record in ledger.trials():
            ledger.end_trial(record.id, TrialResult("finished", 2))
        clock[0] = 200.0 * scale
        ledger.end()
        return storage, spec

    return make


def test_seconds_of_an_earlier_sweep(earlier):
    storage, spec = earlier()
    assert measured_before(storage, spec, HERE) == Measured(
        by="sweep earlier, 4 epochs",
        train=Range(1.0, 1.0),
        speak=Range(1.0, 1.0),
        slots_per_host=2.0,
        rest=Range(50.0, 50.0),
        slowest_train=1.0,
        slowest_speak=1.0,
    )


def test_of_another_machine_or_family_nothing_is_known(earlier, make_spec):
    storage, spec = earlier()
    assert measured_before(storage, spec, "L4") is None
    assert measured_before(storage, spec.model_copy(update={"family": "qwen3_tts"}), HERE) is None
    assert measured_before(LocalStorage(storage.root / "empty"), spec, HERE) is None


def test_a_sweep_without_a_record_is_left_alone(earlier):
    storage, spec = earlier()
    (storage.root / "earlier" / "sweep.json").unlink()
    assert measured_before(storage, spec, HERE) is None
    assert not (storage.root / "earlier" / "sweep.json").exists()


def test_an_epoch_between_two_runs_is_not_counted(earlier):
    storage, _ = earlier()
    ledger = Ledger(storage, "earlier")
    trials = ledger.histories()
    assert Pace.slowest(trials, (SweepRun(100.0, 200.0, 1.0),), spoken=10) == PACE
    assert Pace.slowest(trials, (SweepRun(130.0, 200.0, 1.0),), spoken=10) == PACE
    interrupted = (SweepRun(130.0, 135.0, 1.0), SweepRun(150.0, 200.0, 1.0))
    assert Pace.slowest(trials, interrupted, spoken=10) is None
    assert Pace.slowest([], (), spoken=10) is None


@pytest.mark.parametrize(
    ("sections", "clips", "epoch"),
    [
        ({}, 10, 1.0 * 10 + 1.0 * 10),
        ({}, 30, 1.0 * 30 + 1.0 * 10),
        # epochs of 3 steps of 4 clips
        ({"training": "training: {steps: 6, checkpoint_steps: 3, batch_size: 4}"}, 30, 12 + 10),
        # one scale of the two, of two prompts of the five; twice the slots on a host
        ({"variants": "variants: {lora_scales: [0, 1.0], shortlist_after: 2}"}, 30, 30 + 2),
        ({"resources": "resources: {slots_per_host: 4}"}, 30, (30 + 10) * 2),
    ],
)
def test_the_pace_of_an_earlier_sweep_is_that_of_these_epochs(
    earlier, make_spec, sections, clips, epoch
):
    storage, _ = earlier()
    spec = make_spec(**SECTIONS | sections)
    pace = measured_before(storage, spec, HERE).pace(spec, clips, prompts=5)
    assert pace == Pace(epoch, 2.0 if "resources" in sections else 1.0)


def test_what_work_costs():
    measured = Measured(
        "sweep a", Range(1.0, 2.0), Range(1.0, 1.0), 2.0, Range(50.0, 50.0), 1.0, 1.0
    )
    cost = measured.cost(WORK, rate=2.0)
    assert cost.hours.low * 3600 == pytest.approx(3 * (20 + 4) / 2 + 50)
    assert cost.hours.high * 3600 == pytest.approx(6 * (40 + 4) / 2 + 50)
    assert cost.gpu_hours == cost.hours
    assert cost.price == Range(cost.hours.low * 2, cost.hours.high * 2)


def test_more_slots_may_or_may_not_slow_each_other_down():
    measured = Measured(
        "sweep a", Range(1.0, 1.0), Range(1.0, 1.0), 2.0, Range(50.0, 50.0), 1.0, 1.0
    )
    cost = measured.cost(Work(Range(3, 6), 20, 4, slots=4, hosts=1, gpus=0.0), rate=2.0)
    assert cost.hours.low * 3600 == pytest.approx(3 * 24 / 4 + 50)
    assert cost.hours.high * 3600 == pytest.approx(6 * 24 * 2 / 4 + 50)
    assert (cost.gpu_hours, cost.price) == (Range(0.0, 0.0), None)


def test_a_plan_has_the_cost_of_what_is_left(earlier, make_spec):
    storage, spec = earlier()
    later = spec.model_copy(update={"name": "later"})
    cost = plan(later, INPUTS, storage, HERE).cost
    assert cost.by == "sweep earlier, 4 epochs"
    # 10 training clips; 2 scales of 5 prompts; 4 trials in 2 slots; rungs at 1, 2 and 4 epochs of 4
    assert cost.hours.low * 3600 == pytest.approx((4 + 2 + 2) * 20 / 2 + 50)
    assert cost.hours.high * 3600 == pytest.approx(16 * 20 / 2 + 50)
    assert plan(later, INPUTS, storage, "L4").cost is None
    assert plan(later, INPUTS, storage).cost is None


def test_a_machine_is_timed_where_no_sweep_tells_and_work_is_left(earlier):
    storage, spec = earlier()
    later, calls = spec.model_copy(update={"name": "later"}), []
    timed = Measured("here", Range(1.0, 1.0), Range(1.0, 1.0), 1.0, Range(0.0, 0.0), 1.0, 1.0)

    def measure() -> Measured:
        calls.append(1)
        return timed

    assert plan(later, INPUTS, storage, HERE, measure=measure).cost.by == "sweep earlier, 4 epochs"
    assert plan(later, INPUTS, storage, measure=measure).cost is None
    assert calls == []
    assert plan(later, INPUTS, storage, "L4", measure=measure).cost.by == "here"
    assert calls == [1]


@pytest.mark.parametrize(
    ("rungs", "fewest"),
    [
        ("rungs: {grace_epochs: 1, reduction: 2}", 4 * 1 + 2 * 1 + 1 * 2),
        ("rungs: {grace_epochs: 2, reduction: 4}", 4 * 2 + 1 * 2),
        ("rungs: {scheduler: none}", 16),
    ],
)
def test_epochs_if_rungs_stop_all_that_they_may(make_spec, rungs, fewest):
    spec = make_spec(**SECTIONS, training="training: {epochs: 4}", rungs=rungs)
    assert epochs_left(spec, 16, 0) == Range(fewest, 16)
    assert epochs_left(spec, 16, 9) == Range(max(0, fewest - 9), 7)


def test_the_type_of_a_machine(make_spec):
    names = {
        "NVIDIA H100 80GB HBM3": "H100",
        "Tesla V100-SXM2-16GB": "V100",
        "NVIDIA A100-SXM4-80GB": "A100",
        "NVIDIA RTX PRO 6000": "RTX-PRO-6000",
        "NVIDIA GeForce RTX 5090": "GeForce-RTX-5090",
    }
    assert {name: Gpu(name, 80.0).type for name in names} == names
    gpu = make_spec(resources="resources: {gpus_per_rank: 1.0}")
    assert machine_type(gpu, ["L4", "H100", "L4"]) == "H100 or L4"
    assert machine_type(make_spec(), ["H100"]).endswith(" CPUs")
