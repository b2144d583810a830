"""``voxsweep init``: a spec that the dry run accepts, for clips, a family and a machine."""

import json
import random
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.data.clips import ManifestRow, TargetClip
from jobs.data.near_texts import repeats
from jobs.embedded import VOICE_DIR
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.problems import InputError
from jobs.spec.metric import MetricSpec
from jobs.speech.sentences import LANGUAGES, guess_language, sentences
from orchestrator.cli import app
from orchestrator.spec import first_spec as module
from orchestrator.spec.first_spec import Places, SpecDraft, Wishes, first_spec
from orchestrator.spec.machine import Gpu, Machine

CPUS = Machine((), 2, 500.0)
L4 = Machine((Gpu("NVIDIA L4", 22.5),), 8, 900.0)
MACHINES = {"codec_lm": CPUS, "qwen3_tts": L4}


def metrics_but_whisper(metric: MetricSpec) -> object:
    if metric.name.startswith("whisper"):
        raise ScorerUnavailable("no Whisper is here")
    return metric_of(metric)


@pytest.fixture(autouse=True)
def _no_whisper(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "metric_of", metrics_but_whisper)


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty clips with the text of each beside it, and nothing else known of them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Ann's voice"
    folder.mkdir()
    rows = map(json.loads, (VOICE_DIR / "manifest.jsonl").read_text().splitlines()[:40])
    for row in rows:
        shutil.copy(VOICE_DIR / row["audio"], folder)
        (folder / row["audio"]).with_suffix(".txt").write_text(row["text"])
    return folder


def run(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("family", MACHINES)
def test_the_spec_is_as_it_should_be_and_plans(
    family: str, recordings: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("orchestrator.spec.machine.this_machine", lambda _: MACHINES[family])
    written = run("init", recordings, "--family", family, "--synthetic")
    assert written.exit_code == 0, written.exception
    spec = Path("ann-s-voice.yaml")
    golden = Path(__file__).parent / f"golden_first_spec_{family}.yaml"
    assert spec.read_text() == golden.read_text()
    planned = run("plan", spec, "--json")
    assert planned.exit_code == 0, planned.exception
    assert json.loads(planned.stdout)["validation_clips"] == 10
    assert "Assumed: 24% of the clips are held out" in written.stdout
    again = run("init", recordings, "--family", family, "--synthetic")
    assert "the file must not be there, but it is" in str(again.exception)
    assert spec.read_text() == golden.read_text()


def test_where_no_clip_can_be_used_the_reason_is_told(recordings: Path):
    for text in recordings.glob("*.txt"):
        text.write_text("Nobody had seen the old man leave.")
    refused = run("init", recordings, "--family", "codec_lm", "--synthetic")
    assert "text must be digits or the words zero one" in str(refused.exception)
    assert not Path("ann-s-voice.yaml").exists()


@pytest.mark.full
@pytest.mark.parametrize("family", MACHINES)
def test_the_folder_of_the_shipped_voice(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert run("init", VOICE_DIR, "--family", family, "-o", "first.yaml").exit_code == 0
    assert run("plan", "first.yaml").exit_code == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_enough_and_all_different(language: str):
    first, second = sentences(language, "a"), sentences(language, "b")
    assert (len(first), len(second)) == (24, 60)
    texts = [*first, *second]
    assert [pair for pair in repeats(texts, texts) if pair.place != pair.other] == []
    assert guess_language(first) == language


def test_there_are_eight_languages_and_others_are_not_guessed():
    assert LANGUAGES == ("de", "en", "es", "fr", "ja", "km", "ko", "zh")
    assert (
        guess_language(["Kedai roti itu buka sebelum matahari terbit", "Dia lupa payung"]) is None
    )
    assert guess_language(["three five zero"]) == "en"


def clips(texts: list[str], **row: object) -> list[TargetClip]:
    """One of ten is held out."""
    found = []
    for at, text in enumerate(texts):
        split = "validation" if at % 10 == 0 else "train"
        named = ManifestRow(where=f"m:{at}", audio=f"/{at}.wav", text=text, split=split, **row)
        found.append(TargetClip(named, f"{at}", 24_000, 3.0))
    return found


def made(texts: list[str], machine: Machine = L4, **row: object) -> tuple[SpecDraft, dict]:
    places = Places("first", Path("first.yaml"), "/x", "x")
    written = first_spec(Wishes("qwen3_tts"), places, clips(texts, **row), 0, machine)
    return written, yaml.safe_load(written.files[places.spec])


def test_what_the_texts_are_written_in_decides_the_prompts():
    written, spec = made(["안녕하세요, 만나서 반갑습니다."] * 200)
    assert spec["variants"]["prompts"] == spec["variants"]["confirmation_prompts"] == "embedded:ko"
    assert spec["data"]["manifest"] == [{"path": "x", "language": "ko"}]
    assert list(written.files) == [Path("first.yaml")]
    assert "YOURS TO FILL IN" in written.files[Path("first.yaml")]
    assert "consent" not in spec["data"]


def test_sentences_that_a_clip_says_are_no_prompts():
    said = sentences("en", "b")[:30]
    written, spec = made([*said, *sentences("en", "a")[:2], *said, *said, *said], language="en")
    (first, second, _) = written.files.values()
    assert spec["variants"]["confirmation_prompts"] == "first-prompts-b.jsonl"
    assert [len(each.splitlines()) for each in (first, second)] == [22, 30]
    assert json.loads(second.splitlines()[0])["language"] == "en"


def test_held_out_texts_where_no_sentences_are_shipped():
    letters = random.Random(0)
    texts = ["".join(letters.choices("abcdefgijklmnoprstu ", k=40)) for _ in range(400)]
    written, spec = made(texts, language="id")
    first, second, _ = written.files.values()
    assert [len(each.splitlines()) for each in (first, second)] == [13, 27]
    assert spec["variants"]["prompts"] == "first-prompts-a.jsonl"
    with pytest.raises(InputError, match="got the language id and 10 texts"):
        made(texts[:100], language="id")


def test_a_small_card_and_a_small_disk():
    written, spec = made(["Hallo und guten Tag"] * 300, Machine((Gpu("T4", 8.0),), 4, 40.0))
    assert spec["base"]["source"].endswith("0.6B-Base")
    assert spec["engine"]["gradient_checkpointing"] is True
    assert (spec["search"]["trials"], spec["search"]["space"]["rank"]) == (8, [8, 16])
    assert "8 trials up to rank 16, by the 40 GB that are free on the disk" in written.assumed


def test_too_few_clips():
    with pytest.raises(InputError, match="a sweep needs 20 clips that can be used, got 19"):
        made(["Guten Morgen"] * 19)


def test_a_base_of_a_family_that_ships_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(module.FAMILIES._built_in, "other", module.FAMILIES["qwen3_tts"])
    with pytest.raises(InputError, match="a base of other must be named"):
        module.base_for("other", None, L4)
