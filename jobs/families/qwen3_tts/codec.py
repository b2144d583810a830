"""The speech tokenizer of a base: recordings as codes, codes as sound.

Notation: N frames, k codebooks.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.families.base import device_of

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
        encoded = self._moved().encode(audio, sr=self.sample_rate).audio_codes[0]
        # In order of memory too: safetensors writes what lies there.
        codes: NDArray[np.int64] = np.ascontiguousarray(encoded.cpu().numpy(), dtype=np.int64)
        return codes

    def decode(self, codes: Tensor) -> NDArray[np.float32]:
        """Mono audio (N * 1920,) of ``codes`` (N, k), heard by a decoder that is warm."""
        warm = torch.cat([self._silence, codes])
        (audio,), _ = self._moved().decode([{"audio_codes": warm}])
        heard: NDArray[np.float32] = audio[len(self._silence) * _FRAME_SAMPLES :]
        return heard

    def _moved(self) -> Any:  # noqa: ANN401 (as above)
        """It is no part of the model, and nobody else moves it along."""
        device = device_of(self._model)
        if self._tokenizer.device != device:
            self._tokenizer.model.to(device)
            self._tokenizer.device = device
        return self._tokenizer
