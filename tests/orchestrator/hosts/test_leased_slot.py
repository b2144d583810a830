"""What a trial sees of its slot: results, its own errors by their names, and lost hosts."""

import uuid

import pytest

from cluster.ray.connect import ray_cluster
from cluster.storage.base import LocalStorage
from cluster.storage.committed import DamagedError
from jobs.clips import ItemAnswer
from jobs.spec.items import PassageItem
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.clips import read_answers, read_clips
from jobs.training.epochs import DivergedError
from orchestrator.hosts.host_actor import SlotFailedError
from orchestrator.hosts.leased_slot import HostLostError
from orchestrator.hosts.leases import FencedError
from tests.losses import read_losses
from tests.orchestrator.hosts.cluster import fake_cluster
from tests.orchestrator.hosts.fake_loop import fake_trial


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_cluster(None), fake_cluster(tmp_path_factory.mktemp("storage")) as cluster:
        yield cluster


@pytest.fixture
def trial():
    """One that no other test has used."""
    return fake_trial(uuid.uuid4().int % 2**31)


@pytest.fixture
def slot(cluster):
    slot = cluster.slot()
    yield slot
    slot.release()
    cluster.wait_until_empty()


def key(trial, epoch):
    return f"trials/{trial.id}/epoch-{epoch:03d}"


def keys(trial, epoch):
    """Of an epoch's checkpoint, and how those begin of what there is of it when it is cut short."""
    return key(trial, epoch), f"trials/{trial.id}/partial/epoch-{epoch:03d}"


def test_an_epoch_is_committed_when_advance_returns(cluster, slot, trial):
    slot.attach(trial, None)
    losses = slot.advance(*keys(trial, 1))
    assert read_losses(LocalStorage(cluster.storage).fetch(key(trial, 1))) == losses
    assert slot.advance(*keys(trial, 2)).epoch == 2


def test_every_scale_speaks_in_one_call(cluster, slot, trial):
    slot.attach(trial, None)
    prompts = [PromptSpec(id="p0", text="one"), PromptSpec(id="p1", text="two")]
    keys = {0.7: f"clips/{trial.id}-a", 1.0: f"clips/{trial.id}-b"}
    item = PassageItem(id="t", text="A text.")
    slot.speak(keys, prompts, DecodingSpec(), [item])
    storage = LocalStorage(cluster.storage)
    for scale, place in keys.items():
        directory = storage.fetch(place)
        assert [clip.text for clip in read_clips(directory).values()] == ["one", "two"]
        assert read_answers(directory) == [ItemAnswer(item, (-scale,))]
    assert cluster.happened(f"speak {trial.id}") == [
        f"speak {trial.id} 0 0.7",
        f"speak {trial.id} 0 1.0",
    ]


def test_a_trial_starts_where_its_checkpoint_is(slot, trial):
    slot.attach(trial, None)
    slot.advance(*keys(trial, 1))
    slot.attach(trial, key(trial, 1))
    assert slot.advance(*keys(trial, 2)).epoch == 2


def test_another_trial_takes_another_lease(cluster, slot, trial):
    slot.attach(trial, None)
    (before,) = cluster.state()["leases"].items()
    other = fake_trial(trial.training.seed + 1)
    slot.attach(other, None)
    (after,) = cluster.state()["leases"].items()
    assert before[1] == trial.id
    assert after[1] == other.id
    assert before[0] != after[0]


def test_a_diverged_trial_is_told_so_and_its_host_goes_on(cluster, slot, trial):
    slot.attach(trial, None)
    cluster.order(f"advance {trial.id}", "diverge")
    with pytest.raises(DivergedError, match="must be finite, got nan") as raised:
        slot.advance(*keys(trial, 1))
    assert type(raised.value) is DivergedError
    assert not LocalStorage(cluster.storage).is_committed(key(trial, 1))
    assert slot.advance(*keys(trial, 1)).epoch == 1


def test_what_fails_of_one_slot_ends_no_host(cluster, slot, trial):
    deaths = cluster.state()["deaths"]
    slot.attach(trial, None)
    cluster.order(f"advance {trial.id}", "fail")
    with pytest.raises(SlotFailedError, match="ValueError: too large a batch"):
        slot.advance(*keys(trial, 1))
    slot.attach(trial, None)
    assert slot.advance(*keys(trial, 1)).epoch == 1
    assert cluster.state()["deaths"] == deaths


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("spoil", "an illegal memory access"),
        ("break", "a rank died"),
        ("break itself", "the optimisers did not all step"),
        ("die", "unavailable"),
    ],
)
def test_what_a_host_cannot_survive_ends_it(cluster, slot, trial, end, reason):
    deaths = cluster.state()["deaths"]
    slot.attach(trial, None)
    slot.advance(*keys(trial, 1))
    cluster.order(f"advance {trial.id}", end)
    with pytest.raises(HostLostError, match=reason):
        slot.advance(*keys(trial, 2))
    slot.attach(trial, key(trial, 1))
    assert slot.advance(*keys(trial, 2)).epoch == 2
    # Ray may tell the pool of a death after it has started the next process.
    cluster.beat_until(lambda state: state["deaths"] == deaths + 1)


def test_the_newest_holder_of_a_trial_fences_the_older(cluster, slot, trial):
    old = cluster.slot()
    old.attach(trial, None)
    old.advance(*keys(trial, 1))
    slot.attach(trial, key(trial, 1))
    with pytest.raises(HostLostError, match="fenced"):
        old.advance(*keys(trial, 2))
    with pytest.raises(FencedError):
        old.attach(trial, key(trial, 1))
    assert slot.advance(*keys(trial, 2)).epoch == 2
    old.release()
    assert slot.advance(*keys(trial, 3)).epoch == 3


def test_a_damaged_checkpoint_is_told_so_and_its_host_goes_on(cluster, slot, trial):
    deaths = cluster.state()["deaths"]
    slot.attach(trial, None)
    slot.advance(*keys(trial, 1))
    (LocalStorage(cluster.storage).fetch(key(trial, 1)) / "losses.json").write_bytes(b"{}")
    with pytest.raises(DamagedError, match=r"losses\.json has 2 bytes") as raised:
        slot.attach(trial, key(trial, 1))
    assert type(raised.value) is DamagedError
    assert not LocalStorage(cluster.storage).is_committed(key(trial, 1))
    slot.attach(trial, None)
    assert slot.advance(*keys(trial, 1)).epoch == 1
    assert cluster.state()["deaths"] == deaths


def test_a_slot_must_be_attached_first(slot, trial):
    with pytest.raises(RuntimeError, match="attached before its slot is used"):
        slot.advance(*keys(trial, 1))


def test_a_checkpoint_must_have_been_committed(slot, trial):
    with pytest.raises(SlotFailedError):
        slot.attach(trial, key(trial, 7))
