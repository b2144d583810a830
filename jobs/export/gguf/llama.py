"""A GGUF file run by llama.cpp, where the package ``xllamacpp`` is installed.

Its server listens on a free port of this machine's loopback alone, and ends with the block.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
