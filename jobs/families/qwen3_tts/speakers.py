"""The vectors that tell the talker whose voice to speak in, one for each speaker."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jobs.audio.files import read_audio, resample
from jobs.clips import PreparedClip

UNNAMED = "voice"
"""What a speaker without a name is kept as."""


class Speakers:
    """Speaker vectors by name, each computed once, from the first recording that is met."""

    def __init__(self, model: Any, rate: int) -> None:  # noqa: ANN401 (the package's own)
        self._model = model
        self._rate = rate
        self._vectors: dict[str | None, Tensor] = {}

    def meet(self, clips: Sequence[PreparedClip]) -> None:
        """Take the voices of those speakers of ``clips`` that are not known yet.

        Raises:
            ValueError: there is no recording of a speaker, or two names differ in case alone.
        """
        first: dict[str | None, PreparedClip] = {}
        for clip in clips:
            if clip.speaker not in self._vectors and clip.reference is not None:
                first.setdefault(clip.speaker, clip)
        missing = {clip.speaker for clip in clips} - set(first) - set(self._vectors)
        if missing:
            names = ", ".join(sorted(str(name) for name in missing))
            raise ValueError(
                f"qwen3_tts needs a reference recording of each speaker, and has none of {names}; "
                "give ref_audio in the manifest"
            )
        self._check_names([*self._vectors, *first])
        for speaker, clip in first.items():
            assert clip.reference is not None
            self._vectors[speaker] = self._vector(*read_audio(clip.reference))

    def recall(self, vectors: Mapping[str, Tensor]) -> None:
        """Know these speakers, by lower-cased name, and no others."""
        self._vectors.clear()
        self._vectors.update(vectors)
        if UNNAMED in vectors:
            self._vectors[None] = vectors[UNNAMED]

    def vector(self, speaker: str | None) -> Tensor:
        """(hidden,), fp32, on the CPU; None is the first who was met.

        Raises:
            ValueError: nobody of that name was met.
        """
        if not self._vectors:
            raise ValueError("a voice must be known before it speaks: give the base clips of it")
        if speaker is None and None not in self._vectors:
            speaker = next(iter(self._vectors))
        if speaker not in self._vectors and speaker is not None:
            speaker = speaker.lower()  # as it is kept
        if speaker not in self._vectors:
            known = ", ".join(str(name) for name in self._vectors)
            raise ValueError(f"speaker must be one of {known}, got {speaker!r}")
        return self._vectors[speaker]

    @property
    def known(self) -> dict[str | None, Tensor]:
        """All of them, in the order they were met."""
        return dict(self._vectors)

    def _check_names(self, names: Sequence[str | None]) -> None:
        """The package knows speakers by names in lower case."""
        by_name: dict[str, str | None] = {}
        for name in names:
            other = by_name.setdefault(str(name).lower(), name)
            if other != name:
                raise ValueError(
                    f"speakers must differ in more than case, got {other!r} and {name!r}; "
                    "write them alike, or rename one"
                )

    def _vector(self, audio: Any, rate: int) -> Tensor:  # noqa: ANN401 (samples, as read)
        heard = resample(audio, rate, self._rate)
        vector: Tensor = self._model.extract_speaker_embedding(heard, self._rate)
        # A copy, because the package computes it in inference mode, out of which it cannot be used.
        return torch.tensor(vector.float().tolist())
