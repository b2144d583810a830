"""Ray Tune's search over real leases, on hosts that have no model and do as they are told."""

import gc
import os
import signal
import threading
import warnings
from dataclasses import dataclass, field, replace

import optuna
import pytest
import ray
from ray import tune

from cluster.ray.connect import ray_cluster
from orchestrator.errors import InfrastructureError
from orchestrator.hosts.fleet import Fleet
from orchestrator.search.budget import Budget
from orchestrator.search.study_storage import study_storage
from orchestrator.search.trial import TrialTrainable
from orchestrator.search.tune import search, train_replicates
from orchestrator.verdict.table import VariantInfo
from tests.orchestrator.hosts.cluster import fake_cluster
from tests.orchestrator.search.fake_sweep import SECTIONS, fake_context

EPOCHS = 3


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with ray_cluster(None):
        yield


class Heard:
    """The observer, remembering; ``at`` is done at a trial's report of an epoch."""

    def __init__(self, at=None) -> None:
        self.reports: dict[str, list[int]] = {}
        self.ends: dict[str, tuple] = {}
        self._at = dict(at or {})

    def trial_started(self, trial) -> None:
        self.reports.setdefault(trial, [])

    def trial_reported(self, result) -> None:
        self.reports[result["trial"]].append(result["epoch"])
        act = self._at.pop((len(self.reports), result["epoch"]), None)
        if act is not None:
            act(result)

    def trial_ended(self, trial, result) -> None:
        self.ends[trial] = (result.end, result.epochs, result.final)


@dataclass(frozen=True)
class FewTrials(Budget):
    """Holds so many trials, replicates included; None: all."""

    most: int | None = None
    client: object = field(default_factory=threading.Lock)
    """Cannot be pickled, as what speaks to S3 cannot."""

    def refusal(self, slots: int) -> str:
        is_spent = self.most is not None and len(self.ledger.trials()) >= self.most
        return "the budget is spent" if is_spent else ""

    def refusal_of_replicates(self, replicates: int, epochs: int, slots: int) -> str:
        assert (epochs, slots) == (2, 2)
        return self.refusal(slots) and f"no {replicates} replicates"


def few_trials(context, most=None):
    return FewTrials(context.spec, context.ledger(), (), (), 0.0, most=most)


@pytest.fixture
def run(make_spec, tmp_path, monkeypatch):
    """Runs a search over ranks; gives what was heard, and what is left in the end."""

    # However slow the machine, nobody is told to be patient.
    monkeypatch.setattr("orchestrator.hosts.fleet._PATIENCE", None)

    def start(cluster, heard, ranks=(2, 4), interrupted=False, most=None, **sections):
        space = f"search: {{sampler: grid, space: {{rank: {list(ranks)}}}}}"
        spec = make_spec(
            **{**SECTIONS, "search": space, "rungs": "rungs: {scheduler: none}"} | sections
        )
        context = fake_context(spec, tmp_path / "st")
        budget = few_trials(context, most)
        told: list[str] = []
        fleet = Fleet(list(cluster.hosts.values()), cluster.pool, told.append, "a CPU")
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                search(context, fleet, tmp_path / "search", heard, budget)
            fleet.leave()
            return [record.id for record in context.ledger().trials()]
        undone = search(context, fleet, tmp_path / "search", heard, budget)
        assert undone == ("" if most is None else "the budget is spent")
        fleet.beat()
        assert told == ["hosts: a fake packs nothing"]
        assert cluster.is_empty()
        return [record.id for record in context.ledger().trials()]

    return start


def everything(trials):
    return {trial: list(range(1, EPOCHS + 1)) for trial in trials}


def test_every_trial_is_trained_in_a_slot_and_leaves_it(run, tmp_path):
    heard = Heard()
    with fake_cluster(tmp_path / "st", slots=2) as cluster:
        trials = run(cluster, heard, ranks=(1, 2, 4, 8, 16))
        assert heard.reports == everything(trials)
        assert heard.ends == dict.fromkeys(trials, ("finished", EPOCHS, True))
        assert [len(cluster.happened(f"attach {trial}")) for trial in trials] == [1] * 5


