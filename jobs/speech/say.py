"""Synthesise a text of any length: chunk by chunk, joined, with the problems of each chunk."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.spec.trial import PromptSpec
from jobs.speech.texts import chunks
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VoiceFacts

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
        return _problem(self.chunks)


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
    prompts = _prompts(voice.facts, text, language, speaker)
    clips = [
        clip
        for start in range(0, len(prompts), _AT_ONCE)
        for clip in voice.speak(prompts[start : start + _AT_ONCE])
    ]
    return joined(clips, voice.facts.sample_rate, variant)


class StreamedText:
    """A text as sound that comes while it is made: the samples of :func:`say`, piece by piece.

    Chunk after chunk is said alone, which sounds as it does in a batch; within a chunk, pieces come
    as the base and its codec give them. A codec may say that its pieces are not exactly the whole.
    """

    def __init__(
        self, voice: LoadedVoice, text: str, language: str | None = None, speaker: str | None = None
    ) -> None:
        """Cut ``text``; nothing is said yet.

        Raises:
            InputError: the base cannot read the text.
            ValueError: the voice does not speak the language.
        """
        self.variant = voice.facts.variant_for(language)
        """As :attr:`SpokenText.variant`."""
        self.rate = voice.facts.sample_rate
        """Samples per second."""
        self.samples = 0
        """Said so far."""
        self._voice = voice
        self._prompts = _prompts(voice.facts, text, language, speaker)
        self._chunks: list[SpokenChunk] = []

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Mono pieces in [-1, 1], each (samples,); to be gone through once.

        Raises:
            ValueError: there is no such speaker.
        """
        pause = np.zeros(round(PAUSE * self.rate), dtype=np.float32)
        for prompt in self._prompts:
            said, ended = 0, False
            for clip in self._voice.speak_stream(prompt):
                ended = clip.reached_end
                if not (clip.audio.size and np.isfinite(clip.audio).all()):
                    continue
                if self.samples and not said:
                    self.samples += len(pause)
                    yield pause
                said += len(clip.audio)
                self.samples += len(clip.audio)
                yield np.clip(clip.audio, -1.0, 1.0)
            problem = SILENT if not said else "" if ended else CAPPED
            self._chunks.append(SpokenChunk(prompt.text, said / self.rate, problem))

    def to_dict(self) -> dict[str, Any]:
        """As :meth:`SpokenText.to_dict`, of what was said so far."""
        return {
            "variant": self.variant,
            "seconds": self.samples / self.rate,
            "sample_rate": self.rate,
            "problem": self.problem,
            "chunks": [asdict(chunk) for chunk in self._chunks],
        }

    @property
    def problem(self) -> str:
        """As :attr:`SpokenText.problem`, of the chunks that were said."""
        return _problem(self._chunks)


def _prompts(
    facts: VoiceFacts, text: str, language: str | None, speaker: str | None
) -> list[PromptSpec]:
    parts = chunks(text, facts, language or facts.language)
    return [
        PromptSpec(id=f"chunk-{number:04d}", text=part, language=language, speaker=speaker)
        for number, part in enumerate(parts, start=1)
    ]


def _problem(chunks: Sequence[SpokenChunk]) -> str:
    return "; ".join(
        f"chunk {number} of {len(chunks)}, {chunk.text!r}: {chunk.problem}"
        for number, chunk in enumerate(chunks, start=1)
        if chunk.problem
    )


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
