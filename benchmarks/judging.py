"""What it costs to judge a million rows of scores in files.

Command: python benchmarks/judging.py [--quick] [--json]

Claim: a million rows are judged in less memory than one object each takes, and in a few times the
CPU time of reading them so.
Baseline: the same rows read into one object each, as a Python program does without columns, and
nothing judged.
Where it loses: the intervals of a variant cost the same whatever its number of rows, so many
variants of few rows take longer than few of many.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from verdicts import PRIMARY, VOICE, World, protocol_of

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.scores.from_files import judge_files

RESAMPLES = 10_000
SHAPES = {"many variants": 1, "many seeds": 14}
"""Seeds of each prompt."""
WORLD = World("files", (0.0,), screen=48, shortlist_after=16, confirmation=96)


def write_scores(path: Path, rows: int, seeds: int) -> int:
    """Healthy clips of a base and as many variants as ``rows`` has room for; returns how many."""
    rng, written = np.random.default_rng(2026), 0
    clips = [
        (prompt.id, seed)
        for prompts in (PROTOCOL.prompts, PROTOCOL.confirmation)
        for prompt in prompts
        for seed in range(seeds)
    ]
    with path.open("w") as file:
        for place in range(rows // len(clips)):
            name = f"v{place}" if place else BASE_VARIANT
            gain = 0.1 * rng.normal() if place else 0.0
            for (prompt, seed), (first, second) in zip(
                clips, rng.normal(size=(len(clips), 2)).tolist(), strict=True
            ):
                row = {
                    "variant": name,
                    "prompt": prompt,
                    "seed": seed,
                    PRIMARY: 3 + gain + 0.25 * first,
                    VOICE: min(0.9 + 0.02 * second, 1.0),
                    "end_of_speech_failure": 0.0,
                    "duration": 3.0,
                    "tail_silence": 0.1,
                    "clipping": 0.0,
                }
                file.write(json.dumps(row) + "\n")
                written += 1
    return written


PROTOCOL = protocol_of(WORLD, RESAMPLES)


def judge(scores: Path, protocol: Path) -> str:
    return judge_files(scores, protocol)[0].verdict


def read_plainly(scores: Path, protocol: Path) -> str:
    """One object a row."""
    with scores.open() as lines:
        clips = [
            ClipScores(row.pop("variant"), row.pop("prompt"), row.pop("seed"), row)
            for row in map(json.loads, lines)
        ]
    return f"{len(clips)} clips"


PARTS = {"voxsweep": judge, "one object a row": read_plainly}


def measured(part: str, scores: Path, protocol: Path) -> dict[str, float]:
    """CPU seconds and peak memory of a process of its own."""
    command = [sys.executable, __file__, "--part", part, str(scores), str(protocol)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, *paths = options.part
        started = time.process_time()
        PARTS[name](*map(Path, paths))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"cpu_s": time.process_time() - started, "peak_mb": peak}))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scores, protocol = Path(folder) / "scores.jsonl", Path(folder) / "protocol.json"
        protocol.write_text(PROTOCOL.model_dump_json())
        for shape, seeds in SHAPES.items():
            count = write_scores(scores, 50_400 if options.quick else 1_008_000, seeds)
            for part in PARTS:
                found = {k: round(v, 1) for k, v in measured(part, scores, protocol).items()}
                rows.append({"shape": shape, "rows": count, "part": part, **found})
                if not options.json:
                    print(json.dumps(rows[-1]), flush=True)
    ratios = {
        f"{shape}, {key}": round(ours[key] / plain[key], 2)
        for shape, ours, plain in zip(SHAPES, rows[::2], rows[1::2], strict=True)
        for key in ("cpu_s", "peak_mb")
    }
    result = {
        "name": "judging",
        "ratios": ratios,
        "baseline": "one object a row",
        "conditions": {"rows": rows, "resamples": RESAMPLES, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
