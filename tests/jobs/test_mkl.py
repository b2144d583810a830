"""The mode that matrix products are taken in, and that it is set before torch can take any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import mkl

XEON = "avx2 fma avx512f avx512cd avx512bw avx512dq avx512vl avx512_vnni"
RUN = """
import importlib.abc, os, runpy, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            sys.exit("torch: " + str(os.environ.get("MKL_CBWR")))  # nothing more is asked
        return None

sys.meta_path.insert(0, Watch())
sys.argv = ["jobs", "--help"]
runpy.run_module("jobs", run_name="__main__", alter_sys=True)
"""


def cpu(vendor: str, flags: str) -> list[str]:
    """As the kernel describes it, line by line."""
    return ["processor\t: 0\n", f"vendor_id\t: {vendor}\n", f"flags\t\t: fpu {flags}\n", "\n"]


def this_cpu() -> str | None:
    return mkl.strict_mode(Path("/proc/cpuinfo").read_text().splitlines(keepends=True))


@pytest.mark.parametrize(
    ("vendor", "flags", "mode"),
    [
        ("GenuineIntel", XEON, "AVX512,STRICT"),
        ("GenuineIntel", "avx2 fma", "AVX2,STRICT"),
        ("GenuineIntel", "avx2 fma avx512f avx512cd", "AVX2,STRICT"),  # not all that MKL needs
        ("GenuineIntel", "sse4_2", None),
        ("AuthenticAMD", XEON, None),
    ],
)
def test_the_mode_is_the_widest_strict_one_of_the_cpu(vendor: str, flags: str, mode: str | None):
    assert mkl.strict_mode(cpu(vendor, flags)) == mode


def test_the_first_cpu_decides():
    assert mkl.strict_mode([*cpu("GenuineIntel", "avx2 fma"), *cpu("", XEON)]) == "AVX2,STRICT"


def test_a_cpu_that_is_described_otherwise_has_none():
    assert mkl.strict_mode(["processor\t: 0\n", "Features\t: fp asimd\n", "\n"]) is None
    assert mkl.strict_mode([]) is None


def test_where_the_kernel_describes_none_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv(mkl.VARIABLE, raising=False)
    monkeypatch.setattr(mkl, "_CPU", tmp_path / "missing")
    mkl.set_strict_mode()
    assert mkl.VARIABLE not in os.environ


@pytest.mark.parametrize("own", [None, "COMPATIBLE"])
def test_a_job_has_it_before_torch_is_loaded_and_the_users_own_value_stays(own: str | None):
    environment = {name: value for name, value in os.environ.items() if name != mkl.VARIABLE}
    if own is not None:
        environment[mkl.VARIABLE] = own
    ended = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True
    )
    assert ended.stderr == f"torch: {own or this_cpu()}\n"


def test_these_tests_have_it_too():
    assert mkl.VARIABLE in os.environ or this_cpu() is None
