"""What a study holds of a sweep's trials, in each storage, and what others put there."""

import os

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from ray.tune.search import Searcher

from orchestrator.errors import InfrastructureError
from orchestrator.search.study_storage import (
    DATABASE_FILE,
    STUDY_FILE,
    study_answering,
    study_storage,
)
from tests.orchestrator.search.study_driver import Driver

SPACE = {"rank": {"choices": [2, 4, 8]}}
SEVERAL = {"objective": "max", "word_error": "min", "seconds": "min"}


@pytest.fixture
def address(tmp_path) -> str:
    return f"journal:{tmp_path / 'study.log'}"


@pytest.fixture
def journal(tmp_path, address):
    def make(directions=None, **search) -> Driver:
        return Driver(tmp_path, {"space": SPACE, **search}, directions, address)

    return make


def states(asked: Driver) -> list[str]:
    return [trial.state.name for trial in asked.study().trials]


@pytest.fixture(
    params=["default", "sqlite", "journal", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def anywhere(request, tmp_path) -> Driver:
    """A search whose study is in each kind of storage."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        where = server.create_database().replace("postgresql+psycopg2://", "postgresql://")
    else:
        where = {
            "default": None,
            "sqlite": f"sqlite:///{tmp_path / 'study.db'}",
            "journal": f"journal:{tmp_path / 'new' / 'study.log'}",
        }[request.param]
    return Driver(tmp_path, {"sampler": "grid", "space": SPACE}, None, where)


def test_every_storage_holds_what_became_of_the_trials(anywhere):
    points = [anywhere.suggest(name) for name in "abc"]
    anywhere.search.on_trial_result("a", {"epoch": 1, "objective": 0.1, "promise": 0.1})
    anywhere.tell("a", points[0])
    anywhere.tell("b", points[1], epoch=2)
    anywhere.search.on_trial_complete("c", {"failed": "nan", "final": True})
    assert anywhere.search.suggest("d") == Searcher.FINISHED
    complete, pruned, failed = anywhere.study().trials
    assert [t.state.name for t in (complete, pruned, failed)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert complete.intermediate_values == {1: 0.1, 4: 0.5}
    assert pruned.intermediate_values == {2: 0.25}
    assert failed.user_attrs["failed"] == "nan"
    assert complete.user_attrs["word_error"] == 0.25
    assert complete.user_attrs["best_variant"].endswith("-e01-s1.00")
    assert complete.user_attrs["constraint word_error"] == -0.1
    # The only form in which optuna-dashboard 0.21 sees it.
    assert complete.system_attrs["constraints"] == [-0.1]
    assert list(complete.constraints.values()) == [-0.1]
    assert anywhere.study().metric_names == ["objective"]


def test_a_study_has_its_file_in_the_sweeps_folder(tmp_path):
    study_storage(None, tmp_path / "sweep")
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [STUDY_FILE]


def test_a_study_that_exists_in_sqlite_goes_on_there(tmp_path):
    """As sweeps of earlier versions began it."""
    database = f"sqlite:///{tmp_path / DATABASE_FILE}"
    begun = Driver(tmp_path, {"sampler": "grid", "space": SPACE}, None, database)
    points = [begun.suggest(name) for name in "ab"]
    begun.tell("a", points[0])
    resumed = Driver(tmp_path, {"sampler": "grid", "space": SPACE}, None, None)
    assert resumed.ask(5)[:2] == points
    assert not (tmp_path / STUDY_FILE).exists()
    study = optuna.load_study(study_name="sweep", storage=database)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


class TestAJournalAfterAKill:
    @pytest.fixture
    def journal(self, tmp_path) -> bytes:
        """The records of a sweep of three trials, each with two reports."""
        whole = Driver(tmp_path, {"sampler": "grid", "space": SPACE})
        for name in "abc":
            point = whole.suggest(name)
            result = {"epoch": 1, "objective": 0.1, "promise": 0.1}
            whole.search.on_trial_result(name, result)
            whole.tell(name, point)
        return (tmp_path / STUDY_FILE).read_bytes()

    @pytest.fixture
    def resume(self, tmp_path):
        """The study that a run makes of a journal, whose ledger has all three trials."""

        def run(content: bytes) -> list:
            (tmp_path / STUDY_FILE).write_bytes(content)
            asked = Driver(tmp_path, {"sampler": "grid", "space": SPACE})
            asked.ask(5)
            return [(t.state, t.params, t.values, t.user_attrs) for t in asked.study().trials]

        return run

    def test_it_is_resumed_from_any_byte_to_the_same_study(self, journal, resume):
        expected, lines = resume(journal), journal.splitlines(keepends=True)
        starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
        cuts = {*starts, *range(1, len(journal), 301)}
        assert len(cuts) > 45
        for cut in sorted(cuts):
            assert resume(journal[:cut]) == expected, cut

    def test_a_lock_that_was_left_is_waited_for_briefly(self, tmp_path, monkeypatch):
        """The clock and the pauses are the test's own."""
        clock = [0.0]
        monkeypatch.setattr("optuna.storages.journal._file.time.monotonic", lambda: clock[0])
        monkeypatch.setattr(
            "optuna.storages.journal._file.time.sleep",
            lambda seconds: clock.__setitem__(0, clock[0] + seconds),
        )
        for left in (lambda lock: lock.touch(), lambda lock: os.symlink(STUDY_FILE, lock)):
            left(tmp_path / f"{STUDY_FILE}.lock")
            clock[0] = 0.0
            monkeypatch.chdir(tmp_path)
            study_storage(f"journal:{STUDY_FILE}", tmp_path)
            assert 0 < clock[0] < 10
            assert not os.path.lexists(tmp_path / f"{STUDY_FILE}.lock")

    @pytest.mark.parametrize("content", [b"SQLite format 3\0", b'{"text": "one"}\n{"te', b"one"])
    def test_another_file_is_refused_and_left_as_it_is(self, tmp_path, content):
        (tmp_path / "notes").write_bytes(content)
        with pytest.raises(InfrastructureError, match=r"damaged: it does not begin .* records.opt"):
            study_storage(f"journal:{tmp_path / 'notes'}", tmp_path)
        assert (tmp_path / "notes").read_bytes() == content

    @pytest.mark.parametrize("line", [1, -1])
    def test_a_damaged_record_is_told(self, journal, resume, line):
        lines = journal.splitlines(keepends=True)
        lines[line] = lines[line][:5] + b"\n"
        with pytest.raises(InfrastructureError, match=r"is damaged: .* move the file away"):
            resume(b"".join(lines))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("sqlite:////nowhere/at/all/o.db", "unable to open database file: start it, or correct"),
        ("postgresql://ann@127.0.0.1:1/x", r"127\.0\.0\.1:1/x does not answer: .*refused"),
        ("mysql://ann:secret@h/x", r"mysql://ann:\*\*\*@h/x does not answer"),
    ],
)
def test_a_storage_that_does_not_answer_is_told(tmp_path, where, said):
    with pytest.raises(InfrastructureError, match=said):
        study_storage(where, tmp_path)


