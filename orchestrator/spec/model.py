"""The sweep as written in YAML: strict, frozen, hashed."""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from jobs.families.description import is_path
from jobs.families.registry import with_default_targets
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.metric import MetricSpec
from jobs.spec.strict import Strict
from jobs.spec.trial import DecodingSpec, EngineSpec, HostSpec, TrainingSpec
from jobs.speech.sentences import PREFIX
from orchestrator.addresses import JOURNAL, SQLITE, sqlite_path, sqlite_url
from orchestrator.verdict.protocol import (
    GATE_METRICS,
    LEAST_RESAMPLES,
    Constraint,
    Gates,
    Listening,
    seed_count_problems,
)

AUTO = "auto"
"""In place of a number: as many as the machine's memory holds."""

MAY_CHANGE = ("resources", "records", "budget", "hosting")
"""Sections of a spec that do not change the verdict: a later run may have others."""
GgufType = Literal["f16", "q8_0", "q4_0"]

PATH_STARTS = ("/", "./", "../", "~")
"""Prefixes of a metric's model that make it a directory, never an id of the model hub."""

OBJECTIVE = "objective"
"""What a search maximises: the score of a trial's best variant under the protocol."""
SECONDS = "seconds"
"""A trial's training time, as a second objective."""

ITEM_SETS = ("items", "confirmation_items")
"""Keys of ``variants`` that name files of text items, of set A and of set B."""

REMOTE = "s3://"
"""Prefix of data in object storage."""

Choice = int | float | str | bool | None | tuple[str | int | float, ...]

Bound = Annotated[float, Field(allow_inf_nan=False)] | None


