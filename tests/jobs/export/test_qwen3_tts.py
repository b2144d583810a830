"""A checkpoint of the family in the official package."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from jobs.clips import PreparedClip
from jobs.export.qwen3_tts import KeptVoice, add_speakers, clone_prompt
from jobs.families.qwen3_tts.base import Qwen3TTS, load
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.adapter import add_resident
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from jobs.vendor import qwen_tts
from tests.tiny_qwen3_tts import random_clips, write_recording

FRAMES = 6
PROMPT = PromptSpec(id="p", text="two four")
GREEDY = {"do_sample": False, "subtalker_dosample": False, "repetition_penalty": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedClip]:
    reference = write_recording(tmp_path_factory.mktemp("ann") / "ann.flac")
    *training, last = random_clips(reference)
    return [*training, replace(last, split="validation")]


@pytest.fixture(scope="module")
def trained(
    tiny_qwen3_tts_source: Path,
    data: list[PreparedClip],
    process_group: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Host, Path]]:
    """A host with an adapter that is far from the base, and its checkpoint."""
    base = load(tiny_qwen3_tts_source, tiny_qwen3_tts_source, None, "fp32")
    host = Host(base, data, EngineSpec())
    trial = TrialSpec(
        family="qwen3_tts",
        base_digest=base.digest,
        data_digest="d",
        training=TrainingSpec(rank=4, learning_rate=2e-2, targets=("talker.attention", "q_proj")),
        engine=EngineSpec(),
    )
    host.attach("slot", trial)
    losses = [host.advance("slot") for _ in range(4)][-1]
    directory = tmp_path_factory.mktemp("checkpoint")
    host.snapshot("slot").write(directory, losses)
    yield host, directory
    host.detach("slot")


def fresh(source: Path) -> Any:
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(source))
    package.model.config.talker_config.spk_id = {"vivian": 3065}
    package.model.config.talker_config.spk_is_dialect = {"vivian": False}
    return package


def ours(host: Host, scale: float) -> Tensor:
    from jobs.training.packing import AdapterUse

    base = host.base
    assert isinstance(base, Qwen3TTS)
    with host._adapters.rows.owned_by([AdapterUse("slot", scale)]), host._adapters.rows.share([1]):
        (spoken,) = base.generate(base.model, [PROMPT], DecodingSpec(max_tokens=FRAMES))
    return spoken.codes


def theirs(package: Any, how: dict[str, Any]) -> Tensor:
    codes, _ = package.model.generate(
        input_ids=package._tokenize_texts([package._build_assistant_text(PROMPT.text)]),
        languages=["auto"],
        non_streaming_mode=True,
        max_new_tokens=FRAMES + 1,
        **how,
        **GREEDY,
    )
    return codes[0]


def as_prompt(voice: KeptVoice) -> dict[str, Any]:
    return {
        "voice_clone_prompt": {
            "ref_code": [None],
            "ref_spk_embedding": [voice.vectors["ann"]],
            "x_vector_only_mode": [True],
            "icl_mode": [False],
        }
    }


def test_a_checkpoint_keeps_what_it_takes_to_speak(
    trained: tuple[Host, Path], tiny_qwen3_tts_source: Path
):
    host, directory = trained
    voice = KeptVoice.read(directory)
    assert isinstance(host.base, Qwen3TTS)
    assert torch.equal(voice.vectors["ann"], host.base.speakers.vector("Ann"))
    assert voice.vectors["ann"].dtype == torch.float32
    assert voice.facts["speakers"] == {"ann": {"slot": 3000}}
    assert voice.facts["base_digest"] == host.base.digest
    assert {"tokenizer_digest", "versions", "layout", "language"} <= set(voice.facts)
    voice.check_base(tiny_qwen3_tts_source)


def test_an_adapter_is_not_put_on_another_base(
    trained: tuple[Host, Path], tiny_qwen3_tts_source: Path, tmp_path: Path
):
    import shutil

    other = Path(shutil.copytree(tiny_qwen3_tts_source, tmp_path / "other"))
    (other / "merges.txt").write_text((other / "merges.txt").read_text() + "\n")
    with pytest.raises(ValueError, match="the base that it was trained on"):
        KeptVoice.read(trained[1]).check_base(other)


@pytest.mark.parametrize("scale", [0.35, 1.0])
def test_the_package_says_what_the_host_says(
    trained: tuple[Host, Path], tiny_qwen3_tts_source: Path, scale: float
):
    host, directory = trained
    package, voice = fresh(tiny_qwen3_tts_source), KeptVoice.read(directory)
    base = theirs(package, as_prompt(voice))
    add_resident(package.model, voice.directory, scale)
    assert torch.equal(theirs(package, as_prompt(voice)), ours(host, scale))
    add_resident(package.model, voice.directory, 0.0)
    assert torch.equal(theirs(package, as_prompt(voice)), base)
    assert not torch.equal(base, ours(host, 1.0))


def test_merged_is_unmerged(trained: tuple[Host, Path], tiny_qwen3_tts_source: Path):
    package, voice = fresh(tiny_qwen3_tts_source), KeptVoice.read(trained[1])
    add_resident(package.model, voice.directory, 0.35)
    unmerged = theirs(package, as_prompt(voice))
    for module in package.model.modules():
        if isinstance(module, LoraLayer):
            module.merge()
    assert torch.equal(theirs(package, as_prompt(voice)), unmerged)


def test_a_custom_voice_says_the_same_and_presets_stay(
    trained: tuple[Host, Path], tiny_qwen3_tts_source: Path
):
    host, directory = trained
    package, voice = fresh(tiny_qwen3_tts_source), KeptVoice.read(directory)
    add_resident(package.model, voice.directory, 1.0)
    add_speakers(package, voice)
    assert torch.equal(theirs(package, {"speakers": ["Ann"]}), ours(host, 1.0))
    assert package.get_supported_speakers() == ["ann", "vivian"]
    assert package.model.speaker_encoder is not None
    sounds, rate = package.generate_custom_voice(
        PROMPT.text, speaker="Ann", language="Auto", max_new_tokens=4, **GREEDY
    )
    assert rate == 24_000
    assert len(sounds[0]) == 3 * 1920


def test_the_voice_goes_into_a_prompt_too(trained: tuple[Host, Path], tiny_qwen3_tts_source: Path):
    package, voice = fresh(tiny_qwen3_tts_source), KeptVoice.read(trained[1])
    sounds, _ = package.generate_voice_clone(
        PROMPT.text,
        voice_clone_prompt=clone_prompt(voice, "Ann"),
        non_streaming_mode=True,
        max_new_tokens=4,
        **GREEDY,
    )
    assert np.isfinite(sounds[0]).all()


def test_scale_0_is_the_base_to_the_host(trained: tuple[Host, Path]):
    host, _ = trained
    prompts, decoding = [PROMPT], DecodingSpec(max_tokens=FRAMES)
    voices = [AdapterUse("slot", 0.0), AdapterUse(None), AdapterUse("slot", 1.0)]
    none, base, full = (clips[0].audio for clips in host.speak(voices, prompts, decoding))
    np.testing.assert_array_equal(none, base)
    assert not np.array_equal(base, full)
