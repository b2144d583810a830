"""The rules of a spec that the types of its keys do not state."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.plugins import PluginError
from jobs.data.prepared.keys import DATA_FOLDER, JOB_FOLDER
from jobs.export.formats import formats_of
from jobs.export.gguf.llama import RUNTIME, is_installed
from jobs.families.description import LOSS_KEYS, NO_PREFIX, Family, is_path
from jobs.families.registry import FAMILIES, layer_names
from jobs.families.targets import chosen_layers, unknown_target
from jobs.metrics.catalogue import METRICS, ScorerUnavailable, metric_of, metric_problems
from jobs.metrics.distillmos import DISTILLMOS_NAMES
from jobs.metrics.plcmos import PLCMOS_NAMES
from jobs.problems import nearest
from jobs.spec import EMBEDDED
from jobs.spec.items import ITEM_METRICS
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import REFUSED_KEYS, DecodingSpec, TrainingSpec
from jobs.speech.sentences import LANGUAGES, PREFIX
from orchestrator.addresses import study_problem, tracking_problem
from orchestrator.spec.decodings import SEARCHABLE
from orchestrator.spec.document import Location, Violation, dotted
from orchestrator.spec.model import (
    AUTO,
    ITEM_SETS,
    OBJECTIVE,
    PATH_STARTS,
    REMOTE,
    SECONDS,
    ScoringSpec,
    SweepSpec,
    VariantsSpec,
)
from orchestrator.verdict.protocol import GATE_METRICS, RATIO_SOURCES

_NEVER_PRIMARY = (*PLCMOS_NAMES, *DISTILLMOS_NAMES, *ITEM_METRICS)


def unfit_values(spec: SweepSpec) -> Iterator[Violation]:
    """Values that name what does not exist, or that would be refused where they are used."""
    yield from _names(spec)
    yield from _space(spec)
    yield from _family(spec)
    yield from _metrics(spec.scoring)
    yield from _deciding_metrics(spec.scoring)
    yield from _late_metrics(spec.scoring)
    yield from _items(spec)
    yield from _search(spec)
    yield from _first_trials(spec)
    yield from _decoding_search(spec.variants)
    yield from _hosting(spec)
    yield from _files(spec)
    yield from _addresses(spec)


def contradictions(spec: SweepSpec) -> Iterator[Violation]:
    """Values that exclude each other."""
    yield from _epochs(spec)
    yield from _consent(spec)
    yield from _accelerators(spec)
    if not spec.variants.adapted_scales:
        what = "variants.lora_scales needs a scale above 0"
        yield Violation(("variants", "lora_scales"), what, "Add 1.0.")


def _names(spec: SweepSpec) -> Iterator[Violation]:
    if spec.name in (DATA_FOLDER, JOB_FOLDER):
        what = f"name must not be {spec.name!r}: that folder of the storage has another use"
        yield Violation(("name",), what, "Choose another.")
    if spec.family not in FAMILIES:
        what = f"family must be known, got {spec.family!r}"
        yield Violation(("family",), what, nearest(spec.family, FAMILIES))
    for location, mix in _values_of("mix", spec):
        if mix is not None and mix not in spec.data.mixes:
            what = f"{dotted(location)} must name one of data.mixes, got {mix!r}"
            yield Violation(location, what, nearest(str(mix), spec.data.mixes))
    for name in spec.search.space:
        if name in REFUSED_KEYS:
            what = f"search.space.{name} is refused: {REFUSED_KEYS[name]}"
            yield Violation(("search", "space", name), what, "Delete it.")
        elif name not in TrainingSpec.model_fields:
            what = f"search.space may hold keys of training, got {name}"
            next_step = nearest(name, TrainingSpec.model_fields)
            yield Violation(("search", "space", name), what, next_step)


def _space(spec: SweepSpec) -> Iterator[Violation]:
    """Try each value of the search space where it would be used."""
    for name, dimension in spec.search.space.items():
        for value in dimension.corners if name in TrainingSpec.model_fields else ():
            try:
                used = getattr(spec.training_for({name: value}), name)
            except ValidationError as error:
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                what = f"search.space.{name}: {message}, got {value!r}"
                yield Violation(("search", "space", name), what, "Correct the value.")
                continue
            if _kinds(value) != _kinds(used):
                meant = " and ".join(sorted(_kinds(used)))
                what = f"search.space.{name}: a choice must be {meant}, got {value!r}"
                yield Violation(("search", "space", name), what, f"Write it as {used!r}.")


def _kinds(value: object) -> set[str]:
    """Of what kind a value or its parts are, as a message says it."""
    if isinstance(value, tuple):
        return set[str]().union(*map(_kinds, value))
    if isinstance(value, bool):
        return {"true or false"}
    return {"a number" if isinstance(value, int | float) else "a text"}


def _family(spec: SweepSpec) -> Iterator[Violation]:
    """What the family does not support."""
    try:
        family = FAMILIES.get(spec.family)
    except PluginError as error:
        yield Violation(("family",), error.what, error.next_step)
        return
    if family is None:
        return  # _names reports it
    if spec.base.source == EMBEDDED and not family.embedded:
        what = f"base.source: no base of {spec.family} is shipped"
        yield Violation(("base", "source"), what, "Name a directory, or hub: and an id.")
    yield from _layers(spec, family)
    for name in sorted(LOSS_KEYS - family.loss_keys):
        default = TrainingSpec.model_fields[name].default
        others = [key[:3] for key, value in _values_of(name, spec) if value != default]
        for location in dict.fromkeys(others):
            what = f"{dotted(location)}: the loss of {spec.family} has no such part"
            yield Violation(location, what, "Delete it.")
    for location, value in () if family.speech_rows else _values_of("speech_rows", spec):
        if value != "frozen":
            what = f"{dotted(location)}: a base of {spec.family} has no rows that can be trained"
            yield Violation(location, what, "Delete it.")
    if spec.data.reference_prefix and not family.reference_prefix:
        what = f"data.reference_prefix: {spec.family} {NO_PREFIX}"
        yield Violation(("data", "reference_prefix"), what, "Delete it.")
    for location, value in () if family.writes_latents else _values_of("dit_rank", spec):
        if value is not None:
            what = f"{dotted(location)}: a base of {spec.family} has no diffusion decoder"
            yield Violation(location, what, "Delete it.")
    if spec.engine.gradient_checkpointing and not family.recomputes:
        what = f"engine.gradient_checkpointing: blocks of {spec.family} are not computed again"
        yield Violation(("engine", "gradient_checkpointing"), what, "Delete it.")
    yield from _decoding(spec, family)


_OF_TOKENS = ("temperature", "top_k", "top_p", "repetition_penalty")
_OF_DIFFUSION = ("cfg_value", "inference_timesteps")


def _decoding(spec: SweepSpec, family: Family) -> Iterator[Violation]:
    """Keys of decoding that change nothing of what the family says."""
    does = "speaks by diffusion" if family.writes_latents else "picks tokens"
    search = spec.variants.decoding_search
    for name in _OF_TOKENS if family.writes_latents else _OF_DIFFUSION:
        locations: list[Location] = []
        if getattr(spec.variants.decoding, name) != DecodingSpec.model_fields[name].default:
            locations.append(("variants", "decoding", name))
        if search is not None and name in search.space:
            locations.append(("variants", "decoding_search", "space", name))
        for location in locations:
            what = f"{dotted(location)} changes nothing: {spec.family} {does}"
            yield Violation(location, what, "Delete it.")


def _layers(spec: SweepSpec, family: Family) -> Iterator[Violation]:
    """Layers that the base does not have, and a base of another architecture."""
    patterns = family.targets
    for location, targets in _values_of("targets", spec):
        # _space reports a value that is no list of names.
        for target in targets if isinstance(targets, tuple) else ():
            if target not in patterns:
                what, next_step = unknown_target(str(target), patterns)
                yield Violation(location, f"{dotted(location)}: {what}", next_step)
    if spec.base.source == EMBEDDED and not family.embedded:
        return  # _family reports it
    try:
        names = layer_names(spec.host())
    except FileNotFoundError:
        return  # _files reports it
    except ValueError as error:
        yield Violation(("base", "source"), f"base.source: {error}", "Name a base of the family.")
        return
    if names is None:
        return
    chosen = itertools.product(_used("layers_to_transform", spec), _used("targets", spec))
    for (location, blocks), (_, targets) in chosen:
        valid = isinstance(targets, tuple) and all(target in patterns for target in targets)
        if not valid or not isinstance(blocks, tuple):
            continue
        try:
            chosen_layers(targets, blocks, patterns, names)
        except ValueError as error:
            step = "Correct it, or let it be null for all blocks."
            yield Violation(location, f"{dotted(location)}: {error}", step)


def _used(name: str, spec: SweepSpec) -> list[tuple[Location, Any]]:
    """Each value of a key of ``training`` that a trial may really have."""
    written, *searched = _values_of(name, spec)
    return searched or [written]


def _values_of(name: str, spec: SweepSpec) -> Iterator[tuple[Location, Any]]:
    """Each value that a key of ``training`` may have, a range's ends for those between."""
    yield ("training", name), getattr(spec.training, name)
    if dimension := spec.search.space.get(name):
        for at, value in enumerate(dimension.corners):
            yield ("search", "space", name, at if dimension.choices else ("low", "high")[at]), value


