"""Checks of the text of one clip."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.data.annotations import Spoken, pinyin_beside, spoken_part
from jobs.data.characters import CharacterFault, find_faults, repaired
from jobs.data.checks.limits import Limits
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error, warning
from jobs.data.texts import control_tokens, normalise_text
from jobs.families.description import TokenCounter
from jobs.spec.data import DataSpec

_SHOWN = 5
"""Characters that a finding names."""
_LONGEST = 120
"""Characters of a text that a finding shows."""
_ANSWER = (
    "Name it in data.spoken to learn its words, or in data.annotations to take it out; a pattern "
    "such as 'door *' names several."
)


@dataclass(frozen=True)
class TextChange:
    """What is learned of a row, and how its text was changed for it."""

    row: ManifestRow
    """With the text that is learned, and the written one beside it where they differ."""
    spoken: Spoken
    """What was found in brackets, after the repair of characters."""
    mended: tuple[CharacterFault, ...]
    """What was repaired."""

    stripped: bool
    """Whether what is no speech was taken out."""

    def counts(self) -> Counter[str]:
        """How often each kind of change was made."""
        made = Counter(each.name for each in self.mended)
        if self.stripped:
            made["annotations taken out"] = len(self.spoken.removed)
            made["emphasis and brackets taken off"] = len(self.spoken.freed)
        return +made


def learned_text(written: ManifestRow, data: DataSpec) -> TextChange:
    """The row as it is learned: characters repaired and annotations stripped, if that is asked."""
    text, mended = repaired(written.text) if data.clean else (written.text, [])
    found = spoken_part(text, data.spoken, data.annotations)
    if data.tags == "strip":
        text = found.text
    row = written if text == written.text else replace(written, text=text, written=written.text)
    return TextChange(row, found, tuple(mended), data.tags == "strip")


def _check_characters(written: ManifestRow, change: TextChange) -> Iterator[Finding]:
    """Characters that are broken or not seen, with code point and place."""
    where = written.where
    if change.mended:
        what = f"{_list_faults(change.mended)}: {_before_and_after(written.text, change.row.text)}"
        yield warning(
            "text-cleaned", where, f"text was repaired, {what}", "Look whether it reads so."
        )
    faults = find_faults(repaired(written.text)[0] if change.mended else written.text)
    if broken := [fault for fault in faults if fault.is_broken]:
        what = f"text must have no broken characters, but has {_list_faults(broken)}"
        advice = "Correct the text at its source"
        if all(fault.instead is not None for fault in broken):
            advice += ", or set data.clean: true"
        yield error("bad-characters", where, what, f"{advice}.")
    elif faults:
        what = f"text should have no characters that are not seen, but has {_list_faults(faults)}"
        advice = "Take them out, or set data.clean: true."
        yield warning("text-invisible", where, what, advice)


def _list_faults(faults: Sequence[CharacterFault]) -> str:
    told = [f"{fault.name} at {fault.place}" for fault in faults[:_SHOWN]]
    return ", ".join(told) + f" and {len(faults) - _SHOWN} more" * (len(faults) > _SHOWN)


def _before_and_after(written: str, learned: str) -> str:
    return f"{_shortened(written)} is learned as {_shortened(learned)}"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def check_text(
    written: ManifestRow,
    change: TextChange,
    data: DataSpec,
    limits: Limits,
    reader: TokenCounter | None,
) -> Iterator[Finding]:
    """Findings in the manifest's text, ``written``, and in what is trained on."""
    where, learned = written.where, change.row
    characters = list(_check_characters(written, change))
    yield from characters
    if any(each.severity == "error" for each in characters):
        return
    if own := control_tokens(written.text):
        what = f"text must not hold a model's own tokens, but it has {_quoted(own)}"
        yield error("text-control", where, what, "Take them out.")
        return
    if pinyin := pinyin_beside(learned.text):
        what = f"text must be characters alone, but has their pinyin beside them: {_quoted(pinyin)}"
        command = r"perl -CSD -Mutf8 -pe 's/(\p{Han}) *[a-zü]+[1-5] */$1/g' FILE > NEW"
        advice = f"Take it out: {command}, and use NEW."
        yield error("text-pinyin", where, what, advice)
        return
    tags = list(_check_tags(written, change, data))
    yield from tags
    if any(each.severity == "error" for each in tags):
        return
    if not normalise_text(learned.text):
        what = f"text must have a letter or a digit, got {written.text!r}"
        yield error("empty-text", where, what, "Write what is said, or drop the clip.")
        return
    if data.language_tag and learned.language is None:
        what = "data.language_tag needs a language for each clip, but this one has none"
        yield error("language-missing", where, what, "Add the key language.")
    if reader is None:
        return
    try:
        tokens = reader(learned.text, learned.language)
    except ValueError as reason:
        what = f"the base must be able to read the text, but: {reason}"
        yield error("text-unreadable", where, what, "Correct it, or drop the clip.")
        return
    if limits.max_tokens is not None and tokens > limits.max_tokens:
        what = (
            f"text must have at most {limits.max_tokens} tokens ({limits.tokens_by}), got {tokens}"
        )
        yield error("text-long", where, what, "Cut the clip in two, or drop it.")


def _check_tags(written: ManifestRow, change: TextChange, data: DataSpec) -> Iterator[Finding]:
    """Annotations and brackets: what is taken out, what must be asked, what may be meant."""
    where, found = written.where, change.spoken
    if found.lost:
        what = f"text must have all that is said, but {_quoted(found.lost)} stands for words"
        yield error("text-lost", where, what, "Write what is said, or drop the clip.")
    changed = (*found.removed, *found.freed)
    if data.tags == "reject" and (bad := (*changed, *found.unclear)):
        what = f"text must be what is said, but it has {_quoted(bad)}"
        advice = "Take them out, or set data.tags: strip."
        yield error("text-tag", where, what, advice)
        return
    if found.unclear:
        what = f"text must be what is said, but is {_quoted(found.unclear)} said?"
        yield error("text-bracket", where, what, _ANSWER)
    if found.mentioned:
        what = f"{_quoted(found.mentioned)} names a sound, and is learned as speech"
        yield warning("text-bracket", where, what, "If it is none, name it in data.annotations.")
    if changed:
        rest = _before_and_after(written.text, change.row.text)
        what = f"text must be what is said, but it has {_quoted(changed)}: {rest}"
        yield warning("text-tag", where, what, "Look whether nothing is lost that is said.")


def _quoted(found: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(found))
