"""Every metric by name, and the scorers that measure what is asked for.

Importing this module, and looking a metric up, loads no model and no inference library.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.plugins import PluginError, Table
from jobs.metrics import dnsmos, pitch, plcmos, signal, speaker, timing, wavlm, whisper, words
from jobs.metrics.base import Direction, Metric, Scorer
from jobs.metrics.references import References
from jobs.problems import nearest
from jobs.spec.metric import MetricSpec


@dataclass(frozen=True)
class ScorerInputs:
    """What scorers may be built from."""

    references: References
    recogniser: words.Recogniser | None
    words: words.Words


@dataclass(frozen=True, eq=False)
class ScorerSource:
    """How a scorer is built: what it measures, and what it needs."""

    directions: Mapping[str, Direction]
    """Of each of its metrics, which way is better."""
    metrics: Callable[[MetricSpec], Sequence[Metric]]
    """In the order of ``directions``; may read model files to identify them."""
    build: Callable[[MetricSpec, ScorerInputs], Scorer]
    options: tuple[str, ...] = ()
    """Keys of a :class:`MetricSpec` that it takes."""
    hears_references: bool = False
    """Whether it compares with clips of a speaker."""


def _plain(scorer: Callable[[], Scorer], *metrics: Metric) -> ScorerSource:
    """A scorer built from nothing, its metadata known without reading a file."""
    return ScorerSource(_directions(metrics), lambda asked: metrics, lambda asked, given: scorer())


def _directions(metrics: Sequence[Metric]) -> dict[str, Direction]:
    return {metric.name: metric.direction for metric in metrics}


def _opinions(
    names: Sequence[str], metrics: Callable[[], Sequence[Metric]], scorer: Callable[[], Scorer]
) -> ScorerSource:
    """A scorer of perceived quality, its model in an installed package."""
    return ScorerSource(
        dict.fromkeys(names, "higher"), lambda asked: metrics(), lambda asked, given: scorer()
    )


def _word_error(given: ScorerInputs) -> Scorer:
    if given.recogniser is None:
        raise ValueError(
            "word metrics need a recogniser, and none was given; "
            f"give one, or drop {', '.join(m.name for m in words.WordError.metrics)}"
        )
    return words.WordError(given.recogniser, given.words)


_SOURCES = (
    _opinions(dnsmos.P808_NAMES, dnsmos.p808_metrics, dnsmos.Dnsmos808),
    _opinions(dnsmos.P835_NAMES, dnsmos.p835_metrics, dnsmos.Dnsmos835),
    _opinions(plcmos.PLCMOS_NAMES, plcmos.plcmos_metrics, plcmos.Plcmos),
    ScorerSource(
        dict.fromkeys(speaker.SPEAKER_NAMES, "higher"),
        lambda asked: speaker.speaker_metrics(),
        lambda asked, given: speaker.SpeakerSimilarity(given.references),
        hears_references=True,
    ),
    _plain(signal.Level, signal.LEVEL),
    _plain(signal.Clipping, signal.CLIPPING),
    _plain(signal.WadaSnr, signal.WADA_SNR),
    _plain(timing.Duration, timing.DURATION),
    _plain(timing.SpeakingRate, timing.SPEAKING_RATE),
    _plain(timing.TailSilence, timing.TAIL_SILENCE),
    _plain(timing.EndOfSpeechFailure, timing.END_OF_SPEECH_FAILURE),
    _plain(pitch.Pitch, *pitch.Pitch.metrics),
    ScorerSource(
        _directions(words.WordError.metrics),
        lambda asked: words.WordError.metrics,
        lambda asked, given: _word_error(given),
    ),
    ScorerSource(
        whisper.WHISPER_METRICS,
        whisper.whisper_metrics,
        lambda asked, given: whisper.Whisper(asked),
        options=("model", "language"),
    ),
    ScorerSource(
        wavlm.WAVLM_METRICS,
        wavlm.wavlm_metrics,
        lambda asked, given: wavlm.WavLM(asked, given.references),
        options=("model",),
        hears_references=True,
    ),
)


class _Metrics(Table[ScorerSource]):
    def __getitem__(self, name: str) -> ScorerSource:
        source = super().__getitem__(name)
        if name not in source.directions:
            what = f"a scorer must have {name} in its directions, got {[*source.directions]}"
            raise PluginError(what, "Report it to the plug-in's author.")
        return source


METRICS = _Metrics(
    "voxsweep.metrics", ScorerSource, {name: s for s in _SOURCES for name in s.directions}
)
"""Every metric there is, by name, with the scorer that gives it."""


class ScorerUnavailable(Exception):
    """A scorer that cannot be loaded here. Nothing is scored without it: see docs/metrics.md."""


@contextmanager
def _needed(source: ScorerSource) -> Iterator[None]:
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
            f"every metric asked for must be scored, and {', '.join(source.directions)} cannot be: "
            f"{type(error).__name__}: {error}; install what is missing where scorers run, "
            "or drop these metrics from the sweep"
        ) from error


def metric_of(asked: MetricSpec) -> Metric:
    """What ``asked`` will be measured as; reads its model's files, if it has any.

    Raises:
        ValueError: there is no such metric, or it does not take its options.
        ScorerUnavailable: a library or the weights are not there.
    """
    _check([asked])
    source = METRICS[asked.name]
    with _needed(source):
        return source.metrics(asked)[[*source.directions].index(asked.name)]


_NOBODY = References()


def build_scorers(
    asked: Iterable[MetricSpec],
    references: References = _NOBODY,
    recogniser: words.Recogniser | None = None,
    spoken: words.Words = words.plain_words,
) -> list[Scorer]:
    """The scorers that give the metrics ``asked``, each model loaded once.

    A scorer gives all its metrics, so more may be scored than was asked for. ``references``
    are held-out clips of the speakers, for what compares voices; ``recogniser`` is for
    ``word_error`` and its counts, and ``spoken`` spells a text as that recogniser does.

    Raises:
        ValueError: what was asked for does not fit, or something a metric needs was not given.
        ScorerUnavailable: a library or the weights of a metric cannot be loaded.
    """
    wanted = [*asked]
    _check(wanted)
    by_source: dict[ScorerSource, MetricSpec] = {}
    for each in wanted:
        by_source.setdefault(METRICS[each.name], each)
    given = ScorerInputs(references, recogniser, spoken)
    scorers = []
    for source, each in by_source.items():
        with _needed(source):
            scorers.append(source.build(each, given))
    return scorers


def _check(asked: Sequence[MetricSpec]) -> None:
    if problems := [f"{what}. {next_step}" for _, what, next_step in misfits(asked)]:
        raise ValueError("\n".join(problems))


def misfits(asked: Sequence[MetricSpec]) -> Iterator[tuple[int, str, str]]:
    """What is wrong with a list of metrics: the place in it, the rule and the next step."""
    seen: dict[str, MetricSpec] = {}
    for at, each in enumerate(asked):
        try:
            source = METRICS.get(each.name)
        except PluginError as error:
            yield at, error.what, error.next_step
            continue
        if source is None:
            yield at, f"unknown metric {each.name}", nearest(each.name, METRICS)
            continue
        for key in each.options.keys() - source.options:
            takes = f"It takes {' and '.join(source.options)}." if source.options else "Remove it."
            yield at, f"{each.name} takes no {key}, got {each.options[key]!r}", takes
        if each.name in seen:
            yield at, f"a metric is named once, got {each.name} again", "Remove one of the two."
            continue
        seen[each.name] = each
        first = next(seen[name] for name in seen if name in source.directions)
        if first.options != each.options:
            what = (
                f"{first.name} and {each.name} come from one scorer and take the same options, "
                f"got {_shown(first)} and {_shown(each)}"
            )
            yield at, what, "Write the same for both."


def _shown(asked: MetricSpec) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in asked.options.items()) or "none"
