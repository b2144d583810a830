"""Texts that repeat another's, in any script, and however many there are."""

import random

import pytest

from jobs.data import near_texts
from jobs.data.near_texts import distinct_texts, nearest_repeats, repeats


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The birch canoe slid on the smooth planks.", "The birch canoe slid on the rough planks"),
        (
            "오늘은 날씨가 정말 좋아서 공원에 가고 싶어요",
            "오늘은 날씨가 정말 나빠서 공원에 가고 싶어요",
        ),
        ("ថ្ងៃនេះអាកាសធាតុល្អណាស់ខ្ញុំចង់ទៅសួនច្បារ", "ថ្ងៃនេះអាកាសធាតុល្អណាស់ខ្ញុំចង់ទៅផ្សារ"),
        ("今天天气很好我们去公园吧", "今天天气很好我们去学校吧"),
        ("Hello, how are you this evening?", "Hello! How are you this evening, my friend?"),
    ],
)
def test_one_other_word_leaves_a_near_duplicate(one, other):
    (found,) = repeats([one], [other])
    assert near_texts.SIMILAR <= found.similarity < 1
    assert str(found) == f"{found.similarity:.0%} of their character trigrams in common"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The birch canoe slid on the smooth planks.", "Glue the sheet to the dark blue board."),
        ("សួស្តី តើអ្នកសុខសប្បាយទេ", "តម្លៃប៉ុន្មានសម្រាប់មួយគីឡូ"),
        ("오늘은 날씨가 정말 좋아요", "저는 어제 친구를 만났어요"),
        ("three one four", "three one five"),  # too short: other digits are another text
        ("", "..."),
    ],
)
def test_other_texts_are_no_repeats(one, other):
    assert list(repeats([one], [other])) == []


def test_the_similarity_is_the_jaccard_index_of_trigrams():
    # 14 trigrams each, of which the last three differ.
    (found,) = repeats(["abcdefghijklmnop"], ["abcdefghijklm" + "xyz"])
    assert found.similarity == 11 / 17
    (equal,) = repeats(["Twenty five"], ["25."])
    assert (equal.similarity, str(equal)[:8]) == (1.0, "the same")


def test_of_many_the_most_similar_is_named_whatever_the_batches(monkeypatch):
    fresh = ["the quick brown fox jumps", "over a lazy dog that sleeps"]
    texts = [
        "nothing like them in here",
        "the quick brown fox jumped",
        "the quick brown fox jumps!",
    ]
    (found,) = nearest_repeats(texts, fresh)
    assert tuple(found) == (2, 0, 1.0)
    every = list(repeats(texts, fresh))
    monkeypatch.setattr(near_texts, "_BATCH", 1)
    assert list(repeats(texts, fresh)) == every


def test_the_batches_find_what_a_comparison_of_all_pairs_finds():
    chance = random.Random(7)
    texts = ["".join(chance.choices("abc", k=24)) for _ in range(60)]

    def grams(text):
        return {text[at : at + 3] for at in range(len(text) - 2)}

    expected = [
        (i, j)
        for i, one in enumerate(texts)
        for j, other in enumerate(texts)
        if len(grams(one) & grams(other)) / len(grams(one) | grams(other)) >= near_texts.SIMILAR
    ]
    assert [(place, other) for place, other, _ in repeats(texts, texts)] == expected
    assert len(expected) > 100


def test_repeats_of_repeats_are_one_text():
    words = [
        "alpha",
        "bravo",
        "charlie",
        "delta",
        "echo",
        "foxtrot",
        "golf",
        "hotel",
        "india",
        "juliet",
    ]
    chain = [" ".join(words[at : at + 6]) for at in range(4)]
    assert len(list(repeats(chain[:1], chain[3:]))) == 0
    assert distinct_texts((*chain, "another text", "Another text!", "one more")) == (
        *(0, 0, 0, 0),
        *(1, 1),
        2,
    )
    assert distinct_texts(()) == ()
