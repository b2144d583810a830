"""Vendors' packages that do not import as they are, made to import in one place.

``qwen-tts`` imports ``torchaudio`` and ``sox`` at its top, for a tokenizer of 25 Hz that no family
here uses; ``distillmos`` imports ``torchaudio`` for its command line, ``voxcpm`` for its first
model, and ``neucodec`` to read files. The wheels of torchaudio look for CUDA's libraries when they
are loaded, and so do not import beside a torch for the CPU. ``neucodec`` imports torchtune too, for
one class of twenty lines; the newest torchtune asks torchao for what torchao has removed.
"""

import gc
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
NEUCODEC = {
    "neucodec": "0.0.6",
    "vector-quantize-pytorch": "1.17.8",
    "einx": "0.4.3",
    "frozendict": "2.5.1",
}
"""What the codec of that name runs with, each package and its version."""
_COMPILER = "torch._dynamo"
_MASKS = f"{_COMPILER}._trace_wrapped_higher_order_op"
"""torch's compiler, and the module of it from which transformers takes what masks are made in."""
_TORCHAUDIO = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")
"""A package that may be missing, and the modules of it that are imported."""


def qwen_tts() -> Any:  # noqa: ANN401 (a module without types)
    """The package, imported whether or not what it never uses here is installed.

    Raises:
        ModuleNotFoundError: the package is missing; the message has the command that installs it.
        ImportError: another version of it is installed.
    """
    require("family qwen3_tts", QWEN_TTS, QWEN_TTS_VERSION)
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
    require("family voxcpm2", VOXCPM, VOXCPM_VERSION)
    if "voxcpm" not in sys.modules:
        with _stood_in(_TORCHAUDIO[:1]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compiles with TorchScript
            import voxcpm  # noqa: F401 (found below)
    return sys.modules["voxcpm"]


def neucodec(rotary: type) -> Any:  # noqa: ANN401 (a module without types)
    """The package, imported whether or not what its codec never uses is installed.

    ``rotary`` is put in place of torchtune's ``RotaryPositionalEmbeddings``, the one class of
    torchtune that it needs.

    Raises:
        ModuleNotFoundError: the package, or vector-quantize-pytorch, is missing.
        ImportError: another version of it is installed.
    """
    for package, wanted in NEUCODEC.items():
        require("codec neucodec", package, wanted)
    if "neucodec" not in sys.modules:
        with _stood_in(
            ("torchaudio", "torchaudio.transforms"),
            ("torchtune", "torchtune.modules"),
            ("local_attention", "local_attention.transformer"),
        ):
            _fill("torchtune.modules", {"RotaryPositionalEmbeddings": rotary})
            names = ("DynamicPositionBias", "LocalMHA", "FeedForward")  # of its distilled sibling
            _fill("local_attention.transformer", dict.fromkeys(names))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated")
                importlib.import_module("neucodec")
    return sys.modules["neucodec"]


def require(user: str, package: str, wanted: str) -> None:
    """That ``package`` is installed in the version ``wanted``, which ``user`` needs.

    Raises:
        ModuleNotFoundError: it is missing; the message has the command that installs it.
        ImportError: another version of it is installed; the same.
    """
    try:
        found = version(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the {user} needs the package {package}, which is not installed; "
            f"run `pip install --no-deps {package}=={wanted}`"
        ) from error
    if found != wanted:
        raise ImportError(
            f"the package {package} must be version {wanted}, got {found}; "
            f"run `pip install --no-deps {package}=={wanted}`"
        )


@contextmanager
def quick_imports() -> Iterator[None]:
    """For the block, what a process imports to speak takes half of the CPU time.

    transformers does not see scikit-learn, which it uses in assisted generation alone and imports,
    with pandas and pyarrow, for every model; nor scipy, which its losses of object detection use.
    It does not see torch's compiler, whose decorators it uses: nothing is compiled.
    The garbage collector waits: it would look through the modules again and again, and they stay.
    """
    collects = gc.isenabled()
    gc.disable()
    if _COMPILER not in sys.modules:
        sys.modules.update({_COMPILER: _NoCompiler(_COMPILER), _MASKS: _Masks(_MASKS)})
    try:
        from transformers.utils import import_utils

        seen = import_utils._sklearn_available, import_utils._scipy_available
        import_utils._sklearn_available = import_utils._scipy_available = False
        try:
            yield
        finally:
            import_utils._sklearn_available, import_utils._scipy_available = seen
    finally:
        _make_way()
        if collects:
            gc.enable()


class _NoCompiler(ModuleType):
    """In place of torch's compiler: decorators that do nothing.

    Asked for anything else, it makes way for the compiler.
    """

    __file__ = None

    @staticmethod
    def disable(function: Any, *_: object, **__: object) -> Any:  # noqa: ANN401 (any function)
        return function if function is not None else _NoCompiler.allow_in_graph

    @staticmethod
    def allow_in_graph(function: Any) -> Any:  # noqa: ANN401 (any function)
        return function

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (of a module without types)
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        _make_way()
        return getattr(importlib.import_module(_COMPILER), name)


class _Masks(ModuleType):
    """In place of the module that has what some masks are made in: imported when one is made."""

    @staticmethod
    def TransformGetItemToIndex() -> Any:  # noqa: ANN401 (a class of torch)
        _make_way()
        return importlib.import_module(_MASKS).TransformGetItemToIndex()


def _make_way() -> None:
    """Take what stands in for torch's compiler out of the imported modules, if it is there."""
    for name in (_COMPILER, _MASKS):
        if isinstance(sys.modules.get(name), _NoCompiler | _Masks):
            del sys.modules[name]


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


def _fill(module: str, names: Mapping[str, Any]) -> None:
    """Give an empty module what is imported from it; one that is installed has it."""
    for name, of in names.items():
        if not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, of)


def _put_empty(name: str) -> None:
    empty = ModuleType(name)
    empty.__spec__ = ModuleSpec(name, loader=None, is_package=True)
    empty.__path__ = []
    sys.modules[name] = empty
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, empty)
