"""Whether enough clips are held out to compare speech with, and what to do where they are not."""

from collections import Counter
from collections.abc import Iterator

from jobs.data.checks.check import Checked
from jobs.data.findings import Finding, warning
from jobs.data.order.split import share_that_holds_out
from jobs.metrics.references import MIN_REFERENCES
from jobs.spec.data import DataSpec


def small_splits(checked: Checked, data: DataSpec) -> Iterator[Finding]:
    """A warning for each speaker with too few validation clips for ``similarity``.

    None while there are errors: clips that are corrected count again.
    """
    if checked.errors:
        return
    held_out = Counter(c.row.speaker for c in checked.clips if c.row.split == "validation")
    spoken = Counter(clip.row.speaker for clip in checked.clips)
    for speaker in (data.target,) if data.target in spoken else spoken:
        count = held_out[speaker]
        if count < MIN_REFERENCES:
            whose = "" if speaker is None else f" of {speaker!r}"
            what = (
                f"similarity needs {MIN_REFERENCES} validation clips{whose}, but "
                f"{count} of {spoken[speaker]} are held out"
            )
            step = f"{how_to_hold_out(checked, data, speaker)}."
            yield warning("split-small", ", ".join(data.paths), what, step)


def how_to_hold_out(checked: Checked, data: DataSpec, speaker: str | None) -> str:
    """What holds out enough clips of a speaker: a share of the split, or marks in the manifest."""
    rows = [clip.row for clip in checked.clips if clip.row.manifest in checked.drawn]
    if not any(row.speaker == speaker for row in rows):
        return "Mark more as validation"
    share = share_that_holds_out(rows, data.split, MIN_REFERENCES, speaker)
    if share is None:
        return f"Record more: half of the clips are fewer than {MIN_REFERENCES}"
    return f"Set data.split.validation: {share}"
