"""Two languages of the voxcpm2 family on a tiny base: killed, resumed, and judged apart.

Khmer and Korean are recorded alike, two seconds a text. A metric of the test's own says how far a
clip's pace is from natural: the Khmer texts take two seconds, the Korean ones a third of that. So
what the adapter learns is right in the one language and wrong in the other.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mlflow import MlflowClient
from typer.testing import CliRunner

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio
from jobs.families.registry import load_base
from jobs.spec.trial import BASE_VARIANT, HostSpec, PromptSpec
from orchestrator.cli import app
from orchestrator.ledger import VERDICT_FILE, Ledger
from orchestrator.release.finished_sweep import read_finished
from orchestrator.verdict.outcome import Verdict
from tests.small_sweep import Run

pytestmark = pytest.mark.full

NAME = "tiny-voxcpm2"
EPOCHS = 3
RANKS = (4, 8)
PATCH = 0.16
"""Seconds."""
PATCHES = 12
"""Of each recording."""
RATE = 16_000
WORDS = {
    "km": ("មួយ", "ពីរ", "បី", "បួន", "ប្រាំ"),
    "ko": ("하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟"),
}
LENGTHS = {"km": 4, "ko": 2}
"""Words of a text."""
HELD_OUT, SCREENED, CONFIRMED, TRAINED = 3, 4, 16, 12
"""Texts of each language."""
HOST = HostSpec(
    family="voxcpm2", source="", codec="", voice=None, precision="fp32", language_tag=True
)
_SPEC = f"""\
name: {NAME}
family: voxcpm2
base: {{source: base}}
data:
  synthetic: true
  manifest:
    - {{path: km/manifest.jsonl, language: km}}
    - {{path: ko/manifest.jsonl, language: ko}}
  language_tag: true
training: {{epochs: {EPOCHS}, batch_size: 4, learning_rate: 1.0e-2, dropout: 0}}
search: {{sampler: grid, space: {{rank: [{RANKS[0]}, {RANKS[1]}]}}}}
rungs: {{scheduler: none}}
variants:
  lora_scales: [0, 1.0]
  decoding: {{inference_timesteps: 2, max_tokens: 20}}
  prompts: a.jsonl
  shortlist_after: null
  confirmation_prompts: b.jsonl
scoring:
  metrics: [pace_error]
  primary: pace_error
  min_effect: 0.1
  gates: {{duration_ratio: [0.1, 10.0], excess_failures: 0.2}}
  finalists: 1
  bootstrap_resamples: 1000
resources: {{hosts: 1, slots_per_host: 2, scorers: 1}}
"""
_PLUGIN = '''\
"""The metric ``pace_error``: how far a clip's length is from seven characters a second."""

import math

from jobs.metrics.base import FunctionScorer, Metric
from jobs.metrics.catalogue import ScorerSource

METRIC = Metric(
    name="pace_error",
    unit="octaves",
    direction="lower",
    version="1",
    low=0.0,
    high=4.0,
    description="how far the length is from seven characters a second, as a power of two",
)


def pace_error(clip):
    return min(abs(math.log2(len(clip.audio) / clip.rate * 7 / len(clip.text))), METRIC.high)


