"""Every family is exported as a format, or says why not."""

import subprocess
import sys

import pytest

from jobs.export.formats import EXPORTERS, REFUSED, exporter
from jobs.families.registry import FAMILIES
from jobs.problems import InputError

FORMATS = ("peft", "native", "merged", "gguf")
PAIRS = [f"{family}.{name}" for family in FAMILIES for name in FORMATS]


def test_nothing_is_left_open():
    assert set(EXPORTERS) | set(REFUSED) == set(PAIRS)
    assert not set(EXPORTERS) & set(REFUSED)


@pytest.mark.parametrize("pair", sorted(REFUSED))
def test_a_refusal_has_its_reason_and_what_there_is(pair: str):
    family, _, name = pair.partition(".")
    with pytest.raises(InputError) as caught:
        exporter(family, name)
    (problem,) = caught.value.problems
    assert REFUSED[pair] in problem.what
    assert "peft" in problem.next_step
    assert name not in problem.next_step


def test_a_format_that_nobody_has_is_told_with_those_there_are():
    with pytest.raises(InputError, match="must be one of peft, merged, gguf for codec_lm"):
        exporter("codec_lm", "merge")


def test_asking_loads_no_model():
    program = (
        "import sys; from jobs.export.formats import exporter; exporter('codec_lm', 'gguf');"
        "print('torch' in sys.modules, 'gguf' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.stdout == "False False\n"