def _metrics(scoring: ScoringSpec) -> Iterator[Violation]:
    """Metrics that are unknown, asked for wrongly, or cannot run here."""
    entries: list[tuple[Location, MetricSpec]] = [
        (("scoring", key, index), each)
        for key in ("metrics", "finalist_metrics")
        for index, each in enumerate(getattr(scoring, key))
        # _late_metrics reports those.
        if key == "metrics" or each.name not in _of_every_variant(scoring)
    ]
    unfit = set()
    for at, what, next_step in metric_problems([each for _, each in entries]):
        unfit.add(at)
        yield Violation(entries[at][0], what, next_step)
    roles = dict.fromkeys(GATE_METRICS, "the gates read it")
    roles |= {constraint.metric: "a constraint" for constraint in scoring.constraints}
    roles[scoring.primary] = "the primary metric"
    deciding = {RATIO_SOURCES.get(name, name): role for name, role in roles.items()}
    tried = set()
    for at, (location, each) in enumerate(entries):
        if not each.required and each.name in deciding:
            what = f"{each.name} decides ({deciding[each.name]}), so it must be required"
            yield Violation((*location, "required"), what, "Remove required: false.")
        # What is not required and cannot run is left out, as the protocol records.
        if at in unfit or not each.required or METRICS[each.name] in tried:
            continue
        tried.add(METRICS[each.name])
        if each.model and each.model.startswith(PATH_STARTS) and not Path(each.model).is_dir():
            what = f"{each.name} needs a directory that exists, but there is no {each.model}"
            step = "Correct the path or name a model of the hub."
            yield Violation((*location, "model"), what, step)
        elif reason := _unavailable(each):
            yield Violation(location, reason, "What does not decide may have required: false.")


