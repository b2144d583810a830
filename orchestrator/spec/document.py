"""A YAML file as data, with the line of every key."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jobs.problems import InputError, Problem, read_text
from jobs.spec.yaml_files import YamlLoader, load_yaml

Location = tuple[int | str, ...]
"""Where a value stands in a document: keys of mappings and indices of lists, outermost first."""


class Violation(NamedTuple):
    """A rule that a value of a document breaks."""

    location: Location
    what: str
    """The rule and the value."""
    next_step: str


def dotted(location: Location) -> str:
    """A location as messages write it: ``search.space.rank.0``."""
    return ".".join(map(str, location))


class Document:
    """A YAML file as data, with the line of every key."""

    def __init__(self, path: Path, data: Any) -> None:  # noqa: ANN401 (YAML)
        self.path = path
        self.data = data
        self.duplicates: list[Problem] = []
        """Keys that stand twice, of which YAML silently takes the last."""
        self._lines: dict[Location, int] = {(): 1}

    @classmethod
    def read(cls, path: Path, hint: str, *, may_be_empty: bool = False) -> "Document":
        """The file at ``path``; ``hint`` is the next step where it is no mapping of keys.

        Raises:
            InputError: it cannot be read, is not YAML, or is no mapping.
        """
        text = read_text(path, hint)
        try:
            root = yaml.compose(text, Loader=YamlLoader)
            data = load_yaml(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            what = f"not YAML: {getattr(error, 'problem', error)}"
            raise InputError([Problem(where, what, "Correct the syntax.")]) from None
        if data is None and may_be_empty:
            return cls(path, {})
        if not isinstance(data, dict) or root is None:
            raise InputError([Problem(str(path), "a spec is a mapping of keys", hint)])
        document = cls(path, data)
        document._index(root, ())
        return document

    def where(self, location: Location) -> str:
        """``file:line`` of the deepest part of ``location`` that stands in the file."""
        return f"{self.path}:{self._lines[self._deepest(location)]}"

    def problems(self, violations: Iterable[Violation]) -> Iterator[Problem]:
        """The violations with their places in the file."""
        for location, what, next_step in violations:
            yield Problem(self.where(location), what, next_step)

    def without(self, locations: Sequence[Location]) -> Iterator[Any]:
        """The data as if the keys at ``locations`` were absent.

        First of an item of a list the item's own key alone is absent, then the whole list.
        """
        for key_of in (self._innermost_key, self._key_around_lists):
            data = copy.deepcopy(self.data)
            keys = {key_of(self._deepest(location)) for location in locations}
            for *parents, key in sorted(filter(None, keys), key=len, reverse=True):
                holder = data
                for parent in parents:
                    holder = holder[parent]
                del holder[key]
            yield data

    @staticmethod
    def _innermost_key(location: Location) -> Location:
        """The key of a mapping that ``location`` is, or is an item of the list under."""
        while location and isinstance(location[-1], int):
            location = location[:-1]
        return location

    @staticmethod
    def _key_around_lists(location: Location) -> Location:
        """The key of a mapping that ``location`` is, or stands in a list under."""
        return tuple(itertools.takewhile(lambda part: isinstance(part, str), location))

    def _deepest(self, location: Location) -> Location:
        while location not in self._lines:
            location = location[:-1]
        return location

    def _index(self, node: yaml.Node, location: Location, around: tuple[int, ...] = ()) -> None:
        if id(node) in around:
            where = f"{self.path}:{node.start_mark.line + 1}"
            what = f"{dotted(location)}: a value may not contain itself"
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
        line = key.start_mark.line + 1
        if first := self._lines.get(location):
            what = f"a key may stand once, but {dotted(location)} is on line {first} too"
            self.duplicates.append(Problem(f"{self.path}:{line}", what, "Delete one of the two."))
        self._lines[location] = line
