"""A file of a voice speaks in llama.cpp once; what it said and what that took is kept."""

from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage
from jobs.export.gguf.llama import is_installed
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.clips import read_clips
from orchestrator.ledger import CONFIRMATION, Ledger
from orchestrator.workers import hosting
from tests.jobs.export.voices import random_voice

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(not is_installed(), reason="needs llama.cpp: pip install xllamacpp"),
]
PROMPTS = [PromptSpec(id="c0", text="two four"), PromptSpec(id="c1", text="nine")]


@pytest.fixture
def voice(embedded_base, tmp_path):
    return random_voice(tmp_path, embedded_base)


@pytest.fixture
def ledger(voice, tmp_path) -> Ledger:
    """Of a sweep that has the voice's checkpoint and nothing else."""
    ledger = Ledger(LocalStorage(tmp_path / "st"), voice.facts.sweep)
    key = ledger.checkpoint(voice.facts.trial, voice.facts.epoch)
    with ledger.storage.commit(key) as directory:
        for path in (tmp_path / "checkpoint").iterdir():
            (Path(directory) / path.name).write_bytes(path.read_bytes())
    return ledger


def test_a_file_says_what_the_voice_says_and_is_asked_once(
    ledger, voice, embedded_base, monkeypatch
):
    def host() -> hosting.HostingFigures:
        return hosting.host_file(ledger.storage.url, voice.facts, "f16", PROMPTS)

    figures = host()
    name = hosting.hosted_id(voice.facts.variant.id, "f16")
    spoken = read_clips(ledger.storage.fetch(ledger.clips(name, CONFIRMATION)))
    from jobs.speech.voice import LoadedVoice

    for ours, theirs in zip(LoadedVoice(voice).speak(PROMPTS), spoken.values(), strict=True):
        assert (theirs.text, theirs.reached_end) == (ours.text, ours.reached_end)
        assert len(theirs.audio) == len(ours.audio)
    assert figures.bytes > 4_000_000
    assert 0 < figures.first_audio_p50 <= figures.first_audio_p95
    assert min(figures.tokens_per_second, figures.real_time_factor, figures.memory) > 0
    monkeypatch.setattr(hosting, "_speak", None)
    assert host() == figures


def test_its_scores_lie_where_no_variant_is_judged(ledger, voice):
    ledger.write_scores(hosting.hosted_id(voice.facts.variant.id, "q8_0"), [], CONFIRMATION)
    assert ledger.scored_variants(CONFIRMATION) == []


def test_sampling_draws_as_often_as_it_is_asked_to(voice, embedded_base, tmp_path):
    """By the seed and the prompt's id: the same twice, and another with another seed."""
    from jobs.export.gguf.export import file_name, write
    from jobs.export.gguf.speaking import speak_hosted

    (tmp_path / "out").mkdir()
    write(voice, tmp_path / "out", "q8_0")
    path = tmp_path / "out" / file_name("q8_0")
    warm = DecodingSpec(temperature=1.0, seed=1)

    def say(decoding: DecodingSpec) -> list[list[float]]:
        speech = speak_hosted(path, embedded_base, PROMPTS, decoding)
        return [clip.audio.tolist() for clip in speech.clips]

    assert say(warm) == say(warm)
    assert say(warm) != say(warm.at({"seed": 2}))
