"""What every family promises to training and speaking."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from jobs.audio.files import read_audio, resample
from jobs.clips import Codes, PreparedClip
from jobs.embedded import VOICE_DIR
from jobs.families.base import FrozenBase, TextBase
from jobs.families.items import answer_items
from jobs.families.registry import FAMILIES
from jobs.spec.items import PassageItem
from jobs.spec.trial import DecodingSpec, PromptSpec, TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.packing import AdapterUse

TEXTS = ("seven", "four five nine", "two two")
PROMPTS = [PromptSpec(id=f"p{i}", text=text) for i, text in enumerate(TEXTS)]
_RECORDING = VOICE_DIR / "four-five-nine.flac"
_RECORDED_TEXT = "four five nine"
_GREEDY = DecodingSpec()
_SAMPLED = DecodingSpec(temperature=0.9, top_p=0.9, repetition_penalty=1.05, seed=2)


class FamilyBattery:
    """Subclass it in a test file, set ``family`` and override the fixture ``base``.

    A small base with random weights is enough. The tests leave it as it was, but for the speakers
    that it knows.
    """

    family: ClassVar[str]
    """Its name in the table of families."""
    codebook_size: ClassVar[int] = 16
    """Codes that every codebook of the base has, 0 included."""
    max_tokens: ClassVar[int | None] = None
    """Tokens that a prompt may take; random weights hardly ever end a clip by themselves."""
    trains_on_encoded: ClassVar[bool] = True
    """Whether the base has all codes that ``encode`` gives; not so where a test's base is cut."""

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls) -> FrozenBase:
        """The base to test, loaded."""
        raise NotImplementedError("override the fixture `base`")

    @pytest.fixture(scope="class")
    @classmethod
    def clips(cls, base: FrozenBase) -> list[PreparedClip]:
        """One clip of random codes for each text, of unequal length; the base knows its speaker."""
        draw = np.random.default_rng(0)
        books = _encode_recording(base)[0].shape[1:]
        made = []
        for i, text in enumerate(TEXTS):
            frames = 6 * len(text.split())
            made.append(
                PreparedClip(
                    id=str(i),
                    text=text,
                    split="train",
                    codes=draw.integers(0, cls.codebook_size, size=(frames + i, *books)),
                    word_starts=tuple(range(0, frames, 6)),
                    reference=_RECORDING,
                )
            )
        base.examples(made)
        return made

    def _short(self, decoding: DecodingSpec) -> DecodingSpec:
        return decoding.model_copy(update={"max_tokens": self.max_tokens})

    def test_a_base_is_frozen_and_in_evaluation_mode(self, base: FrozenBase) -> None:
        assert not any(parameter.requires_grad for parameter in base.model.parameters())
        assert not any(module.training for module in base.model.modules())

    def test_a_base_says_what_it_is(self, base: FrozenBase) -> None:
        assert base.digest
        assert base.encoder_digest
        assert base.sample_rate > 0
        assert base.speech_rate > 0
        assert base.rules == FAMILIES[self.family].rules

    def test_an_unknown_speaker_has_the_default_voice_or_is_refused(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        assert base.voice_of("a stranger") == base.voice_of(None)
        prompts = [PROMPTS[0], PROMPTS[0].model_copy(update={"speaker": "a stranger"})]
        if base.rules.conditions_on_reference:
            with pytest.raises(ValueError, match="got 'a stranger'"):
                base.speak(base.model, prompts, DecodingSpec())
            return
        plain, *_ = base.examples(clips)
        (strange,) = base.examples([replace(clips[0], speaker="a stranger")])
        assert strange == plain
        nobody, stranger = base.speak(base.model, prompts, self._short(_GREEDY))
        np.testing.assert_array_equal(nobody.audio, stranger.audio)

    def test_targets_are_linear_layers_of_which_an_adapter_covers_just_those(
        self, base: FrozenBase
    ) -> None:
        targets = FAMILIES[self.family].targets
        for target in targets:
            names = base.layers([target], None)
            assert names
            assert all(isinstance(base.model.get_submodule(name), nn.Linear) for name in names)
        with pytest.raises(ValueError, match="no_such_layer is no layer"):
            base.layers([*targets, "no_such_layer"], None)
        adapters, chosen = Adapters(base), sorted(targets)[::2]
        names = base.layers(chosen, [0])
        adapters.add("slot", TrainingSpec(targets=tuple(chosen), layers_to_transform=(0,)))
        try:
            assert {key.rpartition(".lora_")[0] for key in adapters.parameters("slot")} == {
                f"base_model.model.{name}" for name in names
            }
        finally:
            adapters.remove("slot")

    def test_only_a_base_that_aligns_reads_the_text_of_a_recording(self, base: FrozenBase) -> None:
        codes, starts = _encode_recording(base)
        assert (starts is not None) == base.aligns
        if not base.aligns:
            other, _ = _encode_recording(base, "nine five four two")
            np.testing.assert_array_equal(other, codes)

    def test_loss_and_targets_add_up_over_clips(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        examples = base.examples(clips)
        with torch.inference_mode():
            (together,) = base.loss_sums(base.model, [base.collate(examples)])
            alone = [base.loss_sums(base.model, [base.collate([e])])[0] for e in examples]
        assert together.dtype == torch.float32
        parts = len(base.loss_parts)
        assert together.shape == ((parts,) if parts else ())
        torch.testing.assert_close(together, torch.stack(alone).sum(dim=0), rtol=1e-5, atol=0)
        assert base.targets(examples) == sum(base.targets([example]) for example in examples)
        assert all(base.targets([example]) > 0 for example in examples)

    def test_batches_in_one_pass_have_the_losses_they_have_alone(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        one, two, three = base.examples(clips)
        batches = [base.collate(examples) for examples in ([two], [one, three], [one])]
        with torch.inference_mode():
            together = base.loss_sums(base.model, batches)
            alone = [base.loss_sums(base.model, [batch])[0] for batch in batches]
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)

    def test_a_loss_reaches_every_weight_of_its_adapter_and_of_no_other(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        adapters = Adapters(base)
        owners = ["one", "other"]
        for slot in owners:
            adapters.add(slot, TrainingSpec(rank=2))
            for parameter in adapters.parameters(slot).values():
                parameter.data.fill_(0.01)
        try:
            examples = base.examples(clips)
            batches = [base.collate(examples[:2]), base.collate(examples[2:])]
            with adapters.rows.owned_by([AdapterUse(slot) for slot in owners]):
                loss, _ = base.loss_sums(base.model, batches, adapters.rows.share)
                loss.sum().backward()  # type: ignore[no-untyped-call]
            gradients = {name: p.grad for name, p in adapters.parameters("one").items()}
            assert gradients
            assert [n for n, g in gradients.items() if g is None or not g.abs().sum() > 0] == []
            others = [p.grad for p in adapters.parameters("other").values()]
            assert not any(g is not None and g.abs().sum() > 0 for g in others)
        finally:
            for slot in owners:
                adapters.remove(slot)

    @pytest.mark.parametrize("decoding", [_GREEDY, _SAMPLED], ids=["greedy", "sampled"])
    def test_a_prompt_sounds_the_same_alone_and_in_a_batch(
        self, base: FrozenBase, clips: list[PreparedClip], decoding: DecodingSpec
    ) -> None:
        decoding = self._short(decoding)
        together = base.speak(base.model, PROMPTS, decoding)
        assert [clip.text for clip in together] == list(TEXTS)
        for prompt, clip in zip(PROMPTS, together, strict=True):
            (alone,) = base.speak(base.model, [prompt], decoding)
            np.testing.assert_array_equal(alone.audio, clip.audio)
            assert alone.reached_end == clip.reached_end

    def test_a_base_answers_text_items_as_its_family_says(self, base: FrozenBase) -> None:
        assert isinstance(base, TextBase) == FAMILIES[self.family].reads_items
        if not isinstance(base, TextBase):
            return
        items = [PassageItem(id=prompt.id, text=f" {prompt.text}") for prompt in PROMPTS]
        together = answer_items(base, base.model, items)
        assert [answer.item for answer in together] == items
        for item, answer in zip(items, together, strict=True):
            (alone,) = answer_items(base, base.model, [item])
            assert answer.log_likelihoods == pytest.approx(alone.log_likelihoods, rel=1e-5)
            assert answer.log_likelihoods[0] < 0

    def test_speech_is_mono_float32_at_the_rate_of_the_base(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        for clip in base.speak(base.model, PROMPTS, self._short(_GREEDY)):
            assert clip.audio.ndim == 1
            assert clip.audio.dtype == np.float32
            assert clip.rate == base.speech_rate
            assert np.isfinite(clip.audio).all()

    def test_a_recording_becomes_a_clip_to_train_on(
        self, base: FrozenBase, clips: list[PreparedClip]
    ) -> None:
        codes, starts = _encode_recording(base)
        assert codes.dtype in (np.int64, np.float32)
        assert codes.flags.c_contiguous
        assert codes.ndim in (1, 2)
        assert len(codes) > 0
        if self.trains_on_encoded:
            clip = replace(clips[0], text=_RECORDED_TEXT, codes=codes, word_starts=starts)
            assert base.targets(base.examples([clip])) >= len(codes)


def _encode_recording(
    base: FrozenBase, text: str = _RECORDED_TEXT
) -> tuple[Codes, tuple[int, ...] | None]:
    return base.encode(resample(*read_audio(_RECORDING), base.sample_rate), text)
