"""Texts folded: what is left where two of them are the same speech."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
"""What is not seen, zero-width spaces and joiners among it: Unicode's property
Default_Ignorable_Code_Point, without the signs of musical and shorthand notation."""
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_UNITS.split())}
_SMALL |= {word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)}
_LARGE = {"thousand": 1000, "million": 1_000_000}
_HUNDRED = "hundred"
_NUMBER_WORDS = frozenset((*_SMALL, *_LARGE, _HUNDRED))


class _Characters(dict[int, str]):
    """What a character becomes: a digit its value, a letter or mark itself, another a space."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        digit = unicodedata.decimal(character, None)
        kept = character if unicodedata.category(character)[0] in "LMN" else " "
        self[point] = kept if digit is None else str(digit)
        return self[point]


_CHARACTERS = _Characters()


def folded(text: str) -> str:
    """The letters, marks and digits of ``text``, without case, punctuation and spaces.

    In Unicode's NFKC and without characters that are not seen. Digits of every script are 0 to 9,
    and English cardinals are digits too: ``twenty-five`` is ``25``. Number words of other
    languages stay words.
    """
    plain = unicodedata.normalize("NFKC", _IGNORABLE.sub("", text)).casefold()
    words = unicodedata.normalize("NFKC", plain).translate(_CHARACTERS).split()
    return "".join(words if _NUMBER_WORDS.isdisjoint(words) else _with_digits(words))


def _with_digits(words: Sequence[str]) -> Iterator[str]:
    """English cardinals as digits; those that form no number together stand side by side."""
    number: int | None = None
    part = 0  # of the number, what follows its last thousand or million
    for word, following in zip(words, (*words[1:], ""), strict=True):
        value = _SMALL.get(word)
        is_round = number is not None and part % 100 == 0 and number + part > 0
        if word == "and" and is_round and following in _SMALL:
            continue  # one hundred and five
        if value and number is not None and (is_round or (_is_tens(part) and value < 10)):
            part += value
        elif word == _HUNDRED and number is not None and 0 < part < 100:
            part *= 100
        elif word in _LARGE and number is not None and part:
            number, part = number + part * _LARGE[word], 0
        else:
            if number is not None:
                yield str(number + part)
            number, part = (None, 0) if value is None else (0, value)
            if value is None:
                yield word
    if number is not None:
        yield str(number + part)


def _is_tens(part: int) -> bool:
    return part % 10 == 0 and part % 100 >= 20
