"""What every family promises; a new one adds a line to ``BASES``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.audio.files import read_audio, resample
from jobs.clips import PreparedClip
from jobs.embedded import VOICE_DIR
from jobs.families.base import FrozenBase
from jobs.families.qwen3_tts.base import Qwen3TTS
from jobs.families.registry import FAMILIES
from jobs.spec.trial import DecodingSpec, PromptSpec, TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.packed import Owner
from tests.tiny_qwen3_tts import CODEBOOKS, write_recording
from tests.toy import toy_base

TEXTS = ("seven", "four five nine", "two two")
PROMPTS = [PromptSpec(id=f"p{i}", text=text) for i, text in enumerate(TEXTS)]
BASES = ("toy", "embedded", "qwen3_tts")


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest) -> FrozenBase:
    if request.param == "toy":
        return toy_base()
    loaded: FrozenBase = request.getfixturevalue(
        "embedded_base" if request.param == "embedded" else "tiny_qwen3_tts"
    )
    return loaded


@pytest.fixture(scope="module")
def clips(base: FrozenBase, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedClip]:
    """Codes that all codebooks have, in clips of unequal length; the base knows their speaker."""
    draw = np.random.default_rng(0)
    reference = write_recording(tmp_path_factory.mktemp("speaker") / "speaker.flac")
    books = (CODEBOOKS,) if isinstance(base, Qwen3TTS) else ()
    made = [
        PreparedClip(
            id=str(i),
            text=text,
            split="train",
            codes=draw.integers(0, 16, size=(6 * len(text.split()) + i, *books)),
            word_starts=tuple(range(0, 6 * len(text.split()), 6)),
            reference=reference,
        )
        for i, text in enumerate(TEXTS)
    ]
    base.examples(made)
    return made


def short(base: FrozenBase, decoding: DecodingSpec) -> DecodingSpec:
    """A random base never ends by itself, and a frame of 16 codes takes it its time."""
    cap = 8 if isinstance(base, Qwen3TTS) else None
    return decoding.model_copy(update={"max_tokens": cap})


def test_a_base_is_frozen_and_quiet(base: FrozenBase):
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not any(module.training for module in base.model.modules())


def test_a_base_has_names_for_what_it_is(base: FrozenBase):
    assert base.digest
    assert base.encoder_digest
    assert base.sample_rate > 0
    assert base.rules in {family.rules for family in FAMILIES.values()}


def test_a_stranger_is_asked_for_as_nobody_is_or_has_to_be_heard_first(
    base: FrozenBase, clips: list[PreparedClip]
):
    assert base.voice_of("a stranger") == base.voice_of(None)
    said = [PROMPTS[0], PROMPTS[0].model_copy(update={"speaker": "a stranger"})]
    if base.rules.conditions_on_reference:
        with pytest.raises(ValueError, match="got 'a stranger'"):
            base.speak(base.model, said, DecodingSpec())
        return
    plain, *_ = base.examples(clips)
    (strange,) = base.examples([replace(clips[0], speaker="a stranger")])
    assert strange == plain
    nobody, stranger = base.speak(base.model, said, DecodingSpec())
    np.testing.assert_array_equal(nobody.audio, stranger.audio)


def test_only_what_aligns_reads_the_text_of_a_recording(base: FrozenBase):
    audio = resample(*read_audio(VOICE_DIR / "four-five-nine.flac"), base.sample_rate)
    codes, starts = base.encode(audio, "four five nine")
    assert (starts is not None) == base.aligns
    if not base.aligns:
        other, _ = base.encode(audio, "nine five four two")
        np.testing.assert_array_equal(other, codes)


def test_loss_and_targets_add_up_over_clips(base: FrozenBase, clips: list[PreparedClip]):
    examples = base.examples(clips)
    with torch.inference_mode():
        (together,) = base.loss_sums(base.model, [base.collate(examples)])
        alone = [base.loss_sums(base.model, [base.collate([e])])[0] for e in examples]
    assert together.dtype == torch.float32
    assert together.shape == ()
    assert together.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)
    assert base.targets(examples) == sum(base.targets([example]) for example in examples)
    assert all(base.targets([example]) > 0 for example in examples)


def test_several_batches_in_one_pass_cost_what_each_costs_alone(
    base: FrozenBase, clips: list[PreparedClip]
):
    one, two, three = base.examples(clips)
    batches = [base.collate(examples) for examples in ([two], [one, three], [one])]
    with torch.inference_mode():
        together = base.loss_sums(base.model, batches)
        alone = [base.loss_sums(base.model, [batch])[0] for batch in batches]
    assert [loss.item() for loss in together] == pytest.approx([x.item() for x in alone], rel=1e-5)


def test_loss_reaches_every_weight_of_its_adapter_and_of_no_other(
    base: FrozenBase, clips: list[PreparedClip]
):
    adapters = Adapters(base.model)
    owners = ["one", "other"]
    for slot in owners:
        adapters.attach(slot, TrainingSpec(rank=2))
        for parameter in adapters.parameters(slot).values():
            parameter.data.fill_(0.01)
    try:
        examples = base.examples(clips)
        batches = [base.collate(examples[:2]), base.collate(examples[2:])]
        with adapters.rows.owned_by([Owner(slot) for slot in owners]):
            loss, _ = base.loss_sums(base.model, batches, adapters.rows.share)
            loss.backward()
        gradients = {name: p.grad for name, p in adapters.parameters("one").items()}
        assert gradients
        assert [n for n, g in gradients.items() if g is None or not g.abs().sum() > 0] == []
        others = [p.grad for p in adapters.parameters("other").values()]
        assert not any(g is not None and g.abs().sum() > 0 for g in others)
    finally:
        for slot in owners:
            adapters.detach(slot)


@pytest.mark.parametrize(
    "decoding",
    [DecodingSpec(), DecodingSpec(temperature=0.9, top_p=0.9, repetition_penalty=1.05, seed=2)],
    ids=["greedy", "sampled"],
)
def test_a_prompt_sounds_the_same_alone_and_in_company(
    base: FrozenBase, clips: list[PreparedClip], decoding: DecodingSpec
):
    decoding = short(base, decoding)
    together = base.speak(base.model, PROMPTS, decoding)
    assert [clip.text for clip in together] == list(TEXTS)
    for prompt, clip in zip(PROMPTS, together, strict=True):
        (alone,) = base.speak(base.model, [prompt], decoding)
        np.testing.assert_array_equal(alone.audio, clip.audio)
        assert alone.reached_end == clip.reached_end


def test_speech_is_mono_float32_at_the_rate_of_the_base(
    base: FrozenBase, clips: list[PreparedClip]
):
    for clip in base.speak(base.model, PROMPTS, short(base, DecodingSpec())):
        assert clip.audio.ndim == 1
        assert clip.audio.dtype == np.float32
        assert clip.rate == base.sample_rate
        assert np.isfinite(clip.audio).all()


def test_a_recording_becomes_something_to_train_on(base: FrozenBase, clips: list[PreparedClip]):
    audio = resample(*read_audio(VOICE_DIR / "four-five-nine.flac"), base.sample_rate)
    codes, starts = base.encode(audio, "four five nine")
    assert codes.dtype == np.int64
    assert codes.flags.c_contiguous
    assert codes.ndim == (2 if isinstance(base, Qwen3TTS) else 1)
    assert len(codes) > 0
    clip = replace(clips[0], text="four five nine", codes=codes, word_starts=starts)
    if starts is not None or isinstance(base, Qwen3TTS):
        assert base.targets(base.examples([clip])) > len(codes)
