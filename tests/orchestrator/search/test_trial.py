"""A trial's epochs in a slot that a pool lends: what is committed, and when hosts die."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from jobs.spec.data import MixSpec
from jobs.speech.clips import Origin, write_clips
from jobs.training.epochs import DivergedError, EpochLosses, write_losses
from orchestrator.context import SweepContext
from orchestrator.hosts.leased_slot import HostLostError, SlotPreemptedError
from orchestrator.ledger import Ledger, TrialResult
from orchestrator.search.trial import HostsDiedError, TrialFailedError, TrialRun
from tests.orchestrator.search.fake_sweep import PROMPTS, SECTIONS, fake_context

ORIGIN = Origin("base", "codec_lm", "a synthetic voice")

POINT = {"rank": 2}


class Slot:
    """Does at once what a host would do; fails where it is told to."""

    def __init__(self, ledger: Ledger, fails: Mapping[int, Exception]) -> None:
        self._ledger = ledger
        self._fails = dict(fails)
        """By the number of the call, from 0."""
        self.calls: list[tuple[object, ...]] = []

    def attach(self, trial, checkpoint, *, alone) -> None:
        self._call("attach", checkpoint and checkpoint[-3:], alone)
        if checkpoint is not None:
            with self._ledger.storage.borrow(checkpoint):
                pass

    def advance(self, key, partial) -> EpochLosses:
        epoch = int(key[-3:])
        assert partial == key.replace("checkpoints", "partial")
        losses = EpochLosses(epoch, 3.0 / epoch, 2.0 / epoch, (1.0,), (0.1,), 1.0, 1e9)
        failure = self._call("advance", epoch)
        with self._ledger.storage.commit(key) as directory:
            write_losses(directory, losses)
            (directory / "weights").write_bytes(b"as epoch %d left them" % epoch)
        if failure is not None:
            raise failure
        return losses

    def speak(self, keys, prompts, decoding, items) -> None:
        assert [prompt.id for prompt in prompts] == [prompt.id for prompt in PROMPTS]
        self._call("speak", *keys)
        for scale, key in keys.items():
            assert key.endswith(f"-s{scale:.2f}")
            with self._ledger.storage.commit(key) as directory:
                write_clips(directory, [], [], ORIGIN)

    def release(self) -> None:
        self.calls.append(("release",))

    def _call(self, *call) -> Exception | None:
        """Raise what was planned; a failure after the work is done is left to the caller."""
        failure = self._fails.pop(len(self.calls), None)
        self.calls.append(call)
        if isinstance(failure, AfterCommitError):
            return failure
        if failure is not None:
            raise failure
        return None


class AfterCommitError(HostLostError):
    """The host did what it was asked, and died before it said so."""


@pytest.fixture
def context(make_spec, tmp_path, request) -> SweepContext:
    where = str(tmp_path / "st")
    if "s3" in request.node.name:
        request.getfixturevalue("bucket")
        where = "s3://voices/st"
    context = fake_context(make_spec(**SECTIONS), where)
    context.ledger().start_trial(context.trial_spec(POINT), POINT)
    return context


@pytest.fixture(params=["local", "s3"])
def damage(request, context) -> Callable[[str, str], None]:
    """On each kind of storage, has a committed file hold other bytes."""
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")

    def change(key: str, name: str) -> None:
        if request.param == "local":
            context.ledger().storage.fetch(key).joinpath(name).write_bytes(b"other")
            return
        start = "st/{}/.{}.".format(*key.rsplit("/", 1))
        (found,) = (o for o in bucket.objects.filter(Prefix=start) if o.key.endswith(f"/{name}"))
        bucket.put_object(Key=found.key, Body=b"other")

    return change


@pytest.fixture
def start(context):
    """A trial in a slot that fails at the calls given by number."""

    def make(fails=None) -> tuple[TrialRun, Slot]:
        slot = Slot(context.ledger(), fails or {})
        (record,) = context.ledger().trials()
        return TrialRun(context, record.id, slot), slot

    return make


def lost(what: str = "it died") -> HostLostError:
    return HostLostError(what)


def test_a_trial_has_what_its_mix_means(make_spec, tmp_path):
    """The name is the spec's; what the clips are mixed by determines the weights."""
    data = "data: {mixes: {mixed: {by: speaker, shares: {ann: 0.4, bob: 0.6}}, even: {by: speaker, \
temperature: 100}}}"
    search = "search: {space: {mix: [null, mixed, even]}}"
    context = fake_context(make_spec(**SECTIONS, data=data, search=search), tmp_path / "mixes")
    trials = {name: context.trial_spec({"mix": name}) for name in (None, "mixed", "even")}
    assert trials[None].mix is None
    assert trials["mixed"].mix == MixSpec(by="speaker", shares={"ann": 0.4, "bob": 0.6})
    assert trials["even"].mix == MixSpec(by="speaker", temperature=100)
    assert len({trial.id for trial in trials.values()}) == 3
    for trial in trials.values():
        record = context.ledger().start_trial(trial, {"mix": trial.training.mix})
        assert context.ledger().trial(record.id).spec == trial
    with pytest.raises(
        ValueError, match=r"one of data\.mixes, got 'other'\. Valid names: even, mixed\."
    ):
        context.trial_spec({"mix": "other"})


