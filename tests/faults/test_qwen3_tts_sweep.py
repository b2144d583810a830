"""A sweep of the qwen3_tts family on a tiny base: killed, resumed, its adapter taken elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio, resample
from jobs.export.qwen3_tts import KeptVoice, add_speakers
from jobs.training.adapter import add_resident
from jobs.vendor import qwen_tts
from orchestrator.ledger import Ledger
from tests.small_sweep import FRESH_PROMPTS, PROMPTS, Run, write_manifest
from tests.tiny_qwen3_tts import RATE, make_familiar

pytestmark = pytest.mark.full

NAME = "tiny-qwen3-tts"
EPOCHS = 2
_SPEC = f"""\
name: {NAME}
family: qwen3_tts
base: {{source: base}}
data: {{synthetic: true, manifest: manifest.jsonl, trailing_silence: 0}}
training:
  epochs: {EPOCHS}
  batch_size: 8
  learning_rate: 2.0e-3
  rank: 4
  acoustic_share: 0.5
search:
  sampler: grid
  space: {{targets: [[talker.attention], [talker.attention, predictor.mlp]]}}
rungs: {{grace_epochs: 2}}
variants:
  lora_scales: [0, 0.35, 1.0]
  decoding: {{temperature: 0.8, top_p: 0.85, top_k: 30, repetition_penalty: 1.05, max_tokens: 10}}
  prompts: prompts.jsonl
  shortlist_after: 2
  confirmation_prompts: fresh.jsonl
scoring:
  metrics: [dnsmos_p808]
  primary: dnsmos_p808
  min_effect: 0.01
  finalists: 1
  bootstrap_resamples: 1000
resources: {{hosts: 1, slots_per_host: 2, scorers: 1}}
"""


@pytest.fixture(scope="module")
def run(
    tiny_qwen3_tts_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, list[str]]:
    """Killed once an epoch was committed, then run to its end; what was committed at the kill."""
    place = tmp_path_factory.mktemp("sweep")
    shutil.copytree(tiny_qwen3_tts_source, place / "base")
    write_manifest(place)
    rows = [json.loads(line) for line in (place / "manifest.jsonl").read_text().splitlines()]
    heard = [(resample(*read_audio(place / row["audio"]), RATE), row["text"]) for row in rows[:8]]
    make_familiar(place / "base", heard)
    for name, texts in (("prompts", PROMPTS), ("fresh", FRESH_PROMPTS)):
        lines = [f'{{"id": "{name[0]}{i}", "text": "{text}"}}\n' for i, text in enumerate(texts)]
        (place / f"{name}.jsonl").write_text("".join(lines))
    spec, storage = place / "tiny.yaml", place / "st"
    spec.write_text(_SPEC)

    def committed() -> list[str]:
        found = (storage / NAME).glob("trials/*/checkpoints/epoch-*/COMMITTED")
        return sorted(str(path) for path in found)

    first = Run(spec, storage).start()
    try:
        first.wait_for(lambda: bool(committed()))
        first.kill()
        first.left_behind(but=("ray::DashboardAgent", "ray::RuntimeEnvAgent"))
    finally:
        first.end()
    before = committed()
    second = Run(spec, storage).start()
    try:
        code = second.finish()
    finally:
        second.end()
    assert code in (0, 3), second.stderr
    return second, before


def test_both_trials_end_and_no_epoch_is_trained_twice(run: tuple[Run, list[str]]):
    done, before = run
    ledger = Ledger(LocalStorage(done.storage), NAME)
    records = ledger.trials()
    assert len(records) == 2
    assert [len(ledger.epochs(record.id)) for record in records] == [EPOCHS] * 2
    assert all(ledger.result(record.id).end == "finished" for record in records)
    assert json.loads(done.stdout)["epochs_trained"] == 2 * EPOCHS - len(before)


def test_a_checkpoint_of_the_sweep_speaks_in_the_official_package(run: tuple[Run, list[str]]):
    done, _ = run
    markers = (done.storage / NAME).glob(f"trials/*/checkpoints/epoch-{EPOCHS:03d}/COMMITTED")
    checkpoint = next(markers).parent
    base = done.spec.parent / "base"
    voice = KeptVoice.read(checkpoint)
    voice.check_base(base)
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(base))
    add_resident(package.model, voice.directory, 0.35)
    add_speakers(package, voice)
    (speaker,) = voice.vectors
    torch.manual_seed(0)
    sounds, rate = package.generate_custom_voice("nine two", speaker=speaker, max_new_tokens=6)
    assert rate == RATE
    assert len(sounds[0])