def _unavailable(metric: MetricSpec) -> str:
    """Why a metric cannot run here; empty where it can."""
    try:
        metric_of(metric)
    except ScorerUnavailable as error:
        return str(error)
    return ""


def _of_every_variant(scoring: ScoringSpec) -> tuple[str, ...]:
    """Metrics that every variant needs, not only finalists."""
    return (scoring.primary, *GATE_METRICS)


def _deciding_metrics(scoring: ScoringSpec) -> Iterator[Violation]:
    """A primary metric or constraint that is not measured, or must not decide."""
    derived = [ratio for ratio, source in RATIO_SOURCES.items() if source in scoring.measured]
    used: list[tuple[Location, str, tuple[str, ...]]] = [
        (("scoring", "primary"), scoring.primary, (*scoring.measured, *derived))
    ]
    for index, constraint in enumerate(scoring.constraints):
        location: Location = ("scoring", "constraints", index, "metric")
        used.append((location, constraint.metric, (*scoring.confirmed_by, *derived)))
    for location, name, measured in used:
        if name not in measured:
            what = f"{dotted(location)} must be a metric that is measured, got {name}"
            known = [each for each in measured if each in METRICS or each in RATIO_SOURCES]
            yield Violation(location, what, nearest(name, known))
    for location, name, _ in used:
        if name in PLCMOS_NAMES:
            what = f"{dotted(location)} must fall as speech gets worse, {name} does not"
            yield Violation(location, what, "Measure it as a flag only, and name another here.")
        elif name in DISTILLMOS_NAMES and location == ("scoring", "primary"):
            what = f"{dotted(location)} must fall when words are wrong or missing, {name} does not"
            yield Violation(location, what, "Make it a constraint, and name another here.")
    primary = scoring.primary
    usable = primary in METRICS and not METRICS.problem(primary)
    if primary in RATIO_SOURCES or (usable and METRICS[primary].directions[primary] == "neither"):
        ranking = ", ".join(
            name
            for name, source in METRICS.usable().items()
            if source.directions[name] != "neither" and name not in _NEVER_PRIMARY
        )
        what = f"scoring.primary must have a better direction, but {primary} has none"
        yield Violation(("scoring", "primary"), what, f"Use one of {ranking}.")


