"""What a spec points to, read and checked before anything is spent."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.data.checks.check import Checked
from jobs.data.checks.target import Progress, check_target
from jobs.data.clips import TargetClip
from jobs.data.findings import Finding
from jobs.embedded import PROMPTS_DIR
from jobs.metrics.catalogue import METRICS
from jobs.metrics.references import reference_problems
from jobs.problems import InputError, Problem
from jobs.spec import EMBEDDED
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import PromptSpec
from jobs.speech.prompts import read_prompts
from orchestrator.ledger import PLAN_FILE, SPEC_FILE, Ledger
from orchestrator.spec.check_summary import by_rule
from orchestrator.spec.group_rules import group_problems
from orchestrator.spec.model import MAY_CHANGE, SweepSpec
from orchestrator.spec.plan import plan
from orchestrator.verdict.protocol import prompt_set_problems

_MOST_OF_A_RULE = 20


@dataclass(frozen=True)
class Inputs:
    """What a spec points to, read and valid."""

    clips: list[TargetClip]
    """Those that can be used, each with its split."""
    warnings: list[Finding]
    """What is odd with the clips, or why some were left out."""
    dropped: int
    """Clips that were left out."""
    prompts: list[PromptSpec]
    """Set A."""
    confirmation: list[PromptSpec]
    """Set B."""


def read_inputs(spec: SweepSpec, progress: Progress | None = None) -> Inputs:
    """Check the clips and read the prompts; ``progress`` is told of the clips.

    Raises:
        InputError: with every problem of both, or because too few clips are held out for the
            metrics asked for.
    """
    prompts = _named(spec.variants.prompts, PROMPTS_DIR / "a.jsonl")
    confirmation = _named(spec.variants.confirmation_prompts, PROMPTS_DIR / "b.jsonl")
    problems: list[Problem] = []
    read: list[Any] = []
    for reader in (
        lambda: _checked(spec, progress),
        lambda: read_prompts(prompts),
        lambda: read_prompts(confirmation),
    ):
        try:
            read.append(reader())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    checked, first, fresh = read
    target = spec.data.target
    inputs = Inputs(
        checked.clips,
        checked.findings,
        checked.dropped,
        [_said_by(target, prompt) for prompt in first],
        [_said_by(target, prompt) for prompt in fresh],
    )
    scoring = spec.scoring
    unfit = prompt_set_problems(
        inputs.prompts, inputs.confirmation, scoring.finalists, scoring.significance
    )
    if problems := [Problem(str(confirmation), what, next_step) for what, next_step in unfit]:
        raise InputError(problems)
    problems += _without_references(spec, inputs)
    if spec.data.language_tag:
        problems += _untagged(prompts, inputs.prompts)
        problems += _untagged(confirmation, inputs.confirmation)
    problems += _without_language(prompts, inputs.prompts, scoring.asked(scoring.measured))
    problems += _without_language(
        confirmation, inputs.confirmation, scoring.asked(scoring.confirmed_by)
    )
    if problems:
        raise InputError(problems)
    return inputs


def _said_by(target: str | None, prompt: PromptSpec) -> PromptSpec:
    """The prompt with its speaker: the target, where it names none."""
    return prompt.model_copy(update={"speaker": prompt.speaker or target})


def _without_references(spec: SweepSpec, inputs: Inputs) -> Iterator[Problem]:
    """Of the first metric that compares clips with recordings, what keeps it from doing so."""
    compared = [name for name in spec.scoring.confirmed_by if METRICS[name].hears_references]
    held_out = Counter(c.row.speaker for c in inputs.clips if c.row.split == "validation")
    prompts = (*inputs.prompts, *inputs.confirmation)
    for name in compared[:1]:
        for what, next_step in reference_problems(name, prompts, held_out):
            yield Problem(", ".join(spec.data.paths), what, f"{next_step.capitalize()}.")


def _untagged(path: Path, prompts: Sequence[PromptSpec]) -> Iterator[Problem]:
    """A text is said as texts were learned: where these had a tag, so has it."""
    untold = [prompt.id for prompt in prompts if prompt.language is None]
    if untold:
        what = f"data.language_tag needs a language for every prompt, but {untold[0]!r} has none"
        yield Problem(str(path), what, "Add it, or switch the tag off.")


def _checked(spec: SweepSpec, progress: Progress | None) -> Checked:
    """The clips without errors. Raises InputError with all that is wrong with them."""
    checked = check_target(spec.data, spec.host(), progress=progress).checked
    problems = list(_told(checked.errors, spec.data.paths))
    # Of clips that are there in part, nobody can say which speakers they lack.
    problems = problems or list(group_problems(spec.data, checked.clips))
    if problems:
        raise InputError(problems)
    return checked


def _told(errors: Sequence[Finding], manifests: Sequence[str]) -> Iterator[Problem]:
    """Each error; of one rule the first, where thousands of clips break it."""
    for rule, found in by_rule(errors).items():
        yield from (finding.problem for finding in found[:_MOST_OF_A_RULE])
        if (more := len(found) - _MOST_OF_A_RULE) > 0:
            what = f"{more} more clips break the rule {rule}"
            yield Problem(", ".join(manifests), what, "`voxsweep check` lists them all.")


def _without_language(
    path: Path, prompts: Sequence[PromptSpec], asked: Iterable[MetricSpec]
) -> Iterator[Problem]:
    """A metric that is told what it hears, and the first prompt of a set that nobody tells it."""
    untold = [prompt.id for prompt in prompts if prompt.language is None]
    for each in asked:
        if untold and each.language is None and "language" in METRICS[each.name].options:
            what = f"{each.name} must know the language, but prompt {untold[0]!r} has none"
            yield Problem(str(path), what, "Give the prompts a language, or the metric.")


def claim(ledger: Ledger, spec: SweepSpec, inputs: Inputs) -> None:
    """Write the spec and its plan into the sweep's folder, or check that it asks the same.

    Raises:
        InputError: the name was used for another question.
    """
    asked = spec.model_dump(mode="json")
    known = ledger.read_text(SPEC_FILE)
    if known is not None:
        before = yaml.safe_load(known)
        changed = [k for k in asked if k not in MAY_CHANGE and asked[k] != before.get(k)]
        if changed:
            where = f"{ledger.storage.url}/{ledger.path(SPEC_FILE)}"
            what = f"sweep {spec.name!r} was started with other {', '.join(changed)}"
            raise InputError([Problem(where, what, "Give the changed spec another name.")])
    ledger.write_text(SPEC_FILE, yaml.safe_dump(asked, sort_keys=False))
    planned = plan(spec, inputs.clips, inputs.prompts, inputs.confirmation, ledger.storage)
    ledger.write_text(PLAN_FILE, json.dumps(planned.to_dict(), indent=2) + "\n")


def _named(value: str, embedded: Path) -> Path:
    return embedded if value == EMBEDDED else Path(value)
