"""CPU of the metrics that need no download, against speechmos' own calls on the same clips.

Command: python benchmarks/scoring.py [--quick] [--json]

Claim: on 4-second clips the two DNSMOS cost less than a quarter of speechmos' dnsmos.run and PLCMOS
less than a quarter of its plcmos.run, with the same values; everything that is measured without a
download costs less than a quarter of those two calls together.
Baseline: speechmos 0.0.1.1, dnsmos.run (P.808 and P.835) and plcmos.run, warm, in the same process,
with as many threads as onnxruntime takes by itself.
Where it loses: clips of 9 to 11 s are one window, in which nothing repeats: there P.835 costs what
it costs speechmos. A short clip that is no whole number of 40 ms long, unlike what codecs of 12.5
or 25 frames a second give, is the same nowhere in its copies: only the windows' overlap is saved.
Times are of the process's CPU, with what its other threads take, interleaved, medians: on a machine
that does other work the clock on the wall says little.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping

# Before numpy: one thread. onnxruntime's own threads, which speechmos leaves on, do not heed it.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

import numpy as np
from numpy.typing import NDArray
from speechmos import dnsmos, plcmos

from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.embedded import VOICE_DIR
from jobs.metrics.base import FunctionScorer, Scorer
from jobs.metrics.catalogue import METRICS, build_scorers
from jobs.metrics.distillmos import DISTILLMOS_NAMES
from jobs.metrics.dvector import DVECTOR_NAMES
from jobs.metrics.plcmos import RATERS_SEED
from jobs.metrics.references import MIN_REFERENCES
from jobs.metrics.signal import RATE, at_16k, normalise_level
from jobs.spec.items import ITEM_METRICS
from jobs.spec.metric import MetricSpec

SECONDS = 4.0
OTHER_SECONDS = (2.0, 4.013, 10.0, 16.0)
"""Fewer windows that differ; no whole number of 40 ms; one window; seven that differ."""
CLIPS = 8
DNSMOS, PLCMOS = ("Dnsmos808", "Dnsmos835"), ("Plcmos",)

Spent = dict[str, list[float]]


def voice() -> list[tuple[NDArray[np.float32], int, str]]:
    """The shipped voice's clips: audio, rate and text."""
    lines = (VOICE_DIR / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(*read_audio(VOICE_DIR / row["audio"]), row["text"]) for row in rows]


def spoken(count: int, seconds: float) -> list[SpokenClip]:
    """Clips of exactly ``seconds``, cut one after another out of the shipped voice."""
    parts = voice()[MIN_REFERENCES:]
    rate = parts[0][1]
    speech = np.concatenate([audio for audio, _, _ in parts])
    samples = round(seconds * rate)
    starts = [i * (len(speech) - samples) // max(count - 1, 1) for i in range(count)]
    text = " ".join(parts[0][2].split()[:7])
    return [SpokenClip(speech[at : at + samples], rate, text, reached_end=True) for at in starts]


def scorers() -> dict[str, Scorer]:
    """Every scorer that needs no extra, options or recogniser, by its class, or by its metric."""
    extra = {*DISTILLMOS_NAMES, *DVECTOR_NAMES, *ITEM_METRICS}
    references = [(audio, rate) for audio, rate, _ in voice()[:MIN_REFERENCES]]
    asked = [
        MetricSpec(name=name)
        for name, source in METRICS.items()
        if not source.options and not name.startswith("word_") and name not in extra
    ]
    return {
        scorer.metric.name if isinstance(scorer, FunctionScorer) else type(scorer).__name__: scorer
        for scorer in build_scorers(asked, {None: references})
    }


def theirs() -> dict[str, Callable[[NDArray[np.float32]], Mapping[str, float]]]:
    """speechmos' own calls on 16 kHz audio."""

    def quality(audio: NDArray[np.float32]) -> Mapping[str, float]:
        scores = dnsmos.run(audio, RATE)
        return {f"dnsmos_{key.removesuffix('_mos')}": value for key, value in scores.items()}

    def loss(audio: NDArray[np.float32]) -> Mapping[str, float]:
        np.random.seed(RATERS_SEED)
        return {"plcmos": plcmos.run(audio, RATE)["plcmos"]}

    return {"speechmos dnsmos.run": quality, "speechmos plcmos.run": loss}


def measure(clips: list[SpokenClip], repeats: int) -> tuple[dict[str, float], float]:
    """Median CPU milliseconds a clip of each scorer and call, and the largest difference."""
    spent: Spent = {}
    ours, calls = scorers(), theirs()
    difference = 0.0

    def timed(name: str, way: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        started = time.process_time()
        values = way()
        spent.setdefault(name, []).append(1e3 * (time.process_time() - started))
        return values

    for scorer in ours.values():  # libraries that load at the first clip
        scorer.measure(clips[0])
    for call in calls.values():
        call(at_16k(clips[0]))
    for _ in range(repeats):
        for clip in clips:
            values: dict[str, float] = {}
            for name, scorer in ours.items():
                values |= timed(name, lambda scorer=scorer, clip=clip: scorer.measure(clip))
            audio = normalise_level(at_16k(clip))
            for name, call in calls.items():
                expected = timed(name, lambda call=call, audio=audio: call(audio))
                apart = (abs(values[metric] - float(value)) for metric, value in expected.items())
                difference = max(difference, *apart)
    return {name: statistics.median(times) for name, times in spent.items()}, difference


def ratios(cost: Mapping[str, float]) -> dict[str, float]:
    """Of ours to speechmos': what it asks for each CPU-second of ours."""
    calls = [cost["speechmos dnsmos.run"], cost["speechmos plcmos.run"]]
    offline = sum(ms for name, ms in cost.items() if not name.startswith("speechmos"))
    return {
        "dnsmos": round(calls[0] / sum(cost[name] for name in DNSMOS), 2),
        "plcmos": round(calls[1] / sum(cost[name] for name in PLCMOS), 2),
        "the offline tier, against both calls": round(sum(calls) / offline, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clips, of one length")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    # speechmos makes a number of an array of one, which numpy has deprecated.
    warnings.filterwarnings("ignore", "Conversion of an array", category=DeprecationWarning)
    clips, repeats = (3, 1) if options.quick else (CLIPS, 3)
    rows = []
    for seconds in (SECONDS,) if options.quick else (SECONDS, *OTHER_SECONDS):
        count = clips if seconds == SECONDS else 3
        cost, difference = measure(spoken(count, seconds), repeats)
        offline = sum(ms for name, ms in cost.items() if not name.startswith("speechmos"))
        row = {
            "seconds": seconds,
            **{f"{name}, ms": round(ms, 1) for name, ms in cost.items()},
            "offline tier, ms": round(offline, 1),
            "largest difference": difference,
            **ratios(cost),
        }
        rows.append(row)
        if not options.json:
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    result = {
        "name": "scoring",
        "ratios": {key: rows[0][key] for key in ratios(cost)},
        "baseline": "speechmos 0.0.1.1 dnsmos.run + plcmos.run, warm, in the same process",
        "conditions": {
            "seconds": SECONDS,
            "cpu ms a clip": rows[0]["offline tier, ms"],
            "largest difference": max(row["largest difference"] for row in rows),
            "rows": rows,
            "threads": 1,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
