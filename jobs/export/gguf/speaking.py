"""A ``codec_lm`` voice's GGUF file speaks, prompt after prompt, as for one listener."""

import hashlib
import re
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.export.gguf.llama import Llama, Streamed
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import Layout
from jobs.spec.trial import DecodingSpec, PromptSpec

FIRST_SECONDS = 0.4
"""Of speech, with which a listener is first given something to hear."""


@dataclass(frozen=True)
class Timing:
    """One clip, on one thread of the CPU."""

    tokens: int
    generated: float
    """Seconds that llama.cpp took."""
    first_audio: float
    """Seconds to the first 0.4 s of sound, decoded by themselves."""
    decoded: float
    """Seconds that the codec took for the whole clip."""
    audio: float
    """Seconds of sound."""


@dataclass(frozen=True)
class HostedSpeech:
    """What a file said, and what that took."""

    clips: list[SpokenClip]
    timings: list[Timing]
    memory: int
    """Bytes by which the process grew to load and run the file; the codec is not among them."""


def speak_hosted(
    path: Path,
    base: CodecLM,
    prompts: Sequence[PromptSpec],
    decoding: DecodingSpec,
    clock: Callable[[], float] = time.perf_counter,
) -> HostedSpeech:
    """Say the prompts with the file at ``path``, one after another.

    Args:
        path: the GGUF file.
        base: whose codec and tokens are the file's; its weights are not used.
        prompts: each with the language and speaker that the base needs.
        decoding: how tokens are picked.
        clock: in whose seconds the timings are.
    """
    requests = [base.request(prompt, decoding) for prompt in prompts]
    before = _resident()
    llama = Llama(path, context=max(len(ids) + cap for ids, cap in requests) + 1)
    spoken = []
    for prompt, (ids, cap) in zip(prompts, requests, strict=True):
        streamed = llama.stream(ids, cap, decoding, _seed(decoding.seed, prompt.id), clock)
        spoken.append(_sound(streamed, base, prompt, clock))
    clips, timings = zip(*spoken, strict=True)
    return HostedSpeech([*clips], [*timings], _resident() - before)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _sound(
    streamed: Streamed, base: CodecLM, prompt: PromptSpec, clock: Callable[[], float]
) -> tuple[SpokenClip, Timing]:
    codes, arrived = _codes(base.stream.layout, streamed)
    begun = clock()
    audio = _decode(base, codes)
    decoded = clock() - begun
    seconds = len(audio) / base.speech_rate
    first = len(codes)
    if seconds > FIRST_SECONDS:
        first = max(1, round(FIRST_SECONDS * len(codes) / seconds))
    begun = clock()
    _decode(base, codes[:first])
    first_audio = clock() - begun
    if codes:
        first_audio += arrived[first - 1]
    generated = streamed.arrived[-1]
    clip = SpokenClip(audio, base.speech_rate, prompt.text, streamed.reached_end)
    return clip, Timing(streamed.tokens, generated, first_audio, decoded, seconds)


def _codes(layout: Layout, streamed: Streamed) -> tuple[list[int], list[float]]:
    """The codes in what was written, as NeuTTS reads them, and when the last piece of each came."""
    before, after = layout.code.split("{code}")
    text = "".join(streamed.pieces)
    ends = np.cumsum([len(piece) for piece in streamed.pieces])
    found = [*re.finditer(rf"{re.escape(before)}(\d+){re.escape(after)}", text)]
    places = np.searchsorted(ends, [match.end() for match in found])
    return [int(match[1]) for match in found], [streamed.arrived[at] for at in places]


def _decode(base: CodecLM, codes: Iterable[int]) -> NDArray[np.float32]:
    listed = np.array([*codes], dtype=np.int64)
    return base.codec.decode(listed) if len(listed) else np.zeros(0, dtype=np.float32)


def _seed(seed: int, prompt: str) -> int:
    """Of a prompt's own random stream, as in our own sampling; llama.cpp takes 32 bits."""
    digest = hashlib.sha256(f"{seed}/{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
