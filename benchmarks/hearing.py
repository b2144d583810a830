"""What Whisper hears in a finished demo sweep, beside the shipped recogniser on the same clips.

Command: python benchmarks/hearing.py --whisper DIRECTORY [--sweep sweeps/demo] [--quick] [--json]

Claim: the level of the demo's `word_error` is flattering: a recogniser that knows more than ten
words and heard none of these voices finds more errors. Does the difference between winner and base
hold? DistillMOS hears the same clips, where its package is installed.
Baseline: the shipped recogniser; the base's clips, and recordings of the target voice.
Where it loses: nothing is made faster here; Whisper takes some 2 CPU-seconds a clip.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, spearmanr

from cluster.storage.base import open_storage
from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.codecs.recogniser import WordRecogniser
from jobs.embedded import RECOGNISER_DIR, VOICE_DIR
from jobs.metrics.base import Scorer
from jobs.metrics.catalogue import ScorerUnavailable, build_scorers, metric_of
from jobs.spec.metric import MetricSpec
from orchestrator.ledger import Ledger
from orchestrator.spec.stored import stored_protocol, stored_verdict

WHISPER, OURS, MOS = "whisper_character_error", "word_error", "distillmos"
NAMES = (WHISPER, "whisper_word_error", OURS, MOS)
CLIPS = 96
RESAMPLES = 10_000
LANGUAGE = "en"
Rows = list[dict[str, float]]


def clips_of(sweep: Path, clips: int) -> dict[str, list[tuple[Path, str]]]:
    """Files and texts: recordings of the target, and the first clips of set B of base and winner.

    The recordings have as many words as those of set B, in the manifest's order, by turns.
    """
    ledger = Ledger(open_storage(str(sweep.parent)), sweep.name)
    protocol, verdict = stored_protocol(ledger), stored_verdict(ledger)
    if protocol is None or verdict is None or verdict.variant is None:
        raise SystemExit(f"{sweep} has no winner: give a sweep that has, or run the demo again")
    prompts = protocol.confirmation[:clips]
    lines = (VOICE_DIR / "manifest.jsonl").read_text().splitlines()
    recordings: dict[int, list[tuple[Path, str]]] = {}
    for row in map(json.loads, lines):
        of_length = recordings.setdefault(len(row["text"].split()), [])
        of_length.append((VOICE_DIR / row["audio"], row["text"]))
    found = {"recordings": [recordings[len(p.text.split())].pop(0) for p in prompts]}
    for variant in ("base", verdict.variant):
        folder = sweep / "clips" / "confirmation" / variant
        name = "base" if variant == "base" else "winner"
        found[name] = [(folder / f"{prompt.id}.flac", prompt.text) for prompt in prompts]
    return found


def heard(clip: tuple[Path, str], scorers: Sequence[Scorer]) -> dict[str, float]:
    """The scores of a clip."""
    path, text = clip
    audio, rate = read_audio(path)
    spoken = SpokenClip(audio, rate, text, reached_end=True, language=LANGUAGE)
    return {name: value for scorer in scorers for name, value in scorer.measure(spoken).items()}


def mean(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """With its 95 % interval, by a percentile bootstrap over the clips."""
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(values.mean()), float(found.low), float(found.high)


def column(rows: Rows, name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows])


def measured(rows: Rows, less: Rows | None = None) -> dict[str, tuple[float, float, float]]:
    """Means over the clips, or of each clip's difference to that of ``less``."""
    return {
        name: mean(column(rows, name) - (column(less, name) if less else 0.0))
        for name in NAMES
        if name in rows[0]
    }


def main() -> None:
    """Print each clip as it is heard, then the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whisper", help="a directory of Whisper, of transformers or CTranslate2")
    parser.add_argument("--sweep", type=Path, default=Path("sweeps/demo"), help="a finished sweep")
    parser.add_argument("--quick", action="store_true", help="6 clips of each")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    clips = clips_of(options.sweep, 6 if options.quick else CLIPS)
    whisper = MetricSpec(name=WHISPER, model=options.whisper, language=LANGUAGE)
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    scorers = build_scorers([MetricSpec(name=OURS), whisper], recogniser=recogniser)
    try:
        scorers += build_scorers([MetricSpec(name=MOS)])
    except ScorerUnavailable as error:
        print(json.dumps({"without": MOS, "why": str(error)}))
    begun = time.process_time()
    rows: dict[str, Rows] = {name: [] for name in clips}
    for together in zip(*clips.values(), strict=True):
        for name, clip in zip(clips, together, strict=True):
            rows[name].append(heard(clip, scorers))
            if not options.json:
                print(json.dumps({"of": name, "text": clip[1], **rows[name][-1]}), flush=True)
    both = rows["base"] + rows["winner"]
    ranks = spearmanr(column(both, WHISPER), column(both, OURS))
    result = {
        "name": "hearing",
        "ratios": {"winner less base": measured(rows["winner"], rows["base"])},
        "baseline": "the shipped recogniser",
        "conditions": {
            "clips": len(rows["base"]),
            "levels": {name: measured(each) for name, each in rows.items()},
            "rank correlation of the two, clips of base and winner": ranks.statistic,
            "cpu_s": time.process_time() - begun,
            "whisper": metric_of(whisper).version,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
