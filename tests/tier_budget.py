"""Run a command within a budget that is a multiple of this machine's own speed.

    python -m tests.tier_budget make test

A tier of the tests has a budget in seconds on a quiet machine of two cores. Machines differ, so the
time that a fixed piece of work takes here is measured first, on as many processes as the tests
use, and the budget is scaled by it. The command's exit code is this one's; over the budget by half
it is 1.
"""

import hashlib
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

BUDGET = 600.0
"""Seconds for ``make test`` where :func:`measure_speed` takes ``REFERENCE``."""
REFERENCE = 3.0
"""Seconds of :func:`measure_speed` on the two cores of the reference machine (CONTRIBUTING.md)."""
HEADROOM = 1.5
PROCESSES = 2
ROUNDS = 3
ROUNDS_OF_WORK = 300


def work(rounds: int) -> str:
    """A fixed piece of work of one process: parsing, sorting, hashing and arithmetic."""
    digest, rows = hashlib.sha256(), [{"key": i, "value": str(i * i)} for i in range(4000)]
    for number in range(rounds):
        text = json.dumps(sorted(rows, key=lambda row: (row["key"] * number) % 4001))
        digest.update(text.encode())
        digest.update(str(sum(x * x % 7 for x in range(60_000))).encode())
        rows = json.loads(text)
    return digest.hexdigest()


def measure_speed() -> float:
    """Seconds of that work on two processes at once: the least of three, the first being warm-up
    too, so that a neighbour who is busy for a moment does not count as a slow machine."""
    found = []
    with ProcessPoolExecutor(PROCESSES) as processes:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            list(processes.map(work, [ROUNDS_OF_WORK] * PROCESSES))
            found.append(time.perf_counter() - started)
    return min(found)


def main(command: list[str]) -> int:
    """Run ``command``; see the module."""
    speed = measure_speed()
    budget = BUDGET * speed / REFERENCE
    started = time.monotonic()
    code = subprocess.run(command).returncode
    took = time.monotonic() - started
    print(
        f"{' '.join(command)} took {took:.0f} s of a budget of {budget:.0f} s here: "
        f"{BUDGET:.0f} s times {speed / REFERENCE:.2f}, this machine's time for a fixed piece of "
        f"work over the reference machine's"
    )
    if took > HEADROOM * budget:
        print(f"that is more than {HEADROOM:g} times the budget: see the slowest tests above")
        return code or 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
