"""The rule for choosing, written and hashed before anything is scored."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import Field, model_validator

from jobs.data.near_texts import distinct_texts, nearest_repeats
from jobs.spec.items import ITEM_METRICS, TextItem
from jobs.spec.strict import Strict
from jobs.spec.trial import DecodingSpec, PromptSpec

END_OF_SPEECH_FAILURE = "end_of_speech_failure"
DURATION = "duration"
TAIL_SILENCE = "tail_silence"
CLIPPING = "clipping"
GATE_METRICS = (END_OF_SPEECH_FAILURE, DURATION, TAIL_SILENCE, CLIPPING)
"""What the gates read from every clip."""

RATIO_SOURCES: Mapping[str, str] = {"duration_ratio": DURATION, "rate_ratio": "speaking_rate"}
"""Metrics derived from a clip and the base's of the same prompt: the ratio, and of what."""
RATIO_UNIT = "x base"
RATIO_WORST = 2.0
"""Bounds ratios for clips without a value: as far above the base as a silent one is below."""


class Constraint(Strict, allow_inf_nan=False):
    """A variant must not be worse than the base by more than a margin, on average over prompts.

    For a metric whose direction is ``neither``, such as ``rate_ratio``, either way is worse.
    """

    metric: str
    margin: Annotated[float, Field(ge=0)]
    """In the metric's unit, towards the worse: 0.10 on ``word_error`` allows ten points more."""


class Gates(Strict, allow_inf_nan=False):
    """Per-clip conditions; a clip that fails one is a failed clip, never a dropped one."""

    duration_ratio: tuple[float, float] = (0.5, 2.0)
    """Allowed range of a clip's duration over the base's on the same prompt."""
    tail_silence: Annotated[float, Field(gt=0)] = 2.0
    """Longest allowed silence at the end, seconds."""
    clipping: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest allowed share of clipped samples."""
    excess_failures: Annotated[float, Field(ge=0, le=1)] = 0.02
    """A variant is out when its failed clips exceed the base's by max(1, this share of clips)."""


class MetricVersion(Strict, allow_inf_nan=False):
    """A metric as it will be measured."""

    name: str
    version: str
    unit: str
    direction: Literal["higher", "lower", "neither"]
    low: float
    high: float

    @property
    def worst(self) -> float:
        """The value that stands for a clip that has none."""
        return self.low if self.direction == "higher" else self.high

    @property
    def best(self) -> float:
        """The bound opposite to the worst."""
        return self.high if self.direction == "higher" else self.low

    @property
    def span(self) -> float:
        """The distance between the bounds, in the metric's unit."""
        return self.high - self.low


class Omitted(Strict, allow_inf_nan=False):
    """An optional metric of the spec that cannot be measured here."""

    name: str
    reason: str


def _ratio(name: str) -> MetricVersion:
    return MetricVersion(
        name=name, version="1", unit=RATIO_UNIT, direction="neither", low=0.0, high=RATIO_WORST
    )


class Prompt(PromptSpec):
    """A text to be spoken, in a protocol that any tool may have written."""

    id: str
    text: str

    @property
    def spec(self) -> PromptSpec:
        """The same for synthesis. Raises ValidationError for an id that cannot name a file."""
        return PromptSpec.model_validate(self.model_dump())