def _late_metrics(scoring: ScoringSpec) -> Iterator[Violation]:
    """Metrics that decide about every variant, but are measured on finalists."""
    for index, each in enumerate(scoring.finalist_metrics):
        if each.name in _of_every_variant(scoring):
            what = f"every variant needs {each.name}, so it cannot be kept for finalists"
            yield Violation(("scoring", "finalist_metrics", index), what, "Remove it there.")


def _items(spec: SweepSpec) -> Iterator[Violation]:
    """Text items without a metric, and metrics of text items without any, or of another family."""
    scoring, variants = spec.scoring, spec.variants
    family = FAMILIES.usable().get(spec.family)
    asked: set[str] = set()
    for section in ("metrics", "finalist_metrics"):
        named = [(at, m.name) for at, m in enumerate(getattr(scoring, section))]
        measured = [(at, name) for at, name in named if name in ITEM_METRICS]
        sets = ["confirmation_items", *(["items"] if section == "metrics" else [])]
        asked |= {*sets} if measured else set()
        for at, name in measured:
            location: Location = ("scoring", section, at)
            if family is not None and not family.reads_items:
                what = f"{dotted(location)}: a base of {spec.family} answers no text items"
                step = f"{name} needs a backbone that has kept its head over text. Remove it."
                yield Violation(location, f"{what}", step)
            for key in sets:
                if getattr(variants, key) is None:
                    what = f"{dotted(location)}: {name} needs variants.{key}, but there is none"
                    yield Violation(location, what, "Name a file of text items: docs/metrics.md.")
    for key in ITEM_SETS:
        if getattr(variants, key) is not None and key not in asked:
            what = f"variants.{key} is answered for a metric, but none measures it"
            step = f"Add {' or '.join(ITEM_METRICS)} to scoring.metrics, or delete the key."
            yield Violation(("variants", key), what, step)
    if scoring.primary in ITEM_METRICS:
        what = f"scoring.primary must be a metric of clips, got {scoring.primary}"
        yield Violation(
            ("scoring", "primary"), what, "Make it a constraint, and name another here."
        )
    for index, each in enumerate(spec.hosting.margins if spec.hosting.gguf else ()):
        if each.metric in ITEM_METRICS:
            what = f"files for llama.cpp answer no text items, got a margin of {each.metric}"
            yield Violation(("hosting", "margins", index, "metric"), what, "Delete it.")


def _search(spec: SweepSpec) -> Iterator[Violation]:
    measured = (name for name in spec.scoring.measured if name not in GATE_METRICS)
    valid = [OBJECTIVE, SECONDS, *measured]
    for index, name in enumerate(spec.search.objectives):
        if name not in valid:
            what = f"search.objectives may name metrics that are measured, got {name!r}"
            yield Violation(("search", "objectives", index), what, nearest(name, valid))
    if spec.name in spec.search.warm_start:
        what = f"search.warm_start may name earlier sweeps, got {spec.name!r}, which is this one"
        yield Violation(("search", "warm_start"), what, "Delete it.")
    has_ranges = any(not dimension.choices for dimension in spec.search.space.values())
    if spec.search.sampler == "qmc" and not has_ranges:
        what = "search.sampler: qmc spreads points over ranges, but search.space has none"
        yield Violation(("search", "sampler"), what, "Write {low, high}, or take another sampler.")


