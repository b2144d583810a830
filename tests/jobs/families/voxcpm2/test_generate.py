"""Speech is the package's own, with an adapter and without, in any batch."""

from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.families.base import AdapterExtras
from jobs.families.sampling import row_generator
from jobs.families.voxcpm2 import generate
from jobs.spec.trial import DecodingSpec, PromptSpec, TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.packing import AdapterUse

PROMPTS = [PromptSpec(id=f"p{i}", text=text) for i, text in enumerate(("seven", "four five nine"))]
SHORT = DecodingSpec(max_tokens=5, seed=3, inference_timesteps=4)


def official_speech(package: Any, prompt: PromptSpec, decoding: DecodingSpec) -> NDArray[Any]:
    """What the package says, drawing the noise that we draw for the prompt."""
    torch.manual_seed(row_generator(decoding.seed, prompt.id).initial_seed())
    package.base_lm.setup_cache(1, 256, "cpu", torch.float32)
    package.residual_lm.setup_cache(1, 256, "cpu", torch.float32)
    with redirect_stderr(StringIO()):  # its progress bar
        audio = package.generate(
            prompt.text,
            max_len=decoding.max_tokens,
            inference_timesteps=decoding.inference_timesteps,
            cfg_value=decoding.cfg_value,
        )
    said: NDArray[Any] = audio[0].numpy()
    return said


@pytest.mark.parametrize(
    "decoding",
    [
        SHORT.model_copy(update={"cfg_value": 3.0}),
        pytest.param(DecodingSpec(max_tokens=12), marks=pytest.mark.full),
    ],
)
def test_it_is_the_packages_own(tiny: Any, package: Any, decoding: DecodingSpec):
    for prompt, clip in zip(PROMPTS, tiny.speak(tiny.model, PROMPTS, decoding), strict=True):
        expected = official_speech(package, prompt, decoding)
        assert clip.rate == 48_000
        assert len(clip.audio) % 7680 == 0
        np.testing.assert_allclose(clip.audio, expected, rtol=0, atol=1e-3)
        assert float(np.abs(expected).max()) > 0.01


def test_guidance_and_steps_change_what_is_said(tiny: Any):
    said = [
        tiny.speak(tiny.model, PROMPTS[:1], SHORT.model_copy(update=change))[0].audio
        for change in ({}, {"cfg_value": 1.0}, {"inference_timesteps": 3}, {"seed": 4})
    ]
    for other in said[1:]:
        assert not np.array_equal(said[0][:7680], other[:7680])


def test_a_stop_that_never_comes_is_recorded(tiny: Any, monkeypatch: pytest.MonkeyPatch):
    def never(_: Any, states: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(states), 2)

    def always(_: Any, states: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0]).expand(len(states), 2)

    monkeypatch.setattr(generate.objective, "stop_logits", never)
    clips = tiny.speak(tiny.model, PROMPTS, SHORT)
    assert [(clip.reached_end, len(clip.audio)) for clip in clips] == [(False, 5 * 7680)] * 2
    monkeypatch.setattr(generate.objective, "stop_logits", always)
    clips = tiny.speak(tiny.model, PROMPTS, SHORT)
    assert [(clip.reached_end, len(clip.audio)) for clip in clips] == [(True, 4 * 7680)] * 2


def test_voices_of_a_batch_speak_as_alone_and_scale_0_is_the_base(tiny: Any):
    adapters = Adapters(tiny)
    for slot, rank in (("one", 2), ("two", 3)):
        adapters.add(slot, TrainingSpec(rank=rank, dropout=0.0))
        for parameter in adapters.parameters(slot).values():
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(rank))
    voices = [AdapterUse("one"), AdapterUse("two", 0.5), AdapterUse("two", 0.0), AdapterUse(None)]

    def said(voices: list[AdapterUse]) -> list[NDArray[np.float32]]:
        with adapters.rows.owned_by(voices):
            clips = tiny.speak(tiny.model, PROMPTS, SHORT, len(voices), adapters.rows.share)
        return [clip.audio for clip in clips]

    try:
        together = said(voices)
        alone = [audio for voice in voices for audio in said([voice])]
    finally:
        adapters.remove("one")
        adapters.remove("two")
    for whole, single in zip(together, alone, strict=True):
        np.testing.assert_array_equal(whole, single)
    for scale_0, base in zip(together[4:6], together[6:], strict=True):
        np.testing.assert_array_equal(scale_0, base)
    assert not np.array_equal(together[0][:7680], together[6][:7680])
    assert not np.array_equal(together[2][:7680], together[6][:7680])


def test_sound_becomes_whole_patches_always_the_same(tiny: Any, package: Any):
    audio = np.random.default_rng(0).normal(size=6000).astype(np.float32)
    patches, starts = tiny.encode(audio, "text")
    assert (patches.shape, patches.dtype, starts) == ((3, 32), np.float32, None)
    np.testing.assert_array_equal(patches, tiny.encode(audio, "other")[0])
    padded = torch.nn.functional.pad(torch.from_numpy(audio), (0, 3 * 2560 - 6000))
    with torch.no_grad():
        expected = package.audio_vae.encode(padded[None], 16_000)[0].t().reshape(3, 32)
    np.testing.assert_allclose(patches, expected.numpy(), rtol=0, atol=1e-6)


def test_nothing_of_a_speaker_is_kept_with_an_adapter(tiny: Any):
    extras = tiny.adapter_extras()
    assert isinstance(extras, AdapterExtras)
    assert not extras.tensors
    assert extras.facts["base"] == tiny.digest
