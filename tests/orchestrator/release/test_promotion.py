"""From a sweep's verdict to versions of a registered model: real MLflow on a SQLite file."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.base import open_storage
from jobs.problems import InputError
from jobs.speech.served_voice import ServedVoice
from jobs.speech.voice_files import REFUSING, VoiceFiles, read_voice
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import SPEC_FILE, Ledger
from orchestrator.records.tracking import MlflowStore
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.release.promotion import Promoted, promote, select_nominees
from orchestrator.release.registry import Registry, registry_store
from orchestrator.release.voices import open_voice
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.outcome import AGAINST
from tests.finished_sweep import BETTER, CONSENT, finish, write_ratings

Finish = Callable[..., FinishedSweep]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty registry, made once: its migrations take seconds."""
    path = tmp_path_factory.mktemp("registry") / "models.db"
    Registry(MlflowStore(f"sqlite:///{path}")).find("nobody", {"voxsweep.sweep": "none"})
    return path.read_bytes()


@pytest.fixture
def finished(
    tmp_path: Path, make_spec: Callable[..., SweepSpec], embedded_voice: VoiceFiles
) -> Finish:
    """Makes a finished sweep on recordings with a record of consent."""

    def make(name: str = "small", **changes: object) -> FinishedSweep:
        spec = make_spec(name=f"name: {name}")
        data = spec.data.model_copy(update={"consent": CONSENT})
        return finish(
            tmp_path / "st", spec.model_copy(update={"data": data}), embedded_voice, **changes
        )

    return make


@pytest.fixture
def registry(tmp_path: Path, migrated: bytes, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "models.db").write_bytes(migrated)
    return Registry(registry_store(open_storage(str(tmp_path / "st"))))


def put(
    registry: Registry,
    sweep: FinishedSweep,
    ratings: Path | None = None,
    variant: str | None = None,
    model: str = "voice",
) -> list[Promoted]:
    nominees = select_nominees(sweep, model, variant, ratings).nominees
    return [promote(registry, sweep, nominee) for nominee in nominees]


def test_listeners_make_a_candidate_the_champion(
    registry: Registry, finished: Finish, tmp_path: Path
):
    sweep = finished()
    (first,) = put(registry, sweep)
    assert (first.alias, first.is_new) == ("candidate", True)
    assert "listeners have not confirmed" in first.reason
    assert registry.holder("voice") is None
    (again,) = put(registry, sweep, write_ratings(tmp_path / "ratings.csv", sweep))
    assert (again.alias, again.is_new, again.version.number) == ("champion", False, "1")
    version = registry.holder("voice")
    assert version is not None
    assert registry.holder("voice", "candidate") is None
    assert {k.removeprefix("voxsweep."): v for k, v in version.tags.items()} == {
        "sweep": "small",
        "trial": sweep.variant(None).trial,
        "variant": sweep.verdict.variant,
        "family": "codec_lm",
        "base_digest": sweep.protocol.family_digests["base_digest"],
        "protocol": sweep.protocol.digest(),
        "verdict": "PROMOTE",
        "lora_scale": "1.3",
        "decoding": sweep.protocol.decoding.model_dump_json(exclude_none=True),
        "primary": "similarity",
        "value": "0.63",
        "gain": "0.13",
        "gain_low": version.tags["voxsweep.gain_low"],
        "gain_high": version.tags["voxsweep.gain_high"],
        "provenance": f"consent: {CONSENT}",
        "reason": "there was no champion",
        "listening": "1",
        "listening_low": "1",
        "listening_high": "1",
        "listeners": "3",
    }
    # Once more, without the ratings: nobody loses a title by it.
    (still,) = put(registry, sweep)
    assert (still.alias, still.version.number) == ("champion", "1")
    assert [event.version for event in registry.history("voice")] == ["1"]


