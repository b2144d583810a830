"""Synthesise a text of any length: chunk by chunk, joined, with the problems of each chunk."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.spec.trial import PromptSpec
from jobs.speech.texts import chunks
from jobs.speech.voice import LoadedVoice

PAUSE = 0.25
"""Seconds of silence between two chunks: a short breath, as between sentences read aloud."""
_AT_ONCE = 8
"""Chunks in one batch: a long text takes no more memory than they do."""

CAPPED = "it was cut off at its cap, before its end"
SILENT = "it gave no sound"


@dataclass(frozen=True)
class SpokenChunk:
    """A part of a text."""

    text: str
    seconds: float
    problem: str
    """Why it is not all there; empty where it is."""


@dataclass(frozen=True)
class SpokenText:
    """A text as sound."""

    audio: NDArray[np.float32]
    """Mono, in [-1, 1], shape (samples,); empty where nothing sounds."""
    rate: int
    """Samples per second."""
    chunks: tuple[SpokenChunk, ...]
    variant: str
    """Who said it: the id of a variant, or ``base``."""

    @property
    def seconds(self) -> float:
        """Of the whole, pauses included."""
        return len(self.audio) / self.rate

    def to_dict(self) -> dict[str, Any]:
        """All but the sound, for JSON."""
        return {
            "variant": self.variant,
            "seconds": self.seconds,
            "sample_rate": self.rate,
            "problem": self.problem,
            "chunks": [asdict(chunk) for chunk in self.chunks],
        }

    @property
    def problem(self) -> str:
        """Which chunks are not all there, and why; empty where all are."""
        return "; ".join(
            f"chunk {number} of {len(self.chunks)}, {chunk.text!r}: {chunk.problem}"
            for number, chunk in enumerate(self.chunks, start=1)
            if chunk.problem
        )


def say(
    voice: LoadedVoice, text: str, language: str | None = None, speaker: str | None = None
) -> SpokenText:
    """Say ``text``. The same voice says the same text the same way.

    Every chunk has the voice's seed, its own random stream, and the same speaker.

    Raises:
        InputError: the base cannot read the text.
        ValueError: there is no such speaker, or the voice does not speak the language.
    """
    variant = voice.facts.variant_for(language)
    parts = chunks(text, voice.facts, language or voice.facts.language)
    prompts = [
        PromptSpec(id=f"chunk-{number:04d}", text=part, language=language, speaker=speaker)
        for number, part in enumerate(parts, start=1)
    ]
    clips = [
        clip
        for start in range(0, len(prompts), _AT_ONCE)
        for clip in voice.speak(prompts[start : start + _AT_ONCE])
    ]
    return joined(clips, voice.facts.sample_rate, variant)


def joined(clips: list[SpokenClip], rate: int, variant: str) -> SpokenText:
    """One sound of all that sounds, with a pause between; ``rate`` is that of every clip."""
    pause = np.zeros(round(PAUSE * rate), dtype=np.float32)
    parts: list[NDArray[np.float32]] = []
    spoken = []
    for clip in clips:
        sounds = clip.audio.size > 0 and bool(np.isfinite(clip.audio).all())
        if sounds:
            parts += [pause] * bool(parts) + [np.clip(clip.audio, -1.0, 1.0)]
        problem = SILENT if not sounds else "" if clip.reached_end else CAPPED
        spoken.append(SpokenChunk(clip.text, clip.audio.size / rate if sounds else 0.0, problem))
    audio = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    return SpokenText(audio, rate, tuple(spoken), variant)
