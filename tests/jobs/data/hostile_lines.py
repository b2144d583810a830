"""Hostile lines of a manifest."""

import codecs
import json
from pathlib import Path

from tests.jobs.data.hostile_case import Case, line_case, row, write_lines


def as_text(**changes: object) -> str:
    return json.dumps(row(**changes))


def byte_order_mark(root: Path) -> None:
    write_lines(root, codecs.BOM_UTF8 + as_text().encode(), row())


def carriage_returns(root: Path) -> None:
    write_lines(root, row(), as_text() + "\r", as_text() + "\r")


def utf_16(root: Path) -> None:
    write_lines(root)
    (root / "manifest.jsonl").write_bytes(as_text().encode("utf-16"))


def last_line_cut(root: Path) -> None:
    write_lines(root, row(), row())
    with (root / "manifest.jsonl").open("ab") as file:
        file.write(as_text().encode()[:-9])


CASES = [
    Case("byte order mark", "byte-order-mark", byte_order_mark, "manifest.jsonl:1", 2, "warning"),
    Case("crlf", "crlf", carriage_returns, "manifest.jsonl:2", 3, "warning"),
    Case("utf-16", "utf-16", utf_16, "manifest.jsonl:1", 1, "warning"),
    Case("the end is cut off", "not-json", last_line_cut, "manifest.jsonl:3", 2),
    Case("empty manifest", "no-clips", write_lines, "manifest.jsonl", 0),
    line_case("latin-1", "not-utf8", as_text(text="x").encode().replace(b"x", b"\xe9")),
    line_case("10 MB line", "line-too-long", as_text(text="a" * 10_000_000)),
    line_case("10 MB of no line", "line-too-long", b"\0" * 10_000_000),
    line_case("blank line", "blank-line", ""),
    line_case("spaces", "blank-line", " \t "),
    line_case("broken off", "not-json", '{"audio": "good.wav", "text'),
    line_case("two objects", "not-json", as_text() + as_text()),
    line_case("single quotes", "not-json", str(row())),
    line_case("nested too deeply", "not-json", "[" * 200_000),
    line_case("objects nested too deeply", "not-json", '{"a":' * 100_000),
    line_case("a number of 5000 digits", "not-json", f'{{"duration": {"9" * 5000}}}'),
    line_case("a list", "not-an-object", "[1, 2]"),
    line_case("null", "not-an-object", "null"),
    line_case("a path alone", "not-an-object", '"good.wav"'),
    line_case(
        "duplicate key", "duplicate-key", '{"audio": "good.wav", "text": "one", "text": "two"}'
    ),
    line_case("unknown key", "unknown-key", row(speeker="ann")),
    line_case("no text", "missing-key", {"audio": "good.wav"}),
    line_case("no audio", "missing-key", {"text": "one"}),
    line_case("null text", "wrong-type", row(text=None)),
    line_case("a number as text", "wrong-type", row(text=7)),
    line_case("a list as audio", "wrong-type", row(audio=["good.wav"])),
    line_case("a string as duration", "wrong-type", row(duration="1.5")),
    line_case("true as duration", "wrong-type", row(duration=True)),
    line_case("an object as speaker", "wrong-type", row(speaker={"name": "ann"})),
    line_case("empty text", "empty-text", row(text="")),
    line_case("text of spaces", "empty-text", row(text=" \u3000\n")),
    line_case("empty speaker", "empty-value", row(speaker="")),
    line_case("empty audio", "empty-value", row(audio="")),
    line_case("negative duration", "bad-duration", row(duration=-1.5)),
    line_case("no duration", "bad-duration", row(duration=0)),
    line_case("nan as duration", "bad-duration", row(duration=float("nan"))),
    line_case(
        "endless duration", "bad-duration", '{"audio":"good.wav","text":"a","duration":1e999}'
    ),
    line_case("duration of 400 digits", "bad-duration", row(duration=10**400)),
    line_case("half a surrogate pair", "bad-characters", row(text="one \ud83d two")),
    line_case("nul in a text", "bad-characters", row(text="one\0two")),
    line_case("an escape sequence in a text", "bad-characters", row(text="\x1b[31mone")),
    line_case("a line feed in a text", "bad-characters", row(text="one\ntwo")),
    line_case("a lost character", "bad-characters", row(text="caf\ufffd")),
    line_case("a bell as speaker", "bad-characters", row(speaker="ann\7")),
    line_case("unknown split", "bad-split", row(split="test")),
    line_case("a language by its name", "bad-language", row(language="Khmer!")),
    line_case("a language with a line feed", "bad-language", row(language="km\n")),
    line_case("joiners and emoji", None, row(text="\u1780\u200b\u1781 می\u200cخواهم 😀")),
    line_case("line separators in a text", None, row(text="one\u2028two")),
]
