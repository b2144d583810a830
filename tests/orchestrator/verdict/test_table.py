"""Scores are lined up by prompt and seed; nothing that failed is dropped."""

import math

import numpy as np
import pytest

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.protocol import RATIO_SOURCES, MetricVersion
from orchestrator.verdict.table import ScoreTable, ScoreTableError, scientific


def test_seeds_of_a_prompt_are_averaged_first(base, info, speak, make_protocol):
    clips = [*speak(BASE_VARIANT), *speak(BASE_VARIANT, seed=1)]
    clips += [*speak("v", p808=[3, 3, 3, 3]), *speak("v", seed=1, p808=[4, 5, 3, 3])]
    table = ScoreTable.build([base, info("v")], clips, make_protocol())
    assert len(table.keys) == 8
    assert table.by_prompt(table.values["v"]["p808"]).tolist() == [3.5, 4.0, 3.0, 3.0]


def test_a_part_of_a_table_is_the_table_of_that_part(base, info, speak, make_protocol):
    lost = ClipScores("v", "p1", 0, {}, {"p808": "no speech found"})
    said = [
        *speak(BASE_VARIANT),
        *(c for c in speak("v", p808=[4, 5, 3, 2]) if c.prompt != "p1"),
        lost,
    ]
    infos = [base, info("v"), info("w")]
    protocol = make_protocol()
    whole = ScoreTable.build(infos, [*said, *speak("w")], protocol)
    some = protocol.model_copy(update={"prompts": protocol.prompts[1:3]})
    kept = [clip for clip in said if clip.prompt in ("p1", "p2")]
    part = ScoreTable.build(infos[:2], kept, some)
    again = whole.of([BASE_VARIANT, "v"]).only({"p1", "p2"})
    assert (again.prompts, again.keys, again.missing) == (part.prompts, part.keys, part.missing)
    assert again.variants == part.variants
    for name, columns in part.values.items():
        for metric, values in columns.items():
            np.testing.assert_array_equal(again.values[name][metric], values)


def test_a_failed_metric_holds_its_worst_bound_and_the_reason(base, info, speak, make_protocol):
    silent = ClipScores("v", "p1", 0, {}, {"p808": "no speech found"})
    clips = [*speak(BASE_VARIANT), *(c for c in speak("v") if c.prompt != "p1"), silent]
    table = ScoreTable.build([base, info("v")], clips, make_protocol())
    assert table.values["v"]["p808"].tolist() == [3.0, 1.0, 3.0, 3.0]
    assert table.values["v"]["tail_silence"][1] == 30.0
    assert table.missing["v"]["p808"] == {("p1", 0): "no speech found"}
    assert table.missing["v"]["duration"] == {("p1", 0): "no value"}


def test_a_value_that_is_no_number_is_a_failed_metric(make_table):
    table = make_table(v={"p808": [3, math.nan, 3, math.inf]})
    assert table.values["v"]["p808"].tolist() == [3.0, 1.0, 3.0, 1.0]
    assert table.missing["v"] == {"p808": {("p1", 0): "no value", ("p3", 0): "no value"}}


def test_a_truncated_set_counts_the_missing_clips(base, info, speak, make_protocol):
    clips = [*speak(BASE_VARIANT), *speak("v", prompts=3)]
    table = ScoreTable.build([base, info("v")], clips, make_protocol())
    assert table.missing["v"]["p808"] == {("p3", 0): "no clip"}
    assert table.values["v"]["p808"][3] == 1.0


def test_a_finalist_metric_is_absent_where_it_was_not_asked_for(base, info, speak, make_protocol):
    word_error = MetricVersion(
        name="word_error", version="1", unit="share", direction="lower", low=0, high=1
    )
    healthy = make_protocol()
    protocol = make_protocol(
        metrics=(*healthy.metrics, word_error), finalist_metrics=("word_error",)
    )
    heard = {"word_error": [0.1, 0.1, math.nan, 0.1]}
    clips = [
        *speak(BASE_VARIANT, word_error=[0.1] * 4),
        *speak("finalist", **heard),
        *speak("other"),
    ]
    table = ScoreTable.build([base, info("finalist"), info("other")], clips, protocol)
    assert table.values["finalist"]["word_error"].tolist() == [0.1, 0.1, 1.0, 0.1]
    assert "word_error" not in table.values["other"]
    assert not table.missing["other"]


def test_all_problems_are_reported_together(base, info, speak, make_protocol):
    clips = [
        *speak(BASE_VARIANT, prompts=3),
        *speak("v"),
        *speak("v")[:1],
        *speak("v", seed=5)[:1],
        *speak("stranger")[:1],
        ClipScores("v", "elsewhere", 0, {"p809": 3.0}),
    ]
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable.build([base, info("v"), info("v")], clips, make_protocol())
    lines = str(caught.value).splitlines()
    assert lines == [
        "a variant is listed once, got 'v' 2 times: list it once",
        "the base speaks every prompt, got no scored clip of prompt 'p3': score the base first",
        "a clip is paired with the base's of the same seed, got seed 5 at variant 'v', "
        "prompt 'p0', seed 5: score the base with that seed",
        "a clip is scored once, got 2 rows at variant 'v', prompt 'p0', seed 0: keep one",
        "a clip's prompt is in the protocol, got 'elsewhere' at variant 'v', "
        "prompt 'elsewhere', seed 0: judge these scores with the protocol they were made under",
        "a score's metric is in the protocol, got 'p809' at variant 'v', prompt 'elsewhere', "
        "seed 0: use one of clipping, duration, end_of_speech_failure, p808, speaker_similarity, "
        "speaking_rate, tail_silence",
        "a clip's variant is a known one, got 'stranger' at variant 'stranger', prompt 'p0', "
        "seed 0: list the variant or remove the clip",
    ]


def test_no_base_is_an_error_that_names_the_id(info, speak, make_protocol):
    with pytest.raises(ScoreTableError, match="add it under id 'base'"):
        ScoreTable.build([info("v")], speak("v"), make_protocol())


def test_columns_hold_one_finite_number_a_clip(make_table):
    table = make_table(v={"p808": [math.nan] * 4})
    for columns in table.values.values():
        assert set(columns) == set(table.metrics) - RATIO_SOURCES.keys()
        assert all(
            np.isfinite(column).all() and column.shape == (4,) for column in columns.values()
        )


@pytest.mark.parametrize(
    ("rate", "text"),
    [(2e-4, "2e-4"), (0.00015, "1.5e-4"), (2.14359e-5, "2.14e-5"), (9.999e-5, "1e-4")],
)
def test_learning_rates_read_as_people_write_them(rate, text):
    assert scientific(rate) == text
