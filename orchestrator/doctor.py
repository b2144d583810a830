"""What is installed here, what of families, codecs and front ends can run on it, and plug-ins."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.plugins import Plugin, Table
from cluster.storage.base import STORAGES, Storage
from cluster.storage.probe import StorageCheck, probe
from jobs.audio.foreign import ffmpeg_version
from jobs.codecs.codec import CODECS
from jobs.codecs.two_stage import STAGES
from jobs.export.formats import EXPORTERS
from jobs.families.phonemes import ESPEAK, ESPEAK_VERSION
from jobs.families.registry import FAMILIES
from jobs.metrics.catalogue import METRICS

_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray", "optuna", "mlflow")
"""Needed by every family, in any version that pyproject.toml allows."""
_FRONT_ENDS = {"phonemes": {ESPEAK: ESPEAK_VERSION}}
"""What a ``front_end`` of ``layout.json`` needs; the others need nothing."""
_NO_FFMPEG = (
    "none; without it recordings in m4a (AAC), WMA, WebM, AC-3 and MP2 are refused. Install ffmpeg "
    "with the system's package manager, or convert them"
)
_TABLES: tuple[Table[Any], ...] = (FAMILIES, METRICS, STORAGES, EXPORTERS, CODECS, STAGES)
"""What plug-ins add to."""


@dataclass(frozen=True)
class Need:
    """A package that a family or a codec needs."""

    package: str
    wanted: str | None
    """The required version; None for any."""
    found: str | None
    """The installed version; None where the package is missing."""

    @property
    def is_met(self) -> bool:
        return self.found is not None and self.wanted in (None, self.found)

    @property
    def next_step(self) -> str:
        """The command that installs it; empty where it is met."""
        if self.is_met:
            return ""
        exact = f"=={self.wanted}" if self.wanted else ""
        return f"pip install --no-deps {self.package}{exact}"


@dataclass(frozen=True)
class Health:
    """Packages and families as :func:`examine` found them."""

    packages: tuple[Need, ...]
    families: dict[str, tuple[Need, ...]]
    """Needs of each family beside ``packages``."""
    codecs: dict[str, tuple[Need, ...]]
    """Needs of each codec of ``codec_lm``, the same."""
    front_ends: dict[str, tuple[Need, ...]]
    """Needs of what reads texts for ``codec_lm``, the same."""
    plugins: tuple[Plugin, ...]
    ffmpeg: str | None
    """Its version; None where it is not installed."""
    storage: tuple[StorageCheck, ...] = ()
    """Of the storage that was tried; empty where none was."""

    def runs(self, family: str) -> bool:
        """Whether all needs of a family are met."""
        return self._met(self.families[family])

    def decodes(self, codec: str) -> bool:
        """Whether all needs of a codec are met."""
        return self._met(self.codecs[codec])

    def reads(self, front_end: str) -> bool:
        """Whether all needs of a front end are met."""
        return self._met(self.front_ends[front_end])

    def _met(self, needs: tuple[Need, ...]) -> bool:
        return all(need.is_met for need in (*self.packages, *needs))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = asdict(self)
        kinds = ("families", self.runs), ("codecs", self.decodes), ("front_ends", self.reads)
        for kind, runs in kinds:
            facts[kind] = {
                name: {"runs": runs(name), "needs": needs} for name, needs in facts[kind].items()
            }
        return facts

    def lines(self) -> Iterator[str]:
        """For people: a line a package, a family, a codec, a front end, an entry of a plug-in."""
        for need in self.packages:
            yield _line(need)
        for name, needs in self.families.items():
            yield f"family {name}: {'can run' if self.runs(name) else 'cannot run'}"
            yield from (f"  {_line(need)}" for need in needs)
        for name, needs in self.codecs.items():
            yield f"codec {name}: {'can run' if self.decodes(name) else 'cannot run'}"
            yield from (f"  {_line(need)}" for need in needs)
            if CODECS[name].note and not self.decodes(name):
                yield f"  {CODECS[name].note}"
        for name, needs in self.front_ends.items():
            yield f"front end {name}: {'can run' if self.reads(name) else 'cannot run'}"
            yield from (f"  {_line(need)}" for need in needs)
        yield f"ffmpeg: {self.ffmpeg or _NO_FFMPEG}"
        yield from (f"plug-in: {plugin}" for plugin in self.plugins)
        for check in self.storage:
            yield f"storage: {check.name}: {'' if check.is_met else 'FAILS: '}{check.found}"


def examine(storage: Storage | None = None) -> Health:
    """Look up the installed packages, and try ``storage``."""
    packages = tuple(_need(name, None) for name in _PACKAGES)
    families = {name: _needs(family.packages) for name, family in FAMILIES.usable().items()}
    codecs = {name: _needs(codec.packages) for name, codec in CODECS.usable().items()}
    front_ends = {name: _needs(needed) for name, needed in _FRONT_ENDS.items()}
    plugins = tuple(plugin for table in _TABLES for plugin in table.plugins())
    tried = tuple(probe(storage)) if storage else ()
    return Health(packages, families, codecs, front_ends, plugins, ffmpeg_version(), tried)


def _needs(packages: Mapping[str, str | None]) -> tuple[Need, ...]:
    return tuple(_need(package, wanted) for package, wanted in packages.items())


def _need(package: str, wanted: str | None) -> Need:
    try:
        found = version(package)
    except PackageNotFoundError:
        found = None
    return Need(package, wanted, found)


def _line(need: Need) -> str:
    wanted = f", needs {need.wanted}" if need.wanted else ""
    line = f"{need.package}: {need.found or 'missing'}{wanted}"
    return f"{line}. Run `{need.next_step}`." if need.next_step else line
