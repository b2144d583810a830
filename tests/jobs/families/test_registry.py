"""The shipped base, loaded as a sweep loads it, speaks."""

import numpy as np
import pytest
import torch

from jobs.clips import SpokenClip
from jobs.embedded import PROMPTS_DIR
from jobs.families.base import FrozenBase
from jobs.families.registry import adapter_size, load_base
from jobs.families.size import AdapterSize
from jobs.spec.trial import DecodingSpec, HostSpec, PromptSpec, TrainingSpec
from jobs.speech.prompts import read_prompts
from jobs.training.adapter import Adapters
from tests.backbones import write_checkpoint

SHIPPED = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)
SECONDS_PER_WORD = (0.15, 1.5)


@pytest.fixture(scope="module")
def prompts() -> list[PromptSpec]:
    return read_prompts(PROMPTS_DIR / "a.jsonl")[:6]


def assert_speech(clips: list[SpokenClip], prompts: list[PromptSpec], base: FrozenBase) -> None:
    low, high = SECONDS_PER_WORD
    for clip, prompt in zip(clips, prompts, strict=True):
        assert clip.text == prompt.text
        assert clip.reached_end
        assert clip.rate == base.sample_rate
        assert clip.audio.dtype == np.float32
        assert np.sqrt(np.mean(clip.audio**2)) > 0.01
        assert low < len(clip.audio) / clip.rate / len(prompt.text.split()) < high


def test_the_embedded_base_speaks(embedded_base: FrozenBase, prompts: list[PromptSpec]):
    clips = embedded_base.speak(embedded_base.model, prompts, DecodingSpec())
    assert_speech(clips, prompts, embedded_base)
    assert {p.dtype for p in embedded_base.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.full)])
def test_the_size_of_an_adapter_is_that_of_its_weights(tmp_path, tied):
    source = write_checkpoint(tmp_path / "base", "qwen3", tied=tied)
    host = SHIPPED.model_copy(update={"source": str(source)})
    base = load_base(host)
    for training in (
        TrainingSpec(rank=4),
        TrainingSpec(
            rank=3,
            targets=("q_proj", "down_proj"),
            layers_to_transform=(1,),
            speech_rows="trained",
        ),
    ):
        assert adapter_size(host, training) == size_of(base, training)
    assert adapter_size(host.model_copy(update={"source": "hub:no/such"}), training) is None


@pytest.mark.full
@pytest.mark.parametrize("family", ["qwen3_tts", "voxcpm2"])
def test_so_it_is_in_other_families(request, family):
    source = request.getfixturevalue(f"tiny_{family}_source")
    host = SHIPPED.model_copy(update={"source": str(source), "family": family})
    training = TrainingSpec(rank=4, dit_rank=2 if family == "voxcpm2" else None)
    base = request.getfixturevalue(f"tiny_{family}")
    assert adapter_size(host, training) == size_of(base, training)


def size_of(base: FrozenBase, training: TrainingSpec) -> AdapterSize:
    adapters = Adapters(base)
    adapters.add("slot", training)
    sizes = {key: weight.numel() for key, weight in adapters.parameters("slot").items()}
    adapters.remove("slot")
    rows = sum(size for key, size in sizes.items() if "trainable_tokens" in key)
    return AdapterSize(sum(sizes.values()) - rows, rows)


def test_it_says_the_same_when_loaded_again(embedded_base: FrozenBase, prompts: list[PromptSpec]):
    again = load_base(SHIPPED)
    assert again.digest == embedded_base.digest
    assert again.encoder_digest == embedded_base.encoder_digest
    decoding = DecodingSpec(temperature=0.8, seed=4)
    for ours, theirs in zip(
        again.speak(again.model, prompts[:2], decoding),
        embedded_base.speak(embedded_base.model, prompts[:2], decoding),
        strict=True,
    ):
        np.testing.assert_array_equal(ours.audio, theirs.audio)


def test_it_speaks_in_bf16(prompts: list[PromptSpec]):
    base = load_base(SHIPPED.model_copy(update={"precision": "bf16"}))
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    assert_speech(base.speak(base.model, prompts[:3], DecodingSpec()), prompts[:3], base)


def test_it_reads_the_tag_of_a_language(prompts: list[PromptSpec]):
    base = load_base(SHIPPED.model_copy(update={"language_tag": True}))
    with pytest.raises(ValueError, match="needs a language"):
        base.speak(base.model, prompts[:1], DecodingSpec())
    told = [prompt.model_copy(update={"language": "en"}) for prompt in prompts[:2]]
    assert [clip.text for clip in base.speak(base.model, told, DecodingSpec())] == [
        prompt.text for prompt in told
    ]


def test_an_unknown_family_names_the_nearest():
    spec = SHIPPED.model_copy(update={"family": "codek_lm"})
    with pytest.raises(ValueError, match="Did you mean codec_lm"):
        load_base(spec)


def test_an_unknown_voice_names_the_known_ones():
    spec = SHIPPED.model_copy(update={"voice": "nobody"})
    with pytest.raises(ValueError, match=r"voice must be one of .* got 'nobody'"):
        load_base(spec)


def test_a_directory_without_a_base_is_named(tmp_path):
    spec = SHIPPED.model_copy(update={"source": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"layout\.json"):
        load_base(spec)
