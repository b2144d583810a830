"""Problems of an input: all are collected, each with its place and next step."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """A problem of an input: its place, the rule it breaks, the next step."""

    where: str
    """``file:line``, or the file alone."""
    what: str
    """The rule and the value."""
    next_step: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.next_step}"


class InputError(Exception):
    """Bad input, found before anything was spent. Carries every problem, not the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))

    def __reduce__(self) -> "tuple[type[InputError], tuple[tuple[Problem, ...]]]":
        """From one process to another with the problems, not with their text."""
        return type(self), (self.problems,)


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """Go on after the block where it raises InputError, with its problems added to ``problems``."""
    try:
        yield
    except InputError as error:
        problems += error.problems


def read_text(path: Path, next_step: str) -> str:
    """The text of a file that a user named.

    Raises:
        InputError: it cannot be read, with ``next_step``.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(str(path), f"cannot read it: {error}", next_step)]) from None


def nearest(name: str, valid: Iterable[str], *, list_all: bool = False) -> str:
    """Advice for a name that is not known: the nearest valid ones, else (or too) all of them."""
    names = sorted(valid)
    if not names:
        return "There are none."
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    advice = [f"Did you mean {' or '.join(close)}?"] if close else []
    if list_all or not close:
        advice.append(f"Valid names: {', '.join(names)}.")
    return " ".join(advice)
