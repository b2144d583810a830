"""Reference clips of speakers: whose a clip is compared with, and their voices' centroid."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.signal import ACTIVE_LEVEL, VAD_VERSION
from jobs.spec.trial import PromptSpec

Reference = tuple[NDArray[np.float32], int]
"""Mono audio of a speaker, shape (samples,), and its rate in Hz."""

References = Mapping[str | None, Sequence[Reference]]
"""Recordings that the adapters did not train on, by speaker; None is one without a name."""

MIN_REFERENCES = 10
"""Fewer clips give a centroid of those sentences rather than of the speaker."""

Embed = Callable[[SpokenClip], NDArray[np.float32]]
"""A clip to its voice, a vector of unit length; MetricError when it holds no speech."""


class NoReferenceSpeakerError(ValueError):
    """A clip names no speaker to compare it with, or one without reference clips."""

    def __init__(self, what: str, next_step: str) -> None:
        self.what = what
        self.next_step = next_step
        super().__init__(f"{what}: {next_step}")


def reference_speaker(speaker: str | None, recorded: Collection[str | None]) -> str | None:
    """The speaker that a clip is compared with: its prompt's, else the only one there is.

    Raises:
        NoReferenceSpeakerError: no speaker is named, or there are no recordings of the one named.
    """
    if speaker is None and len(recorded) == 1:
        return next(iter(recorded))
    if speaker is not None and speaker in recorded:
        return speaker
    found = ", ".join(sorted("one without a name" if n is None else repr(n) for n in recorded))
    if speaker is None:
        raise NoReferenceSpeakerError(
            f"a clip is compared with one speaker, but there are held-out clips of "
            f"{found or 'nobody'}",
            "name data.target, or the speaker of each prompt",
        )
    raise NoReferenceSpeakerError(
        f"a clip is compared with held-out clips of its speaker, but there are none of "
        f"{speaker!r}, only of {found or 'nobody'}",
        "correct the name, or hold out clips",
    )


def reference_problems(
    metric: str,
    prompts: Iterable[PromptSpec],
    held_out: Mapping[str | None, int],
    hold_out: Callable[[str | None], str],
) -> Iterator[tuple[str, str]]:
    """Why ``metric`` cannot compare clips of ``prompts``, each with the next step.

    Args:
        metric: its name.
        prompts: of all sets.
        held_out: the number of validation clips by speaker, None for one without a name.
        hold_out: what holds out enough clips of a speaker, in words.
    """
    needed: dict[str | None, None] = {}
    for speaker in dict.fromkeys(prompt.speaker for prompt in prompts):
        try:
            needed[reference_speaker(speaker, held_out)] = None
        except NoReferenceSpeakerError as error:
            yield f"{metric}: {error.what}", error.next_step
    for speaker in needed:
        if held_out[speaker] < MIN_REFERENCES:
            whose = "" if speaker is None else f" of {speaker!r}"
            what = (
                f"{metric} needs {MIN_REFERENCES} validation clips{whose}, but there are "
                f"{held_out[speaker]}"
            )
            yield what, f"{hold_out(speaker)}, or drop the metric"


def similarity_metric(name: str, version: str, vector: str) -> Metric:
    """A metric of :class:`SpeakerCentroids`; ``vector`` says what of a clip is compared."""
    return Metric(
        name=name,
        unit="cosine",
        direction="higher",
        version=f"{version} level{ACTIVE_LEVEL:.0f} {VAD_VERSION}",
        low=0.0,
        high=1.0,
        description=f"cosine of the {vector} to the centroid of the reference clips",
    )


class SpeakerCentroids:
    """The centroid of each speaker's reference clips."""

    def __init__(self, metric: str, references: References, embed: Embed) -> None:
        """Embed the reference clips.

        Raises:
            ValueError: a speaker has fewer than ``MIN_REFERENCES`` clips, there is no speaker, or
                a clip holds no speech.
        """
        for speaker, clips in (references or {None: ()}).items():
            if len(clips) < MIN_REFERENCES:
                whose = "the target speaker" if speaker is None else f"speaker {speaker!r}"
                raise ValueError(
                    f"{metric} needs at least {MIN_REFERENCES} reference clips of {whose}, got "
                    f"{len(clips)}; hold out more clips or drop the metric"
                )
        self._embed = embed
        self._centres = {who: _centroid(clips, embed) for who, clips in references.items()}

    def similarity(self, clip: SpokenClip) -> float:
        """Cosine to the centroid of whom the clip is compared with, in [0, 1].

        Raises:
            MetricError: there is no speech, or no speaker to compare with.
        """
        try:
            whose = reference_speaker(clip.speaker, self._centres)
        except NoReferenceSpeakerError as error:
            raise MetricError(str(error)) from None
        cosine = float(self._embed(clip) @ self._centres[whose])
        return min(max(cosine, 0.0), 1.0)  # below 0 is no nearer than 0, where another voice is


def _centroid(references: Sequence[Reference], embed: Embed) -> NDArray[np.float32]:
    """Mean of the unit embeddings of the references, scaled to unit length, shape (dimensions,).

    Raises:
        ValueError: a clip holds no speech.
    """
    embeddings = []
    for number, (audio, rate) in enumerate(references, start=1):
        try:
            embeddings.append(embed(SpokenClip(audio, rate, "", reached_end=True)))
        except MetricError as error:
            raise ValueError(
                f"every reference clip must hold speech; clip {number} of "
                f"{len(references)}: {error}; remove it"
            ) from error
    mean: NDArray[np.float32] = np.mean(embeddings, axis=0)
    return mean / np.linalg.norm(mean)
