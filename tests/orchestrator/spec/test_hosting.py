"""Files for llama.cpp are asked for where they can be made, heard and tested; else it is told."""

import re

import pytest

from jobs.problems import InputError
from orchestrator.spec import rules
from orchestrator.spec.inputs import read_inputs


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(rules, "is_installed", lambda: True)


@pytest.mark.parametrize(
    ("hosting", "told"),
    [
        (
            "{gguf: [q8_0], margins: [{metric: dnsmos_ovrl, margin: 0.1}]}",
            "hosting.margins must name measured metrics, got 'dnsmos_ovrl'",
        ),
        ("{gguf: [q8_0], margins: [{metric: similarity, margin: 0}]}", "need a margin"),
        ("{gguf: [q3_k]}", "'f16', 'q8_0' or 'q4_0'"),
        ("{gguf: [q8_0], least_prompts: 1}", "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_tested_is_told(make_spec, hosting, told):
    with pytest.raises(InputError, match=re.escape(told)):
        make_spec(hosting=f"hosting: {hosting}")


def test_without_a_llama_cpp_no_file_is_asked_for(make_spec, monkeypatch):
    monkeypatch.setattr(rules, "is_installed", lambda: False)
    with pytest.raises(InputError, match="needs the package xllamacpp, which is not installed"):
        make_spec(hosting="hosting: {gguf: [q8_0]}")
    assert make_spec(hosting="hosting: {}").hosting.gguf == ()


def test_set_b_has_the_texts_that_a_test_needs(make_spec):
    """The embedded one has as many."""
    spec = make_spec(hosting="hosting: {gguf: [q8_0]}")
    count = len(read_inputs(spec).confirmation)
    more = spec.hosting.model_copy(update={"least_prompts": count + 1})
    told = rf"at least {count + 1} texts of set B, got {count}"
    with pytest.raises(InputError, match=told):
        read_inputs(spec.model_copy(update={"hosting": more}))