class Dimension(Strict):
    """One searched key: a list of choices, or a range ``{low, high, log}``."""

    choices: tuple[Choice, ...] = ()
    low: Bound = None
    high: Bound = None
    log: bool = False

    @model_validator(mode="after")
    def _check_one_form(self) -> Self:
        is_range = self.low is not None or self.high is not None
        if bool(self.choices) == is_range:
            raise ValueError("a dimension is a list of choices or a range {low, high}, not both")
        if is_range and (self.low is None or self.high is None or not self.low < self.high):
            raise ValueError(f"a range needs low < high, got low={self.low} high={self.high}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError(f"a log range needs low > 0, got low={self.low}")
        return self

    @property
    def corners(self) -> tuple[Choice, ...]:
        """All choices, or both ends of the range."""
        return self.choices or (self.low, self.high)


def _as_used(name: str, value: Choice) -> Choice:
    """A choice of a key of ``training`` with the numbers of the type that the key has.

    YAML may write 8 as 8.0 and 0.0 as 0; a warm start compares choices with what was trained.
    """
    if name not in TrainingSpec.model_fields or isinstance(value, bool):
        return value
    try:
        used: Choice = getattr(TrainingSpec.model_validate({name: value}), name)
    except ValidationError:
        return value  # orchestrator.spec.rules reports it
    return used if used == value else value


def _from_list(value: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
    return {"choices": value} if isinstance(value, list) else value


class BaseSpec(Strict):
    """The frozen pretrained model."""

    source: str = EMBEDDED
    """``embedded``, a directory that holds the model and its tokenizer, or ``hub:`` and an id."""
    codec: str = EMBEDDED
    """``embedded``, or the directory of a codec."""
    voice: str | None = None
    """The voice of the base that is adapted to the target; null for its default."""


class FirstSpec(Strict):
    """A first phase of a search, in which some keys have fixed values."""

    hold: dict[str, Choice] = Field(min_length=1)
    """Searched keys, each fixed to one of its choices: the cheapest rank, for example."""
    trials: Annotated[int, Field(ge=1)]
    """Trials of this phase. Then the best of them is tried with the keys' other choices."""

    @field_validator("hold")
    @classmethod
    def _numbers_as_used(cls, hold: dict[str, Choice]) -> dict[str, Choice]:
        return {name: _as_used(name, value) for name, value in hold.items()}


class SearchSpec(Strict):
    """The search space, and how trials are sampled from it."""

    sampler: Literal["tpe", "gp", "qmc", "random", "grid"] = "tpe"
    trials: Annotated[int, Field(ge=1)] = 8
    """The number of trials; ``grid`` runs its whole grid instead."""
    first: FirstSpec | None = None
    """A first phase with fixed keys; null for none."""
    objectives: tuple[str, ...] = (OBJECTIVE,)
    """What the study optimises: ``objective`` and, if several, metrics and ``seconds``."""
    warm_start: tuple[str, ...] = ()
    """Earlier sweeps of the family in the same storage, whose trials the study starts with."""
    seed: Annotated[int, Field(ge=0)] = 0
    confirm_seeds: Annotated[int, Field(ge=0)] = 0
    """With how many other seeds the winner's hyperparameters are trained anew: 0, or at least 3."""
    space: dict[str, Annotated[Dimension, BeforeValidator(_from_list)]] = Field(min_length=1)
    """Keys of ``training``, each with a list of choices or a range."""

    @field_validator("space")
    @classmethod
    def _numbers_as_used(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        found = {}
        for name, each in space.items():
            used = tuple(_as_used(name, choice) for choice in each.choices)
            found[name] = each.model_copy(update={"choices": used}) if used else each
        return found

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranges = [name for name, dimension in self.space.items() if not dimension.choices]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"a grid needs lists of choices, but {ranges} are ranges")
        if self.objectives[:1] != (OBJECTIVE,):
            got = list(self.objectives)
            raise ValueError(f"objectives begin with {OBJECTIVE}, got {got}: name it first")
        for problem in seed_count_problems(self.confirm_seeds):
            raise ValueError(problem)
        if self.confirm_seeds and "seed" in self.space:
            raise ValueError(
                f"confirm_seeds trains with other seeds what the search found, got "
                f"{self.confirm_seeds} and seed in the space: delete one of the two"
            )
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"an objective is named once, got {list(self.objectives)}")
        return self

    def grid(self) -> list[dict[str, Choice]]:
        """Every combination of the choices, the last key changing fastest."""
        names = list(self.space)
        products = itertools.product(*(self.space[name].choices for name in names))
        return [dict(zip(names, values, strict=True)) for values in products]

    @property
    def trial_count(self) -> int:
        """How many trials the search asks for."""
        return len(self.grid()) if self.sampler == "grid" else self.trials


class RungSpec(Strict):
    """When running trials are compared and the worse ones stopped (Ray Tune's ASHA)."""

    scheduler: Literal["asha", "none"] = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """No trial is stopped before this epoch."""
    grace_steps: Annotated[int, Field(ge=1)] | None = None
    """With ``training.checkpoint_steps``: the same in optimiser steps, a multiple of those. Null:
    the first checkpoint."""
    reduction: Annotated[float, Field(gt=1)] = 2.0
    """One in ``reduction`` trials passes a rung."""
    metric: Literal["objective", "promise", "validation_loss"] = "objective"
    """``objective`` and ``promise`` score synthesised speech: an objective ranks every variant
    that breaks a constraint below all that keep it, a promise subtracts by how much it is broken.
    ``validation_loss`` may stop a trial but never chooses one."""


class DecodingSearchSpec(Strict):
    """Decodings that the base, and the best checkpoints, are tried with on prompt set A."""

    candidates: Annotated[int, Field(ge=2)] = 8
    """How many at most, that of ``variants.decoding`` among them."""
    space: dict[str, Annotated[Dimension, BeforeValidator(_from_list)]] = Field(min_length=1)
    """Keys of ``decoding``, each with a list of choices or a range."""


class VariantsSpec(Strict):
    """The variants of each checkpoint: its LoRA scales, decoding and prompts."""

    lora_scales: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (
        0.0,
        0.5,
        0.7,
        1.0,
        1.3,
    )
    """0 is the base, synthesised once as the control."""
    decoding: DecodingSpec = DecodingSpec()
    decoding_search: DecodingSearchSpec | None = None
    """Null: all speak with ``decoding``."""
    prompts: str = EMBEDDED
    """Prompt set A: ``embedded`` (digits), ``embedded:`` and a language or several with commas, or
    a JSONL file with ``id`` and ``text``."""
    shortlist_after: Annotated[int, Field(ge=1)] | None = 16
    """Prompts of set A for every variant; the best third get the rest too. Null: all get all."""
    confirmation_prompts: str = EMBEDDED
    """Prompt set B, with other texts, on which finalists are confirmed: as ``prompts``."""
    items: str | None = None
    """Text items of set A: a JSONL file of questions as in MMLU, and of texts. Null: none."""
    confirmation_items: str | None = None
    """Text items of set B: others of the same kinds."""

    @property
    def adapted_scales(self) -> tuple[float, ...]:
        """The scales at which a checkpoint differs from the base."""
        return tuple(scale for scale in self.lora_scales if scale > 0)


class ScoringSpec(Strict):
    """The metrics, and the rule that decides by them."""

    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    """Measured on every clip."""
    finalist_metrics: tuple[MetricSpec, ...] = ()
    """More expensive metrics, measured on prompt set B only."""
    finalists: Annotated[int, Field(ge=1)] = 3
    """The most variants that are confirmed on all of prompt set B; each language and each speaker
    adds one of its own at most."""
    primary: str
    """The metric that ranks variants; one of ``metrics``."""
    min_effect: Annotated[float, Field(gt=0)]
    """Smallest gain over the base that counts, in the primary metric's unit. Without one, no number
    of prompts shows that nothing is gained."""
    constraints: tuple[Constraint, ...] = ()
    gates: Gates = Gates()
    listening: Listening = Listening()
    """When a listening test confirms a winner."""
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Level of all tests on prompt set B together, adjusted by Holm."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap_resamples: Annotated[int, Field(ge=LEAST_RESAMPLES)] = 10_000

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the metrics of every clip: ``metrics``, and those of the gates."""
        return tuple(dict.fromkeys((*_names(self.metrics), *GATE_METRICS)))

    @property
    def confirmed_by(self) -> tuple[str, ...]:
        """Names of the metrics of prompt set B."""
        return tuple(dict.fromkeys((*self.measured, *_names(self.finalist_metrics))))

    def metric_specs(self, names: Iterable[str]) -> list[MetricSpec]:
        """The metrics of these names with their options, as the spec lists them."""
        written = {each.name: each for each in (*self.metrics, *self.finalist_metrics)}
        return [written.get(name) or MetricSpec(name=name) for name in names]

    def without(self, omitted: Collection[str]) -> "ScoringSpec":
        """A copy without the metrics of these names."""
        keys = ("metrics", "finalist_metrics")
        kept = {key: tuple(m for m in getattr(self, key) if m.name not in omitted) for key in keys}
        return self.model_copy(update=kept)


def _names(metrics: Iterable[MetricSpec]) -> list[str]:
    return [each.name for each in metrics]


def _slot_count(value: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
    if value == AUTO or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"a host has an integer >= 1 of slots, or {AUTO}")


LabelName = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
_VALUE = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LabelRule = Annotated[str, Field(pattern=rf"^!?(in\({_VALUE}(, ?{_VALUE})*\)|{_VALUE})$")]
"""A condition on a node's label, as Ray writes it: ``a``, ``!a``, ``in(a, b)``, ``!in(a, b)``."""


class PlacementSpec(Strict):
    """The nodes of the Ray cluster that hosts may run on."""

    accelerator: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    """A GPU type as Ray names it, such as ``H100``; null for any."""
    labels: dict[LabelName, LabelRule] = Field(default={})
    """Conditions on a node's labels."""
    spread_ranks: bool = False
    """Whether the ranks of one host may run on several nodes, where no node has room for all."""


class ResourcesSpec(Strict):
    """What a sweep takes from the Ray cluster."""

    hosts: Annotated[int, Field(ge=1)] = 1
    """Groups of ranks that load the base once and train trial after trial."""
    slots_per_host: Annotated[int | Literal["auto"], BeforeValidator(_slot_count)] = 2
    """Trials that a host holds at once; ``auto``: as many as its GPU's memory holds."""
    cpus_per_rank: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_rank: Annotated[float, Field(ge=0)] = 0.0
    placement: PlacementSpec = PlacementSpec()
    scorers: Annotated[int, Field(ge=1)] = 2
    """Processes that score clips."""
    trial_retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose process or host died resumes from its last checkpoint."""


class HostingSpec(Strict):
    """Files of the winner for llama.cpp, which are heard on prompt set B beside it."""

    gguf: tuple[GgufType, ...] = ()
    """How their weights are rounded; none: no file is made."""
    margins: Annotated[tuple[Constraint, ...], Field(min_length=1)] = (
        Constraint(metric="similarity", margin=0.02),
        Constraint(metric="word_error", margin=0.01),
    )
    """How far a file's mean may be from the winner's, either way, in each metric's unit."""
    least_prompts: Annotated[int, Field(ge=2)] = 96
    """Of set B: with fewer no file is tested."""

    @field_validator("margins")
    @classmethod
    def _check(cls, margins: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        if zero := [each.metric for each in margins if not each.margin]:
            raise ValueError(f"nothing is shown to be equal to the last bit: {zero} need a margin")
        return margins


class RecordsSpec(Strict):
    """Where MLflow and Optuna keep their records."""

    mlflow: str | None = None
    """A server's or a database's address; null for a SQLite file and an artifact folder in the
    storage."""
    optuna: str | None = None
    """A database's address, or ``journal:`` and a file; null for a journal in the sweep's
    folder."""


class BudgetSpec(Strict):
    """What a sweep may cost: a trial begins only if it and all that follows could end within it."""

    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of all GPUs that the hosts hold, as long as they hold them."""
    money: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """In the currency of ``price``."""
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of a GPU-hour."""
    deadline: AwareDatetime | None = None
    """When the sweep is to have come to its verdict, with its time zone."""

    @model_validator(mode="after")
    def _check_price(self) -> Self:
        if (self.money is None) != (self.price is None):
            raise ValueError("a budget in money needs the price of a GPU-hour, and the other way")
        return self

    @property
    def is_set(self) -> bool:
        """Whether anything is limited."""
        return self.deadline is not None or bool(self.gpu_hours_allowed)

    @property
    def gpu_hours_allowed(self) -> tuple[float, ...]:
        """Each limit of GPU-hours."""
        bought = self.money / self.price if self.money and self.price else None
        return tuple(hours for hours in (self.gpu_hours, bought) if hours is not None)


class SweepSpec(Strict):
    """A sweep: model family, dataset, search space, budget and the rule that decides."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """The sweep's name in the storage, Ray, Optuna and MLflow."""
    family: str
    base: BaseSpec = BaseSpec()
    data: DataSpec = DataSpec()
    training: TrainingSpec = TrainingSpec()
    engine: EngineSpec = EngineSpec()
    search: SearchSpec
    rungs: RungSpec = RungSpec()
    variants: VariantsSpec = VariantsSpec()
    scoring: ScoringSpec
    hosting: HostingSpec = HostingSpec()
    resources: ResourcesSpec = ResourcesSpec()
    records: RecordsSpec = RecordsSpec()
    budget: BudgetSpec = BudgetSpec()

    @model_validator(mode="before")
    @classmethod
    def _fill_targets(cls, values: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
        if not isinstance(values, Mapping):
            return values
        training = with_default_targets(values.get("family"), values.get("training", {}))
        return {**values, "training": training}

    def digest(self) -> str:
        """SHA-256 of the canonical JSON text."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def longest_training(self) -> int:
        """The most epochs that any trial may have, each of ``checkpoint_steps`` where these are."""
        every = self.training.checkpoint_steps
        return max(self.corners("epochs")) if every is None else max(self.corners("steps")) // every

    @property
    def grace(self) -> int:
        """The epoch before which no trial is stopped, counted likewise."""
        every, steps = self.training.checkpoint_steps, self.rungs.grace_steps
        return self.rungs.grace_epochs if every is None or steps is None else steps // every

    def corners(self, key: str) -> tuple[int, ...]:
        """Values of a ``training`` key that takes integers, without null.

        Of a searched key all choices, or both ends of its range.
        """
        searched = self.search.space.get(key)
        values = searched.corners if searched else (getattr(self.training, key),)
        # YAML may write an integer as 1.0 or 1e3.
        return tuple(int(float(str(value))) for value in values if value is not None)

    @property
    def mixes(self) -> tuple[str | None, ...]:
        """Names of ``data.mixes`` that trials may train on; None is every clip once."""
        searched = self.search.space.get("mix")
        return searched.choices if searched else (self.training.mix,)  # type: ignore[return-value]  # names, once the spec is checked

    @property
    def largest_training(self) -> TrainingSpec:
        """Hyperparameters with the largest rank, and all targets, blocks and rows, of any trial."""
        point: dict[str, Any] = {"rank": max(self.corners("rank"))}
        if own := self.corners("dit_rank"):
            point["dit_rank"] = max(own)
        for key in ("targets", "layers_to_transform"):
            if key not in self.search.space:
                continue
            choices: tuple[Any, ...] = self.search.space[key].choices
            every = itertools.chain.from_iterable(filter(None, choices))
            point[key] = None if None in choices else tuple(dict.fromkeys(every))
        if "speech_rows" in self.search.space and (
            "trained" in self.search.space["speech_rows"].choices
        ):
            point["speech_rows"] = "trained"
        return self.training_for(point)

    @property
    def least_batch_tokens(self) -> int | None:
        """The smallest token budget of any trial; None without one."""
        return min(self.corners("batch_tokens"), default=None)

    @property
    def hosts(self) -> int:
        """The number of hosts that are started: no more than there are trials."""
        return min(self.resources.hosts, self.search.trial_count)

    @property
    def slots_per_host(self) -> int | None:
        """Trials that a host holds at once; None where its GPU's memory decides.

        Only a base that is whole on every rank can hold adapters that come and go.
        """
        if self.engine.zero_stage > 0:
            return 1
        slots = self.resources.slots_per_host
        return slots if isinstance(slots, int) else None

    def host(self) -> HostSpec:
        """What the sweep's hosts load."""
        host = HostSpec(
            family=self.family, **self.base.model_dump(), precision=self.engine.precision
        )
        return host.reading(self.data)

    def training_for(self, point: dict[str, Any]) -> TrainingSpec:
        """The hyperparameters of one point of the search space."""
        return TrainingSpec.model_validate({**self.training.model_dump(), **point})


def without_places(spec: SweepSpec) -> dict[str, Any]:
    """The spec as JSON without where its files lie: a project may be moved or copied.

    Of a metric's model the last part of the path stays, since nothing else tells it.
    """

    def place(path: str | None) -> str | None:
        is_place = path is not None and path != EMBEDDED and (is_path(path) or path[:5] == REMOTE)
        return "files" if is_place else path

    fields = spec.model_dump(mode="json")
    for section, names in (
        ("base", ("source", "codec")),
        ("data", ("root",)),
        ("variants", ("prompts", "confirmation_prompts", *ITEM_SETS)),
    ):
        for name in names:
            fields[section][name] = place(fields[section][name])
    for manifest in fields["data"]["manifest"]:
        manifest["path"] = place(manifest["path"])
    for metric in (*fields["scoring"]["metrics"], *fields["scoring"]["finalist_metrics"]):
        if (metric.get("model") or "").startswith("/"):
            metric["model"] = Path(metric["model"]).name
    return fields


def resolve_paths(spec: SweepSpec, directory: Path) -> SweepSpec:
    """Make the spec's relative paths absolute, taken from the spec file's ``directory``."""

    def absolute(path: str) -> str:
        return str((directory / Path(path).expanduser()).resolve())

    def local(source: str) -> str:
        return absolute(source) if is_path(source) and not source.startswith(REMOTE) else source

    def metric(entry: MetricSpec) -> MetricSpec:
        """Its model is a directory if it looks like one or is one, and else an id of the hub."""
        name = entry.model or ""
        is_directory = name.startswith(PATH_STARTS) or (name and Path(absolute(name)).is_dir())
        return entry.model_copy(update={"model": absolute(name)}) if is_directory else entry

    def prompts(value: str) -> str:
        return value if value.startswith(PREFIX) else local(value)

    base, data, variants, scoring = spec.base, spec.data, spec.variants, spec.scoring
    manifests = (each.model_copy(update={"path": local(each.path)}) for each in data.manifest)
    optuna = spec.records.optuna or ""
    if optuna.startswith(JOURNAL) and optuna != JOURNAL:
        optuna = f"{JOURNAL}{absolute(optuna.removeprefix(JOURNAL))}"
    elif optuna.startswith(SQLITE) and optuna != SQLITE:
        optuna = sqlite_url(Path(absolute(str(sqlite_path(optuna)))))
    changes: dict[str, dict[str, Any]] = {
        "base": {"source": local(base.source), "codec": local(base.codec)},
        "data": {"manifest": tuple(manifests), "root": data.root and local(data.root)},
        "variants": {
            "prompts": prompts(variants.prompts),
            "confirmation_prompts": prompts(variants.confirmation_prompts),
            # Only what is there: a rendered spec has no key that its author did not write.
            **{key: local(path) for key in ITEM_SETS if (path := getattr(variants, key))},
        },
        "scoring": {
            "metrics": tuple(map(metric, scoring.metrics)),
            "finalist_metrics": tuple(map(metric, scoring.finalist_metrics)),
        },
        "records": {"optuna": optuna} if optuna else {},
    }
    return spec.model_copy(
        update={key: getattr(spec, key).model_copy(update=to) for key, to in changes.items()}
    )