def _first_trials(spec: SweepSpec) -> Iterator[Violation]:
    search, first = spec.search, spec.search.first
    if first is None:
        return
    here: Location = ("search", "first")
    if search.sampler == "grid":
        what = "search.first is for a part of the space, but a grid is all of it"
        yield Violation(here, what, "Take another sampler, or delete it.")
    if first.trials > search.trials:
        what = f"search.first.trials must be <= search.trials ({search.trials}), got {first.trials}"
        yield Violation((*here, "trials"), what, "Lower it.")
    for name, value in first.hold.items():
        dimension = search.space.get(name)
        if dimension is None:
            what = f"search.first.hold may hold searched keys, got {name}"
            yield Violation((*here, "hold", name), what, nearest(name, list(search.space)))
        elif value not in dimension.choices:
            what = f"search.first.hold.{name} must be one of the key's choices, got {value!r}"
            step = "Correct it, or write the choices as a list."
            yield Violation((*here, "hold", name), what, step)
    if set(first.hold) == set(search.space):
        what = "search.first.hold leaves nothing to search in the first trials"
        yield Violation((*here, "hold"), what, "Hold fewer keys.")


def _decoding_search(variants: VariantsSpec) -> Iterator[Violation]:
    """Try each value where it would be used."""
    if variants.decoding_search is None:
        return
    here = ("variants", "decoding_search", "space")
    for name, dimension in variants.decoding_search.space.items():
        if name not in SEARCHABLE:
            what = f"{dotted(here)} may hold keys of decoding, got {name}"
            yield Violation((*here, name), what, nearest(name, SEARCHABLE))
            continue
        for value in dimension.corners:
            try:
                used = getattr(variants.decoding.at({name: value}), name)  # type: ignore[dict-item]  # whatever YAML held
            except ValidationError as error:
                what = f"{dotted((*here, name))}: {error.errors()[0]['msg']}, got {value!r}"
                yield Violation((*here, name), what, "Correct the value.")
                continue
            if _kinds(value) != _kinds(used):
                what = f"{dotted((*here, name))}: a choice must be a number, got {value!r}"
                yield Violation((*here, name), what, f"Write it as {used!r}.")


def _hosting(spec: SweepSpec) -> Iterator[Violation]:
    if not spec.hosting.gguf:
        return
    if "gguf" not in (formats := formats_of(spec.family)):
        what = f"hosting.gguf: {spec.family} is exported as {', '.join(formats)} alone"
        yield Violation(("hosting", "gguf"), what, "Delete it.")
    if not is_installed():
        what = f"hosting.gguf needs the package {RUNTIME}, which is not installed here"
        yield Violation(("hosting", "gguf"), what, f"pip install {RUNTIME}")
    known = spec.scoring.confirmed_by
    for index, each in enumerate(spec.hosting.margins):
        if each.metric not in known:
            what = f"hosting.margins must name measured metrics, got {each.metric!r}"
            step = f"Add it to scoring.metrics, or name others: {', '.join(known)}."
            yield Violation(("hosting", "margins", index), what, step)


def _files(spec: SweepSpec) -> Iterator[Violation]:
    """Files of this machine that do not exist."""
    for section, key, file in (
        ("base", "source", "config.json"),
        ("base", "codec", "config.json"),
        ("variants", "prompts", ""),
        ("variants", "confirmation_prompts", ""),
        *(("variants", key, "") for key in ITEM_SETS),
    ):
        value = getattr(getattr(spec, section), key)
        if value is None:
            continue
        path = Path(value) / file
        if section == "variants" and value.startswith(PREFIX):
            languages = value.removeprefix(PREFIX).split(",")
            for language in dict.fromkeys(languages):
                if languages.count(language) > 1:
                    what = f"{section}.{key}: a language is named once, got {value}"
                    yield Violation((section, key), what, "Delete one of the two.")
                if language not in LANGUAGES:
                    what = f"{section}.{key}: no prompts are shipped in the language {language!r}"
                    step = nearest(language, LANGUAGES, list_all=True)
                    yield Violation((section, key), what, step)
        elif is_path(value) and not path.is_file():
            what = f"{section}.{key} must name something that exists, but there is no {path}"
            other = "delete the key" if key.endswith("items") else f"use {EMBEDDED}"
            yield Violation((section, key), what, f"Correct the path or {other}.")
    for index, manifest in enumerate(spec.data.paths):
        if _is_local(manifest) and not Path(manifest).exists():
            what = f"data.manifest must name something that exists, but there is no {manifest}"
            step = f"Correct the path or use {EMBEDDED}."
            yield Violation(("data", "manifest", index), what, step)
    root = spec.data.root
    if root is not None and _is_local(root) and not Path(root).is_dir():
        what = f"data.root must be a folder, but there is no {root}"
        yield Violation(("data", "root"), what, "Correct the path.")


def _is_local(path: str) -> bool:
    return path != EMBEDDED and not path.startswith(REMOTE)


