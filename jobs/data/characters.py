"""Characters of a text that nobody sees or that were broken on the way: found, named, repaired."""

import html
import re
import unicodedata
from dataclasses import dataclass

_ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
_WESTERN = {bytes([byte]).decode("cp1252", "replace"): byte for byte in range(0x80, 0x100)}
_WESTERN |= {chr(byte): byte for byte in range(0x80, 0xA0)}
_WESTERN.pop("\ufffd", None)
"""The byte that each character stands for where UTF-8 was read as Windows-1252 or Latin-1."""
_FOLLOWING = "".join(re.escape(c) for c, byte in _WESTERN.items() if byte < 0xC0)


def _leads(first: int, last: int) -> str:
    return "".join(c for c, byte in _WESTERN.items() if first <= byte <= last)


_MISREAD = (
    f"(?:[{_leads(0xC2, 0xDF)}][{_FOLLOWING}]|[{_leads(0xE0, 0xEF)}][{_FOLLOWING}]{{2}}"
    f"|[{_leads(0xF0, 0xF4)}][{_FOLLOWING}]{{3}})+"
)
"""What looks like the bytes of UTF-8, one character a byte."""
_SURE = re.compile("^(?:[ÃÂ]|â[€„ˆ‚]|ï»¿|ï¼|ðŸ|ã€)")
"""How what is no language's spelling begins; anything else must be two characters or more."""
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f"
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
_LINES = "\u2028\u2029"
_CONTROL = "\x00-\x1f\x7f-\x9f"
_FAULT = re.compile(
    f"(?P<entity>{_ENTITY})|(?P<misread>{_MISREAD})|(?P<space>[{_SPACES}])|(?P<line>[{_LINES}])"
    f"|(?P<invisible>[{_INVISIBLE}])|(?P<control>[{_CONTROL}])|(?P<lost>[\ud800-\udfff\ufffd])"
)
_JOINERS = "\u200b\u200c\u200d"
_NAMES = "LATIN GREEK CYRILLIC CJK HIRAGANA KATAKANA HANGUL ARMENIAN GEORGIAN HEBREW ETHIOPIC"
_NOT_JOINED = frozenset(_NAMES.split())
"""Scripts, by the first word of their letters' names, that need no joiners between letters."""
_ROUNDS = 3
"""Times that a text is repaired, where it was broken more than once."""


@dataclass(frozen=True)
class CharacterFault:
    """A place in a text that cannot be meant so."""

    place: int
    """Of its first character, from 1."""
    name: str
    """Code point and name, or as written, and what it is."""
    instead: str | None
    """What it was, or reads like; None where that is lost."""
    is_broken: bool
    """Whether a model would learn another text, rather than the same with more tokens."""


def find_faults(text: str) -> list[CharacterFault]:
    """Every fault of ``text``, in order."""
    faults = (_look(match, text) for match in _FAULT.finditer(text))
    return [fault for fault in faults if fault is not None]


def repaired(text: str) -> tuple[str, list[CharacterFault]]:
    """``text`` with what can be repaired repaired, and what that was.

    Spaces that were left beside others are closed up.
    """
    mended: list[CharacterFault] = []
    for _ in range(_ROUNDS):
        found: list[CharacterFault] = []

        def mend(
            match: re.Match[str], whole: str = text, found: list[CharacterFault] = found
        ) -> str:
            fault = _look(match, whole)
            if fault is None or fault.instead is None:
                return match.group()
            found.append(fault)
            return fault.instead

        text = _FAULT.sub(mend, text)
        if not found:
            break
        mended += found
    return (" ".join(text.split()) if mended else text), mended


def _look(match: re.Match[str], text: str) -> CharacterFault | None:
    kind, found, place = match.lastgroup, match.group(), match.start() + 1
    point = f"U+{ord(found[0]):04X}"
    named = f"{point} {unicodedata.name(found[0], '')}".rstrip()
    if kind == "entity":
        meant = html.unescape(found)
        return None if meant == found else CharacterFault(place, f"{found} (HTML)", meant, True)
    if kind == "misread":
        again = _read_again(found, text[: match.start()])
        if again is not None:
            return CharacterFault(place, f"{found!r} (UTF-8 read as Windows-1252)", again, True)
        meant = "".join(map(_as_western, found))
        return (
            None if meant == found else CharacterFault(place, f"{found!r} (controls)", meant, True)
        )
    if kind == "space":
        return CharacterFault(place, named, " ", False)
    if kind == "line":
        return CharacterFault(place, named, " ", False)
    if kind == "control":
        western = bytes([ord(found)]).decode("cp1252", "ignore") if ord(found) > 0x7F else ""
        return CharacterFault(
            place, named, western or (" " if found in "\t\n\r\x0b\x0c\x85" else None), True
        )
    if kind == "lost":
        return CharacterFault(place, named, None, True)
    if found in _JOINERS and _joins(text[: match.start()], text[match.end() :]):
        return None
    return CharacterFault(place, named, "", False)


def _as_western(character: str) -> str:
    """What a control of Latin-1 is as Windows-1252; any other character itself."""
    if "\x80" <= character <= "\x9f":
        return bytes([ord(character)]).decode("cp1252", "ignore") or character
    return character


def _read_again(found: str, before: str) -> str | None:
    """What ``found`` says as UTF-8; None where it may be meant as it stands, after ``before``."""
    try:
        meant = bytes(_WESTERN[c] for c in found).decode("utf-8")
    except UnicodeDecodeError:
        return None
    # A capital and a closing quote may end what is shouted.
    is_sure = len(meant) > 1 or (_SURE.match(found) is not None and not before[-1:].isupper())
    return meant if is_sure and not any(unicodedata.category(c) == "Cn" for c in meant) else None


def _joins(before: str, after: str) -> bool:
    """Whether a joiner between two texts belongs there: in a script that has them, or an emoji."""
    for beside in (before[-1:], after[:1]):
        category = unicodedata.category(beside) if beside else ""
        if category in {"So", "Sk"} or beside == "\ufe0f":
            return True
        if category[:1] in {"L", "M"}:
            script = unicodedata.name(beside, "?").partition(" ")[0]
            if script not in _NOT_JOINED and script != "COMBINING":
                return True
    return False
