"""The package's network and speech tokenizer, as this project calls them, and a base's identity.

Notation: F or N frames, k codebooks, d the talker's hidden size.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.families.base import device_of
from jobs.families.description import TOKENIZER_FILES, digest_files
from jobs.families.qwen3_tts.layout import VERSION
from jobs.vendor import QWEN_TTS, qwen_tts

_PACKAGE = qwen_tts()
_MODELS = _PACKAGE.core.models
SPEECH_TOKENIZER = "speech_tokenizer"
"""The folder of a base that holds its codec."""


class TalkingModel(_MODELS.Qwen3TTSForConditionalGeneration):  # type: ignore[misc, name-defined]
    """The whole model with a forward pass, which the package's lacks and an engine has to call."""

    def forward(self, work: Callable[[nn.Module], list[Tensor]]) -> list[Tensor]:
        """Do ``work`` with the talker."""
        return work(self.talker)


def load_model(source: Path, dtype: torch.dtype) -> TalkingModel:
    """A base's network, its codec in fp32 whatever ``dtype``, so that codes do not depend on it."""
    model: TalkingModel = TalkingModel.from_pretrained(source, dtype=dtype, local_files_only=True)
    if dtype != torch.float32:
        codec = _PACKAGE.Qwen3TTSTokenizer.from_pretrained(
            str(source / SPEECH_TOKENIZER), dtype=torch.float32
        )
        model.load_speech_tokenizer(codec)
    return model


def load_tokenizer(source: Path) -> Any:  # noqa: ANN401 (Hugging Face's)
    """A base's text tokenizer, as the package loads it."""
    return _MODELS.Qwen3TTSProcessor.from_pretrained(source, fix_mistral_regex=True).tokenizer


class CodeTables:
    """The embeddings of all codebooks as one table, so that a frame is one look-up.

    A copy of what the network holds in 16 tables, which are frozen: 0.13 GB for 1.7B in bf16.
    """

    def __init__(self, talker: Any) -> None:  # noqa: ANN401 (the package's own)
        others = talker.code_predictor.get_input_embeddings()
        size = others[0].num_embeddings
        tables = [talker.get_input_embeddings().weight[:size], *(table.weight for table in others)]
        self._table = torch.cat([table.detach() for table in tables])
        self._first = torch.arange(len(tables)) * size

    def __call__(self, codes: Tensor, first: int = 0) -> Tensor:
        """``codes`` (F, j) of codebooks ``first``, ``first`` + 1, ... as vectors (F, j, d)."""
        if self._table.device != codes.device:
            self._table, self._first = self._table.to(codes.device), self._first.to(codes.device)
        rows = codes + self._first[first : first + codes.shape[1]]
        return nn.functional.embedding(rows, self._table)


@dataclass(frozen=True)
class Digests:
    """SHA-256, hex."""

    tokenizer: str
    """Over the text tokenizer."""
    encoder: str
    """Over all that codes depend on besides the recording; equal for bases of both sizes."""
    base: str
    """Over weights, tokenizer, codec and layout."""

    @classmethod
    def read(cls, source: Path) -> Self:
        """Of a base's directory; reads all of its weights."""
        codec = sorted(p for p in (source / SPEECH_TOKENIZER).iterdir() if p.is_file())
        tokenizer = digest_files(
            source / name for name in TOKENIZER_FILES if (source / name).is_file()
        )
        encoder = _of([digest_files(codec), version(QWEN_TTS)])
        weights = digest_files([source / "config.json", *sorted(source.glob("*.safetensors"))])
        return cls(tokenizer, encoder, _of([weights, tokenizer, encoder, str(VERSION)]))


def _of(parts: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


_FRAME_SAMPLES = 1920
_WARM_UP_FRAMES = 4
"""Of silence before every clip, cut off again: the decoder's first frames are distorted
(issue 219 of the package); 0.25 s, in whole frames."""


class SpeechCodec:
    """Frozen; in fp32 whatever the model is in."""

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:  # noqa: ANN401 (the package's)
        """``tokenizer`` is the package's; it works where ``model`` is."""
        self._tokenizer = tokenizer
        self._model = model
        self.sample_rate = int(tokenizer.get_output_sample_rate())
        silence = np.zeros(_WARM_UP_FRAMES * _FRAME_SAMPLES, dtype=np.float32)
        self._silence = torch.from_numpy(self.encode(silence))

    def encode(self, audio: NDArray[np.float32]) -> NDArray[np.int64]:
        """Codes (N, k) of mono audio (samples,) at ``sample_rate``.

        One recording at a time: neighbours in a batch change each other's last frames.
        """
        encoded = self._on_device().encode(audio, sr=self.sample_rate).audio_codes[0]
        # In order of memory too: safetensors writes what lies there.
        codes: NDArray[np.int64] = np.ascontiguousarray(encoded.cpu().numpy(), dtype=np.int64)
        return codes

    def decode(self, codes: Tensor) -> NDArray[np.float32]:
        """Mono audio (N * 1920,) of ``codes`` (N, k), decoded after silence."""
        warm = torch.cat([self._silence, codes])
        (audio,), _ = self._on_device().decode([{"audio_codes": warm}])
        trimmed: NDArray[np.float32] = audio[len(self._silence) * _FRAME_SAMPLES :]
        return trimmed

    def _on_device(self) -> Any:  # noqa: ANN401 (as above)
        """The tokenizer on the model's device. It is no part of the model, so it is moved here."""
        device = device_of(self._model)
        if self._tokenizer.device != device:
            self._tokenizer.model.to(device)
            self._tokenizer.device = device
        return self._tokenizer
