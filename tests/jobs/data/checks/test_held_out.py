"""A check knows how many clips will be held out, and what holds out enough."""

from jobs.data.checks.check import Checked
from jobs.data.checks.held_out import small_splits
from jobs.data.clips import ManifestRow, TargetClip
from jobs.data.order.split import assign_splits
from jobs.spec.data import DataSpec, SplitSpec


def row(number: int, speaker: str | None = "ann", split=None) -> ManifestRow:
    return ManifestRow(
        where=f"m:{number}",
        audio=f"/{number}.wav",
        text=f"text {number}",
        speaker=speaker,
        manifest="m",
        split=split,
    )


def checked(rows: list[ManifestRow], drawn: frozenset[str] = frozenset({"m"})) -> Checked:
    clips = [TargetClip(each, str(each.where), 16_000, 1.0) for each in rows]
    return Checked(clips, [], 0, 16_000, {}, drawn)


def told(of: Checked, **data) -> list[tuple[str, str]]:
    found = list(small_splits(of, DataSpec(manifest=("m",), **data)))
    assert {(each.rule, each.severity) for each in found} <= {("split-small", "warning")}
    return [(each.problem.what, each.problem.next_step) for each in found]


def test_ninety_clips_hold_out_nine_and_the_share_that_helps_is_named():
    rows = assign_splits([row(number) for number in range(90)], SplitSpec())
    ((what, step),) = told(checked(rows))
    assert what == "similarity needs 10 validation clips of 'ann', but 9 of 90 are held out"
    assert step == "Set data.split.validation: 0.2."
    again = assign_splits([row(number) for number in range(90)], SplitSpec(validation=0.2))
    assert told(checked(again)) == []


def test_a_share_is_enough_for_the_speaker_that_needs_it():
    rows = [row(number, "ann" if number < 30 else "bob") for number in range(300)]
    by_speaker = SplitSpec(by="speaker")
    ((what, step),) = told(checked(assign_splits(rows, by_speaker)), split=by_speaker)
    assert "of 'ann', but 3 of 30" in what
    assert step == "Set data.split.validation: 0.4."
    # 0.3 of 30 are 9; the other speaker has 27 at 0.1 already.
    assert told(checked(assign_splits(rows, by_speaker)), split=by_speaker, target="bob") == []


def test_too_few_clips_need_more_of_them():
    rows = assign_splits([row(number, None) for number in range(15)], SplitSpec())
    ((what, step),) = told(checked(rows))
    assert what.startswith("similarity needs 10 validation clips, but 2 of 15")
    assert step == "Record more: half of the clips are fewer than 10."


def test_where_the_manifest_splits_more_are_to_be_marked():
    rows = [row(number, split="validation" if number < 3 else "train") for number in range(60)]
    ((_, step),) = told(checked(rows, frozenset()))
    assert step == "Mark more as validation."
