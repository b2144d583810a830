"""A GGUF file run by llama.cpp, where the package ``xllamacpp`` is installed.

Its server listens on a free port of this machine's loopback alone, and ends with the block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jobs.spec.trial import DecodingSpec

RUNTIME = "xllamacpp"
TOP = 10
"""The likeliest tokens of a place that are compared."""


def is_installed() -> bool:
    """Whether there is a llama.cpp to run."""
    return find_spec(RUNTIME) is not None


@dataclass(frozen=True)
class Run:
    """What llama.cpp wrote after a prompt, taking the likeliest token each time."""

    written: list[int]
    text: str
    likeliest: list[dict[int, float]]
    """Of each written token's place, the likeliest ids with their log-probabilities."""
    prompt_tokens: int


@dataclass(frozen=True)
class Streamed:
    """What llama.cpp wrote after a prompt, piece by piece."""

    pieces: list[str]
    arrived: list[float]
    """Seconds from the request to each piece."""
    tokens: int
    reached_end: bool


class Llama:
    """A model in llama.cpp, on one thread of the CPU."""

    def __init__(self, path: Path, context: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = 0
        params.hostnames = ["127.0.0.1"]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self._server = xllamacpp.Server(params)

    def write(self, prompt: list[int] | str, tokens: int) -> Run:
        """What follows ``prompt``, at most ``tokens`` of it."""
        answer: dict[str, Any] = self._server.handle_completions(
            {
                "prompt": prompt,
                "max_tokens": tokens,
                "temperature": 0,
                "logprobs": TOP,
                "cache_prompt": False,
            }
        )
        (choice,) = answer["choices"]
        places = choice["logprobs"]["content"]
        return Run(
            written=[place["id"] for place in places],
            text=choice["text"],
            likeliest=[
                {top["id"]: top["logprob"] for top in place["top_logprobs"]} for place in places
            ],
            prompt_tokens=answer["usage"]["prompt_tokens"],
        )

    def stream(
        self,
        prompt: list[int],
        tokens: int,
        decoding: DecodingSpec,
        seed: int,
        clock: Callable[[], float],
    ) -> Streamed:
        """What follows ``prompt`` by a decoding, at most ``tokens`` of it.

        llama.cpp penalises what the prompt repeats too, and draws from a random stream of its own.

        Raises:
            ValueError: llama.cpp refuses the request.
        """
        chunks: list[dict[str, Any]] = []
        arrived: list[float] = []
        begun = clock()

        def take(chunk: dict[str, Any]) -> None:
            arrived.append(clock() - begun)
            chunks.append(chunk)

        request = {
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
            "min_p": 0.0,
            "repeat_penalty": decoding.repetition_penalty,
            "repeat_last_n": len(prompt) + tokens,
            "seed": seed,
            "stream": True,
            "cache_prompt": False,
        }
        self._server.handle_completions(request, take)
        if error := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
            raise ValueError(f"llama.cpp refuses the request: {error['message']}")
        pieces = [chunk["choices"][0]["text"] for chunk in chunks]
        reached_end = chunks[-1]["choices"][0]["finish_reason"] == "stop"
        return Streamed(pieces, arrived, chunks[-1]["usage"]["completion_tokens"], reached_end)
