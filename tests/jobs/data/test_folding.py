"""Texts that are the same speech are folded to one."""

import pytest

from jobs.data.folding import folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, World!", "hello world"),
        ("Caf\u00e9", "Cafe\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("one\u200btwo", "onetwo"),
        ("so\u00adft \u2060word\ufeff", "soft word"),
        ("\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"),
        ("\u1781\u17d2\u1798\u17c2\u179a\u200b\u1797\u17b6\u179f\u17b6", "ខ្មែរភាសា"),
        ("\u17e2\u17e5 នាក់", "25 នាក់"),
        ("\uff26\uff55\uff4c\uff4c １２", "full 12"),
        ("Don't stop", "dont  stop."),
        ("twenty-five people", "25 people"),
        ("three one four", "3 1 4"),
        ("nineteen ninety nine", "1999"),
        ("one hundred and five", "105"),
        ("two thousand three hundred and forty-one", "2,341"),
        ("one million two hundred thousand", "1200000"),
    ],
)
def test_one_text_in_two_spellings(one, other):
    assert folded(one) == folded(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe"),
        ("\u1780\u17b6", "\u1780\u17b7"),
        ("fifteen", "fifty"),
        ("twenty one", "twenty, two"),
        ("two hundred and a dog", "two hundred a dog"),
    ],
)
def test_other_speech_stays_apart(one, other):
    assert folded(one) != folded(other)


def test_a_text_without_letters_is_empty():
    assert folded("?! \u200b \U0001f600") == ""


def test_words_that_form_no_number_together_stay_side_by_side():
    assert folded("one hundred and the rest") == "100andtherest"
    assert folded("a hundred and") == "ahundredand"
    assert folded("zero five hundred") == "0500"
