"""The vectors that tell the talker whose voice to speak in, one for each speaker."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from jobs.audio.files import read_audio, resample
from jobs.clips import PreparedClip
from jobs.families.base import AdapterExtras
from jobs.families.qwen3_tts.layout import VERSION
from jobs.families.qwen3_tts.model import Digests
from jobs.vendor import QWEN_TTS

UNNAMED = "voice"
"""What a speaker without a name is saved as."""
SPEAKER_SLOT = 3000
"""The row of the talker's codec table that upstream gives to a new speaker: no code, no control
id, and never picked. Further speakers get the rows below it."""


class Speakers:
    """Speaker vectors by name, each computed once, from the first recording of the speaker."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 (the package's own)
        self._model = model
        self._vectors: dict[str | None, Tensor] = {}

    def fit(self, clips: Sequence[PreparedClip]) -> None:
        """Compute the vectors of those speakers of ``clips`` that are not known yet.

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
        by_name: dict[str, str | None] = {}
        for name in [*self._vectors, *first]:  # the package looks them up by lower-cased names
            other = by_name.setdefault(str(name).lower(), name)
            if other != name:
                raise ValueError(
                    f"speakers must differ in more than case, got {other!r} and {name!r}; "
                    "write them alike, or rename one"
                )
        wanted = self._model.speaker_encoder_sample_rate
        for speaker, clip in first.items():
            assert clip.reference is not None
            audio = resample(*read_audio(clip.reference), wanted)
            vector: Tensor = self._model.extract_speaker_embedding(audio, wanted)
            # A copy: the package computes it in inference mode, out of which it cannot be used.
            self._vectors[speaker] = torch.tensor(vector.float().tolist())

    def extras(self, digests: Digests) -> AdapterExtras:
        """The vectors by lower-cased name, as the package looks them up, and facts about the base
        of ``digests``; ``jobs/export/qwen3_tts.py`` reads them."""
        known = {(name or UNNAMED).lower(): vector for name, vector in self._vectors.items()}
        facts = {
            "family": "qwen3_tts",
            "speakers": {name: {"slot": SPEAKER_SLOT - i} for i, name in enumerate(known)},
            "is_dialect": False,
            "layout": VERSION,
            "non_streaming_mode": True,
            "language": "by tag, else auto",
            "base_digest": digests.base,
            "encoder_digest": digests.encoder,
            "tokenizer_digest": digests.tokenizer,
            "versions": {name: version(name) for name in (QWEN_TTS, "transformers", "torch")},
        }
        return AdapterExtras(known, facts)

    def load(self, extras: AdapterExtras) -> None:
        """Know the speakers of ``extras``, by lower-cased name, and no others.

        Slots give the order in which they became known, which files do not keep.
        """
        slots = extras.facts["speakers"]
        names = sorted(slots, key=lambda name: -slots[name]["slot"])
        self._vectors = {name: extras.tensors[name] for name in names}
        if UNNAMED in self._vectors:
            self._vectors[None] = self._vectors[UNNAMED]

    def vector(self, speaker: str | None) -> Tensor:
        """(hidden,), fp32, on the CPU; None is the first speaker that became known.

        Raises:
            ValueError: no speaker of that name is known.
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
