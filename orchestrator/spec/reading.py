"""From a YAML file to a valid spec, or to every problem in it at once with its line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from cluster.file_model import ClusterFileModel
from jobs.problems import InputError, Problem, nearest
from jobs.spec.trial import REFUSED_KEYS
from orchestrator.addresses import redacted
from orchestrator.spec.document import Document, Location, dotted
from orchestrator.spec.model import SweepSpec, resolve_paths
from orchestrator.spec.rules import contradictions, unfit_values

ClusterFile = TypeVar("ClusterFile", bound=ClusterFileModel)


def read_document(path: Path) -> Document:
    """The spec at ``path`` as written.

    Raises:
        InputError: it is no mapping of keys.
    """
    return Document.read(path, "See configs/demo.yaml for a complete spec.")


def read_spec(path: Path) -> SweepSpec:
    """Read, validate and resolve the spec at ``path``; relative paths start at its directory.

    Raises:
        InputError: with every problem of the file.
    """
    document = read_document(path)
    directory = path.absolute().parent
    problems = list(document.duplicates)
    try:
        spec = resolve_paths(SweepSpec.model_validate(document.data), directory)
    except ValidationError as error:
        problems += (_explain(document, each, SweepSpec) for each in error.errors())
        rest = _valid_part(document, [each["loc"] for each in error.errors()])
        if rest is not None:
            problems += document.problems(unfit_values(resolve_paths(rest, directory)))
        raise InputError(list(dict.fromkeys(problems))) from None
    problems += document.problems([*unfit_values(spec), *contradictions(spec)])
    if problems:
        raise InputError(problems)
    return spec


def read_cluster_file(
    path: Path, model: type[ClusterFile], *, may_be_empty: bool = False
) -> ClusterFile:
    """The cluster that the YAML file at ``path`` describes, or an empty file by the defaults.

    Raises:
        InputError: with every problem of the file.
    """
    hint = "See configs/clusters/ for complete ones."
    document = Document.read(path, hint, may_be_empty=may_be_empty)
    problems = list(document.duplicates)
    try:
        read = model.model_validate(document.data)
    except ValidationError as error:
        for each in error.errors():
            problems.append(_explain(document, each, model, show_value=not model.holds_secrets))
        raise InputError(list(dict.fromkeys(problems))) from None
    if problems:
        raise InputError(problems)
    return read


def _valid_part(document: Document, invalid: Sequence[Location]) -> SweepSpec | None:
    """The spec as if the keys at ``invalid`` were absent; None if that is no spec either."""
    for data in document.without(invalid):
        try:
            return SweepSpec.model_validate(data)
        except ValidationError:
            continue
    return None


def _explain(
    document: Document,
    details: Any,  # noqa: ANN401 (pydantic's ErrorDetails)
    model: type[BaseModel],
    *,
    show_value: bool = True,
) -> Problem:
    """One of pydantic's errors with its line, and the next step."""
    location: Location = details["loc"]
    message, value = details["msg"].removeprefix("Value error, "), details["input"]
    if location[:2] == ("search", "space") and location[3:4] == ("choices",) and location[4:]:
        # One problem for the many that pydantic has: one for each type that it tried.
        message = "a choice is a number, a text, true, false, null or a list of numbers or texts"
        where, name = document.where((*location[:3], location[4])), dotted(location[:3])
        return Problem(where, f"{name}: {message}, got {value!r}", "Correct the value.")
    where, name = document.where(location), dotted(location)
    if details["type"] == "extra_forbidden":
        key = str(location[-1])
        if location[-2:-1] == ("training",) and key in REFUSED_KEYS:
            return Problem(where, f"{name} is refused: {REFUSED_KEYS[key]}", "Delete it.")
        valid = _fields_at(location[:-1], model)
        return Problem(where, f"unknown key {name}", nearest(key, valid))
    if details["type"] == "missing":
        return Problem(where, f"{name} is required, but it is absent", "Add it.")
    got = f", got {redacted(repr(value))}" if show_value and not isinstance(value, dict) else ""
    return Problem(where, f"{name or 'the file'}: {message}{got}", "Correct the value.")


def _fields_at(location: Location, model: Any) -> Sequence[str]:  # noqa: ANN401 (narrows to any)
    """Names of the keys that may stand at ``location`` of a ``model``."""
    for part in location:
        field = model.model_fields.get(part) if _is_model(model) else None
        model = next(_models_in(field.annotation), None) if field is not None else model
    return tuple(model.model_fields) if _is_model(model) else ()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 (any annotation)
    if _is_model(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _is_model(annotation: Any) -> bool:  # noqa: ANN401 (any annotation)
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
