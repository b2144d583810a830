"""One verdict compared whole.

When a change of the numbers or the words is meant, write the file anew from the repository root
and read its diff:

    VOXSWEEP_WRITE_GOLDEN=1 python -m pytest tests/orchestrator/verdict/test_golden_verdict.py
"""

import json
import os
from pathlib import Path

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import Verdict

GOLDEN = Path(__file__).with_name("golden_verdict.json")


def test_the_verdict_is_the_golden_one(make_verdict, info, speak):
    scores = {
        "good": {"p808": [3.3, 3.4, 3.35, 3.45]},
        "other_voice": {"p808": [4.0], "speaker_similarity": [0.5]},
        "runaway": {"p808": [4.0], "tail_silence": [9.0]},
    }
    clips = [
        *speak(BASE_VARIANT),
        *(clip for name in scores for clip in speak(name, **scores[name])),
    ]
    verdict = make_verdict([info(name) for name in scores], clips)
    if os.environ.get("VOXSWEEP_WRITE_GOLDEN"):
        GOLDEN.write_text(verdict.to_json() + "\n", encoding="utf-8")
    golden = GOLDEN.read_text(encoding="utf-8")
    assert rounded(verdict.to_json()) == rounded(golden)
    assert Verdict.from_json(golden).rows[0] == verdict.rows[0]


def rounded(text):
    """Without the last bits, in which one processor's sums differ from another's."""
    return json.loads(text, parse_float=lambda number: round(float(number), 9))