def test_several_objectives_are_stored_by_name(journal):
    asked = journal(SEVERAL)
    first = asked.suggest("a")
    asked.search.on_trial_result("a", {"epoch": 1, "objective": 0.1, "promise": 0.1})
    asked.tell("a", first)
    second = asked.suggest("b")
    asked.tell("b", second, epoch=1)
    study = asked.study()
    assert study.metric_names == list(SEVERAL)
    assert [direction.name for direction in study.directions] == [
        "MAXIMIZE",
        "MINIMIZE",
        "MINIMIZE",
    ]
    complete, pruned = study.trials
    assert complete.values == [1 / first["rank"], 0.25, 10.0]
    assert (pruned.state.name, pruned.values) == ("PRUNED", None)
    assert pruned.user_attrs["word_error"] == 0.25


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_keep_away_from_what_breaks_a_constraint(tmp_path, address, sampler):
    """The objective lures upwards, and whatever is above 0.5 is broken."""
    space = {"dropout": {"low": 0.0, "high": 0.99}}
    asked = Driver(tmp_path, {"sampler": sampler, "trials": 30, "space": space}, None, address)
    drawn = []
    for number in range(16):
        point = asked.suggest(f"t{number}")
        broken = {"constraints/word_error": point["dropout"] - 0.5}
        asked.tell(f"t{number}", point, objective=point["dropout"], **broken)
        drawn.append(point["dropout"])
    late = drawn[11:]
    assert sum(value <= 0.55 for value in late) > len(late) / 2
    assert asked.study().best_trial.params["dropout"] <= 0.5


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "random"])
def test_a_seed_gives_the_same_points(tmp_path, sampler):
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "rank": {"low": 2, "high": 64},
        "schedule": {"choices": ["linear", "cosine"]},
    }
    drawn = []
    count = 4 if sampler == "gp" else 6  # it fits a model for each
    for run, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(run)
        folder.mkdir()
        search = {"sampler": sampler, "trials": 6, "seed": seed, "space": space}
        drawn.append(Driver(folder, search, None, f"journal:{folder / 'o.log'}").ask(count))
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({point["learning_rate"] for point in drawn[0]}) == count


