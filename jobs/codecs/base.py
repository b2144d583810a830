"""What every codec offers: the seam between waveforms and the codes a language model speaks in."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Codec(Protocol):
    """A waveform as one stream of codes in `0 .. codebook_size - 1`, and back.

    Frozen: two codecs of one `digest` give the same codes for the same audio, so cached codes may
    be keyed by it. One code stands for `sample_rate / frame_rate` samples.
    """

    @property
    def sample_rate(self) -> int:
        """Of the audio that goes in and comes out, in Hz."""

    @property
    def frame_rate(self) -> float:
        """Codes per second."""

    @property
    def codebook_size(self) -> int:
        """How many different codes there are."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines codes and audio."""

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        """Codes (frames,) of mono audio (samples,) at `rate` Hz.

        Raises:
            ValueError: `rate` is not `sample_rate` (nothing is resampled silently), the audio is
                not one-dimensional, or it is shorter than one code.
        """

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Mono audio (samples,) at `sample_rate` from codes (frames,).

        Raises:
            ValueError: a code is outside `0 .. codebook_size - 1`, or there is none.
        """
