"""What nobody says is found in a text; what is said is left in it."""

import pytest

from jobs.data.texts import annotations, control_tokens, normalise_text, without_annotations

FOUND = {
    "<laugh> yes": "yes",
    "yes</laugh>": "yes",
    "yes <break time='1s'/> no": "yes no",
    "[laugh] yes [ 2.5 ] no": "yes no",
    "yes 【笑】 no": "yes no",
    "yes (laughs) no": "yes no",
    "yes (Laughing softly) no": "yes no",
    "yes （笑い）": "yes",
    "*sigh* yes": "yes",
    "well **clears throat**, yes": "well, yes",
    "{noise}yes": "yes",
    "[a [b] c] yes": "yes",
    "Oh <laugh>, no [x]!": "Oh, no!",
    "<laugh>": "",
}
LEFT = [
    "yes (he said) no",
    "2 < 3 and 5 > 4",
    "2*3*4 is 24",
    "a * b * c",
    "the music (by Bach) plays",
    "f(x) is 3",
    "5 > 4 < 6",
    "I ♥ you",
    "ភាសាខ្មែរ",
]


@pytest.mark.parametrize(("text", "rest"), FOUND.items())
def test_annotations_are_taken_out(text, rest):
    assert annotations(text)
    assert without_annotations(text) == rest
    assert not annotations(rest)


@pytest.mark.parametrize("text", LEFT)
def test_what_is_said_stays(text):
    assert annotations(text) == []
    assert without_annotations(text) == text


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
