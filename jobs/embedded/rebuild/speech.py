"""Make a base speak, and measure what it said: words and voice."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedModel, Qwen2ForCausalLM

from jobs.codecs.base import Codec
from jobs.embedded.recogniser import WordRecogniser
from jobs.families.layout import Layout, TokenStream
from jobs.metrics.words import word_edits

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Speaker:
    """A base with its tokens and codec. `model` may carry an adapter."""

    model: PreTrainedModel
    stream: TokenStream
    codec: Codec

    @classmethod
    def load(cls, base: Path, codec: Codec) -> "Speaker":
        """A base directory in float32."""
        stream = Layout.read(base).bind(AutoTokenizer.from_pretrained(base))
        return cls(Qwen2ForCausalLM.from_pretrained(base), stream, codec)

    def speak(self, texts: Sequence[str], voice: str | None = None) -> list[Audio]:
        """Greedy speech (samples,) of each text; what has no codes is 40 ms of silence."""
        spoken = self._generate([self.stream.prompt_ids(text, voice) for text in texts], texts)
        return [self.codec.decode(c) if len(c) else np.zeros(640, np.float32) for c in spoken]

    def _generate(
        self, prompts: Sequence[list[int]], texts: Sequence[str]
    ) -> list[NDArray[np.int64]]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.stream.pad_id)
        for row, prompt in zip(ids, prompts, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        with torch.inference_mode():
            generated = self.model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=(ids != self.stream.pad_id).long(),
                max_new_tokens=max(map(self.stream.max_new_tokens, texts)),
                do_sample=False,
            )
        return [self.stream.codes(row[width:].tolist()) for row in generated]


def word_error_rate(
    recogniser: WordRecogniser, audios: Sequence[Audio], texts: Sequence[str], rate: int
) -> float:
    """Edits over reference words, of all clips together."""
    heard = recogniser.transcribe_batch(audios, rate)
    errors = sum(word_edits(h, t.split()) for h, t in zip(heard, texts, strict=True))
    return errors / sum(len(text.split()) for text in texts)


class VoiceSimilarity:
    """Cosine of Resemblyzer embeddings to the centroid of a voice's recordings."""

    def __init__(self, recordings: Sequence[Audio], rate: int) -> None:
        with warnings.catch_warnings():
            # webrtcvad, which resemblyzer imports, asks pkg_resources for its version.
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            from resemblyzer import VoiceEncoder
        self._encoder = VoiceEncoder("cpu", verbose=False)
        centroid = self._embed(recordings, rate).mean(axis=0)
        self._centroid = centroid / np.linalg.norm(centroid)

    def __call__(self, audios: Sequence[Audio], rate: int) -> float:
        """Mean similarity of clips (samples,) to the voice, -1 to 1."""
        return float((self._embed(audios, rate) @ self._centroid).mean())

    def _embed(self, audios: Sequence[Audio], rate: int) -> NDArray[np.float32]:
        from resemblyzer import preprocess_wav

        wavs = [preprocess_wav(audio, source_sr=rate) for audio in audios]
        return np.stack([self._encoder.embed_utterance(wav) for wav in wavs])
