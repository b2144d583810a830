"""What `voxsweep say` costs with the embedded voice, in CPU seconds.

Command: python benchmarks/say.py --sweep sweeps/demo [--before CHECKOUT] [--quick] [--json]

Claim: many lines in one start cost little more than one line.
Baseline: a start for each line; with --before, the same command in another checkout of voxsweep.
Where it loses: a single line is nearly all start: imports of torch, transformers and PEFT.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ROOT = Path(__file__).parents[1]


def cpu_seconds(checkout: Path, arguments: list[str]) -> float:
    """User and system time of one ``voxsweep say``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "orchestrator", "say", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout.absolute())},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a row for each way, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", type=Path, default=Path("sweeps/demo"), help="a finished sweep")
    parser.add_argument("--before", type=Path, help="another checkout, for one line")
    parser.add_argument("--quick", action="store_true", help="5 lines, each measured once")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    count, times = (5, 1) if options.quick else (50, 3)
    lines = [f"{DIGITS[at % 10]} {DIGITS[at // 10]} four" for at in range(count)]
    voice = [options.sweep.name, "--storage", str(options.sweep.absolute().parent)]
    rows: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        file, out = Path(folder) / "lines.txt", Path(folder) / "one.wav"
        file.write_text("\n".join(lines))
        one = [*voice, lines[0], "-o", str(out)]
        checkouts = {"one line": ROOT}
        if options.before:
            checkouts["one line, before"] = options.before
        for at in range(times):
            many = [*voice, "--lines", str(file), "-o", f"{folder}/many-{at}"]
            found = {name: cpu_seconds(path, one) for name, path in checkouts.items()}
            found[f"{count} lines"] = cpu_seconds(ROOT, many)
            for name, seconds in found.items():
                rows[name] = min(seconds, rows.get(name, seconds))
                if not options.json:
                    print(json.dumps({"what": name, "cpu_s": round(seconds, 2)}), flush=True)
    starts = count * rows["one line"]
    ratios = {"lines in one start, over a start each": rows[f"{count} lines"] / starts}
    if options.before:
        ratios["one line, over before"] = rows["one line"] / rows["one line, before"]
    result = {
        "name": "say",
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "baseline": "a start for each line",
        "conditions": {"least_cpu_s": {n: round(s, 2) for n, s in rows.items()}, "times": times},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
