"""Listeners' ratings from a CSV file."""

import csv
from collections.abc import Collection
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from jobs.problems import InputError, Problem
from orchestrator.verdict.listening import Rating, Ratings

_COLUMNS = tuple(Rating.__dataclass_fields__)
_HINT = (
    f"The first line is {','.join(_COLUMNS)}; a variant or base is a system, a prompt a sentence."
)
_RATING = TypeAdapter(Rating)


def read_ratings(path: Path, sentences: Collection[str], systems: Collection[str]) -> Ratings:
    """Read one rating an axis and line.

    Args:
        path: a CSV file with the columns ``rater``, ``sentence``, ``system``, ``axis``, ``score``;
            others are left alone.
        sentences: ids of the prompts that may be rated.
        systems: ids of the variants that may be rated.

    Raises:
        InputError: with every line that is no rating, or every rating that is not whole.
    """
    problems: list[Problem] = []
    ratings: list[Rating] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(str(path), f"cannot read it: {error}", _HINT)]) from None
    rows = csv.DictReader(lines)
    if lacking := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
        raise InputError([Problem(f"{path}:1", f"no column {', '.join(lacking)}", _HINT)])
    for row in rows:
        where = f"{path}:{rows.line_num}"
        try:
            rating = _RATING.validate_python({name: row[name] for name in _COLUMNS})
        except ValidationError as error:
            first = error.errors()[0]
            problems.append(Problem(where, f"{first['loc'][0]}: {first['msg']}", _HINT))
            continue
        for value, known, what in (
            (rating.sentence, sentences, "a sentence is a prompt of set B"),
            (rating.system, systems, "a system is the base or a variant of the scores"),
        ):
            if value not in known:
                problems.append(Problem(where, f"{what}, got {value!r}", _HINT))
        ratings.append(rating)
    if problems:
        raise InputError(problems)
    try:
        return Ratings.build(ratings)
    except ValueError as error:
        raise InputError(
            [Problem(str(path), what, _HINT) for what in str(error).splitlines()]
        ) from None
