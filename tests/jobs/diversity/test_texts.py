"""Texts that repeat each other, and prompts that training texts cover."""

import pytest

from jobs.diversity.summary import bigram_coverage, repeated

TEN = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b", "A, b!", "b a"], [False, True, False]),
        ([TEN, TEN.replace("five", "5"), TEN.replace("one two", "1 2")], [False, True, False]),
        (["one two three", "one two four"], [False, False]),  # short texts of few words are alike
        ([TEN, TEN, TEN], [False, True, True]),
        ([], []),
    ],
)
def test_near_duplicates_of_an_earlier_text(texts, expected):
    assert repeated(texts) == expected


def test_coverage_by_hand():
    # The prompt's bigrams: "^c" "ca" "at" "t$"; the training's: "^a" "at" "t$" "^c" "co" "o$".
    assert bigram_coverage(["Cat."], ["at", "co"]) == 3 / 4
    assert bigram_coverage(["cat", "cat cat"], ["at co"]) == 3 / 4
    assert bigram_coverage(["cat"], ["The cat sat"]) == 1.0
    assert bigram_coverage(["cat"], []) == 0.0
    assert bigram_coverage(["..."], ["cat"]) is None
