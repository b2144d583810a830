"""Prompt sets: the texts that every variant says."""

from pathlib import Path

from jobs.spec.trial import PromptSpec
from jobs.speech.sets import read_set

_HINT = 'Each line is {"id": "a-001", "text": "..."}, and may have "language" and "speaker".'


def read_prompts(path: Path) -> list[PromptSpec]:
    """Read a JSONL prompt set; raises as :func:`~jobs.speech.sets.read_set`."""
    return read_set(path, "prompt", _HINT, lambda line, _: PromptSpec.model_validate_json(line))