def test_an_epoch_is_trained_and_all_its_variants_speak_in_one_batch(start):
    run, slot = start()
    reports = [run.next_epoch() for _ in range(3)]
    assert slot.calls == [
        ("attach", None, False),
        *[call for epoch in (1, 2, 3) for call in (("advance", epoch), ("speak", 0.5, 1.0))],
    ]
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert [report["done"] for report in reports] == [False, False, True]
    assert [report["best_variant"][-8:] for report in reports] == [f"0{n}-s1.00" for n in (1, 2, 3)]


def test_committed_epochs_need_no_slot(start):
    first, _ = start()
    reports = [first.next_epoch() for _ in range(3)]
    run, slot = start()
    assert [run.next_epoch() for _ in range(3)] == reports
    assert slot.calls == []


def test_it_goes_on_after_the_last_committed_epoch(start, context):
    first, _ = start()
    first.next_epoch()
    first.next_epoch()
    storage = context.ledger().storage
    (missing,) = storage.root.glob("*/clips/screen/*-e02-s0.50")
    for path in missing.iterdir():
        path.unlink()
    missing.rmdir()
    run, slot = start()
    for _ in range(3):
        run.next_epoch()
    assert slot.calls == [
        ("attach", "002", False),
        ("speak", 0.5),
        ("advance", 3),
        ("speak", 0.5, 1.0),
    ]


def test_when_its_host_dies_it_goes_on_alone_and_then_with_others_again(start):
    undisturbed, _ = start()
    run, slot = start({3: lost()})
    run.next_epoch()
    run.next_epoch()
    assert slot.calls == [
        *(("attach", None, False), ("advance", 1), ("speak", 0.5, 1.0)),
        ("advance", 2),  # the host dies
        *(("attach", "001", True), ("advance", 2), ("release",)),
        *(("attach", "002", False), ("speak", 0.5, 1.0)),
    ]
    assert undisturbed.next_epoch()["epoch"] == 1


@pytest.mark.parametrize("call", [0, 1, 2], ids=["attach", "advance", "speak"])
def test_a_host_may_die_at_any_call(start, call):
    run, slot = start({call: lost()})
    assert run.next_epoch()["epoch"] == 1
    assert slot.calls.count(("attach", None, True)) == (call < 2)
    assert slot.calls.count(("release",)) == 1


def test_what_was_committed_before_the_host_died_is_not_trained_again(start):
    run, slot = start({1: AfterCommitError("no answer")})
    run.next_epoch()
    assert slot.calls == [
        ("attach", None, False),
        ("advance", 1),
        ("release",),
        ("attach", "001", False),
        ("speak", 0.5, 1.0),
    ]


def test_deaths_in_a_row_end_it_but_those_with_a_commit_between_do_not(start, context):
    """The spec has two retries."""
    assert context.spec.resources.trial_retries == 2
    # One death each before epochs 1 and 2, and one before each one's speech.
    run, _ = start({1: lost(), 5: lost(), 9: lost(), 13: lost()})
    assert [run.next_epoch()["epoch"] for _ in range(3)] == [1, 2, 3]


def test_too_many_deaths_in_a_row(start):
    run, slot = start({1: lost("first"), 3: lost("second"), 5: lost("third")})
    with pytest.raises(HostsDiedError, match=r"3 hosts died in a row .* the last: third"):
        run.next_epoch()
    assert [call for call in slot.calls if call[0] == "attach"] == [
        ("attach", None, False),
        ("attach", None, True),
        ("attach", None, True),
    ]


def test_a_trial_that_is_preempted_goes_on_within_its_epoch(start, context):
    """However often: nobody is to blame, so it counts as no death, and it need not be alone."""
    ledger = context.ledger()
    (record,) = ledger.trials()
    run, slot = start({3 + 2 * n: SlotPreemptedError("the node is going") for n in range(4)})
    run.next_epoch()
    for step in (3, 12):
        with ledger.storage.commit(f"{ledger.partial(record.id, 2)}-step-{step:06d}"):
            pass
    with ledger.storage.commit(f"{ledger.partial(record.id, 3)}-step-000001"):
        pass
    assert run.next_epoch()["epoch"] == 2
    cut_short = ("attach", "012", False)
    assert slot.calls == [
        *(("attach", None, False), ("advance", 1), ("speak", 0.5, 1.0)),
        ("advance", 2),
        *(cut_short, ("advance", 2)) * 4,
        ("speak", 0.5, 1.0),
    ]