def test_a_version_has_what_it_takes_and_no_pickle(registry: Registry, finished: Finish):
    sweep = finished()
    (made,) = put(registry, sweep)
    voice = registry.download(made.version, "voice")
    facts = read_voice(voice).facts
    assert facts.variant.id == sweep.verdict.variant
    assert facts.provenance == f"consent: {CONSENT}"
    model = voice.parent.parent
    files = [path for path in model.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jsonl", ".md", ".py"} | {
        ".yaml",
        ".txt",
        "",
    }
    assert not any(path.read_bytes()[:1] == b"\x80" for path in files)  # how a pickle opens
    assert len(files) >= 12
    card = registry.download(made.version, "README.md").read_text()
    for told in (
        CONSENT,
        facts.base_digest,
        "| similarity (primary) | 0.5 | 0.63 | +0.13 (",
        "There was no listening test",
        "| packs, by the check of its hosts | a pack differs from alone by up to 1.3e-05 in",
    ):
        assert told in card
    assert (model / "MLmodel").read_text().count("text") == 1
    assert json.loads((model / "input_example.json").read_text())


def test_a_version_whose_own_code_is_of_an_older_voxsweep(registry: Registry, finished: Finish):
    """It is read as ever, and once it is deleted, a promotion makes one that is served again."""
    sweep = finished()
    (made,) = put(registry, sweep)
    voice = registry.download(made.version, "voice")
    code = voice.parent.parent / "spoken_model.py"
    text = code.read_text()
    code.write_text("import jobs.nowhere\n")
    assert set(re.findall(r"(?:jobs|orchestrator|cluster)\.[\w.]+", text)) == {
        "jobs.speech.served_voice",
        "jobs.speech.served_voice.ServedVoice.answer",
    }
    with open_voice("models:/voice@candidate", sweep.ledger.storage) as files:
        assert files.facts.variant.id == made.variant
    registry._client.delete_model_version("voice", made.version.number)
    (again,) = put(registry, sweep)
    assert (again.is_new, again.version.number, again.alias) == (True, "2", "candidate")
    code = registry.download(again.version, "voice").parent.parent / "spoken_model.py"
    assert code.read_text() == text


def test_the_champion_is_beaten_on_the_same_protocol_alone(
    registry: Registry, finished: Finish, tmp_path: Path
):
    def promoted(sweep: FinishedSweep) -> Promoted:
        return put(registry, sweep, write_ratings(tmp_path / "ratings.csv", sweep))[0]

    assert promoted(finished("first")).alias == "champion"
    equal = promoted(finished("equal"))
    assert (equal.alias, equal.version.number) == ("candidate", "2")
    assert equal.reason.startswith(
        "not shown to be better: similarity against the champion's is +0"
    )
    better = promoted(finished("better", gains={None: [gain + 0.1 for gain in BETTER]}))
    assert (better.alias, better.version.number) == ("champion", "3")
    assert "+0.1 (+0.1 to +0.1 over 12 prompts)" in better.reason
    other = promoted(finished("other", gains={None: [0.4]}, seed=9, min_effect=0.03))
    assert other.alias == "candidate"
    assert "differs in seed, min_effect" in other.reason


