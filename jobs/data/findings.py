"""Findings of a data check: rule, severity, place, next step."""

from dataclasses import dataclass
from typing import Literal

from jobs.problems import Problem

Severity = Literal["error", "warning"]
"""An error keeps the clip out of training; a warning is for a person to look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that one clip, or one line, does not keep."""

    rule: str
    """A stable name, such as ``audio-missing``; docs/data.md lists them."""
    severity: Severity
    problem: Problem


def within(where: str, place: str) -> str:
    """``where`` as it is called within the manifest or folder ``place``."""
    if where.startswith(f"{place}:"):
        return f"line {where[len(place) + 1 :]}"
    return where.removeprefix(f"{place.rstrip('/')}/")


def error(rule: str, where: str, what: str, next_step: str) -> Finding:
    """A finding that keeps the clip at ``where`` out of training."""
    return Finding(rule, "error", Problem(where, what, next_step))


def warning(rule: str, where: str, what: str, next_step: str) -> Finding:
    """A finding for a person to look at."""
    return Finding(rule, "warning", Problem(where, what, next_step))
