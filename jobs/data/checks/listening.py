"""A sample of the clips listened to: whether what a recogniser hears is what the texts say."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import AudioError, decode, resample
from jobs.data.checks.sound import sound_facts
from jobs.data.clips import Progress, TargetClip
from jobs.data.findings import Finding, error, warning, within
from jobs.metrics.signal import RATE
from jobs.metrics.whisper import DEFAULT_MODEL, Whisper, primary_subtag
from jobs.metrics.words import plain_words, word_edits
from jobs.problems import InputError, Problem
from jobs.spec import EMBEDDED
from jobs.spec.metric import MetricSpec

SAMPLE = 60
"""Clips: where none of them says something else, at most 6 % of all do (95 % interval)."""
_SEED = 17
_MARGIN = 0.05
"""Seconds of silence that are left at both ends: a recogniser hears words in long silences."""
_OTHER = 0.5
"""Of the units, from which on a transcript may be of another text."""
_LIKE_OTHERS = 0.75
"""Times the mean distance to other texts, from which on it is no nearer to its own."""
_OTHERS = 10
"""Texts of other clips of the sample that a transcript is compared with."""
_FITS = 0.25
"""Distance up to which a transcript is that of a text."""
_OFTEN = 0.1
"""Share of clips whose last words a recogniser may miss: under the interval's lower end, told."""
_MOST = 0.5
"""Share of clips from which on, by the interval's lower end, the data cannot be used."""
_WORST = 10
_UNSPACED = frozenset({"ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages that are written without spaces between words: their units are characters."""


class Transcriber(Protocol):
    """Writes down speech in the units, words or characters, in which it spells texts."""

    name: str

    def units(self, text: str, language: str | None) -> list[str]:
        """``text`` as it should be heard. Raises ValueError where it cannot be."""

    def hear(self, audio: NDArray[np.float32], language: str | None) -> list[str]:
        """The units in mono ``audio``, shape (samples,), at 16 kHz."""


class DigitTranscriber:
    """The embedded recogniser: texts of the digits zero to nine."""

    name = "the embedded recogniser"

    def __init__(self) -> None:
        from jobs.codecs.recogniser import WordRecogniser  # imports torch
        from jobs.embedded import RECOGNISER_DIR

        self._recogniser = WordRecogniser.load(RECOGNISER_DIR)

    def units(self, text: str, language: str | None) -> list[str]:
        """Its words. Raises ValueError for a word that is no digit."""
        digits = self._recogniser.config.words
        words: list[str] = []
        for word in plain_words(text):
            words += [digits[int(each)] for each in word] if word.isdecimal() else [word]
        if unknown := sorted(set(words) - set(digits)):
            raise ValueError(f"{self.name} knows digits alone, not {unknown[0]!r}")
        return words

    def hear(self, audio: NDArray[np.float32], language: str | None) -> list[str]:
        """The digits in ``audio``."""
        return self._recogniser.transcribe(audio, RATE)


class WhisperTranscriber:
    """A Whisper, as the ``whisper_...`` metrics use it."""

    def __init__(self, model: str, language: str | None) -> None:
        """Load it; ``language`` is that of clips without one.

        Raises:
            FileNotFoundError: it is not there, with what to do.
            ValueError: it does not know the language.
        """
        self.name = f"Whisper ({model})"
        self._language = language
        self._whisper = Whisper(
            MetricSpec(name="whisper_word_error", model=model, language=language)
        )

    def units(self, text: str, language: str | None) -> list[str]:
        """Words, or characters of a language without spaces. Raises ValueError: see the metric."""
        language = language or self._language
        if language is None:
            raise ValueError(f"{self.name} must know the language of the clips")
        if problem := self._whisper.language_problem(language):
            raise ValueError(problem)
        return self._spelled(text, language)

    def hear(self, audio: NDArray[np.float32], language: str | None) -> list[str]:
        """The units in ``audio``."""
        language = language or self._language
        assert language is not None
        return self._spelled(self._whisper.transcribe(audio, language), language)

    def _spelled(self, text: str, language: str) -> list[str]:
        words = self._whisper.normalise(text, language).split()
        return [*"".join(words)] if primary_subtag(language) in _UNSPACED else words


def open_transcriber(
    clips: Sequence[TargetClip], model: str | None = None, language: str | None = None
) -> Transcriber:
    """The recogniser for ``clips``: the embedded one where they say digits alone, else a Whisper.

    ``model`` is ``embedded``, a directory with a Whisper, or an id in the hub's cache; None takes
    the one that fits, and of Whisper that of the metrics. ``language`` is for clips without one.

    Raises:
        InputError: it is not there, or cannot read the text of the first clip.
    """
    if model in {None, EMBEDDED}:
        digits = DigitTranscriber()
        try:
            for clip in clips:
                digits.units(clip.row.text, clip.row.language)
        except ValueError as reason:
            if model == EMBEDDED:
                advice = "Name a Whisper: its directory, or its id in the hub's cache."
                raise InputError([Problem(clip.row.where, str(reason), advice)]) from None
        else:
            return digits
    try:
        whisper = WhisperTranscriber(model or DEFAULT_MODEL, language)
    except (OSError, ImportError, ValueError) as reason:
        what = f"clips are listened to with a recogniser for their language: {reason}"
        raise InputError([Problem("--recogniser", what, "Name one that is here.")]) from None
    for clip in clips[:1]:
        try:
            whisper.units(clip.row.text, clip.row.language)
        except ValueError as reason:
            advice = "Give the clips a language that it knows, or name another model."
            raise InputError([Problem(clip.row.where, str(reason), advice)]) from None
    return whisper


@dataclass(frozen=True)
class Heard:
    """What listening to a sample found."""

    recogniser: str
    usable: int
    """Clips that the sample is from."""
    sample: int
    """Clips that were listened to, and judged."""
    unjudged: int
    """Clips of which words were heard that no text has, as in another script, and clips whose text
    or language the recogniser does not know."""
    others: int
    """Of these, those that say something else than their text."""
    interval: tuple[float, float]
    """Of their share among all clips: Wilson's, 95 %."""
    findings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """For ``voxsweep check --json``, which has the findings with all others."""
        return {
            "recogniser": self.recogniser,
            "clips": self.sample,
            "unjudged": self.unjudged,
            "other_text": self.others,
            "interval": self.interval,
        }

    def __str__(self) -> str:
        low, high = self.interval
        unjudged = f"; {self.unjudged} more could not be judged" if self.unjudged else ""
        return (
            f"listened to {self.sample} of {self.usable} clips with {self.recogniser}: "
            f"{self.others} say something else than their text "
            f"({self.others / max(1, self.sample):.1%}, 95 % interval {low:.1%} to {high:.1%})"
            f"{unjudged}"
        )


def choose_sample(clips: Sequence[TargetClip], count: int) -> list[int]:
    """Places of ``count`` clips: of each speaker, language and length as many as its share.

    Every n-th, from a fixed one on, of the clips in the order of language, speaker and length.
    """
    ordered = sorted(
        range(len(clips)),
        key=lambda at: (
            clips[at].row.language or "",
            clips[at].row.speaker or "",
            clips[at].seconds,
        ),
    )
    if len(ordered) <= count:
        return sorted(ordered)
    start = float(np.random.default_rng(_SEED).random())
    return sorted(ordered[int((start + step) * len(ordered) / count)] for step in range(count))


@dataclass(frozen=True)
class _Transcript:
    """What was heard of a clip, beside its text."""

    at: int
    """Its place among the clips."""
    units: list[str]
    heard: list[str]

    @property
    def distance(self) -> float:
        return _distance(self.heard, self.units)

    def end(self, which: Literal["unheard", "unwritten"]) -> list[str]:
        """Units at the text's end that were not heard, or heard after it; none if the rest differs.

        The rest decides where both are at hand: a text of two words, one of which is cut, differs
        in half of it.
        """
        longer, other = self.units, self.heard
        if which == "unwritten":
            longer, other = other, longer
        edits = word_edits(other, longer)
        for count in range(len(longer) - 1, 0, -1):
            rest = longer[:-count]
            if word_edits(other, rest) == edits - count and _distance(other, rest) <= _FITS:
                return longer[-count:]
        return []


def listen_to(
    clips: Sequence[TargetClip],
    transcriber: Transcriber,
    where: str,
    count: int = SAMPLE,
    progress: Progress = lambda done, total: None,
) -> Heard:
    """Transcribe ``count`` of ``clips``, which are in the order of their rows, and compare.

    ``where`` is the place of all of them. The same clips are listened to every time. A transcript
    is of another text where it is no nearer to its own than to others: a recogniser that hears
    little of a language is as far from every text.
    """
    compared: list[_Transcript] = []
    places = choose_sample(clips, count)
    for done, at in enumerate(places, start=1):
        row = clips[at].row
        try:
            units = transcriber.units(row.text, row.language)
            heard = transcriber.hear(_speech(row.audio), row.language)
        except (ValueError, AudioError):
            continue  # no text for this recogniser, or a file that has changed: checked elsewhere
        compared.append(_Transcript(at, units, heard))
        progress(done, len(places))
    judged: list[_Transcript] = []
    others: list[_Transcript] = []
    for number, each in enumerate(compared):
        rest = [*compared[number + 1 :], *compared[:number]]
        texts = [other.units for other in rest if other.units != each.units][:_OTHERS]
        distances = [_distance(each.heard, text) for text in texts]
        if each.heard and min([each.distance, *distances]) == 1.0:
            continue
        judged.append(each)
        usual = float(np.mean(distances or [1.0]))
        has_other_end = each.end("unheard") or each.end("unwritten")
        if not has_other_end and each.distance >= max(_OTHER, _LIKE_OTHERS * usual):
            others.append(each)
    findings = [
        *_tell_others(clips, judged, others, transcriber, where),
        *_tell_ends(clips, judged, where),
    ]
    interval, unjudged = _wilson(len(others), len(judged)), len(places) - len(judged)
    return Heard(
        transcriber.name, len(clips), len(judged), unjudged, len(others), interval, findings
    )


def _speech(location: str) -> NDArray[np.float32]:
    """The recording at 16 kHz, with little silence at its ends."""
    recording = decode(location)
    samples, rate = recording.samples, recording.rate
    facts = sound_facts(samples, rate)
    first = int(max(0.0, facts.leading - _MARGIN) * rate)
    last = len(samples) - int(max(0.0, facts.trailing - _MARGIN) * rate)
    return np.clip(resample(samples[first:last], rate, RATE), -1.0, 1.0)


def _distance(heard: Sequence[str], units: Sequence[str]) -> float:
    """Edits per unit of the longer of the two, 0 to 1."""
    return word_edits(heard, units) / max(1, len(heard), len(units))


def _tell_others(
    clips: Sequence[TargetClip],
    judged: Sequence[_Transcript],
    others: Sequence[_Transcript],
    transcriber: Transcriber,
    where: str,
) -> Iterator[Finding]:
    if not others:
        return
    what = f"texts should be what is said, but {_share(len(others), len(judged))} are not: "
    worst = sorted(others, key=lambda each: -each.distance)[:_WORST]
    quoted = [
        (clips[each.at].row.where, " ".join(each.units), " ".join(each.heard)) for each in worst
    ]
    what += "; ".join(
        f"{within(place, where)} ({text!r}, heard {heard!r})" for place, text, heard in quoted
    )
    advice = "Listen to these clips and correct their texts."
    for step, word in ((1, "next"), (-1, "previous")):
        fitting = sum(_fits_row(clips, each, step, transcriber) for each in others)
        if 2 * fitting > len(others):
            advice = f"The transcripts are shifted: the {word} row's text is what is heard."
    yield _graded(len(others), len(judged))("text-other", where, what, advice)


def _fits_row(
    clips: Sequence[TargetClip], one: _Transcript, step: int, transcriber: Transcriber
) -> bool:
    """Whether the text of the clip ``step`` further in its manifest is what was heard."""
    at = one.at + step
    if not 0 <= at < len(clips) or clips[at].row.manifest != clips[one.at].row.manifest:
        return False
    try:
        units = transcriber.units(clips[at].row.text, clips[at].row.language)
    except ValueError:
        return False
    return _distance(one.heard, units) <= _FITS


def _tell_ends(
    clips: Sequence[TargetClip], judged: Sequence[_Transcript], where: str
) -> Iterator[Finding]:
    """Last words that are often not heard, or often not written."""
    kinds: tuple[tuple[Literal["unheard", "unwritten"], str, str], ...] = (
        (
            "unheard",
            "the last words of a text should be said",
            "Look for the whole recordings: a model learns to stop early.",
        ),
        (
            "unwritten",
            "a text should have all that is said",
            "Write what is said at the end, or cut it.",
        ),
    )
    for which, rule, advice in kinds:
        found = [(each, end) for each in judged if (end := each.end(which))]
        if _wilson(len(found), len(judged))[0] <= _OFTEN:
            continue
        found.sort(key=lambda item: -len(item[1]))
        what = f"{rule}, but {_share(len(found), len(judged))} differ: " + "; ".join(
            f"{within(clips[each.at].row.where, where)} ({which}: {' '.join(end)!r})"
            for each, end in found[:_WORST]
        )
        yield _graded(len(found), len(judged))("text-end", where, what, advice)


def _graded(found: int, sample: int) -> Callable[[str, str, str, str], Finding]:
    """An error where most clips are concerned, by the interval's lower end; else a warning."""
    return error if _wilson(found, sample)[0] > _MOST else warning


def _share(found: int, sample: int) -> str:
    low, high = _wilson(found, sample)
    return (
        f"{found} of the {sample} clips that were listened to ({found / sample:.1%}, 95 % interval "
        f"{low:.1%} to {high:.1%})"
    )


def _wilson(found: int, sample: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; everything, without a sample."""
    from scipy.stats import binomtest  # 0.5 s to import

    if not sample:
        return 0.0, 1.0
    interval = binomtest(found, sample).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