def test_demoted_and_rolled_back(registry: Registry, finished: Finish, tmp_path: Path):
    ratings = tmp_path / "ratings.csv"
    for name, more in (("one", 0.0), ("two", 0.1), ("three", 0.2)):
        sweep = finished(name, gains={None: [gain + more for gain in BETTER]})
        put(registry, sweep, write_ratings(ratings, sweep))
    assert registry.rollback("voice", "it lisps").number == "2"
    assert registry.demote("voice/3", "") is None
    demoted = registry.demote("voice@champion", "it hisses")
    assert demoted is not None
    assert demoted.number == "2"
    assert registry.holder("voice") is None
    assert registry.demote("voice", "again") is None
    assert registry.rollback("voice", "").number == "1"
    with pytest.raises(InputError, match="must have been champion before"):
        registry.rollback("voice", "")
    told = [(event.event, event.version, event.reason) for event in registry.history("voice")]
    assert told[3:] == [
        ("rollback", "2", "it lisps"),
        ("demoted", "2", "it hisses"),
        ("rollback", "1", "rolled back"),
    ]
    # Whoever was demoted does not come back by another promotion.
    sweep = read_finished(Ledger(sweep.ledger.storage, "two"))
    (again,) = put(registry, sweep, write_ratings(ratings, sweep))
    assert again.alias == "candidate"
    assert "it hisses" in again.reason


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("nobody", "there is no 'nobody'"),
        ("voice@loser", "must have alias 'loser'"),
        ("voice/9", "must have version 9"),
    ],
)
def test_what_is_not_there_is_refused(registry: Registry, finished: Finish, name: str, rule: str):
    put(registry, finished())
    with pytest.raises(InputError, match=rule):
        registry.demote(name, "")


def test_a_variant_named_by_hand_becomes_a_candidate(registry: Registry, finished: Finish):
    sweep = finished(gains={None: [0.0]})
    assert sweep.verdict.variant is None
    assert select_nominees(sweep, "voice").nominees == ()
    assert select_nominees(sweep, "voice").refusals[0].startswith("DO-NOT-FINE-TUNE: ")
    name = next(name for name in sweep.variants if name != "base")
    (made,) = put(registry, sweep, variant=name)
    assert made.alias == "candidate"
    assert made.reason == "it was named by hand, and the verdict chose none"
    with pytest.raises(InputError, match="must be one that the sweep scored"):
        select_nominees(sweep, "voice", "t0")


def test_languages_that_end_differently_are_one_voice(
    registry: Registry, finished: Finish, tmp_path: Path
):
    """English by the adapter and Korean by the base, from the sweep and from the registry."""
    sweep = finished(gains={"en": BETTER, "ko": [-0.1, 0.0]}, languages=("en", "ko"))
    assert [(g.name, g.variant is None) for g in sweep.verdict.groups] == [
        ("en", False),
        ("ko", True),
    ]
    korean = sweep.verdict.groups[1].verdict
    put_up = select_nominees(sweep, "voice")
    assert put_up.refusals == (f"language ko: {korean}, so the base speaks it",)
    (made,) = put(registry, sweep)
    variant = put_up.nominees[0].variant.id
    assert (made.version.model, made.alias) == ("voice", "candidate")
    assert (made.variant, made.language) == (f"en={variant} ko=base", "en")
    assert made.reason.startswith("listeners have not confirmed it in en: ")
    tags = made.version.tags
    assert tags["voxsweep.variant"] == made.variant
    assert (tags["voxsweep.language.en.verdict"], tags["voxsweep.language.en.gain"]) == (
        "PROMOTE-PENDING-LISTENING",
        "0.12",
    )
    assert tags["voxsweep.language.ko.verdict"] == korean == "DO-NOT-FINE-TUNE"
    directory = registry.download(made.version, "voice")
    voice = read_voice(directory)
    assert [each.variant for each in voice.facts.by_language] == [variant, "base"]
    card = registry.download(made.version, "README.md").read_text()
    assert f"| en | **PROMOTE-PENDING-LISTENING** | `{variant}` | +0.12 (" in card
    assert f"| ko | **{korean}** | the base, without an adapter | n/a |" in card
    assert "| similarity (primary) | 0.5 | 0.62 | +0.12 (" in card
    # The voice's clips in Korean are the base's own.
    rows = map(json.loads, registry.download(made.version, "scores.jsonl").read_text().splitlines())
    similarity = {(row["variant"], row["prompt"]): row["similarity"] for row in rows}
    assert len(similarity) == 2 * 12
    for prompt in sweep.protocol.confirmation:
        base = similarity["base", prompt.id]
        assert (similarity[variant, prompt.id] > base) == (prompt.language == "en")
    with open_voice("small", sweep.ledger.storage) as of_sweep:
        assert of_sweep.facts == voice.facts
    served = ServedVoice(directory)
    english, base, none = (
        served.answer({"text": "nine", "language": language}) for language in ("en", "ko", None)
    )
    assert english["audio"] != base["audio"] != "" == none["audio"]
    assert "one of the languages that the voice was judged in, en, ko, got none" in none["problem"]
    winner = replace(sweep, verdict=replace(sweep.verdict, variant=variant))
    (heard,) = put(registry, sweep, write_ratings(tmp_path / "ratings.csv", winner))
    assert (heard.alias, heard.is_new, heard.version.number) == ("champion", False, "1")


