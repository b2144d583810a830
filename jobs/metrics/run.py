"""Every metric by name, the scorers that measure them, and the scores of one clip.

Importing this module, and looking a metric up, loads no model and no inference library.
"""

import difflib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from jobs.metrics import dnsmos, pitch, plcmos, signal, speaker, timing, words
from jobs.metrics.base import ClipScores, Metric, MetricError, Scorer, SpokenClip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Given:
    """What scorers may be built from."""

    references: Sequence[speaker.Reference]
    recogniser: words.Recogniser | None
    words: words.Words


@dataclass(frozen=True)
class _Source:
    """Where some metrics come from."""

    names: tuple[str, ...]
    metrics: Callable[[], Sequence[Metric]]
    """In the order of ``names``; may read model files to identify them."""
    build: Callable[[_Given], Scorer]


def _plain(scorer: Callable[[], Scorer], *metrics: Metric) -> _Source:
    """A scorer built from nothing, its metadata known without reading a file."""
    return _Source(tuple(m.name for m in metrics), lambda: metrics, lambda given: scorer())


def _word_error(given: _Given) -> Scorer:
    if given.recogniser is None:
        raise ValueError(
            "word metrics need a recogniser, and none was given; "
            f"give one, or drop {', '.join(m.name for m in words.WordError.metrics)}"
        )
    return words.WordError(given.recogniser, given.words)


_SOURCES = (
    _Source(dnsmos.P808_NAMES, dnsmos.p808_metrics, lambda given: dnsmos.Dnsmos808()),
    _Source(dnsmos.P835_NAMES, dnsmos.p835_metrics, lambda given: dnsmos.Dnsmos835()),
    _Source(plcmos.PLCMOS_NAMES, plcmos.plcmos_metrics, lambda given: plcmos.Plcmos()),
    _Source(
        speaker.SPEAKER_NAMES,
        speaker.speaker_metrics,
        lambda given: speaker.SpeakerSimilarity(given.references),
    ),
    _plain(signal.Level, signal.LEVEL),
    _plain(signal.Clipping, signal.CLIPPING),
    _plain(signal.WadaSnr, signal.WADA_SNR),
    _plain(timing.Duration, timing.DURATION),
    _plain(timing.SpeakingRate, timing.SPEAKING_RATE),
    _plain(timing.TailSilence, timing.TAIL_SILENCE),
    _plain(timing.EndOfSpeechFailure, timing.END_OF_SPEECH_FAILURE),
    _plain(pitch.Pitch, *pitch.Pitch.metrics),
    _Source(
        tuple(m.name for m in words.WordError.metrics),
        lambda: words.WordError.metrics,
        _word_error,
    ),
)


class ScorerUnavailable(Exception):
    """A scorer that cannot be loaded here. Nothing is scored without it: see docs/metrics.md."""


@contextmanager
def _needed(source: _Source) -> Iterator[None]:
    """Names the metrics whose scorer, or whose weights, cannot be loaded inside.

    Raises:
        ScorerUnavailable: from whatever a library raised.
    """
    try:
        yield
    except ValueError:
        raise  # what was asked for or given is wrong, and the message says what
    except Exception as error:
        raise ScorerUnavailable(
            f"every metric asked for must be scored, and {', '.join(source.names)} cannot be: "
            f"{type(error).__name__}: {error}; install what is missing where scorers run, "
            "or drop these metrics from the sweep"
        ) from error


class _Catalogue(Mapping[str, Metric]):
    """Metric name to metadata; a model file is read when its metric is looked up."""

    def __init__(self, sources: Iterable[_Source]) -> None:
        self._sources = {name: source for source in sources for name in source.names}

    def source(self, name: str) -> _Source:
        """Raises ValueError for an unknown name, with the nearest known ones."""
        if name not in self._sources:
            near = difflib.get_close_matches(name, self._sources, n=3) or sorted(self._sources)
            raise ValueError(f"no metric is called {name!r}; did you mean {', '.join(near)}?")
        return self._sources[name]

    def __getitem__(self, name: str) -> Metric:
        source = self._sources[name]
        with _needed(source):
            return source.metrics()[source.names.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


_CATALOGUE = _Catalogue(_SOURCES)
METRICS: Mapping[str, Metric] = _CATALOGUE
"""Every metric there is, by name."""


def build_scorers(
    names: Iterable[str],
    references: Sequence[speaker.Reference] = (),
    recogniser: words.Recogniser | None = None,
    spoken: words.Words = words.plain_words,
) -> list[Scorer]:
    """The scorers that give the metrics ``names``, each model loaded once.

    A scorer gives all its metrics, so more may be scored than was asked for. ``references``
    are held-out clips of the target speaker, for ``similarity``; ``recogniser`` is for the word
    metrics, and ``spoken`` spells a text as that recogniser does.

    Raises:
        ValueError: an unknown name, or something a metric needs was not given.
        ScorerUnavailable: a library or the weights of a metric cannot be loaded.
    """
    sources = dict.fromkeys(_CATALOGUE.source(name) for name in names)
    given = _Given(references, recogniser, spoken)
    scorers = []
    for source in sources:
        with _needed(source):
            scorers.append(source.build(given))
    return scorers


def score_clip(
    scorers: Iterable[Scorer], clip: SpokenClip, *, variant: str, prompt: str, seed: int
) -> ClipScores:
    """Run every scorer on ``clip``: each of their metrics gets a value or a recorded reason."""
    values: dict[str, float] = {}
    failures: dict[str, str] = {}
    unscorable = _defect(clip)
    for scorer in scorers:
        measured = unscorable or _measure(scorer, clip)
        for metric in scorer.metrics:
            value = _finite(metric.name, measured)
            if isinstance(value, str):
                failures[metric.name] = value
            else:
                values[metric.name] = value
    return ClipScores(variant, prompt, seed, values, failures)


def _defect(clip: SpokenClip) -> str | None:
    """Why no metric at all can be had of ``clip``, if so."""
    if clip.audio.ndim != 1:
        return f"audio must be mono, shape (samples,), got shape {clip.audio.shape}"
    if not clip.audio.size:
        return "empty audio: the clip has no samples"
    if broken := int(np.count_nonzero(~np.isfinite(clip.audio))):
        return f"{broken} of {clip.audio.size} samples are not finite"
    seconds = clip.audio.size / clip.rate
    if seconds > timing.LONGEST:
        return f"the clip lasts {seconds:.0f} s, and at most {timing.LONGEST:.0f} s are scored"
    return None


def _measure(scorer: Scorer, clip: SpokenClip) -> Mapping[str, float] | str:
    """What ``scorer`` makes of ``clip``, or the reason it makes nothing."""
    try:
        return scorer.measure(clip)
    except MetricError as error:
        return str(error)
    except Exception as error:
        # One metric on one clip: a crash here must cost this score, counted with its reason,
        # and neither the clip's other scores nor the sweep.
        log.exception("%s crashed on a clip of %r", type(scorer).__name__, clip.text)
        return f"{type(error).__name__}: {error}"


def _finite(name: str, measured: Mapping[str, float] | str) -> float | str:
    """The value of metric ``name``, or the reason it has none."""
    if isinstance(measured, str):
        return measured
    if name not in measured:
        return "the scorer gave no value"
    value = float(measured[name])
    return value if math.isfinite(value) else f"not a finite number: {value}"
