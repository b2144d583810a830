"""Checks of the text of one clip."""

from collections.abc import Iterator
from dataclasses import replace

from jobs.data.checks.limits import Limits
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error, warning
from jobs.data.texts import annotations, control_tokens, normalise_text, without_annotations
from jobs.families.description import TokenCounter
from jobs.spec.data import DataSpec


def strip_annotations(row: ManifestRow, data: DataSpec) -> ManifestRow:
    """The row without annotations, if the spec asks for that."""
    if data.tags == "reject" or not annotations(row.text):
        return row
    return replace(row, text=without_annotations(row.text))


def check_text(
    written: ManifestRow,
    learned: ManifestRow,
    data: DataSpec,
    limits: Limits,
    reader: TokenCounter | None,
) -> Iterator[Finding]:
    """Findings in the manifest's text, ``written``, and in what is trained on, ``learned``."""
    where = written.where
    if own := control_tokens(written.text):
        what = f"text must not hold a model's own tokens, but it has {_quoted(own)}"
        yield error("text-control", where, what, "Take them out.")
        return
    if tags := annotations(written.text):
        what = f"text must be what is said, but it has {_quoted(tags)}"
        if data.tags == "strip":
            yield warning("text-tag", where, what, "Taken out of what is learned.")
        else:
            advice = "Take them out, or set data.tags: strip."
            yield error("text-tag", where, what, advice)
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
        tokens = reader(learned.text, learned.language if data.language_tag else None)
    except ValueError as reason:
        what = f"the base must be able to read the text, but: {reason}"
        yield error("text-unreadable", where, what, "Correct it, or drop the clip.")
        return
    if limits.max_tokens is not None and tokens > limits.max_tokens:
        what = (
            f"text must have at most {limits.max_tokens} tokens ({limits.tokens_by}), got {tokens}"
        )
        yield error("text-long", where, what, "Cut the clip in two, or drop it.")


def _quoted(found: list[str]) -> str:
    return ", ".join(dict.fromkeys(found))
