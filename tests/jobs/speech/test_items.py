"""Sets of text items: what is read of a file, and every line that is none."""

import json

import pytest

from jobs.problems import InputError
from jobs.spec.items import ChoiceItem, PassageItem
from jobs.speech.items import read_items

MMLU = {"question": "Which?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 3}


def write(path, *rows):
    path.write_text("".join(f"{row if type(row) is str else json.dumps(row)}\n" for row in rows))
    return path


def test_lines_of_mmlu_and_texts_are_items_named_by_their_lines(tmp_path):
    own = {"id": "own", "text": "One.\u2028Two."}
    path = write(tmp_path / "a.jsonl", MMLU, {"text": "A text."}, own)
    path.write_text(path.read_text().replace("\\u2028", "\u2028"))
    question, text, named = read_items(path, "a")
    assert question == ChoiceItem(id="item-a-0001", **MMLU)
    assert question.continuations[3] == ("Question: Which?\nAnswer:", " d")
    assert text == PassageItem(id="item-a-0002", text="A text.")
    assert text.continuations == [("", "A text.")]
    assert named == PassageItem(**own)


def test_every_line_that_is_no_item_is_told_with_its_place(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {**MMLU, "answer": 4},
        {**MMLU, "answer": "D"},
        {**MMLU, "choices": ["a"], "answer": 0},
        {**MMLU, "choices": ["a", "a"], "answer": 0},
        {**MMLU, "questoin": "Which?"},
        {"text": " "},
        {"text": "x", "id": "../x"},
        {"text": "x", "id": "same"},
        {"text": "y", "id": "same"},
        "no JSON",
        "[1]",
        "",
        {"text": "fine"},
    )
    with pytest.raises(InputError) as error:
        read_items(path, "a")
    problems = [(each.where.rpartition(":")[2], each.what) for each in error.value.problems]
    assert [line for line, _ in problems] == [str(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)]
    told = dict(problems)
    assert told["1"] == "not a text item: answer must be the place of a choice, 0 to 3, got 4"
    assert "answer: Input should be a valid integer" in told["2"]
    assert "choices: Tuple should have at least 2 items" in told["3"]
    assert "choices must differ" in told["4"]
    assert "questoin: Extra inputs" in told["5"]
    assert told["9"] == "ids must be unique, but 'same' was used before"
    assert all(
        "as in MMLU" in each.next_step for each in error.value.problems if "ids" not in each.what
    )


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_set_has_an_item_and_its_file_can_be_read(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match="at least one text item"):
        read_items(tmp_path / "a.jsonl", "a")
    with pytest.raises(InputError, match="cannot read it"):
        read_items(tmp_path / "gone.jsonl", "a")
