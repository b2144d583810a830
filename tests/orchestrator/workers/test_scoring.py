"""A scorer measures what the protocol says, at the versions that it says."""

from dataclasses import replace

import pytest

from cluster.storage.base import LocalStorage, open_storage
from jobs.audio.files import read_audio
from jobs.clips import ItemAnswer
from jobs.data.prepared.files import reference_recordings
from jobs.data.prepared.keys import data_key
from jobs.data.prepared.prepare import prepare
from jobs.metrics.catalogue import ScorerUnavailable
from jobs.metrics.references import MIN_REFERENCES
from jobs.metrics.speaker import SpeakerSimilarity
from jobs.spec.data import DataSpec
from jobs.spec.items import PassageItem
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import PromptSpec
from jobs.speech.clips import Origin, read_clips, write_clips
from orchestrator.ledger import SCREEN, Ledger
from orchestrator.scores.from_ledger import protocol_for
from orchestrator.workers.preparation import Prepared
from orchestrator.workers.scoring import ClipScorer
from tests.embedded_voice import embedded_clips
from tests.jobs.metrics.tiny_models import write_whisper
from tests.orchestrator.search.fake_sweep import CONFIRMATION, PROMPTS

PREPARED = Prepared("b", "d", "e")
ORIGIN = Origin("base", "codec_lm", "a synthetic voice")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, embedded_base):
    """The held-out clips, which are the references, and one to train on."""
    train, *_ = (clip for clip in embedded_clips() if clip.row.split == "train")
    held_out = [clip for clip in embedded_clips() if clip.row.split == "validation"]
    storage = LocalStorage(tmp_path_factory.mktemp("st"))
    return storage, prepare([train, *held_out], embedded_base, storage, DataSpec()).digest


@pytest.fixture
def task(prepared, make_spec, tmp_path):
    """Of one clip, spoken, in a language that only its prompt says."""
    storage, digest = prepared
    model = write_whisper(tmp_path / "whisper")
    spec = make_spec(
        name=f"name: {tmp_path.name}",
        scoring="scoring:\n  primary: similarity\n"
        "  min_effect: 0.05\n  metrics:\n    - similarity\n"
        f"    - {{name: whisper_character_error, model: {model}}}",
    )
    ledger = Ledger(storage, spec.name)
    prompt = PromptSpec(id="a", text="មួយ", language="km")
    with storage.commit(ledger.clips("base", SCREEN)) as directory:
        write_clips(directory, [prompt], [voice()], ORIGIN)
    protocol = protocol_for(spec, [prompt], CONFIRMATION, PREPARED)
    return {
        "spec": spec,
        "storage_url": storage.url,
        "data_digest": digest,
        "protocol": protocol,
    }


def voice():
    from jobs.audio.files import read_audio
    from jobs.clips import SpokenClip

    row = embedded_clips()[0].row
    return SpokenClip(*read_audio(row.audio), row.text, reached_end=True)


def test_a_clip_is_scored_by_what_was_asked_for_in_its_own_language(task):
    (row,) = ClipScorer(**task).score("base", SCREEN)
    assert row.failures == {}
    assert set(row.values) == set(task["spec"].scoring.measured)


@pytest.fixture(scope="module")
def two_speakers(tmp_path_factory, embedded_base):
    """The held-out clips as if two people had said them in turn."""
    held_out = [clip for clip in embedded_clips() if clip.row.split == "validation"]
    assert len(held_out) == 2 * MIN_REFERENCES
    said = [
        replace(clip, row=replace(clip.row, speaker=("awb", "rms")[i % 2]))
        for i, clip in enumerate(held_out)
    ]
    storage = LocalStorage(tmp_path_factory.mktemp("two"))
    return storage, prepare(said, embedded_base, storage, DataSpec()).digest


def test_each_clip_is_compared_with_its_own_speaker(two_speakers, make_spec, tmp_path):
    storage, digest = two_speakers
    spec = make_spec(
        name=f"name: {tmp_path.name}",
        scoring="scoring: {metrics: [similarity], primary: similarity, min_effect: 0.05}",
    )
    prompts, fresh = (
        [
            PromptSpec(id=f"{name}{i}", text=f"{name}{i}", speaker=("awb", "rms")[i % 2])
            for i in range(count)
        ]
        for name, count in (("p", 2), ("c", 12))
    )
    ledger = Ledger(storage, spec.name)
    with storage.commit(ledger.clips("base", SCREEN)) as directory:
        write_clips(directory, prompts, [voice(), voice()], ORIGIN)
    nobody = protocol_for(spec, PROMPTS, CONFIRMATION, PREPARED)
    with pytest.raises(ValueError, match=r"clips of 'awb', 'rms': name data\.target, or"):
        ClipScorer(spec, storage.url, digest, nobody).score("base", SCREEN)
    protocol = protocol_for(spec, prompts, fresh, PREPARED)
    scores = ClipScorer(spec, storage.url, digest, protocol).score("base", SCREEN)
    recordings = reference_recordings(storage.fetch(data_key(digest)))
    assert recordings.keys() == {"awb", "rms"}
    found = {row.prompt: row.values["similarity"] for row in scores}
    for prompt, who in (("p0", "awb"), ("p1", "rms")):
        heard = [read_audio(path) for path in recordings[who]]
        clip = read_clips(storage.fetch(ledger.clips("base", SCREEN)))[prompt]
        alone = SpeakerSimilarity({None: heard}).measure(replace(clip, speaker=None))
        assert found[prompt] == alone["similarity"]
    assert found["p0"] != found["p1"]


def test_answers_are_scored_beside_the_clips_and_recorded(task):
    ledger = Ledger(open_storage(task["storage_url"]), task["spec"].name)
    item = PassageItem(id="t", text="0123456789")
    place = ledger.clips("v", SCREEN)
    prompt = PromptSpec(id="a", text="មួយ", language="km")
    with ledger.storage.commit(place) as directory:
        write_clips(directory, [prompt], [voice()], ORIGIN, [ItemAnswer(item, (-25.0,))])
    clip, answer = ClipScorer(**task).score("v", SCREEN)
    assert clip.values.keys() >= {"similarity", "whisper_character_error"}
    assert not clip.values.keys() & {"choice_accuracy", "text_nll"}
    assert (answer.prompt, answer.seed) == ("t", task["protocol"].seed)
    assert answer.values == {"text_nll": 2.5}
    assert ledger.scores("v", SCREEN) == [clip, answer]


def test_another_version_on_this_machine_scores_nothing(task):
    version = {"version": "1 pretrained.pt:000000000000"}
    metrics = tuple(
        metric.model_copy(update=version) if metric.name == "similarity" else metric
        for metric in task["protocol"].metrics
    )
    other = task["protocol"].model_copy(update={"metrics": metrics})
    with pytest.raises(ScorerUnavailable, match=r"here similarity has version .*, not '1 pretra"):
        ClipScorer(**{**task, "protocol": other}).score("base", SCREEN)


def test_what_is_not_there_scores_nothing(task):
    gone = MetricSpec(name="whisper_character_error", model="no/such", required=False)
    scoring = task["spec"].scoring
    scoring = scoring.model_copy(update={"metrics": (*scoring.metrics[:1], gone)})
    other = task["spec"].model_copy(update={"scoring": scoring})
    with pytest.raises(ScorerUnavailable, match="run `hf download no/such"):
        ClipScorer(**{**task, "spec": other}).score("base", SCREEN)
