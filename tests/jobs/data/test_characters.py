"""Invisible and broken characters are found with code point and place, and repaired."""

import pytest

from jobs.data.characters import find_faults, repaired

INVISIBLE = {
    "\ufeffhi": (1, "U+FEFF ZERO WIDTH NO-BREAK SPACE", "hi"),
    "a\u200bb": (2, "U+200B ZERO WIDTH SPACE", "ab"),
    "one\u2028two": (4, "U+2028 LINE SEPARATOR", "one two"),
    "one\u2029two": (4, "U+2029 PARAGRAPH SEPARATOR", "one two"),
    "\u202bhi": (1, "U+202B RIGHT-TO-LEFT EMBEDDING", "hi"),
    "hi\u200f": (3, "U+200F RIGHT-TO-LEFT MARK", "hi"),
    "soft\u00adly": (5, "U+00AD SOFT HYPHEN", "softly"),
    "a\u00a0b": (2, "U+00A0 NO-BREAK SPACE", "a b"),
    "a\u2060b": (2, "U+2060 WORD JOINER", "ab"),
    "a \u200d b": (3, "U+200D ZERO WIDTH JOINER", "a b"),
}
BROKEN = {
    "a &amp; b": (3, "&amp; (HTML)", "a & b"),
    "it&#39;s": (3, "&#39; (HTML)", "it's"),
    "don\u00e2\u20ac\u2122t": (
        4,
        "'\u00e2\u20ac\u2122' (UTF-8 read as Windows-1252)",
        "don\u2019t",
    ),
    "caf\u00c3\u00a9": (4, "'\u00c3\u00a9' (UTF-8 read as Windows-1252)", "caf\u00e9"),
    "it\u0092s": (3, "U+0092", "it\u2019s"),
    "a\nb": (2, "U+000A", "a b"),
    "a\tb": (2, "U+0009", "a b"),
}
BEYOND_REPAIR = {
    "caf\ufffd": (4, "U+FFFD REPLACEMENT CHARACTER"),
    "one \ud83d two": (5, "U+D83D"),
    "one\0two": (4, "U+0000"),
    "\x1b[31mone": (1, "U+001B"),
}
INNOCENT = [
    "naïve façade, À l'été, «oui»",
    "\u1781\u17d2\u1789\u17bb\u17c6\u200b\u1791\u17c5",  # Khmer parts its words by U+200B
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, U+200C
    "\U0001f469\u200d\U0001f4bb hi",  # an emoji of two
    "das \u201eÄ\u201c ist",
    "MAÇÃ\u201d",
    "AT&T, R&D; done",
    "\u201cSEÑ\u201d",
    "plain",
    "你好，世界。",
    "",
]


@pytest.mark.parametrize(("text", "expected"), INVISIBLE.items(), ids=ascii)
def test_what_is_not_seen_is_named_and_taken_out(text: str, expected: tuple[int, str, str]):
    place, name, rest = expected
    (fault,) = find_faults(text)
    assert (fault.place, fault.name, fault.is_broken) == (place, name, False)
    assert repaired(text) == (rest, [fault])
    assert find_faults(rest) == []


@pytest.mark.parametrize(("text", "expected"), BROKEN.items(), ids=ascii)
def test_what_is_broken_is_named_and_repaired(text: str, expected: tuple[int, str, str]):
    place, name, rest = expected
    (fault,) = find_faults(text)
    assert (fault.place, fault.name, fault.is_broken) == (place, name, True)
    assert repaired(text) == (rest, [fault])
    assert find_faults(rest) == []


@pytest.mark.parametrize("text", ["привет, мир", "你好。", "नमस्ते", "“curly” – dash…", "😀 fun"])
def test_text_in_the_wrong_encoding_is_read_again(text: str):
    wrong = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())
    assert find_faults(wrong)
    assert repaired(wrong)[0] == text


@pytest.mark.parametrize(("text", "expected"), BEYOND_REPAIR.items(), ids=ascii)
def test_what_is_lost_is_named_and_left(text: str, expected: tuple[int, str]):
    (fault,) = find_faults(text)
    assert (fault.place, fault.name, fault.instead) == (*expected, None)
    assert repaired(text) == (text, [])


@pytest.mark.parametrize("text", INNOCENT, ids=ascii)
def test_what_belongs_there_is_left(text: str):
    assert find_faults(text) == []
    assert repaired(text) == (text, [])


def test_what_was_broken_twice_is_repaired_twice():
    assert repaired("a &amp;amp; b")[0] == "a & b"
    assert len(repaired("a &amp;amp; b")[1]) == 2
