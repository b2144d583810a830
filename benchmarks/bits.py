"""What it costs to have matrix products that do not depend on their neighbours.

Command: python benchmarks/bits.py [--quick] [--json]

Claim: in MKL's strict mode, which jobs/mkl.py sets on an Intel CPU, no row of a product depends on
how many rows it has beside it or on where they lie, small products take at most 1.4 times as long
as by default, and large ones as long.
Baseline: the same products by MKL's default, in processes that alternate with those in strict mode.
Where it loses: products of a few dozen rows, as packs of short clips on small bases have. On a CPU
without AVX-512 the strict mode is AVX2's; on one that is not Intel's there is none to measure.
Times are of the process's CPU, medians, one thread.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = ((64, 192, 192), (64, 192, 512), (32, 896, 896), (256, 896, 4864))
"""Rows, inner and outer width: two of the shipped base, two of a base of 0.5B."""
WIDTHS = ((64, 16), (192, 2), (500, 192), (896, 64))
"""Inner and outer, of the products whose rows are compared."""
DEFAULT = ""
"""Of MKL_CBWR: set, so that nobody else sets it, and of no effect."""


def measure(seconds: float) -> dict[str, object]:
    """Of this process: how many comparisons of rows differ, and microseconds by shape."""
    import torch

    generator = torch.Generator().manual_seed(0)
    differ = compared = 0
    for inner, outer in WIDTHS:
        weight = torch.randn(inner, outer, generator=generator)
        for rows in (3, 8, 20, 33):
            x = torch.randn(rows, inner, generator=generator)
            whole = x @ weight
            for cut in range(1, rows):
                parts = torch.cat([x[:cut] @ weight, x[cut:] @ weight])
                differ += not torch.equal(parts, whole)
                compared += 1
    cost = {}
    for rows, inner, outer in SHAPES:
        x = torch.randn(rows, inner, generator=generator)
        weight = torch.randn(inner, outer, generator=generator)
        times: list[float] = []
        while sum(times) < seconds:
            started = time.process_time()
            for _ in range(10):
                x @ weight
            times.append(time.process_time() - started)
        cost[f"{rows}x{inner}x{outer}"] = 1e5 * statistics.median(times)
    return {"differ": differ, "compared": compared, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--measure", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    own = os.environ.pop("MKL_CBWR", None)
    import jobs  # noqa: F401 (sets the mode)

    strict = own or os.environ.get("MKL_CBWR")
    if strict is None:
        parser.error("MKL has no strict mode on this CPU: there is nothing to compare")
    found: dict[str, list[dict]] = {DEFAULT: [], strict: []}
    for _ in range(2 if options.quick else 7):
        for mode, rounds in found.items():
            ended = subprocess.run(
                [sys.executable, __file__, "--measure", "0.1" if options.quick else "0.4"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_CBWR": mode},
                capture_output=True,
                text=True,
                check=True,
            )
            rounds.append(json.loads(ended.stdout.splitlines()[-1]))
    rows = []
    for shape in found[strict][0]["cost"]:
        pairs = [
            (default["cost"][shape], mine["cost"][shape])
            for default, mine in zip(found[DEFAULT], found[strict], strict=True)
        ]
        rows.append(
            {
                "product": shape,
                "default, us": round(statistics.median(a for a, _ in pairs), 1),
                "strict, us": round(statistics.median(b for _, b in pairs), 1),
                "strict over default": round(statistics.median(b / a for a, b in pairs), 2),
            }
        )
        if not options.json:
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    result = {
        "name": "bits",
        "ratios": {row["product"]: row["strict over default"] for row in rows},
        "baseline": "MKL's default",
        "conditions": {
            "mode": strict,
            "compared": found[strict][0]["compared"],
            "differ by default": max(each["differ"] for each in found[DEFAULT]),
            "differ in strict mode": max(each["differ"] for each in found[strict]),
            "rows": rows,
            "threads": 1,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
