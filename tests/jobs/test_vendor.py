"""The package imports where what it never uses here is missing, and leaves no trace of that."""

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
