"""From a YAML file to a valid spec, or to every problem in it at once with its line."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from cluster.ray.spec import ClusterSpec
from jobs.data.prepared.keys import DATA_FOLDER, JOB_FOLDER
from jobs.families.description import is_path
from jobs.families.registry import FAMILIES
from jobs.problems import InputError, Problem, nearest
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.trial import TrainingSpec, training_fields
from orchestrator.addresses import redacted, study_problem, tracking_problem
from orchestrator.spec.model import AUTO, REMOTE, Choice, SweepSpec, resolve_paths
from orchestrator.spec.scoring_rules import Location, scoring_problems
from orchestrator.spec.search_rules import search_problems


def read_spec(path: Path) -> SweepSpec:
    """Read, validate and resolve the spec at ``path``; relative paths start at its directory.

    Raises:
        InputError: with every problem of the file.
    """
    document = _Document.read(path)
    directory = path.absolute().parent
    try:
        spec = resolve_paths(SweepSpec.model_validate(document.data), directory)
    except ValidationError as error:
        problems = [*document.duplicates, *(_explain(document, d) for d in error.errors())]
        rest = _without(document, [details["loc"] for details in error.errors()])
        if rest is not None:
            problems += _unfit_values(resolve_paths(rest, directory), document)
        raise InputError(list(dict.fromkeys(problems))) from None
    problems = [
        *document.duplicates,
        *_unfit_values(spec, document),
        *_contradictions(spec, document),
    ]
    if problems:
        raise InputError(problems)
    return spec


def read_cluster(path: Path) -> ClusterSpec:
    """Read and validate the description of a cluster at ``path``.

    Raises:
        InputError: with every problem of the file. No value is shown: one may be a secret.
    """
    document = _Document.read(path, "See configs/clusters/ for complete ones.")
    problems = list(document.duplicates)
    try:
        spec = ClusterSpec.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_input=False):
            problems.append(_explain(document, {**details, "input": {}}, ClusterSpec))
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return spec


def line_of(path: Path, location: Location) -> str:
    """``file:line`` of a key of the spec at ``path``, or of what it would stand in."""
    return _Document.read(path).where(location)


def _without(document: "_Document", locations: Sequence[Location]) -> SweepSpec | None:
    """The spec as if the keys at ``locations`` were absent; None if that is no spec either.

    Of a list's item first its own key alone, then the whole list.
    """
    for key_of in (document.innermost_key, document.key_around_lists):
        data = copy.deepcopy(document.data)
        keys = {key_of(location) for location in locations}
        for *parents, key in sorted(filter(None, keys), key=len, reverse=True):
            holder = data
            for parent in parents:
                holder = holder[parent]
            del holder[key]
        try:
            return SweepSpec.model_validate(data)
        except ValidationError:
            continue
    return None


_READ_HINT = "See configs/demo.yaml for a complete spec."


class _Document:
    """A YAML file as data, with the line of every key."""

    def __init__(self, path: Path, data: Any, lines: dict[Location, int]) -> None:  # noqa: ANN401 (YAML)
        self.path = path
        self.data = data
        self._lines = lines
        self.duplicates: list[Problem] = []

    @classmethod
    def read(cls, path: Path, hint: str = _READ_HINT) -> "_Document":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError([Problem(str(path), f"cannot read it: {error}", hint)]) from None
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError([_yaml_problem(path, error)]) from None
        if not isinstance(data, dict) or root is None:
            raise InputError([Problem(str(path), "a spec is a mapping of keys", hint)])
        document = cls(path, data, {(): 1})
        document._index(root, ())
        return document

    def where(self, location: Location) -> str:
        """``file:line`` of the deepest part of ``location`` that stands in the file."""
        return f"{self.path}:{self._lines[self._deepest(location)]}"

    def innermost_key(self, location: Location) -> Location:
        """The key of a mapping that ``location`` is, or is an item of the list under."""
        location = self._deepest(location)
        while location and isinstance(location[-1], int):
            location = location[:-1]
        return location

    def key_around_lists(self, location: Location) -> Location:
        """The key of a mapping that ``location`` is, or stands in a list under."""
        location = self._deepest(location)
        indices = [at for at, part in enumerate(location) if isinstance(part, int)]
        return location[: indices[0]] if indices else location

    def _deepest(self, location: Location) -> Location:
        while location not in self._lines:
            location = location[:-1]
        return location

    def _index(self, node: yaml.Node, location: Location, around: tuple[int, ...] = ()) -> None:
        if id(node) in around:
            where = f"{self.path}:{node.start_mark.line + 1}"
            what = f"{_dotted(location)}: a value may not contain itself"
            raise InputError([Problem(where, what, "Write it out.")])
        around = (*around, id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._index_key(key, (*location, key.value))
                self._index(value, (*location, key.value), around)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._lines[(*location, index)] = item.start_mark.line + 1
                self._index(item, (*location, index), around)

    def _index_key(self, key: yaml.Node, location: Location) -> None:
        if location in self._lines:
            what = (
                f"a key may stand once, but {_dotted(location)} is on line {self._lines[location]}"
            )
            where = f"{self.path}:{key.start_mark.line + 1}"
            self.duplicates.append(Problem(where, f"{what} too", "Delete one of the two."))
        self._lines[location] = key.start_mark.line + 1


def _yaml_problem(path: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return Problem(where, f"not YAML: {getattr(error, 'problem', error)}", "Correct the syntax.")


def _explain(
    document: _Document,
    details: Any,  # noqa: ANN401 (pydantic's ErrorDetails)
    model: type[BaseModel] = SweepSpec,
) -> Problem:
    location: Location = details["loc"]
    if location[:2] == ("search", "space") and location[3:4] == ("choices",) and location[4:]:
        return _bad_choice(document, location, details["input"])
    where, name = document.where(location), _dotted(location)
    if details["type"] == "extra_forbidden":
        valid = _fields_at(location[:-1], model)
        return Problem(where, f"unknown key {name}", nearest(str(location[-1]), valid))
    if details["type"] == "missing":
        return Problem(where, f"{name} is required, but it is absent", "Add it.")
    message = details["msg"].removeprefix("Value error, ")
    got = "" if isinstance(details["input"], dict) else f", got {redacted(repr(details['input']))}"
    return Problem(where, f"{name}: {message}{got}", "Correct the value.")


def _bad_choice(document: _Document, location: Location, value: object) -> Problem:
    """One problem for the many that pydantic has: one for each kind of value it tried."""
    dimension, index = location[:3], location[4]
    what = "a choice is a number, a text, true, false, null or a list of texts"
    where = document.where((*dimension, index))
    return Problem(where, f"{_dotted(dimension)}: {what}, got {value!r}", "Correct the value.")


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


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _unfit_values(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    """Values that name what does not exist, or that would be refused where they are used."""
    yield from _unknown_names(spec, document)
    yield from _bad_points(spec, document)
    yield from _unfit_for_family(spec, document)
    yield from _bad_scoring(spec, document)
    yield from _bad_search(spec, document)
    yield from _missing_files(spec, document)
    yield from _bad_addresses(spec, document)


def _contradictions(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    """Values that exclude each other."""
    yield from _bad_epochs(spec, document)
    yield from _consent(spec.data, document)
    resources = spec.resources
    if resources.slots_per_host == AUTO and not resources.gpus_per_rank:
        where = document.where(("resources", "slots_per_host"))
        what = "resources.slots_per_host: auto measures a GPU's memory, but gpus_per_rank is 0"
        yield Problem(where, what, "Write a number, or give each rank a GPU.")
    if resources.placement.accelerator and not resources.gpus_per_rank:
        where = document.where(("resources", "placement", "accelerator"))
        what = "resources.placement.accelerator is a type of GPU, but gpus_per_rank is 0"
        yield Problem(where, what, "Delete it, or give each rank a GPU.")
    if not spec.variants.adapted_scales:
        where = document.where(("variants", "lora_scales"))
        yield Problem(where, "variants.lora_scales needs a scale above 0", "Add 1.0.")


def _unknown_names(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    if spec.name in (DATA_FOLDER, JOB_FOLDER):
        what = f"name must not be {spec.name!r}: that folder of the storage has another use"
        yield Problem(document.where(("name",)), what, "Choose another.")
    if spec.family not in FAMILIES:
        what = f"family must be known, got {spec.family!r}"
        yield Problem(document.where(("family",)), what, nearest(spec.family, FAMILIES))
    for location, mix in _mixes_asked(spec):
        if mix is not None and mix not in spec.data.mixes:
            what = f"{_dotted(location)} must name one of data.mixes, got {mix!r}"
            advice = nearest(str(mix), spec.data.mixes) if spec.data.mixes else "There are none."
            yield Problem(document.where(location), what, advice)
    for name in spec.search.space:
        if name not in training_fields():
            where = document.where(("search", "space", name))
            what = f"search.space may hold keys of training, got {name}"
            yield Problem(where, what, nearest(name, training_fields()))


def _mixes_asked(spec: SweepSpec) -> Iterator[tuple[Location, Choice]]:
    """Names of mixes, and where they stand."""
    yield ("training", "mix"), spec.training.mix
    searched = spec.search.space.get("mix")
    for index, mix in enumerate(searched.choices if searched else ()):
        yield ("search", "space", "mix", index), mix


def _bad_points(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    """Try each value of the space where it would be used."""
    for name, dimension in spec.search.space.items():
        for value in dimension.corners if name in training_fields() else ():
            try:
                TrainingSpec.model_validate({**spec.training.model_dump(), name: value})
            except ValidationError as error:
                where = document.where(("search", "space", name))
                message = error.errors()[0]["msg"]
                yield Problem(
                    where, f"search.space.{name}: {message}, got {value!r}", "Correct the value."
                )


def _unfit_for_family(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    """What the family cannot do."""
    family = FAMILIES.get(spec.family)
    if family is None:
        return  # told by _unknown_names
    if spec.base.source == EMBEDDED and not family.embedded:
        what = f"base.source: no base of {spec.family} is shipped"
        yield Problem(
            document.where(("base", "source")), what, "Name a directory, or hub: and an id."
        )
    for location, values in _values_of("targets", spec):
        for target in sorted({each for value in values for each in value}):
            if family.targets is not None and target not in family.targets:
                what = f"{_dotted(location)}: {spec.family} has no {target}"
                yield Problem(document.where(location), what, nearest(target, family.targets))
    for name in ("acoustic_weight", "acoustic_share"):
        default = TrainingSpec.model_fields[name].default
        for location, values in _values_of(name, spec):
            if not family.acoustic and values != [default]:
                what = f"{_dotted(location)}: the loss of {spec.family} has one part"
                yield Problem(document.where(location), what, "Delete it.")


def _values_of(name: str, spec: SweepSpec) -> Iterator[tuple[Location, list[Any]]]:
    """Where a key of ``training`` has values, and which."""
    yield ("training", name), [getattr(spec.training, name)]
    if dimension := spec.search.space.get(name):
        # One that is not a list of texts was told by _bad_points.
        yield (
            ("search", "space", name),
            [v for v in dimension.corners if name != "targets" or isinstance(v, tuple)],
        )


def _bad_epochs(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    searched = spec.search.space.get("epochs")
    if searched is None:
        key, longest = "training.epochs", spec.training.epochs
    elif all(isinstance(value, int | float) for value in searched.corners):
        key, longest = "the most of search.space.epochs", spec.longest_training
    else:
        return  # told by _bad_points
    if spec.rungs.grace_epochs > longest:
        where = document.where(("rungs", "grace_epochs"))
        what = f"rungs.grace_epochs must be <= {key} ({longest}), got {spec.rungs.grace_epochs}"
        yield Problem(where, what, "Lower it.")
    schedules = spec.search.space.get("schedule")
    if searched and "constant" in (schedules.choices if schedules else (spec.training.schedule,)):
        where = document.where(("search", "space", "epochs"))
        what = (
            "search.space.epochs needs a schedule that depends on it, but under constant every "
            "epoch of the longest training is a checkpoint anyway"
        )
        yield Problem(where, what, f"Set training.epochs to {longest} instead.")


def _consent(data: DataSpec, document: _Document) -> Iterator[Problem]:
    if data.needs_consent:
        what = "data.consent must say where the speakers' consent is recorded, but it is absent"
        next_step = "Name the record, or set data.synthetic: true if the clips are nobody's voice."
        yield Problem(document.where(("data",)), what, next_step)
    if data.consent and data.synthetic:
        what = "data.consent and data.synthetic: true exclude each other"
        yield Problem(document.where(("data", "consent")), what, "Delete one of the two.")


def _bad_scoring(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    for location, what, next_step in scoring_problems(spec.scoring):
        yield Problem(document.where(("scoring", *location)), what, next_step)


def _bad_search(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    for location, what, next_step in search_problems(spec):
        yield Problem(document.where(("search", *location)), what, next_step)


def _missing_files(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    used: dict[Location, tuple[str, str]] = {
        ("base", "source"): (spec.base.source, "config.json"),
        ("base", "codec"): (spec.base.codec, "config.json"),
        ("variants", "prompts"): (spec.variants.prompts, ""),
        ("variants", "confirmation_prompts"): (spec.variants.confirmation_prompts, ""),
    }
    for location, (value, inside) in used.items():
        path = Path(value) / inside
        if is_path(value) and not path.is_file():
            what = f"{_dotted(location)} must name something that exists, but there is no {path}"
            yield Problem(document.where(location), what, f"Correct the path or use {EMBEDDED}.")
    yield from _missing_data(spec.data, document)


def _bad_addresses(spec: SweepSpec, document: _Document) -> Iterator[Problem]:
    asked = (
        ("mlflow", spec.records.mlflow, tracking_problem),
        ("optuna", spec.records.optuna, study_problem),
    )
    for key, address, problem_of in asked:
        if address is not None and (problem := problem_of(address)):
            what, next_step = problem
            yield Problem(document.where(("records", key)), f"records.{key} {what}", next_step)


def _missing_data(data: DataSpec, document: _Document) -> Iterator[Problem]:
    """Manifests, which may be folders too, and the folder of the audio."""
    for index, manifest in enumerate(data.paths):
        if not _is_elsewhere(manifest) and not Path(manifest).exists():
            what = f"data.manifest must name something that exists, but there is no {manifest}"
            where = document.where(("data", "manifest", index))
            yield Problem(where, what, f"Correct the path or use {EMBEDDED}.")
    if data.root is not None and not _is_elsewhere(data.root) and not Path(data.root).is_dir():
        what = f"data.root must be a folder, but there is no {data.root}"
        yield Problem(document.where(("data", "root")), what, "Correct the path.")


def _is_elsewhere(path: str) -> bool:
    return path == EMBEDDED or path.startswith(REMOTE)
