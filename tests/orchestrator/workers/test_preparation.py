"""What is found before the first trial, once the clips are encoded."""

import pytest

from cluster.storage.base import LocalStorage
from jobs.data.findings import error, warning
from jobs.problems import InputError
from orchestrator.spec.inputs import Inputs
from orchestrator.workers.preparation import notes_of, prepare_sweep
from tests.embedded_voice import embedded_clips

ENOUGH = "search: {space: {batch_tokens: [null, 4000]}}"


def test_a_clip_that_no_token_budget_takes_is_told_before_the_base_has_spoken(make_spec, tmp_path):
    search = "search: {space: {batch_tokens: [null, 9, 4000]}}"
    spec = make_spec(search=search, training="training: {batch_tokens: 5}")
    assert spec.least_batch_tokens == 9  # the space says, not what it replaces
    few = [clip for clip in embedded_clips() if clip.row.split == "train"][:3]
    storage = LocalStorage(tmp_path / "st")
    inputs = Inputs(few, [], 0, [], [])
    with pytest.raises(ValueError, match=r"must fit into training\.batch_tokens, 9, but 3 of 3"):
        prepare_sweep(spec, inputs, storage.url, ())
    enough, _, heard = prepare_sweep(make_spec(search=ENOUGH), inputs, storage.url, ())
    assert heard == [
        "listened to 3 of 3 clips with the embedded recogniser: 0 say something else than their "
        "text (0.0%, 95 % interval 0.0% to 56.1%)"
    ]
    assert prepare_sweep(make_spec(), inputs, storage.url, ())[:2] == (enough, 0)


FOUND = [
    error("text-other", "m", "texts should be what is said", "Correct them."),
    warning("text-end", "m", "last words should be said", "Look."),
]


def test_what_was_heard_in_most_clips_ends_a_sweep_unless_it_is_accepted():
    with pytest.raises(InputError, match=r"Correct them\. If .* set data\.accept: \[text-other\]"):
        notes_of(FOUND, ())
    with pytest.raises(InputError):
        notes_of(FOUND, ("text-end",))
    assert notes_of(FOUND, ("text-other",)) == [str(each.problem) for each in FOUND]
    assert notes_of(FOUND[1:], ()) == ["m: last words should be said. Look."]


def test_what_may_be_accepted(make_spec):
    spec = make_spec(data="data: {manifest: embedded, accept: [text-other, text-end]}")
    assert spec.data.accept == ("text-other", "text-end")
    with pytest.raises(InputError, match=r"accept"):
        make_spec(data="data: {manifest: embedded, accept: [audio-silent]}")


@pytest.mark.parametrize(
    ("sections", "least"),
    [
        ({}, None),
        ({"training": "training: {batch_tokens: 700}"}, 700),
        ({"search": "search: {space: {batch_tokens: {low: 500, high: 9000, log: true}}}"}, 500),
        ({"search": "search: {space: {batch_tokens: [null]}}"}, None),
    ],
)
def test_the_smallest_budget_that_a_trial_may_have(make_spec, sections, least):
    assert make_spec(**sections).least_batch_tokens == least
