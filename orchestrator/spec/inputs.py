"""The clips and prompt sets that a spec names, read and checked before anything is spent."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from jobs.data.checks.check import Checked
from jobs.data.checks.held_out import how_to_hold_out
from jobs.data.checks.target import check_target
from jobs.data.clips import Progress, TargetClip
from jobs.data.findings import Finding
from jobs.data.near_texts import Repeat, distinct_texts, nearest_repeats, repeats
from jobs.data.prepared.references import choose_prefixes
from jobs.embedded import PROMPTS_DIR
from jobs.families.registry import open_text
from jobs.metrics.catalogue import METRICS
from jobs.metrics.references import reference_problems
from jobs.problems import InputError, Problem, collecting, nearest
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.items import ITEM_METRICS, TextItem
from jobs.spec.trial import PromptSpec
from jobs.speech.items import read_items
from jobs.speech.prompts import read_prompts
from jobs.speech.sentences import PREFIX, shipped_prompts
from orchestrator.spec.check_summary import by_rule
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.protocol import item_set_problems, prompt_set_problems

_MOST_OF_A_RULE = 20


@dataclass(frozen=True)
class Inputs:
    """The clips and prompt sets that a spec names, valid."""

    clips: list[TargetClip]
    """Clips that can be used, each with its split."""
    warnings: list[Finding]
    """Warnings about clips, and why some were left out."""
    dropped: int
    """Clips that were left out."""
    prompts: list[PromptSpec]
    """Set A."""
    confirmation: list[PromptSpec]
    """Set B."""
    reads_as: Mapping[str, str] = field(default_factory=dict)
    """By manifest, what it was read as, in words."""
    near_duplicates: Sequence[Problem] = ()
    """Prompts and items that count as one with an earlier one of their set."""
    items: Sequence[TextItem] = ()
    """Text items of set A."""
    confirmation_items: Sequence[TextItem] = ()
    """Those of set B."""


def read_inputs(spec: SweepSpec, progress: Progress = lambda done, total: None) -> Inputs:
    """Check the clips and read both prompt sets; ``progress`` is called as clips are checked.

    Raises:
        InputError: with every problem of clips and prompts, or else of how they fit the metrics.
    """
    named = ((spec.variants.prompts, "a"), (spec.variants.confirmation_prompts, "b"))
    problems: list[Problem] = []
    checked = None
    with collecting(problems):
        checked = _check_clips(spec, progress)
    sets: list[_PromptSet] = []
    for value, part in named:
        with collecting(problems):
            sets.append(_read_prompts(value, part, spec.data.target))
    asked = ((spec.variants.items, "a"), (spec.variants.confirmation_items, "b"))
    item_sets: list[_ItemSet] = []
    for path, part in asked:
        with collecting(problems):
            item_sets.append(_ItemSet.read(path, part))
    if problems or checked is None:
        raise InputError(problems)
    (_, first, of_a), (set_b, second, of_b) = sets
    both: list[_PromptSet | _ItemSet] = [*sets, *item_sets]
    near = [each for of in both for each in _near_duplicates(of.prompts, of.places)]
    items, fresh_items = (of.prompts for of in item_sets)
    inputs = Inputs(
        checked.clips,
        checked.findings,
        checked.dropped,
        first,
        second,
        checked.reads_as,
        near,
        items,
        fresh_items,
    )
    scoring = spec.scoring
    found = prompt_set_problems(
        first, second, scoring.finalists, scoring.significance, (of_a, of_b)
    )
    problems = [Problem(set_b, what, f"{step.capitalize()}.") for what, step in found]
    problems += _too_few_to_host(spec, second, set_b)
    problems += _trained_texts(second, of_b, checked.clips)
    problems += _item_problems(spec, inputs, item_sets)
    if problems:
        raise InputError(problems)
    problems += _reference_problems(spec, inputs, partial(how_to_hold_out, checked, spec.data))
    for (name, prompts, _), names in zip(
        sets, (scoring.measured, scoring.confirmed_by), strict=True
    ):
        problems += _language_problems(spec, name, prompts, names)
    problems += _unread_prompts(spec, sets)
    if problems:
        raise InputError(problems)
    return inputs


class _PromptSet(NamedTuple):
    """A prompt set as it was read."""

    name: str
    """Its file, or the shipped languages."""
    prompts: list[PromptSpec]
    places: list[str]
    """File and line of each."""


class _ItemSet(NamedTuple):
    """A set of text items as it was read."""

    name: str
    prompts: list[TextItem]
    places: list[str]
    """File and line of each."""

    @classmethod
    def read(cls, path: str | None, part: str) -> "_ItemSet":
        """The set in a file; an empty one where there is none."""
        items = [] if path is None else read_items(Path(path), part)
        return cls(path or "", items, [f"{path}:{line}" for line in range(1, len(items) + 1)])


def _item_problems(spec: SweepSpec, inputs: Inputs, sets: Sequence[_ItemSet]) -> Iterator[Problem]:
    """What keeps the text items from deciding, and those of set B that are trained on."""
    of_a, of_b = sets
    measured = [name for name in spec.scoring.confirmed_by if name in ITEM_METRICS]
    found = item_set_problems(
        of_a.prompts,
        of_b.prompts,
        {prompt.id for prompt in (*inputs.prompts, *inputs.confirmation)},
        measured,
        [name for name in measured if name in spec.scoring.measured],
        (of_a.places, of_b.places),
    )
    for what, step in found:
        yield Problem(of_b.name or of_a.name, what, f"{step.capitalize()}.")
    yield from _trained_texts(of_b.prompts, of_b.places, inputs.clips)


def _read_prompts(value: str, part: str, target: str | None) -> _PromptSet:
    """Set ``part``, ``a`` or ``b``, that a spec names; the target says prompts without a speaker.

    Several shipped languages take turns, so that each has its share of the first prompts.
    """
    if value.startswith(PREFIX):
        languages = value.removeprefix(PREFIX).split(",")
        files = [shipped_prompts(language, part) for language in languages]
    else:
        files = [PROMPTS_DIR / f"{part}.jsonl" if value == EMBEDDED else Path(value)]
    read = [
        [(prompt, f"{file}:{line}") for line, prompt in enumerate(read_prompts(file), start=1)]
        for file in files
    ]
    prompts, places = [], []
    for prompt, place in filter(None, chain.from_iterable(zip_longest(*read))):
        name = f"{prompt.language}-{prompt.id}" if len(files) > 1 else prompt.id
        speaker = prompt.speaker or target
        prompts.append(prompt.model_copy(update={"id": name, "speaker": speaker}))
        places.append(place)
    return _PromptSet(str(files[0]) if len(files) == 1 else value, prompts, places)


def _too_few_to_host(
    spec: SweepSpec, confirmation: Sequence[PromptSpec], where: str
) -> Iterator[Problem]:
    """Prompts of set B, fewer than files for llama.cpp are tested on."""
    count = len(set(distinct_texts(tuple(prompt.text for prompt in confirmation))))
    if spec.hosting.gguf and count < (least := spec.hosting.least_prompts):
        what = f"hosting.gguf is tested on at least {least} texts of set B, got {count}"
        step = "Run without hosting, or set hosting.least_prompts, and see what it costs: "
        yield Problem(where, what, step + "docs/verdict.md.")


def _trained_texts(
    confirmation: Sequence[PromptSpec | TextItem],
    places: Sequence[str],
    clips: Sequence[TargetClip],
) -> Iterator[Problem]:
    """Prompts or items of set B whose text is trained on, or nearly so."""
    trained = [clip.row for clip in clips if clip.row.split == "train"]
    for repeat in nearest_repeats((row.text for row in trained), [p.text for p in confirmation]):
        text, row = confirmation[repeat.other].text, trained[repeat.place]
        what = (
            f"set B has texts that are not trained on, got {text!r} and {row.text!r} at "
            f"{row.where} ({repeat})"
        )
        yield Problem(places[repeat.other], what, "Write another text, or take that clip out.")


def _near_duplicates(
    prompts: Sequence[PromptSpec | TextItem], places: Sequence[str]
) -> Iterator[Problem]:
    """Each prompt or item of a set that repeats an earlier one, the most similar of those."""
    texts = [prompt.text for prompt in prompts]
    nearest: dict[int, Repeat] = {}
    for repeat in repeats(texts, texts):
        if repeat.other < repeat.place:
            known = nearest.setdefault(repeat.place, repeat)
            if repeat.similarity > known.similarity:
                nearest[repeat.place] = repeat
    for place, repeat in nearest.items():
        what = (
            f"near-duplicates count as one prompt, got {texts[place]!r} and "
            f"{texts[repeat.other]!r} at {places[repeat.other]} ({repeat})"
        )
        yield Problem(places[place], what, "Write another text, or leave it at that.")


def _reference_problems(
    spec: SweepSpec, inputs: Inputs, hold_out: Callable[[str | None], str]
) -> Iterator[Problem]:
    """Too few held-out clips for the first metric that compares speech with recordings."""
    compared = [name for name in spec.scoring.confirmed_by if METRICS[name].needs_references]
    held_out = Counter(c.row.speaker for c in inputs.clips if c.row.split == "validation")
    prompts = (*inputs.prompts, *inputs.confirmation)
    for name in compared[:1]:
        for what, next_step in reference_problems(name, prompts, held_out, hold_out):
            step = f"{next_step[0].upper()}{next_step[1:]}."
            yield Problem(", ".join(spec.data.paths), what, step)


def _language_problems(
    spec: SweepSpec, name: str, prompts: Sequence[PromptSpec], metrics: Sequence[str]
) -> Iterator[Problem]:
    """The first prompt without a language, for each that needs one: the tag, each metric."""
    missing = [prompt.id for prompt in prompts if prompt.language is None]
    if not missing:
        return
    if spec.data.language_tag:
        what = f"data.language_tag needs a language for every prompt, but {missing[0]!r} has none"
        yield Problem(name, what, "Add it, or switch the tag off.")
    for each in spec.scoring.metric_specs(metrics):
        if each.language is None and "language" in METRICS[each.name].options:
            what = f"{each.name} must know the language, but prompt {missing[0]!r} has none"
            yield Problem(name, what, "Give the prompts a language, or the metric.")


def _unread_prompts(spec: SweepSpec, sets: Sequence[_PromptSet]) -> Iterator[Problem]:
    """The first prompt of each reason for which the base cannot read one."""
    reader = open_text(spec.host())
    if reader is None:
        return
    told = set()
    for prompts in sets:
        for prompt, place in zip(prompts.prompts, prompts.places, strict=True):
            try:
                reader(prompt.text, prompt.language)
            except ValueError as reason:
                if str(reason) not in told:
                    told.add(str(reason))
                    what = f"the base must be able to read prompt {prompt.id!r}, but: {reason}"
                    yield Problem(place, what, "Correct it, or choose other prompts.")


def _check_clips(spec: SweepSpec, progress: Progress) -> Checked:
    """The clips without errors. Raises InputError with all that is wrong with them."""
    checked = check_target(spec.data, spec.host(), progress=progress)
    problems = list(limit_per_rule(checked.errors, spec.data.paths))
    # Where clips are missing, the speakers and languages that are left prove nothing.
    problems = problems or list(_group_problems(spec.data, checked.clips))
    if spec.data.reference_prefix and not problems:
        with collecting(problems):
            choose_prefixes(checked.clips)
    if problems:
        raise InputError(problems)
    return checked


def limit_per_rule(errors: Sequence[Finding], manifests: Sequence[str]) -> Iterator[Problem]:
    """The errors; of each rule at most the first 20 and how many more there are."""
    for rule, found in by_rule(errors).items():
        yield from (finding.problem for finding in found[:_MOST_OF_A_RULE])
        if (more := len(found) - _MOST_OF_A_RULE) > 0:
            what = f"{more} more clips break the rule {rule}"
            yield Problem(", ".join(manifests), what, "`voxsweep check` lists them all.")


def _group_problems(data: DataSpec, clips: Sequence[TargetClip]) -> Iterator[Problem]:
    """Speakers and languages that ``data.target`` and ``data.mixes`` name and no clip has."""
    speakers = {clip.row.speaker for clip in clips if clip.row.speaker is not None}
    if data.target is not None and data.target not in speakers:
        what = f"data.target must be a speaker of the clips, got {data.target!r}"
        yield Problem("data.target", what, nearest(data.target, speakers))
    training = [clip.row for clip in clips if clip.row.split == "train"]
    for name, mix in data.mixes.items():
        where = f"data.mixes.{name}"
        unnamed = [row.where for row in training if getattr(row, mix.by) is None]
        if unnamed:
            what = f"a mix by {mix.by} needs a {mix.by} for each training clip, but {unnamed[0]} "
            what += "has none" if len(unnamed) == 1 else f"and {len(unnamed) - 1} more have none"
            yield Problem(where, what, f"Add the key {mix.by} to the manifest.")
        groups = {getattr(row, mix.by) for row in training} - {None}
        for group in mix.shares:
            if group not in groups:
                what = f"shares must name a {mix.by} of the training clips, got {group!r}"
                yield Problem(where, what, nearest(group, groups))
