"""Prompt sets: the texts that every variant says."""

from pathlib import Path

from pydantic import ValidationError

from jobs.problems import InputError, Problem, read_text
from jobs.spec.trial import PromptSpec

_HINT = 'Each line is {"id": "a-001", "text": "..."}, and may have "language" and "speaker".'


def read_prompts(path: Path) -> list[PromptSpec]:
    """Read a JSONL prompt set.

    Raises:
        InputError: with every line that is no prompt and every id used twice, or because the file
            is empty or cannot be read.
    """
    prompts: dict[str, PromptSpec] = {}
    problems: list[Problem] = []
    for number, line in enumerate(read_text(path, _HINT).splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            prompt = PromptSpec.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{part}: " for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            problems.append(Problem(where, f"not a prompt: {key}{reason}", _HINT))
            continue
        if prompt.id in prompts:
            what = f"ids must be unique, but {prompt.id!r} was used before"
            problems.append(Problem(where, what, "Rename it."))
        prompts[prompt.id] = prompt
    if not prompts and not problems:
        problems.append(Problem(str(path), "a prompt set needs at least one prompt", _HINT))
    if problems:
        raise InputError(problems)
    return list(prompts.values())