def test_qmc_spreads_more_evenly_than_chance(tmp_path, address):
    """Of 8 points of a scrambled Sobol sequence each eighth of the range gets about one."""
    space = {"dropout": {"low": 0.0, "high": 0.99}}
    asked = Driver(tmp_path, {"sampler": "qmc", "trials": 9, "space": space}, None, address)
    drawn = [point["dropout"] for point in asked.ask(9)][1:]
    assert len({int(value / 0.99 * 8) for value in drawn}) >= 7


def test_a_later_run_takes_up_what_the_study_has(journal):
    asked = journal(sampler="grid")
    points = [asked.suggest(name) for name in "abc"]
    asked.tell("a", points[0])
    asked.search.on_trial_result("b", {"epoch": 1, "objective": 0.1, "promise": 0.1})
    asked.build()
    assert asked.ask(5) == points
    study = asked.study()
    assert states(asked) == ["COMPLETE"] * 3
    assert study.trials[1].intermediate_values == {1: 0.1, 4: 0.25}


def test_a_study_that_was_lost_is_made_again(journal, tmp_path):
    asked = journal(sampler="grid")
    points = asked.ask(3)
    (tmp_path / "study.log").unlink()
    asked.build()
    assert asked.ask(5) == points
    assert states(asked) == ["COMPLETE"] * 3


def test_a_trial_that_is_taken_up_again_after_a_failure_is_a_new_one(journal):
    asked = journal(sampler="grid")
    point = asked.suggest("a")
    asked.search.on_trial_complete("a", None, error=True)
    asked.build()
    assert asked.ask(1) == [point]
    assert states(asked) == ["FAIL", "COMPLETE"]


class TestWhatOthersPutThere:
    @pytest.fixture
    def theirs(self, address, tmp_path) -> optuna.Study:
        return optuna.create_study(
            study_name="sweep", storage=study_storage(address, tmp_path), direction="maximize"
        )

    def test_their_trials_stay(self, journal, theirs):
        rank = optuna.distributions.CategoricalDistribution([2, 4, 8])
        theirs.add_trial(
            optuna.trial.create_trial(params={"rank": 2}, distributions={"rank": rank}, value=0.7)
        )
        asked = journal()
        asked.ask(2)
        asked.build()
        asked.ask(2)
        first, *ours = asked.study().trials
        assert (first.value, first.user_attrs) == (0.7, {})
        assert all("trial" in trial.user_attrs for trial in ours)

    @pytest.mark.parametrize("sampler", ["tpe", "grid"])
    def test_a_point_that_waits_is_run_first(self, journal, theirs, sampler):
        theirs.enqueue_trial({"rank": 8})
        asked = journal(sampler=sampler, trials=3)
        assert asked.suggest("a") == {"rank": 8}
        asked.build()
        points = asked.ask(9)
        assert sorted(point["rank"] for point in points) == [2, 4, 8]
        assert TrialState.WAITING not in {trial.state for trial in asked.study().trials}

    @pytest.mark.parametrize("params", [{"rank": 3}, {"rank": "8"}, {"alpha": 2}])
    def test_a_point_that_does_not_fit_is_refused(self, journal, theirs, params):
        theirs.enqueue_trial(params)
        asked = journal()
        assert asked.ask(1)[0]["rank"] in (2, 4, 8)
        refused = asked.study().trials[0]
        assert refused.state == TrialState.FAIL
        assert refused.user_attrs["refused"] == f"not in the space: {list(params)}"


def test_a_storage_that_stops_answering_is_told(tmp_path):
    said = "the study's storage postgresql://h/d does not answer: connection lost: start it"
    with (
        pytest.raises(InfrastructureError, match=said),
        study_answering("postgresql://h/d", tmp_path),
    ):
        raise StorageInternalError("connection lost\nmore")
