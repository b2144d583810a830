"""The ``qwen3_tts`` family: Qwen3-TTS at 12 Hz, its base models of 0.6B and 1.7B.

A talker reads text and writes codebook 0 of 16, a code predictor the other 15; a speaker vector
tells whose voice it is. ``docs/qwen3-tts.md`` says what is trained, and why not as upstream does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.clips import PreparedClip, SpokenClip
from jobs.families.base import (
    WHOLE_LOSS,
    AdapterExtras,
    Batch,
    LossTerms,
    RowShare,
    device_of,
    frozen,
    language_tag_of,
    linear_layers,
    unshared,
)
from jobs.families.description import QWEN3_TTS_RULES, read_config, tagged
from jobs.families.layout import IGNORED_LABEL, Example
from jobs.families.qwen3_tts import batch, description, generate, objective
from jobs.families.qwen3_tts.layout import ChatLayout, PromptTokens, SpeechExample, Utterance
from jobs.families.qwen3_tts.model import (
    SPEECH_TOKENIZER,
    CodeTables,
    Digests,
    SpeechCodec,
    TalkingModel,
    load_model,
    load_tokenizer,
)
from jobs.families.qwen3_tts.speakers import Speakers
from jobs.families.sampling import Sampler, capped
from jobs.families.segments import segmented
from jobs.families.targets import chosen_layers
from jobs.spec.trial import DecodingSpec, Precision, PromptSpec

_FILES = ("config.json", "generation_config.json", f"{SPEECH_TOKENIZER}/config.json")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_FIXED_FRAMES = 25
"""Two seconds that any text may take."""
_FRAMES_PER_TOKEN = 12
"""Nearly a second a text token, three times what slow speech takes; the package gives 163 s."""


class Qwen3TTS:
    """A loaded base of the family. See :class:`jobs.families.base.FrozenBase`."""

    rules = QWEN3_TTS_RULES
    aligns = False
    loss_parts = ()
    codebooks = 16

    def __init__(
        self,
        model: TalkingModel,
        tokenizer: Any,  # noqa: ANN401 (Hugging Face's)
        voice: str | None,
        digests: Digests,
        *,
        language_tag: bool = False,
    ) -> None:
        self.model = frozen(model)
        segmented(model.talker)
        self.codec = SpeechCodec(model.speech_tokenizer, model)
        self.layout = ChatLayout(model.config, tokenizer)
        self.tables = CodeTables(model.talker)
        self.speakers = Speakers(model)
        self.digest = digests.base
        self.encoder_digest = digests.encoder
        self.sample_rate = self.speech_rate = self.codec.sample_rate
        self._digests = digests
        self._voice = voice
        self._language_tag = language_tag
        self._layers = linear_layers(model)

    def encode(self, audio: NDArray[np.float32], text: str) -> tuple[NDArray[np.int64], None]:
        """Codes (frames, 16); there are no word markers."""
        return self.codec.encode(audio), None

    def voice_of(self, speaker: str | None) -> None:
        """None: each speaker has a vector of their own, computed from a recording."""

    def layers(self, targets: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
        """Of the talker, the code predictor or both, as ``TARGETS`` says."""
        return chosen_layers(targets, blocks, description.TARGETS, self._layers)

    def fit_speakers(self, clips: Sequence[PreparedClip]) -> None:
        """Compute the speakers' vectors, and check that the base predicts the clips' codes."""
        self.speakers.fit(clips)
        batches = [self.collate([each]) for each in self.examples(clips[: objective.CHECKED_CLIPS])]
        objective.check_fit(self.model, self.tables, self.layout.pad_id, batches)

    def adapter_extras(self) -> AdapterExtras:
        """The speakers' vectors, and the base that the adapter was trained on."""
        return self.speakers.extras(self._digests)

    def load_extras(self, extras: AdapterExtras) -> None:
        """The speakers' vectors, the first one first."""
        self.speakers.load(extras)

    def examples(self, clips: Sequence[PreparedClip]) -> list[Example]:
        """Prompt and frames of each clip, in the voice of its speaker."""
        self.speakers.fit(clips)
        return [
            self.layout.example(self._prompt(clip), clip.codes, self.speakers.vector(clip.speaker))
            for clip in clips
        ]

    def collate(self, examples: Sequence[Example], terms: LossTerms = WHOLE_LOSS) -> Batch:
        """See :func:`jobs.families.qwen3_tts.batch.collate`."""
        own = cast(Sequence[SpeechExample], examples)
        return batch.collate(own, terms, device_of(self.model))

    def targets(self, examples: Sequence[Example]) -> int:
        """Frames, and the end of speech of every clip: what codebook 0 is predicted for."""
        return sum(
            int(np.count_nonzero(np.asarray(example.labels) != IGNORED_LABEL))
            for example in examples
        )

    def loss_sums(
        self, model: nn.Module, batches: Sequence[Batch], share: RowShare = unshared
    ) -> list[Tensor]:
        """L0 + weight * L1, times the targets; see ``objective``."""

        def work(talker: nn.Module) -> list[Tensor]:
            return objective.loss_sums(talker, self.tables, self.layout.pad_id, batches, share)

        sums: list[Tensor] = model(work)
        return sums

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """Generate everything in one batch, then decode each one's codes to sound."""
        spoken = self.generate(model, prompts, decoding, voices, share)
        return [
            SpokenClip(
                self.codec.decode(each.codes), self.sample_rate, prompt.text, each.reached_end
            )
            for prompt, each in zip([*prompts] * voices, spoken, strict=True)
        ]

    def _prompt(self, utterance: PreparedClip | PromptSpec) -> PromptTokens:
        """As it is read, in training and in speech; a tag stands beside the language's token."""
        tag = language_tag_of(utterance, self._language_tag)
        text = utterance.text if tag is None else tagged(utterance.text, tag)
        return self.layout.prompt(text, utterance.language)

    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[generate.GeneratedCodes]:
        """The codes of each prompt's speech, voice by voice."""
        prompts = [*prompts] * voices
        nothing = np.zeros((0, self.codebooks), dtype=np.int64)
        utterances = [
            Utterance(
                self._prompt(each), nothing, self.speakers.vector(each.speaker or self._voice)
            )
            for each in prompts
        ]
        read = batch.pad_utterances(utterances, device_of(self.model), left=True)
        caps = [
            capped(_FIXED_FRAMES + _FRAMES_PER_TOKEN * each.prompt.text_tokens, decoding)
            for each in utterances
        ]
        sampler = Sampler(decoding, [prompt.id for prompt in prompts])
        spoken: list[generate.GeneratedCodes] = []

        def work(talker: nn.Module) -> list[Tensor]:
            pad = self.layout.pad_id
            spoken.extend(
                generate.generate(talker, self.tables, pad, read, caps, sampler, voices, share)
            )
            return []

        model(work)
        return spoken


def load(
    source: Path,
    codec: Path,
    voice: str | None,
    precision: Precision,
    language_tag: bool = False,
) -> Qwen3TTS:
    """Load a base's directory; its codec lies in it, so ``codec`` is not read.

    ``voice`` is the speaker of prompts that name none; None is the first speaker of the clips.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is no base of the family, or its tokenizer is not the package's; of another
            architecture, before its weights are read.
    """
    if missing := [name for name in _FILES if not (source / name).is_file()]:
        raise FileNotFoundError(
            f"a qwen3_tts base must have {', '.join(missing)}, and {source} has not; "
            "download all of its files"
        )
    read_config(source, description.MODEL_TYPE)
    model = load_model(source, _DTYPES[precision])
    if model.speaker_encoder is None:
        raise ValueError(
            f"base.source must be a base model, which has a speaker encoder, and {source} is a "
            f"{model.tts_model_type} model; use one whose name ends in -Base"
        )
    tokenizer, digests = load_tokenizer(source), Digests.read(source)
    return Qwen3TTS(model, tokenizer, voice, digests, language_tag=language_tag)
