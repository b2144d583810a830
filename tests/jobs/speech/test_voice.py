"""A voice says away from its sweep what it said in it, bit for bit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.problems import InputError
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.clips import Origin, read_clips, write_clips
from jobs.speech.say import say
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VOICE_FILE, SpokenLanguage, VoiceFiles, read_voice
from tests.embedded_voice import EMBEDDED_HOST
from tests.trained_voice import CLIPS, PROMPTS, train_voice

FRAMES = DecodingSpec(max_tokens=6)


def assert_says_what_it_said(files: VoiceFiles, prompts: list[PromptSpec], tmp_path: Path) -> None:
    spoken = LoadedVoice(read_voice(files.directory)).speak(prompts)
    write_clips(tmp_path, prompts, spoken, Origin("v", files.facts.host.family, "x"))
    before, after = read_clips(files.directory.parent / CLIPS), read_clips(tmp_path)
    for prompt in prompts:
        assert before[prompt.id].audio.size > 0
        np.testing.assert_array_equal(before[prompt.id].audio, after[prompt.id].audio)
        assert before[prompt.id].reached_end == after[prompt.id].reached_end


def test_the_embedded_base_speaks_as_in_its_sweep(embedded_voice: VoiceFiles, tmp_path: Path):
    assert_says_what_it_said(embedded_voice, PROMPTS, tmp_path)
    weaker = embedded_voice.facts.model_copy(update={"lora_scale": 0.0})
    base = LoadedVoice(replace(embedded_voice, facts=weaker)).speak(PROMPTS)
    said = read_clips(embedded_voice.directory.parent / CLIPS)
    assert not np.array_equal(base[0].audio, said["p"].audio)


def test_each_language_is_spoken_by_what_its_verdict_allows(embedded_voice: VoiceFiles):
    """By the voice's own variant, by another, by the base: to the bit as by each alone."""
    facts = embedded_voice.facts
    weaker = facts.model_copy(update={"trial": "t" + "0" * 12, "lora_scale": 0.5})
    parts = (("en", "PROMOTE", facts.variant.id), ("ko", "PROMOTE", weaker.variant.id))
    parts += (("km", "REGRESSION", "base"),)
    by_language = tuple(
        SpokenLanguage(language=language, verdict=verdict, variant=variant)
        for language, verdict, variant in parts
    )
    voice = LoadedVoice(
        replace(
            embedded_voice,
            facts=facts.model_copy(update={"by_language": by_language}),
            others={weaker.variant.id: replace(embedded_voice, facts=weaker)},
        )
    )

    def sound(voice: LoadedVoice, *languages: str | None) -> list[NDArray[np.float32]]:
        texts = [PROMPTS[0].model_copy(update={"language": language}) for language in languages]
        return [clip.audio for clip in voice.speak(texts)]

    said = sound(voice, "km", "en", "ko", "km")
    np.testing.assert_array_equal(said[0], said[3])
    for number, scale in enumerate((0.0, facts.lora_scale, 0.5)):
        alone = facts.model_copy(update={"lora_scale": scale})
        (expected,) = sound(LoadedVoice(replace(embedded_voice, facts=alone)), None)
        np.testing.assert_array_equal(said[number], expected)
    assert not np.array_equal(said[0], said[1])
    assert say(voice, "nine", "km").variant == "base"
    assert say(voice, "nine", "ko").variant == weaker.variant.id
    for language in ("de", None):
        with pytest.raises(ValueError, match=f"en, ko, km, got {language or 'none'}"):
            sound(voice, "en", language)


def test_qwen3_tts_speaks_as_in_its_sweep_without_its_clips(
    tiny_qwen3_tts_source: Path, process_group: None, tmp_path: Path
):
    from jobs.families.registry import load_base
    from tests.tiny_qwen3_tts import random_clips, write_recording

    host = EMBEDDED_HOST.model_copy(
        update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
    )
    ann = random_clips(write_recording(tmp_path / "ann.flac"))
    zoe = [
        replace(clip, id=f"z{clip.id}", speaker="Zoe")
        for clip in random_clips(write_recording(tmp_path / "zoe.flac", seed=5))
    ]
    # Zoe first: whose vector speaks for nobody is not for the alphabet to say.
    clips = [*zoe, *ann[:-1], replace(ann[-1], split="validation")]
    prompts = [
        PromptSpec(id="p", text="two four", language="en"),
        PromptSpec(id="q", text="two four", speaker="Ann", language="en"),
    ]
    files = train_voice(
        tmp_path, load_base(host), host, clips, prompts, FRAMES, rank=2, learning_rate=2e-2
    )
    (tmp_path / "ann.flac").unlink()
    assert_says_what_it_said(files, prompts, tmp_path)
    said = read_clips(tmp_path / CLIPS)
    assert not np.array_equal(said["p"].audio, said["q"].audio)


def test_another_base_is_refused_with_both_digests(embedded_voice: VoiceFiles, tmp_path: Path):
    directory = Path(shutil.copytree(embedded_voice.directory, tmp_path / "voice"))
    row = json.loads((directory / VOICE_FILE).read_text())
    (directory / VOICE_FILE).write_text(
        json.dumps({**row, "base_digest": "b" * 64, "encoder_digest": "e" * 64})
    )
    with pytest.raises(InputError) as caught:
        LoadedVoice(read_voice(directory))
    base, codec = map(str, caught.value.problems)
    assert "b" * 12 in base
    assert embedded_voice.facts.base_digest[:12] in base
    assert "e" * 12 in codec
    assert "correct host" in codec


def test_a_base_that_is_gone_is_told(embedded_voice: VoiceFiles, tmp_path: Path):
    host = EMBEDDED_HOST.model_copy(update={"source": str(tmp_path / "gone")})
    moved = embedded_voice.facts.model_copy(update={"host": host})
    with pytest.raises(InputError, match=r"gone must load.*correct host\.source"):
        LoadedVoice(replace(embedded_voice, facts=moved))
