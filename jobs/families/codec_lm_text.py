"""Texts and sample rate of a ``codec_lm`` base, known without its weights. No torch in here."""

from pathlib import Path

from tokenizers import Tokenizer

from jobs.embedded import BASE_DIR
from jobs.families.description import TokenCounter
from jobs.families.layout import Layout
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec

_TOKENIZER_FILE = "tokenizer.json"


def open_text(spec: HostSpec) -> TokenCounter:
    """How the base directory that ``spec`` names reads texts, by its ``layout.json``.

    Raises:
        ValueError: its layout is invalid, or the tokenizer is no ``tokenizer.json``.
        FileNotFoundError: one of the two is missing.
    """
    source = BASE_DIR if spec.source == EMBEDDED else Path(spec.source)
    layout = Layout.read(source)
    path = source / _TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{source} must hold {_TOKENIZER_FILE}, but there is none")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} must be a tokenizer: {error}") from error

    def count(text: str, language: str | None) -> int:
        prompt = layout.prompt_text(text, spec.voice, language)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids)

    return count


def sample_rate(spec: HostSpec) -> int:
    """Hz of all that the codec of ``spec`` takes in; WORLD is the only one of the family."""
    from jobs.codecs.world import SAMPLE_RATE  # pyworld takes a moment

    return SAMPLE_RATE
