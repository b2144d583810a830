"""Ratings are read whole, or every reason why not is given."""

import pytest

from jobs.problems import InputError
from orchestrator.scores.from_files import read_ratings

HEADER = "rater,sentence,system,axis,score,when\n"


def lines(score="4", **changes):
    row = {"rater": "ann", "sentence": "b-1", "system": "base", **changes}
    head = ",".join(row.values())
    return "".join(f"{head},{a},{score},now\n" for a in ("naturalness", "prosody", "pronunciation"))


def read(tmp_path, text):
    path = tmp_path / "ratings.csv"
    path.write_text(text, encoding="utf-8")
    return read_ratings(path, {"b-1", "b-2"}, {"base", "v"})


def test_one_rating_an_axis_and_line(tmp_path):
    ratings = read(tmp_path, HEADER + lines() + lines("5", system="v"))
    assert (ratings.raters, ratings.sentences, ratings.systems) == (
        ("ann",),
        ("b-1",),
        ("base", "v"),
    )
    assert ratings.mos("v") == 5


def test_every_bad_line_is_told(tmp_path):
    text = HEADER + lines("x") + lines(sentence="a-1") + lines(system="w")
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    told = [f"{p.where.rpartition(':')[2]} {p.what}" for p in caught.value.problems]
    assert len(told) == 9
    assert told[0].startswith("2 score: Input should be a valid integer")
    assert told[3] == "5 a sentence is a prompt of set B, got 'a-1'"
    assert told[6] == "8 a system is the base or a variant of the scores, got 'w'"


def test_traps_and_repeats_are_read_and_rate_nothing(tmp_path):
    header = "rater,sentence,system,axis,score,item,expected\n"
    rated = "".join(f"{line},,\n" for line in lines().replace(",now", "").splitlines())
    traps = "ann,trap 1,,prosody,2,trap,2\nann,trap 2,,prosody,2,trap,5\n"
    repeats = "ann,b-1,base,prosody,3,repeat,\nann,b-1,base,naturalness,4,repeat,\n"
    ratings = read(tmp_path, header + rated + traps + repeats)
    assert (ratings.sentences, ratings.mos("base")) == (("b-1",), 4)
    assert ratings.traps.tolist() == [[2, 1]]
    assert ratings.repeat_change.tolist() == [0.5]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("ann,t,,prosody,2,trap,", "a trap has an expected score from 1 to 5, got None"),
        ("ann,t,,prosody,2,trap,6", "a trap has an expected score from 1 to 5, got 6"),
        ("ann,b-2,v,prosody,2,repeat,", "a repeat scores again what the rater has rated"),
        ("ann,b-1,base,prosody,4,repeat,4", "only a trap has an expected score, got 4"),
        ("ann,b-9,base,prosody,4,repeat,", "a sentence is a prompt of set B, got 'b-9'"),
        ("ann,b-1,base,prosody,4,gold,", "item: Input should be"),
    ],
)
def test_a_check_that_checks_nothing_is_told(tmp_path, row, what):
    header = "rater,sentence,system,axis,score,item,expected\n"
    rated = "".join(f"{line},,\n" for line in lines().replace(",now", "").splitlines())
    with pytest.raises(InputError, match=what):
        read(tmp_path, header + rated + row)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rater,sentence\n", "no column system, axis, score"),
        (HEADER + lines("6"), "a score is a whole number from 1 to 5, got 6"),
        (HEADER + lines() + lines(), "a rating has one score for each axis, got 2"),
        (HEADER, "a listening test has ratings, got none"),
    ],
)
def test_what_is_no_test_is_told(tmp_path, text, what):
    with pytest.raises(InputError, match=what):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot read it"):
        read_ratings(tmp_path / "no.csv", (), ())
