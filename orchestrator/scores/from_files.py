"""Files of scores and ratings to a verdict: a sweep's own, or another tool's in the same form."""

import csv
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from jobs.problems import InputError, Problem, collecting, read_text
from jobs.spec.strict import validation_problems
from orchestrator.scores import versa
from orchestrator.scores.variants import VARIANTS
from orchestrator.scores.versa import VersaRow
from orchestrator.verdict.columns import ScoreCollector, ScoreColumns
from orchestrator.verdict.judge import judge
from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.ratings import Rating, Ratings
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import MetricVersion, Protocol
from orchestrator.verdict.table import ScoreTable, ScoreTableError, VariantInfo

_ROW = 'Each line is {"variant": "base", "prompt": "a-001", "similarity": 0.93, ...}.'
_BOUNDS = "Correct the score, or judge with the protocol it was made under."
_ROUNDING = 1e-6
"""Of a metric's range: single precision may take a score so far beyond its bounds."""
_VARIANT = (
    "Each line has id, trial, epoch, lora_scale, rank, learning_rate, validation_loss, and may "
    "have group_losses, mix, replicate_of, checkpoint_steps and own_decoding."
)
_RATING_COLUMNS = ("rater", "sentence", "system", "axis", "score")
_CHECK_COLUMNS = ("item", "expected")
"""May be left out, or empty on a line."""
_RATING_LINE = (
    f"The first line is {','.join(_RATING_COLUMNS)}; a variant or base is a system, a prompt a "
    f"sentence. Columns {' and '.join(_CHECK_COLUMNS)} are for traps and repeats."
)
_RATING = TypeAdapter(Rating)


