"""Which family can be exported as what, and why not as the rest. No torch in here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from cluster.plugins import PluginError, Table
from jobs.problems import InputError, Problem, nearest

Quantization = Literal["f32", "f16", "q8_0", "q4_0"]
"""Of a GGUF file's matrices; vectors (norms and biases) are fp32 in each."""
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
DEFAULT_QUANTIZATION: Quantization = "q8_0"
QUANTIZED: tuple[Quantization, ...] = ("q8_0", "q4_0")
"""Those that round weights to multiples of a step, a block of 32 at a time."""


@dataclass(frozen=True)
class Exporter:
    """How one family is exported as one format."""

    module: str
    """Its ``write(voice, directory, quantization)`` makes the files, and its ``load_back`` with the
    same arguments gives a :class:`~jobs.export.load_back.LoadBack`."""
    quantized: bool = False


EXPORTERS = Table(
    "voxsweep.export_formats",
    Exporter,
    {
        "codec_lm.peft": Exporter("jobs.export.codec_lm_peft"),
        "codec_lm.merged": Exporter("jobs.export.codec_lm_merged"),
        "codec_lm.gguf": Exporter("jobs.export.gguf.export", quantized=True),
        "qwen3_tts.peft": Exporter("jobs.export.qwen3_tts_peft"),
        "qwen3_tts.native": Exporter("jobs.export.qwen3_tts_native"),
        "voxcpm2.peft": Exporter("jobs.export.voxcpm2_peft"),
        "voxcpm2.native": Exporter("jobs.export.voxcpm2_native"),
    },
)
"""By ``FAMILY.FORMAT``."""
REFUSED: Mapping[str, str] = {
    "codec_lm.native": "what its tools load is a Hugging Face directory, which is `merged`",
    "qwen3_tts.merged": "the merged model as its package loads it is `native`",
    "qwen3_tts.gguf": "llama.cpp has no network of its kind, with a code predictor",
    "voxcpm2.merged": "an adapter as its package loads it is `native`",
    "voxcpm2.gguf": "llama.cpp has no network of its kind, with a diffusion decoder",
}
"""Pairs that are not exported, each with the reason."""


def formats_of(family: str) -> list[str]:
    """The formats that ``family`` is exported as."""
    pairs = (name.rpartition(".") for name in EXPORTERS)
    return [wanted for of, _, wanted in pairs if of == family]


def exporter(family: str, wanted: str) -> Exporter:
    """How ``family`` is exported as ``wanted``.

    Raises:
        InputError: it is not, and why; or its plug-in cannot be used.
    """
    name, offered = f"{family}.{wanted}", formats_of(family)
    try:
        return EXPORTERS[name]
    except PluginError as error:
        problem = Problem("--format", error.what, error.next_step)
    except KeyError:
        if name in REFUSED:
            what = f"{family} is not exported as {wanted}: {REFUSED[name]}"
            problem = Problem("--format", what, f"It can be {', '.join(offered)}.")
        else:
            what = f"a format must be one of {', '.join(offered)} for {family}, got {wanted!r}"
            problem = Problem("--format", what, nearest(wanted, offered))
    raise InputError([problem])
