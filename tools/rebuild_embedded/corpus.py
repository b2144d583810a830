"""The speech that everything is fitted on: digit strings spoken by flite and espeak-ng."""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from jobs.clips import Split
from tools.rebuild_embedded.texts import Texts

SAMPLE_RATE = 16_000  # Hz
TARGET_VOICE = "slt"
BASE_VOICES = ("kal16", "awb", "rms", "en-us", "en-us+f2")
FLITE_VOICES = frozenset({"kal16", "awb", "rms", "slt"})
LEVEL_DBFS = -26.0  # RMS; the usual level of speech corpora, and it makes the FLAC files smaller
SILENCE_DB = -40.0  # below the loudest 10 ms frame
MARGIN_S = 0.03  # kept on either side of what is not silent

Role = Literal["training", "test", "voice", "validation", "heard"]
# The target's clips that are shipped for LoRA; codec, recogniser and base hear none of them.
SHIPPED_SPLITS: dict[Role, Split] = {"voice": "train", "validation": "validation"}


@dataclass(frozen=True)
class Clip:
    """One spoken text. `path` is relative to the corpus directory, `duration` is in seconds."""

    path: str
    voice: str
    role: Role
    text: str
    duration: float


def read_corpus(directory: Path) -> list[Clip]:
    """The clips of a corpus directory, in the order they were planned."""
    lines = (directory / "manifest.jsonl").read_text().splitlines()
    return [Clip(**json.loads(line)) for line in lines]


def build_corpus(directory: Path, texts: Texts, workers: int) -> list[Clip]:
    """Speak every text; a clip that is already on disk is kept.

    Raises:
        RuntimeError: a synthesiser is missing or failed.
    """
    plan = list(_plan(texts))
    with ThreadPoolExecutor(workers) as pool:
        clips = list(pool.map(lambda row: _build_clip(directory, *row), plan))
    lines = "".join(json.dumps(asdict(clip)) + "\n" for clip in clips)
    (directory / "manifest.jsonl").write_text(lines)
    return clips


def read_audio(path: Path) -> NDArray[np.float32]:
    """A mono 16 kHz file as float32 samples (samples,)."""
    audio, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE:
        raise ValueError(f"clips must be {SAMPLE_RATE} Hz, got {rate} Hz: {path}")
    return np.asarray(audio, dtype=np.float32)


def _plan(texts: Texts) -> Iterator[tuple[str, Role, str]]:
    for voice, training in texts.training.items():
        yield from ((voice, "training", text) for text in training)
        yield from ((voice, "test", text) for text in texts.test)
    target: dict[Role, list[str]] = {
        "voice": texts.voice,
        "validation": texts.validation,
        "test": texts.test,
        "heard": texts.heard,
    }
    for role, spoken in target.items():
        yield from ((TARGET_VOICE, role, text) for text in spoken)


def _build_clip(directory: Path, voice: str, role: Role, text: str) -> Clip:
    name = f"{voice}/{text.replace(' ', '-')}.wav"
    path = directory / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.wav")
        _synthesise(voice, text, partial)
        soundfile.write(partial, _level(_trim(_at_16_khz(partial))), SAMPLE_RATE)
        os.replace(partial, path)
    return Clip(name, voice, role, text, soundfile.info(path).duration)


def _synthesise(voice: str, text: str, path: Path) -> None:
    if voice in FLITE_VOICES:
        command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
    else:
        command = ["espeak-ng", "-v", voice, "-s", "160", "-w", str(path), text]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            f"{command[0]} could not speak {text!r}: {error}; "
            "install Debian's flite and espeak-ng (apt-get install flite espeak-ng)"
        ) from error


def _at_16_khz(path: Path) -> NDArray[np.float64]:
    audio, rate = soundfile.read(path)
    common = math.gcd(rate, SAMPLE_RATE)
    return np.asarray(resample_poly(audio, SAMPLE_RATE // common, rate // common))


def _trim(audio: NDArray[np.float64]) -> NDArray[np.float64]:
    hop = SAMPLE_RATE // 100
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DB / 10))
    margin = int(MARGIN_S * SAMPLE_RATE)
    return audio[max(0, loud[0] * hop - margin) : (loud[-1] + 1) * hop + margin]


def _level(audio: NDArray[np.float64]) -> NDArray[np.float64]:
    rms = float(np.sqrt((audio**2).mean()))
    return np.clip(audio * (10 ** (LEVEL_DBFS / 20) / rms), -1.0, 1.0)
