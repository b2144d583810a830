"""A sweep over NeuCodec from end to end: decodings searched, files for llama.cpp heard, all scored.

Base and codec are tiny and random, with NeuTTS's layout and all 65,536 codes. The base never ends a
clip, which fails the gate; so a variant that learned to end clips is the winner by construction,
whatever the noise that it speaks sounds like.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio
from jobs.codecs.neucodec import CODEBOOK_SIZE
from jobs.export.gguf.llama import is_installed
from jobs.export.gguf.speaking import speak_hosted
from jobs.families.codec_lm import CodecLM
from jobs.families.new_base import make_base
from jobs.families.registry import load_base
from jobs.metrics.dnsmos import Dnsmos808
from jobs.speech.clips import read_clips
from jobs.training.adapter import read_extras
from orchestrator.cli import app
from orchestrator.ledger import CONFIRMATION, Ledger
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.scores.from_ledger import stored_base_decoding, stored_hosting
from orchestrator.workers.hosting import hosted_id
from tests.backbones import write_checkpoint
from tests.jobs.codecs.tiny_neucodec import write_neucodec
from tests.small_sweep import FRESH_PROMPTS, PROMPTS, Run, write_manifest

pytestmark = [
    pytest.mark.full,
    pytest.mark.llama,
    pytest.mark.skipif(not is_installed(), reason="needs llama.cpp: pip install xllamacpp"),
]

NAME = "tiny-neucodec"
KINDS = ("f16", "q8_0", "q4_0")
FRESH = (*FRESH_PROMPTS, "two nine zero six", "eight one three four", "seven seven two five")
LAYOUT = {
    "front_end": "plain",
    "prompt": "user: Convert the text to speech:<|TEXT_PROMPT_START|>{text}<|TEXT_PROMPT_END|>\n"
    "assistant:",
    "start": "<|SPEECH_GENERATION_START|>",
    "end": "<|SPEECH_GENERATION_END|>",
    "code": "<|speech_{code}|>",
    "codebook_size": CODEBOOK_SIZE,
    "length": {"fixed": 60, "per_word": 20},
}
_SPEC = f"""\
name: {NAME}
family: codec_lm
base: {{source: base, codec: codec}}
data: {{synthetic: true, manifest: manifest.jsonl, reference_prefix: true}}
training:
  epochs: 2
  batch_size: 4
  learning_rate: 2.0e-2
  dropout: 0
  speech_rows: trained
search: {{sampler: grid, space: {{rank: [4]}}}}
rungs: {{grace_epochs: 2}}
variants:
  lora_scales: [0, 1.0]
  decoding: {{temperature: 1.0, top_k: 1000, max_tokens: 120}}
  decoding_search: {{space: {{temperature: [0.8, 1.0]}}}}
  prompts: prompts.jsonl
  confirmation_prompts: fresh.jsonl
scoring:
  metrics: [dnsmos_p808]
  primary: dnsmos_p808
  min_effect: 0.05
  gates: {{excess_failures: 1.0, tail_silence: 30, clipping: 1.0}}
  finalists: 1
  bootstrap_resamples: 1000
hosting:
  gguf: [{", ".join(KINDS)}]
  margins: [{{metric: dnsmos_p808, margin: 0.3}}]
  least_prompts: {len(FRESH)}
