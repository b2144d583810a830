"""The ``codec_lm`` family: a causal LM that reads a prompt and writes codec tokens (NeuTTS, Llasa).

The embedded base and a checkpoint of Qwen2, Qwen3 or Llama differ in architecture, size, tokenizer,
codec and ``layout.json`` only. Notation: b clips in a batch, s tokens, v vocabulary.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from jobs.clips import PreparedClip, SpokenClip
from jobs.codecs.codec import Codec, load_codec
from jobs.codecs.recogniser import WordRecogniser
from jobs.embedded import RECOGNISER_DIR
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
from jobs.families.codec_lm_references import ReferenceClips
from jobs.families.codec_lm_text import ARCHITECTURES, read_backbone
from jobs.families.description import CODEC_LM_RULES, digest_files
from jobs.families.layout import (
    IGNORED_LABEL,
    LAYOUT_FILE,
    Example,
    Layout,
    ReferenceClip,
    TokenStream,
)
from jobs.families.phonemes import ESPEAK, ESPEAK_VERSION, require_espeak
from jobs.families.sampling import Sampler, capped, voice_sizes
from jobs.families.segments import Segments, segmented
from jobs.families.targets import CODEC_LM_TARGETS, chosen_layers
from jobs.spec.trial import DecodingSpec, Precision, PromptSpec

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_FIRST_CHUNK, _LONGEST_CHUNK = 8, 64
"""Tokens that are decoded together in a stream: few at first, so that sound begins early, then
twice as many each time, so that a codec that decodes from the start each time does so seldom."""


class CodecLM:
    """A loaded base of the family. See :class:`jobs.families.base.FrozenBase`."""

    rules = CODEC_LM_RULES

    def __init__(
        self,
        model: nn.Module,
        stream: TokenStream,
        codec: Codec,
        aligner: WordRecogniser | None,
        voice: str | None,
        digest: str,
        *,
        language_tag: bool = False,
        reference_prefix: bool = False,
    ) -> None:
        """Raises ValueError where the layout takes no reference, and ``reference_prefix`` asks."""
        self.model = segmented(frozen(model))
        self.stream = stream
        self.codec = codec
        self.voice = voice
        self.digest = digest
        self.sample_rate, self.speech_rate = codec.sample_rate, codec.speech_rate
        self._aligner = aligner
        self._language_tag = language_tag
        self._references = ReferenceClips(stream.layout) if reference_prefix else None
        self._layers = linear_layers(model)

    @classmethod
    def load(
        cls,
        source: Path,
        codec: Path,
        voice: str | None,
        precision: Precision,
        language_tag: bool = False,
        reference_prefix: bool = False,
    ) -> Self:
        """Load a base directory (model, tokenizer, ``layout.json``) and a codec directory.

        Raises:
            ValueError: the layout is invalid or takes no reference, ``voice`` is not one of its
                voices, or the model is of another architecture; its weights are then not read.
            FileNotFoundError: a file is missing.
            ImportError: the layout or the codec needs a package that is not installed.
        """
        layout = Layout.read(source)
        if layout.front_end == "phonemes":
            require_espeak()
        if reference_prefix:
            layout.check_reference()
        architecture = ARCHITECTURES[read_backbone(source)["model_type"]]
        if voice is not None and voice not in layout.voices:
            known = list(layout.voices)
            raise ValueError(f"voice must be one of {known} of {source}, got {voice!r}")
        loaded = load_codec(codec)
        if layout.codebook_size != loaded.codebook_size:
            raise ValueError(
                f"{source / LAYOUT_FILE}: codebook_size must be the {loaded.codebook_size} of the "
                f"codec in {codec}, got {layout.codebook_size}"
            )
        # What decides what the base says: weights, tokenizer, layout.
        files = [source / name for name in ("config.json", "tokenizer.json", LAYOUT_FILE)]
        files += sorted(source.glob("*.safetensors"))
        model = getattr(transformers, architecture).from_pretrained(
            source, dtype=_DTYPES[precision]
        )
        return cls(
            model,
            TokenStream(layout, AutoTokenizer.from_pretrained(source)),
            loaded,
            WordRecogniser.load(RECOGNISER_DIR) if layout.markers else None,
            voice,
            digest_files(files),
            language_tag=language_tag,
            reference_prefix=reference_prefix,
        )

    @property
    def loss_parts(self) -> tuple[str, ...]:
        """None: one cross-entropy."""
        return ()

    @property
    def aligns(self) -> bool:
        """Word starts are found where the layout marks words."""
        return self._aligner is not None

    def voice_of(self, speaker: str | None) -> str | None:
        """The voice of that name, else the one that the base was loaded with or has by default."""
        layout = self.stream.layout
        return speaker if speaker in layout.voices else self.voice or layout.default_voice

    @property
    def encoder_digest(self) -> str:
        """Codes follow from the codec, word starts from the aligner, phonemes from eSpeak."""
        parts = [self.codec.digest, self._aligner.digest if self._aligner else ""]
        if self.stream.layout.front_end == "phonemes":
            parts += [ESPEAK, ESPEAK_VERSION]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def encode(
        self, audio: NDArray[np.float32], text: str
    ) -> tuple[NDArray[np.int64], tuple[int, ...] | None]:
        """Codes by the codec; word starts, where the layout marks words, by the aligner."""
        codes = self.codec.encode(audio, self.sample_rate)
        if self._aligner is None:
            return codes, None
        seconds = self._aligner.align(audio, self.sample_rate, self.stream.layout.words(text))
        starts = np.rint(np.array(seconds) * self.codec.frame_rate).clip(0, len(codes))
        return codes, tuple(int(start) for start in starts)

    @property
    def speech_ids(self) -> list[int]:
        """Of all tokens that the layout adds to a tokenizer."""
        return self.stream.added_ids

    def layers(self, targets: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
        """Of every block, or of ``blocks``."""
        return chosen_layers(targets, blocks, CODEC_LM_TARGETS, self._layers)

    def fit_speakers(self, clips: Sequence[PreparedClip]) -> None:
        """Where clips are read behind a reference: behind which, and whether they then fit.

        Raises:
            ValueError: see :meth:`examples`.
        """
        if self._references is not None:
            self.examples(clips)

    def adapter_extras(self) -> AdapterExtras | None:
        """The references of the speakers, where there are some."""
        return None if self._references is None else self._references.extras()

    def load_extras(self, extras: AdapterExtras) -> None:
        """The references, in place of :meth:`fit_speakers`."""
        if self._references is not None:
            self._references.load(extras)

    def examples(self, clips: Sequence[PreparedClip]) -> list[Example]:
        """Prompt, codes and, where the layout has them, word markers as ids and labels.

        Raises:
            ValueError: a clip has no reference, or is with it longer than the base's positions.
        """
        if self._references is not None:
            self._references.fit(clips)
        examples = []
        for clip in clips:
            text, voice, tag, reference = self.read(clip)
            example = self.stream.example(
                text, clip.codes.tolist(), clip.word_starts, voice, tag, reference
            )
            most: int = self.model.config.max_position_embeddings  # type: ignore[union-attr,assignment]  # Hugging Face's
            if reference is not None and len(example) > most:
                raise ValueError(
                    f"a clip behind its reference must be at most the {most} tokens that the base "
                    f"has positions for, and clip {clip.id} is {len(example)}, of which the "
                    f"reference has {len(reference.codes)} codes; name a shorter ref_audio, or "
                    "lower data.max_seconds"
                )
            examples.append(example)
        return examples

    def read(
        self, utterance: PreparedClip | PromptSpec
    ) -> tuple[str, str | None, str | None, ReferenceClip | None]:
        """What the prompt of a clip, or of a prompt, is made of, in training and in speech alike.

        The text as the front end spells it, the voice, the tag of the language, the reference.

        Raises:
            ValueError: see :meth:`Layout.spelt`, :func:`language_tag_of` and
                :meth:`ReferenceClips.of`.
        """
        return (
            self.stream.layout.spelt(utterance.text, utterance.language),
            self.voice_of(utterance.speaker),
            language_tag_of(utterance, self._language_tag),
            None if self._references is None else self._references.of(utterance),
        )

    def text_example(self, context: str, continuation: str) -> Example:
        """See :meth:`jobs.families.layout.TokenStream.text_example`."""
        return self.stream.text_example(context, continuation)

    def collate(self, examples: Sequence[Example], terms: LossTerms = WHOLE_LOSS) -> Batch:
        """``input_ids``, ``labels``, ``attention_mask``, each (b, s), padded on the right."""
        ids = [example.input_ids for example in examples]
        labels = [example.labels for example in examples]
        return {
            "input_ids": self._pad(ids, self.stream.pad_id),
            "labels": self._pad(labels, IGNORED_LABEL),
            "attention_mask": self._pad([[1] * len(row) for row in ids], 0),
        }

    def targets(self, examples: Sequence[Example]) -> int:
        """Labelled positions that have a position before them to be predicted from."""
        return sum(
            int(np.count_nonzero(np.asarray(example.labels[1:]) != IGNORED_LABEL))
            for example in examples
        )

    def loss_sums(
        self, model: nn.Module, batches: Sequence[Batch], share: RowShare = unshared
    ) -> list[Tensor]:
        """Negative log-likelihood of the labels: position p predicts the label at p + 1, once.

        The tokens of all batches go through the model as one row; each batch attends within
        itself. The model is not given the labels, because Hugging Face models shift them
        themselves.
        """
        segments = Segments([batch["attention_mask"] for batch in batches])
        with share(segments.sizes):
            logits = model(
                input_ids=torch.cat([batch["input_ids"].flatten() for batch in batches])[None],
                position_ids=segments.position_ids,
                attention_mask=segments.attention_mask,
                segments=segments,
                use_cache=False,
            ).logits
        labels = [batch["labels"] for batch in batches]
        return list(map(_loss_sum, segments.split(logits), labels))

    def speak(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[SpokenClip]:
        """Generate everything in one batch, then decode each one's codes to sound."""
        sequences = self.generate(model, prompts, decoding, voices, share)
        clips = []
        for prompt, ids in zip([*prompts] * voices, sequences, strict=True):
            codes = self.stream.codes(ids)
            audio = self.codec.decode(codes) if len(codes) else np.zeros(0, dtype=np.float32)
            reached_end = ids[-1] == self.stream.end_id
            clips.append(SpokenClip(audio, self.speech_rate, prompt.text, reached_end))
        return clips

    def speak_stream(
        self,
        model: nn.Module,
        prompt: PromptSpec,
        decoding: DecodingSpec,
        share: RowShare = unshared,
    ) -> Iterator[SpokenClip]:
        """See :class:`jobs.families.base.StreamingBase`; the codec says how pieces are joined."""
        last = [self.stream.end_id]

        def chunks() -> Iterator[NDArray[np.int64]]:
            fresh: list[int] = []
            size = _FIRST_CHUNK
            for _, token in self.tokens(model, [prompt], decoding, 1, share):
                fresh.append(token)
                last[0] = token
                if len(fresh) == size:
                    yield self.stream.codes(fresh)
                    fresh, size = [], min(2 * size, _LONGEST_CHUNK)
            yield self.stream.codes(fresh)

        for audio in self.codec.decode_stream(chunks()):
            yield SpokenClip(audio, self.speech_rate, prompt.text, reached_end=False)
        ended = last[0] == self.stream.end_id
        yield SpokenClip(np.zeros(0, dtype=np.float32), self.speech_rate, prompt.text, ended)

    def request(self, prompt: PromptSpec, decoding: DecodingSpec) -> tuple[list[int], int]:
        """The ids that the model continues for a prompt, and how many it may write."""
        text, voice, tag, reference = self.read(prompt)
        ids = self.stream.prompt_ids(text, voice, tag, reference)
        return ids, capped(self.stream.max_new_tokens(text), decoding)

    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> list[list[int]]:
        """Token ids of each prompt's speech, END included unless the cap came first.

        All prompts of the first of ``voices``, then those of the next.
        """
        written: list[list[int]] = [[] for _ in range(len(prompts) * voices)]
        for row, token in self.tokens(model, prompts, decoding, voices, share):
            written[row].append(token)
        return written

    @torch.no_grad()  # inference mode would spoil the weights that ZeRO stage 3 gathers
    def tokens(
        self,
        model: nn.Module,
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        voices: int = 1,
        share: RowShare = unshared,
    ) -> Iterator[tuple[int, int]]:
        """What :meth:`generate` collects, as it comes: rows, each with its next token.

        A row leaves the batch when its speech has ended.
        """
        prompts = [*prompts] * voices
        prompt_ids, caps = zip(*(self.request(each, decoding) for each in prompts), strict=True)
        sampler = Sampler(decoding, [prompt.id for prompt in prompts])
        ids = self._pad(prompt_ids, self.stream.pad_id, "left")
        mask = self._pad([[1] * len(row) for row in prompt_ids], 0, "left")
        written = [0] * len(prompts)
        rows = list(range(len(prompts)))
        """Those that still speak."""
        cache = None
        while True:
            # Padding is on the left, so a row's positions start where its prompt does.
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            with share(voice_sizes(rows, len(prompts), voices)):
                output = model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            cache = output.past_key_values
            chosen = sampler.pick(output.logits[:, -1].float())
            going = []
            for at, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
                yield row, token
                written[row] += 1
                if token != self.stream.end_id and written[row] < caps[row]:
                    going.append(at)
            if not going:
                return
            if len(going) < len(rows):
                rows = [rows[at] for at in going]
                kept = torch.tensor(going, device=mask.device)
                chosen, mask = chosen[kept], mask[kept]
                cache.batch_select_indices(kept)
                sampler.keep(going)
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)

    def _pad(
        self, rows: Sequence[list[int]], value: int, side: Literal["left", "right"] = "right"
    ) -> Tensor:
        """(b, s) on the model's device."""
        tensors = [torch.tensor(row) for row in rows]
        padded = pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)
        return padded.to(device_of(self.model))


def _loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """``logits`` (b, s, v) against ``labels`` (b, s)."""
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )


load = CodecLM.load