def test_a_voice_and_a_verdict_mean_the_same_by_a_refusal():
    assert REFUSING == AGAINST


def test_a_variant_named_by_hand_speaks_no_language_that_refuses_it(finished: Finish):
    sweep = finished(gains={"en": [0.1, -0.05, -0.05], "ko": [-0.1]}, languages=("en", "ko"))
    assert sweep.verdict.variant is None
    name = next(name for name in sweep.variants if name != "base")
    (nominee,) = select_nominees(sweep, "voice", name).nominees
    assert nominee.spoken_by == f"en={name} ko=base"
    assert nominee.barred == "it was named by hand, and the verdict chose none"
    with open_voice("small", sweep.ledger.storage, name) as voice:
        assert voice.facts.variant_for("ko") == "base"
    nowhere = finished("nowhere", gains={None: [-0.1]}, languages=("en", "ko"))
    put_up = select_nominees(nowhere, "voice", name)
    assert put_up.nominees == ()
    assert len(put_up.refusals) == 2
    with (
        pytest.raises(InputError, match=r"none has \(en: REGRESSION, ko: REGRESSION\)"),
        open_voice("nowhere", sweep.ledger.storage, name),
    ):
        pass


def test_a_language_that_listeners_refute_is_spoken_by_the_base(
    registry: Registry, finished: Finish, tmp_path: Path
):
    sweep = finished(gains={"en": BETTER, "ko": BETTER}, languages=("en", "ko"))
    assert sweep.verdict.verdict == "PROMOTE-PENDING-LISTENING"
    ratings = write_ratings(tmp_path / "ratings.csv", sweep, worse_in="ko")
    put_up = select_nominees(sweep, "voice", ratings=ratings)
    (nominee,) = put_up.nominees
    assert (nominee.model, nominee.barred) == ("voice", "")
    assert nominee.spoken_by == f"en={nominee.variant.id} ko=base"
    assert put_up.refusals == ("language ko: REGRESSION, so the base speaks it",)
    made = promote(registry, sweep, nominee)
    assert made.alias == "champion"
    assert made.version.tags["voxsweep.language.en.listening"] == "1"
    card = registry.download(made.version, "README.md").read_text()
    assert "3 listeners rated 6 sentences of language en: " in card
    everywhere = select_nominees(sweep, "voice", ratings=write_ratings(ratings, sweep))
    assert [(n.model, n.barred) for n in everywhere.nominees] == [("voice", "")]


def test_ratings_that_do_not_fit_are_told(registry: Registry, finished: Finish, tmp_path: Path):
    sweep = finished()
    path = write_ratings(tmp_path / "ratings.csv", sweep)
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    with pytest.raises(InputError, match="was rated"):
        select_nominees(sweep, "voice", ratings=path)
    refuted = select_nominees(sweep, "voice", ratings=write_ratings(path, sweep, better=False))
    assert refuted.nominees == ()
    assert refuted.refusals[0].startswith("REGRESSION: ")


