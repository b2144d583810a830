"""A tiny random base of the codec_lm family, for tests that need no speech."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

from jobs.clips import PreparedClip
from jobs.families.codec_lm import CodecLM
from jobs.families.codec_lm_text import ARCHITECTURES
from jobs.families.layout import Layout, Length, Markers, TokenStream
from jobs.spec.trial import EngineSpec, Precision, TrainingSpec, TrialSpec

CODEBOOK = 16
RATE = 16_000
HOP = 640


class ToneCodec:
    """Code k is 40 ms of a tone of its own."""

    sample_rate = speech_rate = RATE
    frame_rate = RATE / HOP
    codebook_size = CODEBOOK
    digest = "toy"

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        frames = audio[: len(audio) // HOP * HOP].reshape(-1, HOP)
        return (np.abs(np.fft.rfft(frames)).argmax(axis=1) // 2).astype(np.int64)

    def decode(self, codes: Sequence[int]) -> NDArray[np.float32]:
        time = np.arange(HOP) / HOP
        tones = [0.3 * np.sin(2 * np.pi * 2 * code * time) for code in codes]
        return np.concatenate(tones).astype(np.float32)

    def decode_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        return (self.decode(chunk.tolist()) for chunk in chunks if len(chunk))


def toy_layout() -> Layout:
    return Layout(
        front_end="digits",
        prompt="<|TEXT_PROMPT_START|>{voice}{text}<|TEXT_PROMPT_END|>",
        start="<|SPEECH_GENERATION_START|>",
        end="<|SPEECH_GENERATION_END|>",
        code="<|speech_{code}|>",
        codebook_size=CODEBOOK,
        length=Length(fixed=4, per_word=8),
        markers=Markers(ordinal="<|word_{ordinal}|>", max_words=6),
        voice="<|voice_{voice}|>",
        voices=("ann", "bob"),
        default_voice="ann",
    )


def toy_tokenizer(layout: Layout) -> PreTrainedTokenizerFast:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    vocabulary = {token: i for i, token in enumerate(["<unk>", *(f"Ġ{word}" for word in words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens([AddedToken(token, special=False) for token in layout.added_tokens()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<unk>")


def toy_base(
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    *,
    intermediate: int | None = None,
    heads: int = 4,
    language_tag: bool = False,
    reference_prefix: bool = False,
    architecture: str = "qwen2",
    tied: bool = True,
) -> CodecLM:
    """``architecture`` is one of :data:`jobs.families.codec_lm_text.ARCHITECTURES`.

    With ``reference_prefix`` its layout has no markers.
    """
    layout = toy_layout()
    if reference_prefix:
        layout = layout.model_copy(update={"markers": None})
    tokenizer = toy_tokenizer(layout)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate or 2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=hidden // heads,  # Qwen3's does not follow from the others
        tie_word_embeddings=tied,
        initializer_range=1.5 / hidden**0.5,  # so that it has opinions on the next token
    )
    model = getattr(transformers, ARCHITECTURES[architecture])(config)
    return CodecLM(
        model,
        TokenStream(layout, tokenizer),
        ToneCodec(),
        None,
        None,
        f"toy{seed}",
        language_tag=language_tag,
        reference_prefix=reference_prefix,
    )


def toy_trial(
    *, zero_stage: int = 0, ranks: int = 1, precision: Precision = "fp32", **training: Any
) -> TrialSpec:
    return TrialSpec(
        family="codec_lm",
        base_digest="toy",
        data_digest="toy",
        training=TrainingSpec(**{"rank": 4, "learning_rate": 5e-3, **training}),
        engine=EngineSpec(zero_stage=zero_stage, ranks=ranks, precision=precision),
    )


def toy_clip(clip_id: str, speaker: str | None = None, language: str | None = None) -> PreparedClip:
    """A training clip of five frames."""
    codes = np.arange(5)
    return PreparedClip(clip_id, "one", "train", codes, (0,), speaker, language)


def toy_clips(count: int = 10, validation: int = 3, seed: int = 0) -> list[PreparedClip]:
    generator = np.random.default_rng(seed)
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    clips = []
    for index in range(count):
        text = [words[d] for d in generator.integers(0, 10, size=generator.integers(1, 4))]
        frames = 5 * len(text)
        clips.append(
            PreparedClip(
                id=f"clip-{index:03d}",
                text=" ".join(text),
                split="validation" if index >= count - validation else "train",
                codes=generator.integers(0, CODEBOOK, size=frames),
                word_starts=tuple(range(0, frames, 5)),
            )
        )
    return clips


def toy_clips_behind_a_reference(count: int = 6, validation: int = 2) -> list[PreparedClip]:
    """As :func:`toy_clips`, for a base with ``reference_prefix``; the second is the reference."""
    clips = toy_clips(count, validation)
    return [replace(c, word_starts=None, is_reference=at == 1) for at, c in enumerate(clips)]
