"""What a spec points to, read and checked before anything is spent."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.data.manifest import ManifestRow, read_manifest
from jobs.embedded import PROMPTS_DIR, VOICE_DIR
from jobs.metrics.asked import MetricSpec
from jobs.metrics.catalogue import METRICS
from jobs.metrics.references import MIN_REFERENCES
from jobs.problems import InputError, Problem
from jobs.spec import PromptSpec
from jobs.speech.prompts import read_prompts
from jobs.strict import EMBEDDED
from orchestrator.ledger import PLAN_FILE, SPEC_FILE, Ledger
from orchestrator.plan import plan
from orchestrator.spec import SweepSpec
from orchestrator.verdict.protocol import prompt_set_problems

_MAY_CHANGE = ("resources", "records")
"""Keys of the spec that say how a sweep runs, not what it asks."""


@dataclass(frozen=True)
class Inputs:
    """What a spec points to, read and valid."""

    rows: list[ManifestRow]
    prompts: list[PromptSpec]
    """Set A."""
    confirmation: list[PromptSpec]
    """Set B."""


def read_inputs(spec: SweepSpec) -> Inputs:
    """Read the manifest and the prompts.

    Raises:
        InputError: with every problem of both, or because too few clips are held out for the
            metrics asked for.
    """
    manifest = _named(spec.data.manifest[0], VOICE_DIR / "manifest.jsonl")
    prompts = _named(spec.variants.prompts, PROMPTS_DIR / "a.jsonl")
    confirmation = _named(spec.variants.confirmation_prompts, PROMPTS_DIR / "b.jsonl")
    problems: list[Problem] = []
    read: list[Any] = []
    for reader, path in (
        (read_manifest, manifest),
        (read_prompts, prompts),
        (read_prompts, confirmation),
    ):
        try:
            read.append(reader(path))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    inputs = Inputs(*read)
    scoring = spec.scoring
    unfit = prompt_set_problems(
        inputs.prompts, inputs.confirmation, scoring.finalists, scoring.significance
    )
    if problems := [Problem(str(confirmation), what, next_step) for what, next_step in unfit]:
        raise InputError(problems)
    held_out = sum(row.split == "validation" for row in inputs.rows)
    compared = [name for name in scoring.confirmed_by if METRICS[name].hears_references]
    if compared and held_out < MIN_REFERENCES:
        what = f"{compared[0]} needs {MIN_REFERENCES} validation clips, but there are {held_out}"
        problems.append(Problem(str(manifest), what, "Mark more, or drop the metric."))
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


def _untagged(path: Path, prompts: Sequence[PromptSpec]) -> Iterator[Problem]:
    """A text is said as texts were learned: where these had a tag, so has it."""
    untold = [prompt.id for prompt in prompts if prompt.language is None]
    if untold:
        what = f"data.language_tag needs a language for every prompt, but {untold[0]!r} has none"
        yield Problem(str(path), what, "Add it, or switch the tag off.")


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
        changed = [k for k in asked if k not in _MAY_CHANGE and asked[k] != before.get(k)]
        if changed:
            where = f"{ledger.storage.url}/{ledger.path(SPEC_FILE)}"
            what = f"sweep {spec.name!r} was started with other {', '.join(changed)}"
            raise InputError([Problem(where, what, "Give the changed spec another name.")])
    ledger.write_text(SPEC_FILE, yaml.safe_dump(asked, sort_keys=False))
    planned = plan(spec, inputs.rows, inputs.prompts, inputs.confirmation, ledger.storage)
    ledger.write_text(PLAN_FILE, json.dumps(planned.to_dict(), indent=2) + "\n")


def _named(value: str, embedded: Path) -> Path:
    return embedded if value == EMBEDDED else Path(value)