@pytest.mark.full
def test_a_killed_process_of_a_trial_reports_nothing_again(run, tmp_path):
    """Killed at the very moment when Ray Tune has heard of its second epoch."""
    kill = Heard({(1, 2): lambda result: os.kill(result["pid"], signal.SIGKILL)})
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        trials = run(cluster, kill)
        assert kill.reports == everything(trials)
        assert kill.ends == dict.fromkeys(trials, ("finished", EPOCHS, True))
        assert [len(cluster.happened(f"advance {trial}")) for trial in trials] == [EPOCHS] * 2
        assert len(cluster.happened(f"attach {trials[0]}")) == 2


@pytest.mark.full
def test_a_dead_host_costs_its_trials_no_report_and_no_retry_of_tunes(run, tmp_path):
    heard = Heard()
    with fake_cluster(tmp_path / "st", slots=2) as cluster:

        def kill(_) -> None:
            cluster.signal_host(0, signal.SIGKILL)

        heard = Heard({(2, 1): kill})
        trials = run(cluster, heard)
        assert heard.reports == everything(trials)
        assert heard.ends == dict.fromkeys(trials, ("finished", EPOCHS, True))
        assert len(cluster.happened("open")) == 2


@pytest.mark.full
def test_a_spent_budget_begins_no_trial_and_leaves_the_begun_ones_alone(run, tmp_path):
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        heard = Heard()
        (first,) = run(cluster, heard, ranks=(2, 4, 8), most=1)
        assert heard.ends == {first: ("finished", EPOCHS, True)}
        again = Heard()
        trials = run(cluster, again, ranks=(2, 4, 8), most=2)
        assert trials[0] == first
        assert again.ends == dict.fromkeys(trials, ("finished", EPOCHS, True))
        assert len(trials) == 2


def interrupt(number, frame):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "by_tune", [False, pytest.param(True, marks=pytest.mark.full)], ids=["ours", "Tune's"]
)
def test_slurms_signal_leaves_the_open_trials_to_the_next_run(run, tmp_path, monkeypatch, by_tune):
    """SIGUSR1, which ends Ray Tune's loop as if it were over, where Tune's own handler gets it."""
    before = signal.signal(signal.SIGUSR1, interrupt)
    if by_tune:
        monkeypatch.setattr("orchestrator.search.tune._Events.setup", lambda self, **_: None)
    try:
        with fake_cluster(tmp_path / "st", slots=1) as cluster:
            heard = Heard({(1, 2): lambda _: os.kill(os.getpid(), signal.SIGUSR1)})
            (only,) = run(cluster, heard, interrupted=True)
            assert heard.ends == {}
            cluster.beat_until(lambda state: state["leases"] == {})  # the hosts have left
    finally:
        signal.signal(signal.SIGUSR1, before)
    with warnings.catch_warnings():
        # Tune has left its trials' files open, for the end of the process to close.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        heard = Heard()
        trials = run(cluster, heard)
        assert trials[0] == only
        assert heard.ends == dict.fromkeys(trials, ("finished", EPOCHS, True))


def test_a_trial_that_diverges_ends_alone(run, tmp_path):
    with fake_cluster(tmp_path / "st", slots=2) as cluster:
        heard = Heard({(2, 1): lambda result: diverge(cluster, result["trial"])})
        trials = run(cluster, heard)
        assert sorted(heard.ends.values()) == [("failed", 1, True), ("finished", EPOCHS, True)]
        (failed,) = [trial for trial in trials if heard.ends[trial][0] == "failed"]
        assert heard.reports == {**everything(trials), failed: [1]}


def diverge(cluster, trial) -> None:
    ray.get(cluster.stage.order.remote(f"advance {trial}", "diverge"))


@pytest.mark.full
def test_a_trial_whose_hosts_die_is_left_to_a_later_run(run, tmp_path):
    """Without retries, one death is too many."""
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        heard = Heard({(1, 1): lambda result: die(cluster, result["trial"])})
        first, second = run(cluster, heard, resources="resources: {trial_retries: 0}")
        assert heard.ends == {first: ("failed", 1, False), second: ("finished", EPOCHS, True)}


def die(cluster, trial) -> None:
    ray.get(cluster.stage.order.remote(f"advance {trial}", "die"))


