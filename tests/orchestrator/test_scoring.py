"""A scorer measures what the protocol says, at the versions that it says."""

import pytest

from cluster.storage import LocalStorage
from jobs.data.keys import data_key
from jobs.data.prepare import prepare
from jobs.data.spec import DataSpec
from jobs.metrics.asked import MetricSpec
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.spec import PromptSpec
from jobs.speech.clips import write_clips
from orchestrator.ledger import SCREEN, Ledger
from orchestrator.scoring import ClipScorer, ScoringTask
from tests.embedded_voice import embedded_clips
from tests.jobs.metrics.tiny_models import write_whisper


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, embedded_base):
    storage = LocalStorage(tmp_path_factory.mktemp("st"))
    digest = prepare(embedded_clips(), embedded_base, storage, DataSpec()).digest
    return storage, data_key(digest)


@pytest.fixture
def task(prepared, make_spec, tmp_path):
    """Of one clip, spoken, in a language that only its prompt says."""
    storage, key = prepared
    model = write_whisper(tmp_path / "whisper")
    scoring = make_spec(
        scoring="scoring:\n  primary: similarity\n  metrics:\n    - similarity\n"
        f"    - {{name: whisper_character_error, model: {model}}}"
    ).scoring
    ledger = Ledger(storage, tmp_path.name)
    prompt = PromptSpec(id="a", text="មួយ", language="km")
    with storage.commit(ledger.clips("base", SCREEN)) as directory:
        write_clips(directory, [prompt], [voice()])
    versions = {m.name: metric_of(m).version for m in scoring.asked(scoring.measured)}
    return ScoringTask(storage.url, tmp_path.name, key, scoring, versions, {SCREEN: 0})


def voice():
    from jobs.data.audio import read_audio
    from jobs.metrics.base import SpokenClip

    row = embedded_clips()[0].row
    return SpokenClip(*read_audio(row.audio), row.text, reached_end=True)


def test_a_clip_is_scored_by_what_was_asked_for_in_its_own_language(task):
    (row,) = ClipScorer(task).score("base", SCREEN)
    assert row.failures == {}
    assert set(row.values) == set(task.scoring.measured)


def test_another_version_on_this_machine_scores_nothing(task):
    versions = {**task.versions, "similarity": "1 pretrained.pt:000000000000"}
    other = ScoringTask(
        task.storage_url, task.sweep, task.data_key, task.scoring, versions, task.seeds
    )
    with pytest.raises(ScorerUnavailable, match=r"here similarity has version .*, not '1 pretra"):
        ClipScorer(other).score("base", SCREEN)


def test_what_is_not_there_scores_nothing(task):
    gone = MetricSpec(name="whisper_character_error", model="no/such", required=False)
    scoring = task.scoring.model_copy(update={"metrics": (*task.scoring.metrics[:1], gone)})
    other = ScoringTask(
        task.storage_url, task.sweep, task.data_key, scoring, task.versions, task.seeds
    )
    with pytest.raises(ScorerUnavailable, match="run `hf download no/such"):
        ClipScorer(other).score("base", SCREEN)