def test_a_trial_that_diverges_has_failed(start):
    run, _ = start({1: DivergedError("the loss must be finite, got nan")})
    with pytest.raises(TrialFailedError, match="got nan"):
        run.next_epoch()


def test_a_trial_that_diverged_is_not_trained_again(start, context):
    (record,) = context.ledger().trials()
    context.ledger().end_trial(record.id, TrialResult("failed", 0, "the loss must be finite"))
    run, slot = start()
    with pytest.raises(TrialFailedError, match="the loss must be finite"):
        run.next_epoch()
    assert slot.calls == []


def committed(start, epochs: int) -> None:
    run, _ = start()
    for _ in range(epochs):
        run.next_epoch()


def test_a_damaged_epoch_is_trained_again_from_the_one_before(start, context, damage):
    committed(start, 2)
    ledger = context.ledger()
    (record,) = ledger.trials()
    damage(ledger.checkpoint(record.id, 2), "weights")
    run, slot = start()
    reports = [run.next_epoch() for _ in range(3)]
    assert slot.calls == [
        ("attach", "002", False),
        ("attach", "001", False),
        *(("advance", 2), ("advance", 3), ("speak", 0.5, 1.0)),
    ]
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert [len(report["damaged"]) for report in reports] == [0, 0, 1]
    (told,) = reports[2]["damaged"]
    assert "epoch-002 is damaged: weights has " in told
    assert ".epoch-002.damaged-" in told
    committed(start, 3)


def test_when_all_epochs_are_damaged_it_begins_anew(start, context, damage):
    committed(start, 2)
    ledger = context.ledger()
    (record,) = ledger.trials()
    for epoch in (1, 2):
        damage(ledger.checkpoint(record.id, epoch), "weights")
    run, slot = start()
    assert [run.next_epoch()["epoch"] for _ in range(3)] == [1, 2, 3]
    assert slot.calls == [
        *(("attach", "002", False), ("attach", "001", False), ("attach", None, False)),
        *(("advance", epoch) for epoch in (1, 2, 3)),
        ("speak", 0.5, 1.0),
    ]


def test_an_epoch_whose_losses_are_damaged_is_trained_again(start, context, damage):
    committed(start, 3)
    ledger = context.ledger()
    (record,) = ledger.trials()
    before = [ledger.losses(record.id, epoch) for epoch in (1, 2, 3)]
    damage(ledger.checkpoint(record.id, 2), "losses.json")
    run, slot = start()
    assert [run.next_epoch()["epoch"] for _ in range(3)] == [1, 2, 3]
    again = context.ledger()
    assert [again.losses(record.id, epoch) for epoch in (1, 2, 3)] == before
    assert slot.calls == [("attach", "001", False), ("advance", 2)]


def test_a_damaged_part_of_an_epoch_is_left_out(start, context, damage):
    committed(start, 1)
    ledger = context.ledger()
    (record,) = ledger.trials()
    for step in (3, 12):
        part = f"{ledger.partial(record.id, 2)}-step-{step:06d}"
        with ledger.storage.commit(part) as directory:
            (directory / "weights").write_bytes(b"amid epoch 2")
    damage(part, "weights")
    run, slot = start()
    assert [run.next_epoch()["epoch"] for _ in range(2)] == [1, 2]
    assert slot.calls == [
        *(("attach", "012", False), ("attach", "003", False)),
        *(("advance", 2), ("speak", 0.5, 1.0)),
    ]


def test_damaged_clips_are_spoken_again(context):
    """Whoever scores them finds it, and sets them aside."""
    ledger, scorers = context.ledger(), context.scorers
    (record,) = ledger.trials()

    class Finding:
        found = False

        def score(self, variants, prompts="screen"):
            if not self.found:
                self.found = True
                raise ledger.storage.set_aside(ledger.clips(variants[1]), "a clip is missing")
            return scorers.score(variants, prompts)

    slot = Slot(ledger, {})
    run = TrialRun(replace(context, scorers=Finding()), record.id, slot)
    (told,) = run.next_epoch()["damaged"]
    assert "s1.00 is damaged: a clip is missing; it was set aside as " in told
    assert slot.calls[1:] == [("advance", 1), ("speak", 0.5, 1.0), ("speak", 1.0)]