def test_a_stopped_trial_leaves_its_slot_to_the_next(run, tmp_path):
    """There is one slot, and rungs stop all but the first trial, which is the best."""
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        heard = Heard()
        first, *others = run(cluster, heard, ranks=(1, 2, 4), rungs="rungs: {scheduler: asha}")
        assert heard.ends[first] == ("finished", EPOCHS, True)
        assert [heard.ends[other] for other in others] == [("stopped", 1, True)] * 2
    study = optuna.load_study(study_name="small", storage=study_storage(None, tmp_path / "search"))
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [t.user_attrs["trial"] for t in study.trials] == [first, *others]
    assert list(study.trials[0].intermediate_values) == [1, 2, 3]
    assert study.trials[1].user_attrs["similarity"] == pytest.approx(0.1 + 0.01 - 0.001)
    assert study.trials[1].user_attrs["seconds"] == 0.0  # the fake takes no time


@pytest.mark.full
def test_replicates_are_trained_to_the_winners_epoch_and_are_in_no_study(
    make_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr("orchestrator.hosts.fleet._PATIENCE", None)
    search_for_three = "search: {sampler: grid, confirm_seeds: 3, space: {rank: [2, 4]}}"
    context = fake_context(make_spec(**{**SECTIONS, "search": search_for_three}), tmp_path / "st")
    ledger, point = context.ledger(), {"rank": 2}
    trial = ledger.start_trial(context.trial_spec(point), point).id
    winner = VariantInfo(f"{trial}-e02-s1.00", trial, 2, 1.0, 2, 1e-3, 2.0)
    with fake_cluster(tmp_path / "st", slots=2) as cluster:
        fleet = Fleet(list(cluster.hosts.values()), cluster.pool, print, "a CPU")
        heard, again = Heard(), Heard()
        folder, budget = tmp_path / "search", few_trials(context)
        spent = few_trials(context, most=1)
        refused = train_replicates(context, fleet, folder, heard, spent, winner)
        assert (refused, ledger.replicates(), heard.reports) == ("no 3 replicates", [], {})
        assert train_replicates(context, fleet, folder, heard, budget, winner) == ""
        started = [record.id for record in ledger.replicates()]
        assert heard.reports == {name: [1, 2] for name in started}
        assert heard.ends == dict.fromkeys(started, ("finished", 2, True))
        assert train_replicates(context, fleet, folder, again, spent, winner) == ""
        assert again.reports == {}
        assert cluster.happened("speak") == []
        assert cluster.is_empty()
        # A sweep that has grown, and has a later winner of the same trial.
        later = replace(winner, epoch=EPOCHS)
        assert train_replicates(context, fleet, folder, again, spent, later) == ""
        assert again.ends == dict.fromkeys(started, ("finished", EPOCHS, True))
        assert [len(cluster.happened(f"advance {name}")) for name in started] == [EPOCHS] * 3
    assert len(started) == 3
    assert [record.id for record in ledger.trials()] == [trial]
    assert not (tmp_path / "search" / "optuna.journal").exists()


def test_hosts_that_cannot_be_loaded_end_the_sweep_with_their_reason(tmp_path):
    with (
        fake_cluster(tmp_path / "st", hosts=2, source="missing") as cluster,
        pytest.raises(InfrastructureError, match=r"no base there.*run the same command again"),
    ):
        Fleet(list(cluster.hosts.values()), cluster.pool, print, "a CPU")


def test_of_two_processes_set_up_for_a_trial_only_the_one_that_steps_takes_a_slot(
    make_spec, tmp_path
):
    """Ray Tune asks for a new actor, then finds a cached one, and may set up both."""
    context = fake_context(make_spec(**SECTIONS), tmp_path / "st")
    first, second = (
        {"trial": context.ledger().start_trial(context.trial_spec(point), point).id}
        for point in ({"rank": 2}, {"rank": 4})
    )
    with fake_cluster(tmp_path / "st", slots=1) as cluster:
        made = tune.with_parameters(TrialTrainable, context=context, pool=cluster.pool)
        loser, winner = made(first), made(first)
        assert loser.reset_config(first)
        assert cluster.is_empty()
        assert winner.train()["epoch"] == 1
        held = cluster.state()["leases"]
        assert len(held) == 1
        loser.stop()
        assert cluster.state()["leases"] == held
        assert winner.train()["epoch"] == 2
        assert winner.reset_config(second)
        assert cluster.is_empty()
