"""Texts and sample rate of a ``codec_lm`` base, known without its weights. No torch in here."""

from pathlib import Path

from tokenizers import Tokenizer

from jobs.embedded import BASE_DIR
from jobs.families.layout import Layout
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec

_TOKENIZER_FILE = "tokenizer.json"


class LayoutText:
    """The texts of a base whose ``layout.json`` says how they are written: ``codec_lm``."""

    def __init__(self, layout: Layout, tokenizer: Tokenizer, voice: str | None) -> None:
        self._layout = layout
        self._tokenizer = tokenizer
        self._voice = voice

    def count(self, text: str, language: str | None) -> int:
        """See :class:`jobs.families.description.TextReader`."""
        prompt = self._layout.prompt_text(text, self._voice, language)
        return len(self._tokenizer.encode(prompt, add_special_tokens=False).ids)


def open_text(spec: HostSpec) -> LayoutText:
    """The texts of the base directory that ``spec`` names.

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
    return LayoutText(layout, tokenizer, spec.voice)


def sample_rate(spec: HostSpec) -> int:
    """Hz of all that the codec of ``spec`` takes in; WORLD is the only one of the family."""
    from jobs.codecs.world import SAMPLE_RATE  # pyworld takes a moment

    return SAMPLE_RATE
