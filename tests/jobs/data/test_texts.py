"""Texts are normalised for comparison, and a model's own tokens are found in them."""

import pytest

from jobs.data.texts import control_tokens, normalise_text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a <|end|> b", ["<|end|>"]), ("<|a|><|b|>", ["<|a|>", "<|b|>"]), ("a <| b", ["<|"])],
)
def test_control_tokens(text, tokens):
    assert control_tokens(text) == tokens
    assert control_tokens("a < b | c > d") == []


def test_normalising_keeps_letters_marks_and_digits_of_any_script():
    assert normalise_text("  Déjà-vu, 3 TIMES! ") == "déjà vu 3 times"
    assert normalise_text("नमस्ते।") == "नमस्ते"
    assert normalise_text("你好，世界") == "你好 世界"
    assert normalise_text("?!") == ""
