"""Finalists say set B on hosts without a model: committed once, on another host if one dies."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ray.connect import ray_cluster
from cluster.storage.base import LocalStorage
from jobs.spec.trial import Variant
from jobs.speech.clips import read_clips
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import CONFIRMATION
from orchestrator.search.synthesis import synthesise_missing
from tests.orchestrator.hosts.cluster import KILL, fake_cluster
from tests.orchestrator.search.fake_sweep import CONFIRMATION as FRESH
from tests.orchestrator.search.fake_sweep import SECTIONS, fake_context


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with ray_cluster(None):
        yield


@pytest.fixture
def cluster(tmp_path):
    with fake_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def context(make_spec, tmp_path):
    return fake_context(make_spec(**SECTIONS), tmp_path)


@pytest.fixture
def finalists(context):
    """Two trials, each with its second epoch at another scale."""
    variants, ledger = [], context.ledger()
    for rank, scale in ((2, 0.5), (4, 1.0)):
        point = {"rank": rank}
        trial = ledger.start_trial(context.trial_spec(point), point).id
        with ledger.storage.commit(ledger.checkpoint(trial, 2)) as directory:
            write_losses(directory, EpochLosses(2, 1.0, 1.0, (), (), 1.0, 1e9))
        variants.append(Variant(trial=trial, epoch=2, lora_scale=scale))
    return variants


def test_each_says_set_b_once(cluster, context, finalists):
    synthesise_missing(context, cluster.pool, finalists, CONFIRMATION)
    synthesise_missing(context, cluster.pool, finalists, CONFIRMATION)
    for variant in finalists:
        key = context.ledger().clips(variant.id, CONFIRMATION)
        clips = read_clips(LocalStorage(cluster.storage).fetch(key))
        assert [clip.text for clip in clips.values()] == [prompt.text for prompt in FRESH]
    assert sorted(cluster.happened("speak")) == sorted(
        f"speak {v.trial} 2 {v.lora_scale}" for v in finalists
    )
    cluster.wait_until_empty()


@pytest.mark.full
def test_one_whose_host_dies_speaks_on_the_next(cluster, context, finalists):
    (first, _) = finalists
    said = f"speak {first.trial} 2 0.5"
    cluster.hold(said)
    with ThreadPoolExecutor(1) as beside:
        speaking = beside.submit(synthesise_missing, context, cluster.pool, [first], CONFIRMATION)
        cluster.wait_for(said)
        cluster.signal_host(0, KILL)
        cluster.let(said)
        speaking.result()
    assert LocalStorage(cluster.storage).is_committed(
        context.ledger().clips(first.id, CONFIRMATION)
    )
    cluster.wait_until_empty()


def test_one_that_cannot_be_loaded_is_told_with_the_next_step(cluster, context, finalists):
    lost = finalists[0].model_copy(update={"epoch": 7})
    with pytest.raises(
        InfrastructureError, match=r"could not say the confirmation .*Run the same command"
    ):
        synthesise_missing(context, cluster.pool, [lost], CONFIRMATION)
