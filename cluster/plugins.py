"""Tables that installed distributions add to: families, metrics, storages and export formats.

A distribution adds an entry with an entry point of the table's group; see ``docs/plugins.md``.
Names come from the distributions' metadata. No code of a plug-in is imported before an entry is
looked up by its name, so one that is broken disturbs nobody who does not use it.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")
_BUILT_IN = "voxsweep itself"


class PluginError(ValueError):
    """A plug-in's entry that cannot be used."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, next_step)
        self.what = what
        """The rule and the value."""
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}. {self.next_step}"


@dataclass(frozen=True)
class Plugin:
    """One entry of an installed distribution."""

    group: str
    name: str
    distribution: str
    """Name and version."""
    problem: str
    """Why it cannot be used; empty where it can."""

    def __str__(self) -> str:
        return self.problem or f"{self.name} of {self.group} comes from {self.distribution}"


class Table(Mapping[str, T], Generic[T]):
    """Built-in entries by name, and those of installed distributions beside them.

    Iteration and ``in`` import nothing. Looking a plug-in's entry up imports the module that its
    entry point names, and may raise :class:`PluginError`.
    """

    def __init__(self, group: str, kind: type[T], built_in: Mapping[str, T]) -> None:
        """``group`` is that of the entry points; each must name an instance of ``kind``."""
        self.group = group
        self._kind = kind
        self._built_in = built_in

    def __getitem__(self, name: str) -> T:
        """The entry of this name.

        Raises:
            KeyError: neither voxsweep nor an installed distribution has it.
            PluginError: several have it, or it cannot be imported, or it is of another kind.
        """
        found = [each for each in self._entry_points() if each.name == name]
        givers = [_BUILT_IN] * (name in self._built_in) + [_distribution(each) for each in found]
        if len(givers) > 1:
            raise PluginError(
                f"an entry of {self.group} must come from one distribution, but {name} comes from "
                f"{' and from '.join(givers)}",
                "Uninstall all but one of them.",
            )
        if not givers:
            raise KeyError(f"{name} is no entry of {self.group} here; is its plug-in installed?")
        return self._load(found[0]) if found else self._built_in[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def usable(self) -> dict[str, T]:
        """All entries but those that cannot be used; imports the plug-ins."""
        return {name: self[name] for name in self if not self.problem(name)}

    def problem(self, name: str) -> str:
        """Why the entry ``name`` cannot be used; empty if it can. Imports its plug-in."""
        try:
            self[name]
        except PluginError as error:
            return str(error)
        return ""

    def plugins(self) -> list[Plugin]:
        """The entries that are not built in; imports them to see whether they can be used."""
        return [
            Plugin(self.group, each.name, _distribution(each), self.problem(each.name))
            for each in self._entry_points()
        ]

    def _entry_points(self) -> tuple[EntryPoint, ...]:
        return _installed(self.group, tuple(sys.path))

    def _names(self) -> dict[str, None]:
        """In order, built-in ones first, each once."""
        return dict.fromkeys([*self._built_in, *(each.name for each in self._entry_points())])

    def _load(self, found: EntryPoint) -> T:
        giver = f"{found.name} of {self.group} comes from {_distribution(found)}"
        try:
            entry = found.load()
        except Exception as error:
            raise PluginError(
                f"{giver}, which cannot be imported: {type(error).__name__}: {error}",
                "Install what it needs, or uninstall it.",
            ) from error
        if not isinstance(entry, self._kind):
            raise PluginError(
                f"{giver} and must be a {self._kind.__qualname__}, but {found.value} is a "
                f"{type(entry).__qualname__}",
                "Report it to the plug-in's author.",
            )
        return entry


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of ``group`` of all distributions that lie on ``path``, by name."""
    return tuple(
        sorted(entry_points(group=group), key=lambda each: (each.name, _distribution(each)))
    )


def _distribution(found: EntryPoint) -> str:
    assert found.dist is not None  # it has one wherever importlib.metadata found it
    return f"{found.dist.name} {found.dist.version}"
