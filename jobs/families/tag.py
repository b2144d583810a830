"""The language tag: what stands before a text so that a model knows what it reads."""


def tagged(text: str, language: str) -> str:
    """``text`` behind the tag of its language, ``[km] text``: in training and in speech.

    What an aligner or a metric is told is the text without it, since nobody says the tag. It counts
    for a limit on a text's length.
    """
    return f"[{language}] {text}"
