"""What is known of a ``codec_lm`` base without its weights: texts, layers, rate. No torch here."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jobs.codecs.codec import codec_kind
from jobs.embedded import BASE_DIR
from jobs.families.description import (
    TokenCounter,
    block_count,
    codec_directory,
    local_directory,
    read_config,
)
from jobs.families.layout import Layout
from jobs.families.phonemes import require_espeak
from jobs.families.size import BaseSize, decoder_stack
from jobs.families.targets import block_layers
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec

ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}
"""The architectures that the family runs, as ``config.json`` names them, and the class of
``transformers`` that loads each. All have blocks of the same layers."""

_TOKENIZER_FILE = "tokenizer.json"


def open_text(spec: HostSpec) -> TokenCounter:
    """How the base directory that ``spec`` names reads texts, by its ``layout.json``.

    Raises:
        ValueError: its layout is invalid, or the tokenizer is no ``tokenizer.json``.
        FileNotFoundError: one of the two is missing.
        ImportError: the layout needs a package that is not installed.
    """
    source = BASE_DIR if spec.source == EMBEDDED else Path(spec.source)
    layout = Layout.read(source)
    if layout.front_end == "phonemes":
        require_espeak()
    if spec.reference_prefix:
        layout.check_reference()
    path = source / _TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{source} must hold {_TOKENIZER_FILE}, but there is none")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} must be a tokenizer: {error}") from error

    def count(text: str, language: str | None) -> int:
        tag = language if spec.language_tag else None
        prompt = layout.prompt_text(layout.spelt(text, language), spec.voice, tag)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids)

    return count


def layer_names(spec: HostSpec) -> list[str] | None:
    """The layers of the base that may be adapted, in the model's order; None if it is elsewhere.

    Raises:
        FileNotFoundError: the base has no ``config.json``.
        ValueError: it is of another architecture, or attends within a window.
    """
    source = local_directory(spec.source)
    if source is None:
        return None
    config = read_backbone(source)
    return block_layers("model", block_count(config, str(source / "config.json"), default=32))


def base_size(spec: HostSpec) -> BaseSize | None:
    """Of the base of ``spec``, from its ``config.json``; None where that is not known here.

    Its codec is not counted: no network of it takes part in training.

    Raises:
        FileNotFoundError: the base has no ``config.json`` or no layout, or its codec no
            ``config.json``.
        ValueError: one of them is malformed, or of another architecture.
    """
    source = local_directory(spec.source)
    if source is None:
        return None
    config = read_backbone(source)
    try:
        stack = decoder_stack("model", config, per_token=1.0, per_frame=1.0)
        vocabulary = config["vocab_size"]
    except KeyError:
        return None
    tables = 1 if config.get("tie_word_embeddings") else 2
    return BaseSize(
        stacks=(stack,),
        others={},
        weights=stack.weights + tables * vocabulary * stack.width,
        codec=0,
        frame_rate=codec_kind(codec_directory(spec)).frame_rate,
        logits=vocabulary,
        speech_rows=tables * len(Layout.read(source).added_tokens()) * stack.width,
    )


def read_backbone(directory: Path) -> dict[str, Any]:
    """The ``config.json`` of a base that the family can run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is malformed, of another architecture, or attends within a window.
    """
    config = read_config(directory, *ARCHITECTURES)
    # `segments` gives every token all that came before it in its clip.
    if config.get("use_sliding_window"):
        raise ValueError(
            f"{directory / 'config.json'}: a base must attend to all that came before, but "
            "use_sliding_window is true; set it to false if the window is longer than any clip"
        )
    return config


def sample_rate(spec: HostSpec) -> int:
    """Hz of all that the codec of ``spec`` takes in. Raises as :func:`codec_kind`."""
    return codec_kind(codec_directory(spec)).sample_rate


def speech_rate(spec: HostSpec) -> int:
    """Hz of what it gives back. Raises as :func:`codec_kind`."""
    return codec_kind(codec_directory(spec)).speech_rate