resources: {{hosts: 1, slots_per_host: 1, scorers: 1}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("sweep")
    codec = write_neucodec(place / "codec")
    (place / "layout.json").write_text(json.dumps(LAYOUT))
    write_checkpoint(place / "text", "qwen2", speech=False)
    make_base(
        str(place / "text"), place / "layout.json", place / "base", rows="centroids", codec=codec
    )
    write_manifest(place)
    for name, texts in (("prompts", PROMPTS), ("fresh", FRESH)):
        rows = [f'{{"id": "{name[0]}{i}", "text": "{text}"}}\n' for i, text in enumerate(texts)]
        (place / f"{name}.jsonl").write_text("".join(rows))
    (place / "tiny.yaml").write_text(_SPEC)
    return Run(place / "tiny.yaml", place / "st").complete()


@pytest.fixture(scope="module")
def finished(run: Run) -> FinishedSweep:
    return read_finished(Ledger(LocalStorage(Path(run.storage)), NAME))


def test_decodings_of_the_winner_are_variants(finished: FinishedSweep):
    tried = stored_base_decoding(finished.ledger)
    assert tried is not None
    assert len(tried.tried) == len(finished.protocol.decodings) == 2
    assert finished.verdict.variant is not None
    winner = finished.variants[finished.verdict.variant]
    own = [info for info in finished.variants.values() if info.own_decoding]
    assert {info.trial for info in own} == {winner.trial}
    assert len(own) == 1


def test_every_file_is_heard_scored_and_judged(finished: FinishedSweep):
    ledger, winner = finished.ledger, finished.verdict.variant
    hosting = stored_hosting(ledger, winner)
    assert hosting is not None
    assert [each.type for each in hosting.files] == [*KINDS]
    for each in hosting.files:
        assert each.equivalence.finding in ("equivalent", "different", "undecided")
        assert 0 < each.first_audio_p50 <= each.first_audio_p95
        name = hosted_id(str(winner), each.type)  # type: ignore[arg-type]
        clips = read_clips(ledger.storage.fetch(ledger.clips(name, CONFIRMATION)))
        assert len(clips) == len(FRESH)
        assert {clip.rate for clip in clips.values()} == {24_000}
        scores = ledger.scores(name, CONFIRMATION)
        assert sum("dnsmos_p808" in row.values for row in scores) > len(FRESH) / 2
    sizes = [each.bytes for each in hosting.files]
    assert sizes == sorted(sizes, reverse=True)


def test_mlflow_and_the_report_have_them(run: Run, finished: FinishedSweep):
    page = finished.ledger.read_text("report/index.html") or ""
    assert "Decodings of the base" in page
    assert "Largest adapter" in page
    assert "0.00 MB of it trained rows" not in page
    client = MlflowClient(f"sqlite:///{run.storage}/{NAME}/mlflow.db")
    (experiment,) = (each for each in client.search_experiments() if each.name != "Default")
    metrics: dict[str, float] = {}
    for each in client.search_runs([experiment.experiment_id]):
        metrics |= each.data.metrics
    for kind in KINDS:
        assert metrics[f"hosting/{kind}/first_audio_p95"] > 0


def test_an_exported_file_speaks_behind_the_reference(run: Run, finished: FinishedSweep, tmp_path):
    """By the command, then in llama.cpp; its tokens through NeuCodec, and that through a metric."""
    arguments = ["--format", "gguf", "--quantization", "f16", "-o", str(tmp_path / "out")]
    voice = [NAME, "--storage", str(run.storage)]
    assert CliRunner().invoke(app, ["export", *voice, *arguments]).exit_code == 0
    variant = finished.variant(None)
    facts = finished.facts(variant)
    base = load_base(facts.host)
    assert isinstance(base, CodecLM)
    extras = read_extras(
        finished.ledger.storage.fetch(finished.ledger.checkpoint(facts.trial, facts.epoch))
    )
    assert extras is not None
    base.load_extras(extras)
    (told,) = json.loads((tmp_path / "out" / "voice.json").read_text())["references"]
    prompts = [prompt.spec for prompt in finished.protocol.confirmation[:3]]
    ids, _ = base.request(prompts[0], facts.decoding)
    assert base.stream.codes(ids).tolist() == told["codes"]
    speech = speak_hosted(tmp_path / "out" / "model-f16.gguf", base, prompts, facts.decoding)
    scorer = Dnsmos808()
    scores = [scorer.measure(c)["dnsmos_p808"] for c in speech.clips if len(c.audio) > 24_000]
    assert all(1 <= score <= 5 for score in scores)
    assert any(len(clip.audio) for clip in speech.clips)
    said = tmp_path / "said.wav"
    CliRunner().invoke(app, ["say", *voice, "two two", "-o", str(said), "--stream"])
    audio, rate = read_audio(said)
    assert rate == 24_000
    assert np.abs(audio).max() > 0
