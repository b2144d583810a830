"""Every metric by name, and the scorers that measure them.

Importing this module, and looking a metric up, loads no model and no inference library.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from cluster.plugins import PluginError, Table
from jobs.clips import SpokenClip
from jobs.metrics import (
    distillmos,
    dnsmos,
    dvector,
    pitch,
    plcmos,
    signal,
    speaker,
    text,
    timing,
    wavlm,
    whisper,
    words,
)
from jobs.metrics.base import Direction, FunctionScorer, Metric, Scorer
from jobs.metrics.references import References
from jobs.problems import nearest
from jobs.spec.metric import MetricSpec


@dataclass(frozen=True)
class ScorerInputs:
    """Inputs that a scorer may be built from."""

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
    needs_references: bool = False
    """Whether it compares with clips of a speaker."""


def _directions(metrics: Sequence[Metric]) -> dict[str, Direction]:
    return {metric.name: metric.direction for metric in metrics}


def _plain(
    directions: Mapping[str, Direction],
    metrics: Callable[[], Sequence[Metric]],
    scorer: Callable[[], Scorer],
) -> ScorerSource:
    """A scorer without options and inputs."""
    return ScorerSource(directions, lambda spec: metrics(), lambda spec, inputs: scorer())


def _function(metric: Metric, function: Callable[[SpokenClip], float]) -> ScorerSource:
    """One metric that is a function of the clip."""
    scorer = FunctionScorer(metric, function)
    return _plain(_directions(scorer.metrics), lambda: scorer.metrics, lambda: scorer)


def _word_error(inputs: ScorerInputs) -> Scorer:
    if inputs.recogniser is None:
        raise ValueError(
            "word metrics need a recogniser, and none was given; "
            f"give one, or drop {', '.join(m.name for m in words.WordError.metrics)}"
        )
    return words.WordError(inputs.recogniser, inputs.words)


def _no_clips(spec: MetricSpec, inputs: ScorerInputs) -> Scorer:
    raise ValueError(f"{spec.name} measures answers to text items, which a sweep asks for")


_SOURCES = (
    _plain(dict.fromkeys(dnsmos.P808_NAMES, "higher"), dnsmos.p808_metrics, dnsmos.Dnsmos808),
    _plain(dict.fromkeys(dnsmos.P835_NAMES, "higher"), dnsmos.p835_metrics, dnsmos.Dnsmos835),
    _plain(dict.fromkeys(plcmos.PLCMOS_NAMES, "higher"), plcmos.plcmos_metrics, plcmos.Plcmos),
    ScorerSource(
        dict.fromkeys(speaker.SPEAKER_NAMES, "higher"),
        lambda spec: speaker.speaker_metrics(),
        lambda spec, inputs: speaker.SpeakerSimilarity(inputs.references),
        needs_references=True,
    ),
    _plain(
        dict.fromkeys(distillmos.DISTILLMOS_NAMES, "higher"),
        distillmos.distillmos_metrics,
        distillmos.DistillMos,
    ),
    ScorerSource(
        dict.fromkeys(dvector.DVECTOR_NAMES, "higher"),
        lambda spec: dvector.dvector_metrics(),
        lambda spec, inputs: dvector.DVector(inputs.references),
        needs_references=True,
    ),
    _function(signal.LEVEL, signal.level),
    _function(signal.CLIPPING, signal.clipping),
    _plain(_directions(signal.WadaSnr.metrics), lambda: signal.WadaSnr.metrics, signal.WadaSnr),
    _function(timing.DURATION, timing.duration),
    _function(timing.SPEAKING_RATE, timing.speaking_rate),
    _function(timing.TAIL_SILENCE, timing.tail_silence),
    _function(timing.END_OF_SPEECH_FAILURE, timing.end_of_speech_failure),
    _plain(_directions(pitch.Pitch.metrics), lambda: pitch.Pitch.metrics, pitch.Pitch),
    ScorerSource(
        _directions(words.WordError.metrics),
        lambda spec: words.WordError.metrics,
        lambda spec, inputs: _word_error(inputs),
    ),
    ScorerSource(
        whisper.WHISPER_METRICS,
        whisper.whisper_metrics,
        lambda spec, inputs: whisper.Whisper(spec),
        options=("model", "language"),
    ),
    ScorerSource(
        wavlm.WAVLM_METRICS,
        wavlm.wavlm_metrics,
        lambda spec, inputs: wavlm.WavLM(spec, inputs.references),
        options=("model",),
        needs_references=True,
    ),
    ScorerSource(_directions(text.ANSWER_METRICS), lambda spec: text.ANSWER_METRICS, _no_clips),
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
def _load_errors_named(source: ScorerSource) -> Iterator[None]:
    """Turns loading errors inside into one that names the metrics of ``source``.

    Raises:
        ScorerUnavailable: from whatever a library raised.
    """
    try:
        yield
    except ValueError:
        raise  # a bad spec or input, which the message names
    except Exception as error:
        raise ScorerUnavailable(
            f"every metric asked for must be scored, and {', '.join(source.directions)} cannot be: "
            f"{type(error).__name__}: {error}; install what is missing where scorers run, "
            "or drop these metrics from the sweep"
        ) from error


def metric_of(spec: MetricSpec) -> Metric:
    """The metric that ``spec`` names; reads its model's files, if it has any.

    Raises:
        ValueError: there is no such metric, or it does not take its options.
        ScorerUnavailable: a library or the weights are not there.
    """
    _check([spec])
    source = METRICS[spec.name]
    with _load_errors_named(source):
        return source.metrics(spec)[[*source.directions].index(spec.name)]


def build_scorers(
    specs: Iterable[MetricSpec],
    references: References = MappingProxyType({}),
    recogniser: words.Recogniser | None = None,
    spell: words.Words = words.plain_words,
) -> list[Scorer]:
    """The scorers of the metrics that ``specs`` name, each model loaded once.

    A scorer gives all its metrics, so more may be scored than are named. ``references``
    are held-out clips of the speakers, for what compares voices; ``recogniser`` is for
    ``word_error`` and its counts, and ``spell`` spells a text as that recogniser does.

    Raises:
        ValueError: the specs do not fit, or something a metric needs was not given.
        ScorerUnavailable: a library or the weights of a metric cannot be loaded.
    """
    wanted = [*specs]
    _check(wanted)
    by_source: dict[ScorerSource, MetricSpec] = {}
    for each in wanted:
        by_source.setdefault(METRICS[each.name], each)
    inputs = ScorerInputs(references, recogniser, spell)
    scorers = []
    for source, each in by_source.items():
        with _load_errors_named(source):
            scorers.append(source.build(each, inputs))
    return scorers


def _check(specs: Sequence[MetricSpec]) -> None:
    if problems := [f"{what}. {next_step}" for _, what, next_step in metric_problems(specs)]:
        raise ValueError("\n".join(problems))


def metric_problems(specs: Sequence[MetricSpec]) -> Iterator[tuple[int, str, str]]:
    """Problems of a list of metrics: the place in it, the rule and the next step."""
    seen: dict[str, MetricSpec] = {}
    for at, each in enumerate(specs):
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


def _shown(spec: MetricSpec) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in spec.options.items()) or "none"
