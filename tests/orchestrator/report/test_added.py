"""Decodings that were tried, and files that were heard, have a section where there are some."""

from dataclasses import replace

import pytest

from orchestrator.report.page import render
from orchestrator.report.tables import decodings, hosting
from orchestrator.verdict.decodings import BaseDecoding, TriedDecoding
from orchestrator.verdict.equivalence import Equivalence, HostedFile, Hosting, MarginTest
from orchestrator.verdict.stats import Interval

GAIN = Interval(0.12, 0.05, 0.2, 8)
TRIED = (
    TriedDecoding({"temperature": 0.0}, 8, Interval(0.0, 0.0, 0.0, 8), {}, 0, ()),
    TriedDecoding({"temperature": 0.8}, 8, GAIN, {}, 1, ("a reason",)),
)


def file(kind: str, finding: str) -> HostedFile:
    tests = (MarginTest("similarity", 0.02, Interval(0.001, -0.004, 0.006, 96), 0.001),)
    found = Equivalence("v", finding, finding == "equivalent", tests, 2, 3, ())
    return HostedFile(kind, 2_200_000, 410.4, 0.031, 0.052, 0.08, 12_000_000, found)


@pytest.fixture(scope="module")
def full(report):
    files = (file("q8_0", "equivalent"), file("q4_0", "undecided"))
    return replace(
        report,
        decodings=BaseDecoding({"temperature": 0.8}, TRIED),
        hosting=Hosting("v", "a machine", files, "q8_0"),
    )


def test_what_was_chosen_is_marked_and_the_specs_own_has_no_gain(full):
    first, second = decodings(full)
    assert first[:3] == ("temperature 0", "8", "–")
    assert second[:3] == ("◆ temperature 0.8", "8", "+0.12 [+0.05, +0.20]")
    assert second[-2:] == ("1", "a reason")


def test_what_is_recommended_is_marked_and_what_does_not_pass_says_so(full):
    first, second = hosting(full)
    assert first == (
        "◆ q8_0",
        "2.2",
        "equivalent",
        "similarity +0.001 [-0.004, +0.006] (0.02)",
        "2",
        "410",
        "0.03, 0.05",
        "0.08",
        "12",
    )
    assert second[:3] == ("q4_0", "2.2", "undecided, does not pass")


def test_the_sections_are_there_only_with_something_in_them(full, report):
    page, without = render(full), render(report)
    for name in ("decodings", "hosting"):
        assert f'<section id="{name}"' in page
        assert f'<section id="{name}"' not in without
    assert "on a machine" in page
