"""The strict mode of MKL, the library that multiplies torch's matrices on an Intel CPU.

By default the rounding of MKL's products depends on the address of an operand and on the number of
its rows, so that an adapter trained in a pack differs from the same one trained alone. In strict
conditional numerical reproducibility mode it does not. MKL reads the variable ``MKL_CBWR`` once,
at its first product.
"""

import os
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

VARIABLE = "MKL_CBWR"
_CPU = Path("/proc/cpuinfo")
_AVX2 = {"avx2", "fma"}
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def set_strict_mode() -> None:
    """Have this process and those that it starts multiply in the strict mode that this CPU has.

    Call it before torch is imported. A value that the user has set stays. On another CPU than
    Intel's nothing is set: there MKL has no strict mode, and takes any value for ``AUTO``.
    """
    if VARIABLE in os.environ:
        return
    try:
        with _CPU.open(encoding="utf-8") as lines:
            mode = strict_mode(lines)
    except OSError:  # not Linux
        return
    if mode is not None:
        os.environ[VARIABLE] = mode


def strict_mode(lines: Iterable[str]) -> str | None:
    """The value for ``MKL_CBWR`` on the CPU that ``/proc/cpuinfo`` describes first; None for none.

    >>> strict_mode(["vendor_id : GenuineIntel", "flags : fpu avx2 fma"])
    'AVX2,STRICT'
    """
    pairs = (line.partition(":") for line in takewhile(str.strip, lines))
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    if facts.get("vendor_id") != "GenuineIntel":
        return None
    flags = set(facts.get("flags", "").split())
    if flags >= _AVX512:
        return "AVX512,STRICT"
    return "AVX2,STRICT" if flags >= _AVX2 else None
