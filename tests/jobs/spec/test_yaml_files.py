"""Numbers in YAML files: as version 1.2 reads them, and as they were written."""

import pytest

from jobs.spec.yaml_files import dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1e-4", 1e-4), ("2E5", 2e5), ("+1e+2", 100.0), ("-1e3", -1000.0)),
        *(("1.5e3", 1500.0), ("1.e2", 100.0), (".5e1", 5.0), ("1.0e-4", 1e-4), ("12", 12)),
    ],
)
def test_a_number_is_read_as_one(text, number):
    (read,) = load_yaml(f"[{text}]")
    assert (read, type(read)) == (number, type(number))


@pytest.mark.parametrize("text", ["1e-4x", "e4", "1e", "v1e4", "1-4", "nine", "1.2.3"])
def test_a_text_stays_one(text):
    assert load_yaml(f"[{text}]") == [text]


@pytest.mark.parametrize("value", ["1e4", "12", 1e-5, 1.0, 3, "no", None, ["1.5e3", 1500.0], "ប្រាំ"])
def test_what_was_written_is_read(value):
    read = load_yaml(dump_yaml({"key": value}))["key"]
    assert read == value
    assert type(read) is type(value)