class _Row(BaseModel):
    """One clip of any form; what is not named here is a metric, null where it has no value."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    variant: str
    prompt: str
    seed: int = 0
    failures: dict[str, str] = {}


class _ScoreReader:
    """Collects the clips of score files line by line: a million of them fit in memory."""

    def __init__(self, metrics: Iterable[MetricVersion]) -> None:
        self.scores = ScoreCollector()
        self.by_versa: list[VersaRow] = []
        self._bounds = {metric.name: _bounds(metric) for metric in metrics}

    def read(self, path: Path, number: int, line: str) -> None:
        """Keep what line ``number`` of the file at ``path`` says of a clip.

        Raises:
            ValidationError: it is neither ours nor VERSA's.
            InputError: with each score that its metric cannot have.
        """
        problems: list[Problem] = []
        try:
            row = from_json(line)
        except ValueError:
            row = None
        if by_versa := versa.read_row(path, number, row):
            values: Mapping[str, float] = versa.to_our_names(by_versa)[0]
            self.by_versa.append(by_versa)
        else:
            variant, prompt, seed, failures, values = _our_row(row, line)
            self.scores.add(variant, prompt, seed, values, failures)
        for name, value in values.items():
            low, high, metric = self._bounds.get(name, _ANYTHING)
            # NaN is no value, and is counted as missing.
            if not low <= value <= high and metric and not math.isnan(value):
                what = (
                    f"{name} lies in [{metric.low:g}, {metric.high:g}] by the protocol, "
                    f"got {value:g}"
                )
                problems.append(Problem(f"{path}:{number}", what, _BOUNDS))
        if problems:
            raise InputError(problems)


_ANYTHING: tuple[float, float, MetricVersion | None] = (-math.inf, math.inf, None)


def _bounds(metric: MetricVersion) -> tuple[float, float, MetricVersion]:
    """The metric, and what its values may be with room for single precision."""
    rounding = _ROUNDING * metric.span
    return metric.low - rounding, metric.high + rounding, metric


def _our_row(
    row: Any,  # noqa: ANN401 (whatever JSON held)
    line: str,
) -> tuple[str, str, int, Mapping[str, str], Mapping[str, float]]:
    """Variant, prompt, seed, failures and values of a line; ``row`` is its JSON.

    Raises:
        ValidationError: it is no clip.
    """
    if type(row) is dict:
        values = {**row}
        variant, prompt = values.pop("variant", None), values.pop("prompt", None)
        seed, failures = values.pop("seed", 0), values.pop("failures", _NONE)
        plain = type(variant) is str and type(prompt) is str and type(seed) is int
        types = set(map(type, values.values()))
        if plain and not failures and types <= _NUMBERS:
            with suppress(OverflowError):  # an integer beyond all floats
                floats = values if int not in types else {k: float(v) for k, v in values.items()}
                return variant, prompt, seed, _NONE, floats
    # What is written in another way, such as a number as a text, and what is wrong.
    read = _Row.model_validate_json(line)
    values = {k: v for k, v in read.__pydantic_extra__.items() if v is not None}
    return read.variant, read.prompt, read.seed, read.failures, values


_NONE: Mapping[str, str] = {}
_NUMBERS = {float, int}


def judge_files(
    scores: Path, protocol: Path, variants: Path | None = None, ratings: Path | None = None
) -> tuple[Verdict, ScoreTable]:
    """The verdict of score files, and the table of every variant's scores on set A.

    Args:
        scores: a JSONL file with one clip a line, or a directory of such files. A line may be
            VERSA's: then the file is named after the variant.
        protocol: a ``protocol.json``. A clip belongs to set A or B by its prompt.
        variants: a JSONL file that says what each variant is. Without it each is a trial of its
            own with unknown rank, so that of equal ones the first by name is preferred.
        ratings: a CSV file of a listening test between the winner and the base.

    Raises:
        InputError: with every line that cannot be read, or every score that cannot be compared.
    """
    problems: list[Problem] = []
    rule = None
    with collecting(problems):
        rule = _read_protocol(protocol)
    files = sorted(scores.rglob("*.jsonl")) if scores.is_dir() else [scores]
    reader = _ScoreReader([] if rule is None else rule.metrics)
    for _ in _lines(files, reader.read, _ROW, problems):
        pass
    listed = [variants] if variants else []
    infos = list(_lines(listed, lambda *at: VARIANTS.validate_json(at[-1]), _VARIANT, problems))
    if problems or rule is None:
        raise InputError(problems)
    scored = _completed(reader, rule)
    del reader  # A table has all that is judged; a million rows need not be there twice.
    known = {info.id: info for info in infos if info.id in scored.variants}
    unlisted = sorted(scored.variants.keys() - known.keys())
    known |= {name: VariantInfo.unlisted(name) for name in unlisted}
    try:
        screen, shortlist, confirmation = _tables(scored, known, rule)
    except ScoreTableError as error:
        step = "Correct the scores, or take the protocol they were made under."
        raise InputError([Problem(str(scores), e, step) for e in str(error).splitlines()]) from None
    del scored
    verdict = judge(screen, confirmation, rule, shortlist)
    if ratings:
        read = read_ratings(ratings, {prompt.id for prompt in rule.confirmation}, known)
        verdict = apply_ratings(verdict, read, rule, ratings)
    return verdict, screen


def _completed(reader: _ScoreReader, rule: Protocol) -> ScoreColumns:
    """What was read, with VERSA's scores beside those of the same clip.

    Raises:
        InputError: with each row of VERSA that cannot be put beside them.
    """
    scored = reader.scores.columns()
    if not reader.by_versa:
        return scored
    rows, unfit = versa.complete(
        scored.clips(),
        reader.by_versa,
        {prompt.id for prompt in (*rule.prompts, *rule.confirmation)},
        {metric.name for metric in rule.metrics},
    )
    if unfit:
        raise InputError([Problem(where, what, "Keep one of the two.") for where, what in unfit])
    return ScoreColumns.of(rows)


def _tables(
    scored: ScoreColumns, known: Mapping[str, VariantInfo], rule: Protocol
) -> tuple[ScoreTable, ScoreTable | None, ScoreTable | None]:
    """Scores on the screening prompts, on all of set A, and on set B; None where there are none."""
    of_b = (*rule.confirmation, *rule.confirmation_items)
    fresh, rest = ({each.id for each in part} for part in (of_b, rule.rest))
    of_a = {prompt for prompt, _ in scored.keys} - fresh

    def table(part: ScoreColumns, protocol: Protocol) -> ScoreTable | None:
        infos = [info for name, info in known.items() if name in part.variants]
        return ScoreTable.of_columns(infos, part, protocol) if infos else None

    spoke_rest = [name for name in known if scored.speaks(name, rest)]
    of_search = {name: info for name, info in known.items() if info.replicate_of is None}
    first = scored.part(of_a - rest, of_search)
    return (
        ScoreTable.of_columns([*of_search.values()], first, rule.screening()),
        table(scored.part(of_a, spoke_rest), rule),
        table(scored.part(fresh, known), rule.confirming()),
    )


def apply_ratings(verdict: Verdict, ratings: Ratings, rule: Protocol, path: Path) -> Verdict:
    """The verdict after the listening test whose ``ratings`` the file at ``path`` holds.

    Raises:
        InputError: the winner and the base were not rated on the same sentences.
    """
    try:
        return apply_listening_test(verdict, ratings, rule)
    except ValueError as error:
        step = "Have listeners rate the winner and the base on the same sentences."
        raise InputError([Problem(str(path), str(error), step)]) from None


def _read_protocol(path: Path) -> Protocol:
    try:
        return Protocol.model_validate_json(read_text(path, "Name a protocol.json."))
    except ValidationError as error:
        raise InputError(validation_problems(error, str(path), "Correct it.")) from None


def _lines(
    paths: list[Path], read: Callable[[Path, int, str], Any], hint: str, problems: list[Problem]
) -> Iterator[Any]:
    """What ``read`` makes of each line that is not blank."""
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.isspace():
                        continue
                    try:
                        yield read(path, number, line)
                    except InputError as error:
                        problems += error.problems
                    except ValidationError as error:
                        first = error.errors()[0]
                        where = ".".join(map(str, first["loc"])) or "the line"
                        what = f"{where}: {first['msg']}"
                        problems.append(Problem(f"{path}:{number}", what, hint))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(path), f"cannot read it: {error}", hint))


def read_ratings(path: Path, sentences: Collection[str], systems: Collection[str]) -> Ratings:
    """Read one rating an axis and line.

    Args:
        path: a CSV file with the columns ``rater``, ``sentence``, ``system``, ``axis``, ``score``,
            and for traps and repeats ``item`` (empty, ``trap`` or ``repeat``) and ``expected`` (a
            trap's answer); others are left alone.
        sentences: ids of the prompts that may be rated; traps may be of others.
        systems: ids of the variants that may be rated; likewise.

    Raises:
        InputError: with every line that is no rating, or every rating that is not whole.
    """
    return ratings_of_text(read_text(path, _RATING_LINE), path, sentences, systems)


def ratings_of_text(
    text: str, path: Path, sentences: Collection[str], systems: Collection[str]
) -> Ratings:
    """:func:`read_ratings` of the text of a file; ``path`` is where problems are said to be."""
    problems: list[Problem] = []
    ratings: list[Rating] = []
    rows = csv.DictReader(text.splitlines())
    if lacking := [name for name in _RATING_COLUMNS if name not in (rows.fieldnames or ())]:
        raise InputError([Problem(f"{path}:1", f"no column {', '.join(lacking)}", _RATING_LINE)])
    for row in rows:
        where = f"{path}:{rows.line_num}"
        try:
            checks = {name: row[name] for name in _CHECK_COLUMNS if row.get(name)}
            rating = _RATING.validate_python({name: row[name] for name in _RATING_COLUMNS} | checks)
        except ValidationError as error:
            first = error.errors()[0]
            problems.append(Problem(where, f"{first['loc'][0]}: {first['msg']}", _RATING_LINE))
            continue
        for value, known, what in (
            (rating.sentence, sentences, "a sentence is a prompt of set B"),
            (rating.system, systems, "a system is the base or a variant of the scores"),
        ):
            if rating.item != "trap" and value not in known:
                problems.append(Problem(where, f"{what}, got {value!r}", _RATING_LINE))
        ratings.append(rating)
    if problems:
        raise InputError(problems)
    try:
        return Ratings.build(ratings)
    except ValueError as error:
        raise InputError(
            [Problem(str(path), what, _RATING_LINE) for what in str(error).splitlines()]
        ) from None