def test_recordings_without_a_record_of_consent_are_not_promoted(
    registry: Registry, finished: Finish
):
    sweep = finished()
    (manifest,) = sweep.spec.data.manifest
    elsewhere = (manifest.model_copy(update={"path": "/clips"}),)
    data = sweep.spec.data.model_copy(update={"consent": None, "manifest": elsewhere})
    spec = sweep.spec.model_copy(update={"data": data})
    with pytest.raises(InputError, match=r"data\.consent must say"):
        put(registry, replace(sweep, spec=spec))
    assert registry.find("voice", {"voxsweep.sweep": "small"}) is None


@pytest.mark.parametrize("missing", [SPEC_FILE, "verdict.json"])
def test_a_sweep_that_has_not_ended_is_told(finished: Finish, missing: str, tmp_path: Path):
    sweep = finished()
    (tmp_path / "st" / "small" / missing).unlink()
    with pytest.raises(InputError, match=r"must hold the sweep|no verdict\.json"):
        read_finished(sweep.ledger)


def registry_of(folder: Path) -> Registry:
    return Registry(registry_store(open_storage(str(folder))), must_exist=True)


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_a_storage_that_was_moved_or_copied_has_its_own_models(
    registry: Registry, finished: Finish, tmp_path: Path
):
    """What MLflow keeps are absolute addresses."""
    (made,) = put(registry, finished())
    copy, moved = tmp_path / "copy", tmp_path / "a b%20?#'é"
    shutil.copytree(tmp_path / "st", copy)
    (tmp_path / "st").rename(moved)
    assert registry_of(moved).download(made.version, "voice").is_relative_to(moved)
    before = files_in(moved / "mlmodels")
    sweep = read_finished(Ledger(open_storage(str(copy)), "small"))
    (here,) = put(registry_of(copy), sweep)
    assert not here.is_new
    assert registry_of(copy).download(here.version, "voice").is_relative_to(copy)
    put(registry_of(copy), sweep, model="other")
    assert files_in(moved / "mlmodels") == before
    assert files_in(copy / "mlmodels") > before


def test_a_version_whose_files_are_gone_is_made_again(
    registry: Registry, finished: Finish, tmp_path: Path
):
    sweep = finished()
    (made,) = put(registry, sweep, write_ratings(tmp_path / "ratings.csv", sweep))
    assert made.alias == "champion"
    shutil.rmtree(tmp_path / "st" / "mlmodels")
    with pytest.raises(InputError, match="the files of models:/voice/1 must be there, but are"):
        registry.download(made.version, "voice")
    (again,) = put(registry, sweep, tmp_path / "ratings.csv")
    assert (again.alias, again.is_new, again.version.number) == ("champion", True, "2")
    assert "the files of the champion, version 1, are gone" in again.reason
    registry.download(again.version, "voice")


def test_asking_makes_no_registry(tmp_path: Path):
    with pytest.raises(InputError, match="a registry must be there"):
        registry_of(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:9", "Start it, or name another with --mlflow"),
        ("mysql+pymysql://h/models", "Install the database's Python driver"),
        ("sqlite:////proc/none/models.db", "must answer at sqlite:////proc/none/models.db"),
    ],
)
def test_a_registry_that_is_out_of_reach_is_told_at_once(uri: str, said: str):
    with pytest.raises(InfrastructureError, match=re.escape(said)):
        Registry(MlflowStore(uri)).holder("voice")


@pytest.mark.full
def test_of_two_promotions_at_once_one_makes_the_version(
    registry: Registry, finished: Finish, tmp_path: Path
):
    """And the other says so. Two processes, which meet at an empty registry."""
    finished()
    (tmp_path / "st" / "models.db").unlink()
    program = "from orchestrator.cli import main; main()"
    command = [sys.executable, "-c", program, "promote", "small", "--json"]
    both = [
        subprocess.Popen(
            [*command, "--storage", str(tmp_path / "st")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (made,), (found,) = (json.loads(out)["promoted"] for out, _ in said)
    assert {made["new"], found["new"]} == {True, False}
    assert made["uri"] == found["uri"] == "models:/small/1"
    assert not any("Traceback" in err for _, err in said)
