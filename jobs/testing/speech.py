"""Real speech to test with: the shipped recordings of one speaker."""

import json
from collections.abc import Sequence

import numpy as np

from jobs.audio.files import read_audio
from jobs.clips import SpokenClip
from jobs.embedded import VOICE_DIR


def shipped_recordings() -> list[SpokenClip]:
    """The shipped clips as they are, at 16 kHz, in the order of their manifest."""
    lines = (VOICE_DIR / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        SpokenClip(*read_audio(VOICE_DIR / row["audio"]), row["text"], reached_end=True)
        for row in rows
    ]


def join_clips(parts: Sequence[SpokenClip], seconds: float) -> SpokenClip:
    """One clip of all ``parts``, which have one rate, with even pauses that make it ``seconds``
    long, or longer if the parts are. It starts and ends with speech."""
    rate = parts[0].rate
    missing = max(0, int(seconds * rate) - sum(len(part.audio) for part in parts))
    pause = np.zeros(missing // max(1, len(parts) - 1), dtype=np.float32)
    pieces = [piece for part in parts for piece in (part.audio, pause)][:-1]
    text = " ".join(part.text for part in parts)
    return SpokenClip(np.concatenate(pieces), rate, text, reached_end=True)
