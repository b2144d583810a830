"""Vendors' packages that do not import as they are, made to import in one place.

``qwen-tts`` imports ``torchaudio`` and ``sox`` at its top, for a tokenizer of 25 Hz that no family
here uses, ``distillmos`` imports ``torchaudio`` for its command line and ``voxcpm`` for its first
model, of which none is used either. The wheels of torchaudio look for CUDA's libraries when they
are loaded, and so do not import beside a torch for the CPU.
"""

import gc
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from types import ModuleType
from typing import Any

QWEN_TTS = "qwen-tts"
QWEN_TTS_VERSION = "0.1.1"
VOXCPM = "voxcpm"
VOXCPM_VERSION = "2.0.3"
"""Those whose model code was read and is tested here."""
_TORCHAUDIO = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")
"""A package that may be missing, and the modules of it that are imported."""


def qwen_tts() -> Any:  # noqa: ANN401 (a module without types)
    """The package, imported whether or not what it never uses here is installed.

    Raises:
        ModuleNotFoundError: the package is missing; the message has the command that installs it.
        ImportError: another version of it is installed.
    """
    _require("qwen3_tts", QWEN_TTS, QWEN_TTS_VERSION)
    if "qwen_tts" not in sys.modules:
        # It prints that flash attention is missing, which nothing here asks for.
        with _stood_in(_TORCHAUDIO, ("sox",)), redirect_stdout(StringIO()):
            import qwen_tts.core.models  # noqa: F401 (found below)
    return sys.modules["qwen_tts"]


def distillmos() -> Any:  # noqa: ANN401 (a module without types)
    """The package, imported whether or not torchaudio is installed. Raises ImportError without it.

    Which version it is, ``jobs/metrics/distillmos.py`` checks.
    """
    with _stood_in(_TORCHAUDIO[:1]):
        return importlib.import_module("distillmos")


def voxcpm() -> Any:  # noqa: ANN401 (as above)
    """The package; raises as :func:`qwen_tts`."""
    _require("voxcpm2", VOXCPM, VOXCPM_VERSION)
    if "voxcpm" not in sys.modules:
        with _stood_in(_TORCHAUDIO[:1]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compiles with TorchScript
            import voxcpm  # noqa: F401 (found below)
    return sys.modules["voxcpm"]


def _require(family: str, package: str, wanted: str) -> None:
    try:
        found = version(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the family {family} needs the package {package}, which is not installed; "
            f"run `pip install --no-deps {package}=={wanted}`"
        ) from error
    if found != wanted:
        raise ImportError(
            f"the package {package} must be version {wanted}, got {found}; "
            f"run `pip install --no-deps {package}=={wanted}`"
        )


@contextmanager
def quick_imports() -> Iterator[None]:
    """For the block, what a process imports to speak takes two thirds of the CPU time.

    transformers does not see scikit-learn, which it uses in assisted generation alone and imports,
    with pandas and pyarrow, for every model. The garbage collector waits: it would look through
    the modules again and again, and they stay.
    """
    from transformers.utils import import_utils

    seen, collects = import_utils._sklearn_available, gc.isenabled()
    import_utils._sklearn_available = False
    gc.disable()
    try:
        yield
    finally:
        import_utils._sklearn_available = seen
        if collects:
            gc.enable()


@contextmanager
def _stood_in(*packages: Sequence[str]) -> Iterator[None]:
    """Empty modules in place of what does not import, for the block alone.

    Later imports of them fail as they would have. Of each package, all its modules are named.
    """
    added: list[str] = []
    try:
        for names in packages:
            if not _imports(names[-1]):
                added += names
                for name in names:
                    _put_empty(name)
        yield
    finally:
        for name in added:
            del sys.modules[name]


def _imports(module: str) -> bool:
    logging.getLogger("sox").setLevel(logging.ERROR)  # it says so when its program is missing
    try:
        importlib.import_module(module)
    except (ImportError, OSError):
        for name in [n for n in sys.modules if n.split(".")[0] == module.split(".")[0]]:
            del sys.modules[name]
        return False
    return True


def _put_empty(name: str) -> None:
    empty = ModuleType(name)
    empty.__spec__ = ModuleSpec(name, loader=None, is_package=True)
    empty.__path__ = []
    sys.modules[name] = empty
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, empty)