def _addresses(spec: SweepSpec) -> Iterator[Violation]:
    for key, problem_of in (("mlflow", tracking_problem), ("optuna", study_problem)):
        address = getattr(spec.records, key)
        if address is not None and (problem := problem_of(address)):
            what, next_step = problem
            yield Violation(("records", key), f"records.{key} {what}", next_step)


def _epochs(spec: SweepSpec) -> Iterator[Violation]:
    if "checkpoint_steps" in spec.search.space:
        what = "search.space.checkpoint_steps: trials are compared at the same checkpoints"
        step = "Set training.checkpoint_steps instead."
        yield Violation(("search", "space", "checkpoint_steps"), what, step)
    key = "epochs" if spec.training.checkpoint_steps is None else "steps"
    searched = spec.search.space.get(key)
    if searched and not all(isinstance(value, int | float) for value in searched.corners):
        return  # _space reports it
    if searched and key == "steps" and not searched.choices:
        what = "search.space.steps is a list, since each must be a multiple of checkpoint_steps"
        yield Violation(("search", "space", "steps"), what, "List them.")
    yield from _grace(spec, f"the most of search.space.{key}" if searched else f"training.{key}")
    longest = max(spec.corners(key))
    schedules = spec.search.space.get("schedule")
    if searched and "constant" in (schedules.choices if schedules else (spec.training.schedule,)):
        what = (
            f"search.space.{key} needs a schedule that depends on it, but under constant every "
            "shorter training is a checkpoint of the longest anyway"
        )
        step = f"Set training.{key} to {longest} instead."
        yield Violation(("search", "space", key), what, step)


def _grace(spec: SweepSpec, longest: str) -> Iterator[Violation]:
    """What the first rung stands at; ``longest`` names the key that no rung may be beyond."""
    rungs, every = spec.rungs, spec.training.checkpoint_steps
    most = spec.longest_training * (every or 1)
    steps = rungs.grace_steps
    if every is None and steps is not None:
        what = f"rungs.grace_steps needs training.checkpoint_steps, got {steps}"
        yield Violation(("rungs", "grace_steps"), what, "Give grace_epochs.")
    elif every is not None and rungs.grace_epochs > 1:
        what = f"rungs.grace_epochs counts epochs, not training.steps, got {rungs.grace_epochs}"
        yield Violation(("rungs", "grace_epochs"), what, "Give grace_steps.")
    elif every is not None and steps is not None and steps % every:
        what = f"rungs.grace_steps must be a multiple of checkpoint_steps, {every}, got {steps}"
        yield Violation(("rungs", "grace_steps"), what, "Correct it.")
    elif (grace := steps or rungs.grace_epochs) > most:
        key = "grace_epochs" if every is None else "grace_steps"
        what = f"rungs.{key} must be <= {longest} ({most}), got {grace}"
        yield Violation(("rungs", key), what, "Lower it.")


def _consent(spec: SweepSpec) -> Iterator[Violation]:
    if spec.data.needs_consent:
        what = "data.consent must say where the speakers' consent is recorded, but it is absent"
        step = "Name the record, or set data.synthetic: true if the clips are nobody's voice."
        yield Violation(("data",), what, step)
    if spec.data.consent and spec.data.synthetic:
        what = "data.consent and data.synthetic: true exclude each other"
        yield Violation(("data", "consent"), what, "Delete one of the two.")


def _accelerators(spec: SweepSpec) -> Iterator[Violation]:
    resources = spec.resources
    if resources.gpus_per_rank:
        return
    if spec.budget.gpu_hours_allowed:
        key = "gpu_hours" if spec.budget.gpu_hours else "money"
        what = f"budget.{key} is about GPUs, but resources.gpus_per_rank is 0"
        yield Violation(("budget", key), what, "Set a budget.deadline instead.")
    if resources.slots_per_host == AUTO:
        what = "resources.slots_per_host: auto measures a GPU's memory, but gpus_per_rank is 0"
        step = "Write a number, or give each rank a GPU."
        yield Violation(("resources", "slots_per_host"), what, step)
    if resources.placement.accelerator:
        what = "resources.placement.accelerator is a type of GPU, but gpus_per_rank is 0"
        step = "Delete it, or give each rank a GPU."
        yield Violation(("resources", "placement", "accelerator"), what, step)