Group = Literal["language", "speaker"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""How prompts are grouped; each language and each speaker has a verdict of its own."""
GroupName = tuple[Group, str]
"""A language or a speaker."""


class Listening(Strict, allow_inf_nan=False):
    """When a listening test confirms what the metrics chose, and whose ratings count in it.

    Each language has a panel of its own, and each panel is held to these rules by itself.
    """

    raters: Annotated[int, Field(ge=3)] = 8
    """Fewer decide nothing: with few raters who disagree an interval is too narrow."""
    sentences: Annotated[int, Field(ge=2)] = 20
    """Of set B, at least."""
    min_effect: Annotated[float, Field(ge=0)] = 0.15
    """Smallest gain over the base that counts, in points of the five-point scale."""
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.8
    """A rater counts who has rated this share of ``sentences``, all of them sentences that at least
    half of ``raters`` have rated."""
    missed_traps: Annotated[int, Field(ge=0)] = 0
    """A rater who misses more traps does not count."""
    repeat_change: Annotated[float, Field(ge=0)] = 1.25
    """A rater whose repeats are farther from the first scores on average does not count, points."""


LEAST_RESAMPLES = 1000
"""With so many the ends of a 95 % interval have a standard error of 4 % of its half-width, from
draws alone (the variance of a sample's quantile: Efron and Tibshirani 1993, section 19.3)."""

LEAST_SEEDS = 3
"""Of two seeds a 90 % interval reaches 4.5 of their standard deviations to each side of the mean
(Student's t with one degree of freedom over the root of two), and of one nothing is known; of three
it reaches 1.7."""

LEAST_ITEMS = 20
"""Text items of a metric in a set: of fewer the interval of a mean of zeros and ones, of which most
differences are 0, says nothing."""
MOST_ITEMS = 2000
"""Likewise: 10,000 resamples of so many take 160 MB of each process that judges."""

GROWING = ("lora_scales", "finalists", "prompts", "confirm_seeds")
"""What may grow in a sweep: none changes what a score means."""
LABELS = ("prompt_set", "confirmation_set")
"""What files of prompts are called, which changes no score either."""
_ADDED_LATER = (
    "top_p",
    "repetition_penalty",
    "max_tokens",
    "cfg_value",
    "inference_timesteps",
    "confirmed_before",
    "added_after",
    "confirm_seeds",
    "decodings",
    "items",
    "confirmation_items",
)


class Protocol(Strict, allow_inf_nan=False):
    """Prompts, seeds, metrics, gates and margins of one sweep's judgement."""

    prompt_set: str
    """A name for people; the prompts themselves tell sets apart."""
    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1)]
    """Set A: finalists are chosen by them."""
    shortlist_after: Annotated[int, Field(ge=1)] | None
    """Every variant speaks so many of set A, the shortlist the rest; None: every variant all."""
    seed: int
    confirmation_set: str
    confirmation: Annotated[tuple[Prompt, ...], Field(min_length=1)]
    """Set B: only the finalists and the base speak them; they decide the verdict."""
    confirmation_seed: int
    lora_scales: tuple[float, ...]
    temperature: float
    top_k: int
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    cfg_value: float = 2.0
    inference_timesteps: int = 10
    decodings: tuple[dict[str, int | float], ...] = ()
    """What is tried on set A, each by the keys that are searched. The base's best is how all
    decode, by the keys above; the best checkpoints are tried with the others too. Empty: no search.
    """
    primary: str
    min_effect: Annotated[float, Field(gt=0)]
    """Smallest mean improvement of the primary metric over the base that counts, in its unit."""
    significance: Annotated[float, Field(gt=0, lt=0.5)]
    """Level of all tests together: of the finalists, on all prompts and on those of each group."""
    constraints: tuple[Constraint, ...]
    gates: Gates
    metrics: tuple[MetricVersion, ...]
    finalists: Annotated[int, Field(ge=1)]
    """How many variants at most are confirmed on all of set B; each language and each speaker adds
    one of its own at most."""
    finalist_metrics: tuple[str, ...]
    """Measured on set B only."""
    omitted: tuple[Omitted, ...] = ()
    """Not required, not there, and so not measured."""
    listening: Listening
    bootstrap_resamples: Annotated[int, Field(ge=LEAST_RESAMPLES)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    family_digests: dict[str, str]
    """What else decides the sound: base, codec, recogniser, prepared data."""
    confirmed_before: tuple[str, ...] = ()
    """Variants that set B tested before others became finalists. They stay finalists, so that
    Holm's correction covers all that set B was used for."""
    added_after: tuple[int, ...] = ()
    """How many prompts set A had, each time that prompts were added to it."""
    confirm_seeds: Annotated[int, Field(ge=0)] = 0
    """With how many other seeds the winner's hyperparameters are trained anew, and heard on set
    B."""
    items: tuple[TextItem, ...] = ()
    """Text items of set A, which every variant answers; empty where finalists alone answer any."""
    confirmation_items: tuple[TextItem, ...] = ()
    """Text items of set B."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        seeds = seed_count_problems(self.confirm_seeds)
        items = self._item_problems()
        if problems := [*self._metric_problems(), *self._prompt_problems(), *seeds, *items]:
            raise ValueError("\n".join(problems))
        return self

    def _metric_problems(self) -> Iterable[str]:
        measured = [metric.name for metric in self.metrics]
        known = self.judged_metrics()
        for name in _repeated(measured):
            yield f"a metric is named once, got {name!r} twice in metrics: remove one"
        for name in RATIO_SOURCES.keys() & measured:
            yield f"ratios to the base are derived here, got {name!r} in metrics: remove it"
        for metric in self.metrics:
            if metric.low >= metric.high:
                yield (
                    f"a metric's low is below its high, got [{metric.low}, {metric.high}] "
                    f"in metrics, {metric.name!r}: correct the bounds"
                )
        for where, name in self._metrics_needed():
            if name not in known:
                yield (
                    f"{where} is a measured metric, got {name!r}: "
                    f"add it to metrics or name one of {', '.join(known)}"
                )
        if self.primary in known and known[self.primary].direction == "neither":
            yield (
                f"primary has a better direction, got {self.primary!r} with direction 'neither': "
                "name a metric with 'higher' or 'lower'"
            )
        if self.primary in ITEM_METRICS:
            yield (
                f"primary is a metric of clips, got {self.primary!r}: name another and make this "
                "one a constraint"
            )
        for name in self.finalist_metrics:
            if name in (self.primary, *GATE_METRICS):
                yield (
                    f"what every variant needs is not kept for finalists, got {name!r} in "
                    "finalist_metrics: remove it there"
                )

    def _metrics_needed(self) -> Iterable[tuple[str, str]]:
        yield "primary", self.primary
        yield from ((f"constraints[{i}].metric", c.metric) for i, c in enumerate(self.constraints))
        yield from ((f"finalist_metrics[{i}]", m) for i, m in enumerate(self.finalist_metrics))
        yield from (("what the gates read", name) for name in GATE_METRICS)

    def _prompt_problems(self) -> Iterable[str]:
        found = prompt_set_problems(
            self.prompts, self.confirmation, self.finalists, self.significance
        )
        yield from (f"{what}: {next_step}" for what, next_step in found)
        if self.seed == self.confirmation_seed:
            yield (
                f"set B has a seed of its own, got {self.seed} as seed and as confirmation_seed: "
                "change one of the two"
            )

    def _item_problems(self) -> Iterable[str]:
        found = item_set_problems(
            self.items,
            self.confirmation_items,
            {prompt.id for prompt in (*self.prompts, *self.confirmation)},
            self.item_metrics,
            [name for name in self.item_metrics if name not in self.finalist_metrics],
        )
        yield from (f"{what}: {next_step}" for what, next_step in found)

    @property
    def item_metrics(self) -> list[str]:
        """The metrics of text items among the measured."""
        return [metric.name for metric in self.metrics if metric.name in ITEM_METRICS]

    def of_clips(self) -> "Protocol":
        """The same rule without text items, their metrics and their constraints."""
        if not self.item_metrics:
            return self
        kept = {
            "items": (),
            "confirmation_items": (),
            "metrics": tuple(m for m in self.metrics if m.name not in ITEM_METRICS),
            "constraints": tuple(c for c in self.constraints if c.metric not in ITEM_METRICS),
            "finalist_metrics": tuple(m for m in self.finalist_metrics if m not in ITEM_METRICS),
        }
        return self.model_copy(update=kept)

    def over_items(self) -> dict[str, "Protocol"]:
        """Of each metric of text items, the same rule where the items that it measures stand for
        the prompts, and nothing else is measured."""
        found = {}
        for metric in self.metrics:
            if items := tuple(item for item in self.items if item.metric == metric.name):
                changes = {"prompts": items, "items": (), "metrics": (metric,)}
                found[metric.name] = self.model_copy(update=changes)
        return found

    def judged_metrics(self) -> dict[str, MetricVersion]:
        """The measured metrics by name, and the ratios to the base that they allow."""
        metrics = {metric.name: metric for metric in self.metrics}
        ratios = {name: _ratio(name) for name, of in RATIO_SOURCES.items() if of in metrics}
        return {**metrics, **ratios}

    @property
    def decoding(self) -> DecodingSpec:
        """How set A is spoken by the base, and by each variant without a decoding of its own.

        Raises:
            ValidationError: another tool's protocol decodes in a way that is not known here.
        """
        return DecodingSpec.model_validate(
            {name: getattr(self, name) for name in DecodingSpec.model_fields}
        )

    def decoding_as(self, decoding: DecodingSpec) -> "Protocol":
        """The same rule where set A is spoken so."""
        return self.model_copy(update=decoding.model_dump())

    @property
    def confirmation_decoding(self) -> DecodingSpec:
        """The same for set B: with another seed."""
        return self.decoding.at({"seed": self.confirmation_seed})

    @property
    def other_decodings(self) -> list[dict[str, int | float]]:
        """Of what is tried, all but how the base decodes."""
        own = self.decoding
        return [point for point in self.decodings if own.at(point) != own]

    @property
    def deciding_metrics(self) -> list[str]:
        """The primary metric, then those of the constraints."""
        return list(dict.fromkeys([self.primary, *(c.metric for c in self.constraints)]))

    @property
    def rest(self) -> tuple[Prompt, ...]:
        """The prompts of set A that only the shortlist speaks."""
        return tuple(prompt for part in self.rest_parts for prompt in part)

    @property
    def rest_parts(self) -> list[Sequence[Prompt]]:
        """The same as the sweep began with it, and each addition."""
        return parts_of_a(self.prompts, self.shortlist_after, self.added_after)[1:]

    @property
    def texts(self) -> tuple[int, ...]:
        """Which text each prompt says, counted from 0: near-duplicates say one."""
        return _texts(self.prompts)

    def screening(self) -> "Protocol":
        """The same rule over the prompts of set A that every variant speaks."""
        return self.model_copy(update={"prompts": self.prompts[: self.shortlist_after]})

    def confirming(self) -> "Protocol":
        """The same rule over set B, where what finalists alone get is measured for all."""
        changes = {
            "prompts": self.confirmation,
            "items": self.confirmation_items,
            "seed": self.confirmation_seed,
            "finalist_metrics": (),
        }
        return self.model_copy(update=changes)

    def groups(self) -> dict[GroupName, "Protocol"]:
        """The same rule over the prompts of each language, and of each speaker, if several."""
        found = prompts_of_groups(self.prompts)
        return {key: self.model_copy(update={"prompts": of}) for key, of in found.items()}

    def in_group(self, group: GroupName) -> tuple[Prompt, ...]:
        """The prompts of a language or speaker; empty where there are none."""
        return _grouped(self.prompts, group[0]).get(group[1], ())

    def continued_from(self, earlier: "Protocol") -> "Protocol | None":
        """This protocol for a sweep that began with ``earlier``; None if they do not agree."""
        if self.prompts[: len(earlier.prompts)] != earlier.prompts:
            return None
        kept = {
            "confirmed_before": earlier.confirmed_before,
            "added_after": earlier.added_after_with(len(self.prompts)),
        }
        grown = {name: getattr(self, name) for name in (*GROWING, *LABELS)}
        continued = self.model_copy(update=kept)
        return continued if continued == earlier.model_copy(update={**grown, **kept}) else None

    def added_after_with(self, prompts: int) -> tuple[int, ...]:
        """``added_after`` of this protocol once its set A has so many prompts."""
        begun = len(self.prompts)
        return self.added_after if prompts == begun else (*self.added_after, begun)

    def digest(self) -> str:
        """SHA-256 of the JSON text with sorted keys."""
        # A protocol that was written before these keys existed keeps its digest.
        fields = type(self).model_fields
        left_out = {name for name in _ADDED_LATER if getattr(self, name) == fields[name].default}
        left_out |= {*LABELS}
        text = json.dumps(self.model_dump(mode="json", exclude=left_out), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def seed_count_problems(count: int) -> Iterable[str]:
    """What is wrong with the number of replicates."""
    if 0 < count < LEAST_SEEDS:
        yield (
            f"confirm_seeds is 0 or at least {LEAST_SEEDS}, got {count}: of fewer seeds the "
            f"interval is too wide to decide, so ask for {LEAST_SEEDS} or none"
        )


_Prompt = TypeVar("_Prompt", bound=PromptSpec)


def parts_of_a(
    prompts: Sequence[_Prompt], shortlist_after: int | None, added_after: Iterable[int]
) -> list[Sequence[_Prompt]]:
    """Set A cut into what every variant speaks, the rest that a sweep began with, and each
    addition to it, which the shortlist speaks like the rest. Parts may be empty.

    Args:
        added_after: see :attr:`Protocol.added_after`.
    """
    first = len(prompts) if shortlist_after is None else shortlist_after
    return [prompts[a:b] for a, b in pairwise([0, first, *added_after, len(prompts)])]


def prompts_of_groups(prompts: Iterable[_Prompt]) -> dict[GroupName, tuple[_Prompt, ...]]:
    """The prompts of each language, and of each speaker, where there are several of either."""
    found: dict[GroupName, tuple[_Prompt, ...]] = {}
    of_all = tuple(prompts)
    for group in GROUPS:
        if len(of := _grouped(of_all, group)) > 1:
            found |= {(group, name): named for name, named in of.items()}
    return found


def groups_of_both(
    prompts: Iterable[PromptSpec], confirmation: Iterable[PromptSpec]
) -> list[GroupName]:
    """The languages and speakers that set B judges, and set A chooses a finalist for."""
    of_a = tuple(prompts)
    return [key for key in prompts_of_groups(confirmation) if _grouped(of_a, key[0]).get(key[1])]


def _grouped(prompts: Iterable[_Prompt], group: Group) -> dict[str, tuple[_Prompt, ...]]:
    """Prompts by language or speaker, in the order in which those come up."""
    found: dict[str, tuple[_Prompt, ...]] = {}
    for prompt in prompts:
        name = prompt.language if group == "language" else prompt.speaker
        if name is not None:
            found[name] = (*found.get(name, ()), prompt)
    return found


def prompt_set_problems(
    prompts: Sequence[PromptSpec],
    confirmation: Sequence[PromptSpec],
    finalists: int,
    significance: float,
    places: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Iterable[tuple[str, str]]:
    """What keeps two prompt sets from screening and confirming, each with the next step.

    ``places`` says where each prompt of both sets stands; None: they are told by their ids.
    """
    for name in _repeated(prompt.id for prompt in (*prompts, *confirmation)):
        yield f"a prompt's id is used once in sets A and B, got {name!r} twice", "rename one"
    yield from _known_texts(prompts, confirmation, places)
    # The smallest p of a signed-rank test over n prompts is 2 to the -n.
    least = math.floor(math.log2(finalists / significance)) + 1
    if (count := len(set(_texts(confirmation)))) < least:
        what = (
            f"{finalists} finalists at significance {significance:g} need {least} prompts in "
            f"set B, got {_counted(count, confirmation)}"
        )
        yield what, "add prompts or take fewer finalists"
    for group in GROUPS:
        of = _grouped(confirmation, group)
        if unnamed := len(confirmation) - sum(map(len, of.values())) if of else 0:
            yield (
                f"a {group} is named by all prompts of set B or by none, got {unnamed} without",
                f"name the {group} of each",
            )
        for name, named in of.items():
            if len(of) > 1 and (count := len(set(_texts(named)))) < least:
                yield (
                    f"each {group} has a verdict of its own, which needs {least} prompts in set "
                    f"B, got {_counted(count, named)} of {name!r}",
                    f"add prompts of it, or leave {group} out of the prompts",
                )


def item_set_problems(
    items: Sequence[TextItem],
    confirmation: Sequence[TextItem],
    other_ids: Collection[str],
    measured: Collection[str],
    of_every_variant: Collection[str],
    places: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Iterable[tuple[str, str]]:
    """What keeps two sets of text items from screening and confirming, each with the next step.

    Args:
        items: of set A.
        confirmation: those of set B.
        other_ids: ids of the prompts.
        measured: metrics of items that are measured.
        of_every_variant: those that are measured on set A too.
        places: see :func:`prompt_set_problems`.
    """
    for name in _repeated(item.id for item in (*items, *confirmation)):
        yield f"an item's id is used once in sets A and B, got {name!r} twice", "rename one"
    for name in sorted({item.id for item in (*items, *confirmation)} & {*other_ids}):
        yield f"an item's id is not a prompt's, got {name!r} for both", "rename one"
    yield from _known_texts(items, confirmation, places)
    for of, wanted, name in ((items, of_every_variant, "A"), (confirmation, measured, "B")):
        counts = Counter(item.metric for item in of)
        for metric in wanted:
            if not LEAST_ITEMS <= counts[metric] <= MOST_ITEMS:
                few = counts[metric] < LEAST_ITEMS
                what = (
                    f"{metric} needs {LEAST_ITEMS} to {MOST_ITEMS} items in set {name}, got "
                    f"{counts[metric]}"
                )
                yield what, "add items, or leave the metric out" if few else "take a sample of them"
        for metric in counts.keys() - {*wanted}:
            what = f"items of set {name} are measured, got {counts[metric]} of {metric}"
            yield what, f"add {metric} to the metrics, or take them out"


def _known_texts(
    of_a: Sequence[PromptSpec | TextItem],
    of_b: Sequence[PromptSpec | TextItem],
    places: tuple[Sequence[str], Sequence[str]] | None,
) -> Iterable[tuple[str, str]]:
    """Each text of set B that set A has too, or nearly so."""
    in_a, in_b = places or tuple([repr(each.id) for each in of] for of in (of_a, of_b))
    known, fresh = ([each.text for each in of] for of in (of_a, of_b))
    for repeat in nearest_repeats(known, fresh):
        what = (
            f"set B has texts that set A has not, got {fresh[repeat.other]!r} at "
            f"{in_b[repeat.other]} and {known[repeat.place]!r} at {in_a[repeat.place]} ({repeat})"
        )
        yield what, "write another text"


def _texts(prompts: Iterable[PromptSpec]) -> tuple[int, ...]:
    return distinct_texts(tuple(prompt.text for prompt in prompts))


def _counted(texts: int, prompts: Sequence[PromptSpec]) -> str:
    repeated = len(prompts) > texts
    return f"{len(prompts)} that count as {texts}" if repeated else str(len(prompts))


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
