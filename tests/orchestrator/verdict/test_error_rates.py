"""Error rates by hand: the mean of clips is not the rate of the corpus."""

import pytest

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.error_rates import error_rates
from orchestrator.verdict.outcome import ErrorRate
from orchestrator.verdict.protocol import MetricVersion, Prompt
from orchestrator.verdict.table import ScoreTable

BOUNDS = {
    "word_error": ("lower", 1),
    "word_edits": ("lower", 10_000),
    "word_count": ("neither", 99),
}
EDITS, COUNTS = (0, 3, 1, 6), (2, 3, 4, 4)
"""By prompt; the last says more than its text."""


@pytest.fixture
def protocol(make_protocol):
    return make_protocol(
        prompts=tuple(
            Prompt(id=f"p{i}", text=f"Text {i}.", language=("en", "ko")[i // 2]) for i in range(4)
        ),
        metrics=(
            *make_protocol().metrics,
            *(
                MetricVersion(name=n, version="1", unit="1", direction=d, low=0, high=high)
                for n, (d, high) in BOUNDS.items()
            ),
        ),
    )


@pytest.fixture
def table(base, info, speak, protocol):
    """The base makes no error; of ``v`` the second clip is lost."""
    heard = {
        "word_error": [min(1.0, e / c) for e, c in zip(EDITS, COUNTS, strict=True)],
        "word_edits": EDITS,
        "word_count": COUNTS,
    }
    clean = {"word_error": [0.0], "word_edits": [0.0], "word_count": COUNTS}
    rows = [*speak(BASE_VARIANT, **clean), *speak("v", **heard)]
    lost = ClipScores("v", "p1", 0, {}, {"word_error": "no audio", "word_edits": "no audio"})
    rows = [lost if (row.variant, row.prompt) == ("v", "p1") else row for row in rows]
    return ScoreTable.build([base, info("v")], rows, protocol)


def test_clips_and_corpus_are_counted_by_language(table, protocol):
    assert list(error_rates(table, "v", protocol)) == [
        # 0, 1 (lost), 1/4, 1 (capped); the corpus counts all 6 edits, and 3 words lost of 3.
        ErrorRate("v", "word_error", None, pytest.approx(2.25 / 4), pytest.approx(10 / 13), 4),
        ErrorRate("v", "word_error", "en", pytest.approx(0.5), pytest.approx(3 / 5), 2),
        ErrorRate("v", "word_error", "ko", pytest.approx(0.625), pytest.approx(7 / 8), 2),
    ]


def test_a_language_alone_is_not_told_twice(table, protocol):
    alone = [prompt.model_copy(update={"language": "en"}) for prompt in protocol.prompts]
    protocol = protocol.model_copy(update={"prompts": tuple(alone)})
    (rate,) = error_rates(table, BASE_VARIANT, protocol)
    assert (rate.language, rate.macro, rate.corpus) == (None, 0.0, 0.0)


def test_without_counts_there_is_no_corpus(make_table, make_protocol):
    assert list(error_rates(make_table(v={}), "v", make_protocol())) == []