PACE = ScorerSource(
    directions={"pace_error": "lower"},
    metrics=lambda asked: (METRIC,),
    build=lambda asked, inputs: FunctionScorer(METRIC, pace_error),
)
'''


@dataclass(frozen=True)
class Ended:
    """A sweep that was killed once and came to its verdict."""

    run: Run
    before: list[str]
    """Checkpoints that were committed when the driver was killed."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(LocalStorage(Path(self.run.storage)), NAME)

    @property
    def verdict(self) -> Verdict:
        return Verdict.from_json(self.ledger.read_text(VERDICT_FILE) or "")


def texts(language: str) -> dict[str, list[str]]:
    """Distinct texts for each use."""
    draw = np.random.default_rng(len(language))
    uses = {"train": TRAINED, "validation": HELD_OUT, "a": SCREENED, "b": CONFIRMED}
    found: dict[str, None] = {}
    while len(found) < sum(uses.values()):
        chosen = draw.choice(WORDS[language], LENGTHS[language], replace=False)
        found[" ".join(map(str, chosen))] = None
    left = iter(found)
    return {use: [next(left) for _ in range(count)] for use, count in uses.items()}


def write_language(folder: Path, language: str) -> None:
    """Its recordings in a folder of its own, and its prompts at the end of both sets."""
    place = folder / language
    place.mkdir()
    draw = np.random.default_rng(ord(language[1]))
    rows = []
    said = texts(language)
    for split in ("train", "validation"):
        for text in said[split]:
            time = np.arange(int(PATCHES * PATCH * RATE)) / RATE
            tone = 0.3 * np.sin(2 * np.pi * draw.uniform(150, 300) * time)
            name = f"{len(rows)}.wav"
            soundfile.write(place / name, tone + 0.02 * draw.normal(size=len(time)), RATE)
            rows.append({"audio": name, "text": text, "split": split})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "manifest.jsonl").write_text(lines)
    for use in ("a", "b"):
        with (folder / f"{use}.jsonl").open("a") as prompts:
            for number, text in enumerate(said[use]):
                row = {"id": f"{use}-{language}-{number}", "text": text, "language": language}
                prompts.write(json.dumps(row) + "\n")


def write_plugin(site: Path) -> None:
    """As pip would have installed it."""
    (site / "pace-1.dist-info").mkdir(parents=True)
    (site / "pace_plugin.py").write_text(_PLUGIN)
    (site / "pace-1.dist-info" / "METADATA").write_text("Name: pace\nVersion: 1\n")
    (site / "pace-1.dist-info" / "entry_points.txt").write_text(
        "[voxsweep.metrics]\npace_error = pace_plugin:PACE\n"
    )


@pytest.fixture(scope="module")
def ended(tiny_voxcpm2_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """The driver is killed once an epoch was committed, and the sweep is run again to its end."""
    place = tmp_path_factory.mktemp("sweep")
    shutil.copytree(tiny_voxcpm2_source, place / "base")
    for language in WORDS:
        write_language(place, language)
    write_plugin(place / "site")
    spec, storage = place / "tiny.yaml", place / "st"
    spec.write_text(_SPEC)

    def committed() -> list[str]:
        found = (storage / NAME).glob("trials/*/checkpoints/epoch-*/COMMITTED")
        return sorted(str(path) for path in found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place / "site"), prepend=":")
        patch.syspath_prepend(str(place / "site"))
        first = Run(spec, storage).start()
        try:
            first.wait_for(lambda: bool(committed()))
            first.kill()
            first.left_behind(but=("ray::DashboardAgent", "ray::RuntimeEnvAgent"))
        finally:
            first.end()
        before = committed()
        yield Ended(Run(spec, storage).complete(), before)


def test_no_epoch_is_trained_twice_and_a_pack_changes_nothing(ended: Ended):
    records = ended.ledger.trials()
    assert sorted(record.point["rank"] for record in records) == [*RANKS]
    epochs = [losses for record in records for losses in ended.ledger.epochs(record.id)]
    assert len(epochs) == len(RANKS) * EPOCHS
    assert json.loads(ended.run.stdout)["epochs_trained"] == len(epochs) - len(ended.before)
    # Packs are measured, and may not be faster here; where they are, nothing else changes.
    assert {losses.pack_difference for losses in epochs} <= {None, 0.0}
    assert all(set(losses.group_losses) == {"language/km", "language/ko"} for losses in epochs)


def test_mlflow_has_both_trials_with_the_parts_of_their_losses(ended: Ended):
    client = MlflowClient(f"sqlite:///{Path(ended.run.storage) / NAME / 'mlflow.db'}")
    (experiment,) = (each for each in client.search_experiments() if each.name != "Default")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if run.data.metrics]
    trained = [run for run in runs if "loss/training.loss_diff" in run.data.metrics]
    assert len(trained) == len(RANKS)
    wanted = {"loss/training.loss_stop", "validation/to_base", "validation/to_base_se.language.ko"}
    assert all(wanted <= run.data.metrics.keys() for run in trained)


def test_the_languages_have_different_verdicts(ended: Ended):
    found = {group.name: group for group in ended.verdict.groups}
    assert found["km"].verdict == "PROMOTE-PENDING-LISTENING"
    assert found["ko"].verdict == "REGRESSION"
    assert found["km"].variant is not None
    assert found["ko"].variant is None


def test_promoted_one_language_has_the_adapter_and_the_other_the_base(ended: Ended):
    found = {group.name: group for group in ended.verdict.groups}
    winner = found["km"].variant
    place, storage = ended.run.spec.parent, str(ended.run.storage)
    told = command("promote", NAME, "--storage", storage)
    assert told["refused"] == [f"language ko: {found['ko'].verdict}, so the base speaks it"]
    (version,) = told["promoted"]
    assert version["variant"] == f"km={winner} ko={BASE_VARIANT}"
    model, others = f"models:/{NAME}@{version['alias']}", ("--storage", storage)
    named = command("promote", NAME, "--variant", str(winner), "--storage", storage)
    assert [each["variant"] for each in named["promoted"]] == [version["variant"]]
    said = {
        language: command(
            *("say", model, texts(language)["b"][0], "--language", language),
            *("-o", str(place / f"{language}.wav"), *others),
        )
        for language in WORDS
    }
    assert {language: each["variant"] for language, each in said.items()} == {
        "km": winner,
        "ko": BASE_VARIANT,
    }
    assert said["km"]["seconds"] == pytest.approx(PATCHES * PATCH, abs=2 * PATCH)
    assert said["ko"]["seconds"] < said["km"]["seconds"]
    # To the sample what the base says without any adapter.
    base = load_base(HOST.model_copy(update={"source": str(place / "base")}))
    prompt = PromptSpec(id="chunk-0001", text=texts("ko")["b"][0], language="ko")
    decoding = read_finished(ended.ledger).protocol.decoding
    (alone,) = base.speak(base.model, [prompt], decoding)
    heard, rate = read_audio(place / "ko.wav")
    assert rate == alone.rate == 48_000
    assert len(heard) == len(alone.audio)
    assert np.abs(heard - alone.audio).max() < 2**-14  # a WAV file has 16 bits


def command(*arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told
