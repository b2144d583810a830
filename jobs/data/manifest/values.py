"""What the keys of a list may hold."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from jobs.clips import Split
from jobs.data.findings import Finding, error
from jobs.data.manifest.lines import show
from jobs.problems import nearest
from jobs.spec.strict import LANGUAGE_TAG

REQUIRED = ("audio", "text")
_STRINGS = (*REQUIRED, "speaker", "language", "ref_audio", "split")
KEYS = (*_STRINGS, "duration")

_SPLITS: tuple[str, ...] = get_args(Split)
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
"""Control characters (Unicode's Cc), halves of surrogate pairs, and the mark of what was lost."""
_LANGUAGE = re.compile(LANGUAGE_TAG)


def check_values(values: Mapping[str, Any], where: str) -> Iterator[Finding]:
    """Every rule that the values of one clip break, whatever the audio is."""
    for key in REQUIRED:
        if key not in values:
            yield error("missing-key", where, f"the key {key} must be there", "Add it.")
    for key, value in values.items():
        if key not in KEYS:
            what = f"{show(key)} is no key of a manifest"
            yield error("unknown-key", where, what, nearest(key, KEYS))
        # null says of an optional key what leaving it out says.
        elif key in REQUIRED or value is not None:
            yield from _check_value(key, value, where)


def _check_value(key: str, value: object, where: str) -> Iterator[Finding]:
    if key in _STRINGS:
        if isinstance(value, str):
            yield from _check_string(key, value, where)
        else:
            yield _wrong_type(key, "a string", value, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not _is_duration(value):
            what = f"duration must be a number of seconds greater than 0, got {show(value)}"
            yield error("bad-duration", where, what, "Correct it, or leave it out.")
    else:
        yield _wrong_type(key, "a number", value, where)


def _check_string(key: str, value: str, where: str) -> Iterator[Finding]:
    if not value.strip():
        rule = "empty-text" if key == "text" else "empty-value"
        what = f"{key} must not be empty, got {show(value)}"
        hint = "Write what is said." if key == "text" else "Fill it in, or leave it out."
        yield error(rule, where, what, hint)
    elif key == "split" and value not in _SPLITS:
        what = f"split must be {' or '.join(_SPLITS)}, got {show(value)}"
        yield error("bad-split", where, what, "Correct it, or leave it out.")
    elif key == "language" and not _LANGUAGE.fullmatch(value):
        what = f"language must be a tag such as en, km or zh-Hant, got {show(value)}"
        yield error("bad-language", where, what, "Write it as BCP 47 has it.")
    elif key in {"text", "speaker"} and (bad := _UNSAYABLE.search(value)):
        what = (
            f"{key} must not hold control characters, halves of surrogate pairs, or U+FFFD, which "
            f"stands for what was lost, but holds U+{ord(bad.group()):04X}"
        )
        yield error("bad-characters", where, what, "Correct the text at its source.")


def _wrong_type(key: str, wanted: str, value: object, where: str) -> Finding:
    return error("wrong-type", where, f"{key} must be {wanted}, got {show(value)}", "Correct it.")


def _is_duration(value: float) -> bool:
    # A whole number of JSON may be too large for a float; NaN is in no range.
    return 0 < value <= sys.float_info.max
