"""A prompt set is read whole, or every reason why not is given."""

import json
from pathlib import Path

import pytest

from jobs.embedded import PROMPTS_DIR
from jobs.problems import InputError
from jobs.spec.trial import PromptSpec
from jobs.speech.prompts import read_prompts


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_shipped_sets_are_read(name: str):
    prompts = read_prompts(PROMPTS_DIR / f"{name}.jsonl")
    assert len(prompts) >= 20
    assert all(prompt.text for prompt in prompts)


def test_prompts_come_back_in_order(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"id": "z", "text": "one"}\n{"id": "a", "text": "two"}\n')
    assert read_prompts(path) == [PromptSpec(id="z", text="one"), PromptSpec(id="a", text="two")]


def test_a_prompt_may_say_its_language_and_its_speaker(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    rows = [
        {"id": "a", "text": "សួស្តី", "language": "km", "speaker": "Sokha B."},
        {"id": "b", "text": "你好", "language": "zh-Hant"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(p.language, p.speaker) for p in read_prompts(path)] == [
        ("km", "Sokha B."),
        ("zh-Hant", None),
    ]


@pytest.mark.parametrize(
    ("key", "value"), [("language", "Englisch"), ("language", ""), ("speaker", ""), ("speaker", 3)]
)
def test_what_is_no_language_or_speaker_is_told_by_its_key(tmp_path: Path, key: str, value: object):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "one", key: value}))
    with pytest.raises(InputError, match=f"set.jsonl:1: not a prompt: {key}: "):
        read_prompts(path)


def test_every_problem_is_reported_with_its_line(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    lines = [
        '{"id": "a", "text": "one"}',
        '{"id": "a", "text": "two"}',
        '{"id": "b"}',
        "{",
        '{"id": "c", "text": "three", "speed": 2}',
        '{"id": "a", "text": "four"}',
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    problems = caught.value.problems
    assert [problem.where for problem in problems] == [f"{path}:{n}" for n in (2, 3, 4, 5, 6)]
    assert "ids must be unique, but 'a'" in problems[0].what
    assert "ids must be unique, but 'a'" in problems[-1].what


def test_an_empty_set_is_a_problem(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    path.touch()
    with pytest.raises(InputError, match="at least one prompt"):
        read_prompts(path)


def test_a_line_separator_in_a_text_ends_no_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a-1", "text": "one\u2028two"}\n', encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(tmp_path / "a.jsonl")] == ["one\u2028two"]
