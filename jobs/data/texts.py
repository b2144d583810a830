"""Texts of clips: normalised for comparison, and what in them is not spoken."""

import re
import unicodedata

_NOT_SPOKEN = (
    r"laugh(?:s|ed|ing|ter)?|chuckl(?:es?|ing)|giggl(?:es?|ing)|sigh(?:s|ed|ing)?|cough(?:s|ing)?|"
    r"breath(?:s|es?|ing)?|inhal(?:es?|ing)|exhal(?:es?|ing)|gasp(?:s|ing)?|sniff(?:s|ing)?|"
    r"sob(?:s|bing)?|cr(?:y|ies|ying)|groan(?:s|ing)?|yawn(?:s|ing)?|whisper(?:s|ed|ing)?|"
    r"clears throat|applause|music|noise|silence|pause|beep|crosstalk|inaudible|unintelligible|"
    r"笑い?|笑声|笑聲|拍手|咳嗽?|音楽|音乐|音樂|웃음|박수"
)
"""In round brackets only these are annotations: most of what stands in them is read aloud."""
_ANNOTATION = re.compile(
    r"</?[A-Za-z!?][^<>]*>"  # <laugh>, and SSML
    r"|\[[^\[\]]*\]"
    r"|【[^【】]*】"
    r"|\{[^{}]*\}"
    rf"|[(（]\s*(?:\w+ ){{0,2}}(?:{_NOT_SPOKEN})(?: \w+){{0,2}}\s*[)）]"
    r"|(?<!\w)\*+[^*\s](?:[^*]*[^*\s])?\*+(?!\w)",  # *sigh*, but not 2*3*4
    re.IGNORECASE,
)
_CONTROL = re.compile(r"<\|(?:[^|]*\|>)?")
_BEFORE_PUNCTUATION = re.compile(r"\s+(?=[,.!?;:…])")


def normalise_text(text: str) -> str:
    """``text`` without case, punctuation and repeated spaces; letters of any script are kept.

    Marks count as letters: without them many scripts lose their vowels.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(
        "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()
    )


def control_tokens(text: str) -> list[str]:
    """What in ``text`` is, or begins, a token of a model's own: ``<|end|>``."""
    return _CONTROL.findall(text)


def annotations(text: str) -> list[str]:
    """The annotations of ``text`` as written, the innermost where they are nested."""
    return _ANNOTATION.findall(text)


def without_annotations(text: str) -> str:
    """``text`` with its annotations taken out and the gaps closed."""
    while (shorter := _ANNOTATION.sub(" ", text)) != text:
        text = shorter
    return _BEFORE_PUNCTUATION.sub("", " ".join(text.split()))
