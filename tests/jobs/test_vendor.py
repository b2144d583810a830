"""The package imports where what it never uses here is missing, and leaves no trace of that."""

import importlib
import subprocess
import sys
from importlib import metadata

import pytest

from jobs import vendor

_PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
for name in ("torchaudio", "sox"):
    sys.modules[name] = None  # importing it raises
from jobs.vendor import qwen_tts
package = qwen_tts()
assert package is qwen_tts()
from jobs.vendor import voxcpm
assert voxcpm() is voxcpm()
names = package.Qwen3TTSModel.__name__, voxcpm().VoxCPM.__name__
print(*names, [n for n in ("torchaudio", "sox") if sys.modules.get(n)])
"""


def test_it_imports_without_torchaudio_and_sox():
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["Qwen3TTSModel VoxCPM []"]


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, "is not installed; run `pip"), ("0.2.0", "must be version 0.1.1, got 0.2.0; run `pip")],
)
def test_another_version_is_refused_with_the_command(
    found: str | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    def version(package: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(vendor, "version", version)
    with pytest.raises(ImportError, match=said):
        vendor.qwen_tts()


def test_the_compiler_is_not_imported_to_speak_until_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(vendor, "_COMPILER", "this")  # a module that says when it is imported
    monkeypatch.setattr(vendor, "_MASKS", "antigravity")
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with vendor.quick_imports():
        stood_in = importlib.import_module("this")
        assert stood_in.disable(len) is stood_in.disable(None)(len) is len
        assert stood_in.allow_in_graph(len) is len
        assert not hasattr(stood_in, "__wrapped__")
        assert sys.modules["this"] is stood_in
        assert stood_in.s.startswith("Gur Mra")  # of the module itself
        assert sys.modules["this"] is not stood_in
        assert "antigravity" not in sys.modules
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "this")
        with vendor.quick_imports():
            importlib.import_module("this")
        assert "this" not in sys.modules
