"""A process that prepares data, for tests of several: ``python builder.py STORAGE MARKS [CLIP]``.

It says that it is there, waits for a line, prepares, and says how many clips it encoded. Its base
leaves a file in MARKS for each clip that it encodes. At the clip numbered CLIP it says so, and
stays.
"""

import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.storage.base import open_storage
from jobs.data.prepared.prepare import prepare
from jobs.families.description import DataRules
from jobs.spec.data import DataSpec
from tests.embedded_voice import embedded_clips

CLIPS = 6


class MarkingBase:
    """A base without a model: a clip's codes are its length."""

    sample_rate = 16_000
    encoder_digest = "marks"
    aligns = False
    rules = DataRules()

    def __init__(self, marks: Path, stays_at: int | None) -> None:
        self._marks = marks
        self._stays_at = stays_at
        self._encoded = 0

    def voice_of(self, speaker: str | None) -> None:
        return None

    def encode(self, audio: NDArray[np.float32], text: str) -> tuple[NDArray[np.int64], None]:
        (self._marks / uuid.uuid4().hex).touch()
        self._encoded += 1
        if self._encoded == self._stays_at:
            say("staying")
            sys.stdin.read()
        return np.array([len(audio)]), None


def main(storage: str, marks: str, stays_at: str | None = None) -> None:
    base: Any = MarkingBase(Path(marks), None if stays_at is None else int(stays_at))
    clips = embedded_clips()[:CLIPS]
    say("ready")
    sys.stdin.readline()
    say(str(prepare(clips, base, open_storage(storage), DataSpec()).encoded))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
