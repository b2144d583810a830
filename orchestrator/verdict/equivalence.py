"""Whether a smaller file of a voice sounds as the voice does: two one-sided tests on set B."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import TypeAdapter

from orchestrator.verdict.columns import Values
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import ROUNDING
from orchestrator.verdict.protocol import Constraint
from orchestrator.verdict.stats import Interval

EquivalenceFinding = Literal["equivalent", "different", "undecided"]
"""``equivalent``: every difference is shown to lie within its margin; ``different``: one is shown
to lie beyond; ``undecided``: neither."""


@dataclass(frozen=True)
class MarginTest:
    """One metric of a file less that of the voice it was made of."""

    metric: str
    margin: float
    """How far the mean may be off, either way, in the metric's unit."""
    difference: Interval
    """With a confidence of 1 - 2 ``significance``: within the margin where the test rejects."""
    p: float
    """The larger of both one-sided tests."""


@dataclass(frozen=True)
class Equivalence:
    """What set B shows of one file."""

    variant: str
    finding: EquivalenceFinding
    passes: bool
    """Whether it is equivalent, and every larger file is too."""
    tests: tuple[MarginTest, ...]
    failed: int
    """Failed clips."""
    allowed: int
    """As many as the voice itself has, and the gates' tolerance."""
    reasons: tuple[str, ...]
    """What is not shown."""


def two_one_sided(
    differences: Values, margin: float, significance: float
) -> tuple[float, Interval]:
    """The test that a mean lies within ``margin`` of 0 (Schuirmann 1987, "A comparison of the two
    one-sided tests procedure and the power approach", J. Pharmacokinetics and Biopharmaceutics 15).

    Args:
        differences: paired, shape (n,), two or more.
        margin: above 0.
        significance: of each side; both must reject, so that the test has this level.

    Returns:
        The larger p of Student's t on each side, and the interval of confidence 1 - 2
        ``significance``, which lies within the margin just where the test rejects.
    """
    from scipy.special import stdtr, stdtrit  # as in the bootstrap

    n = len(differences)
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, 1 - significance)) * error
    # Without any spread there is no statistic, and what was seen is all that there is.
    room = margin - abs(mean)
    p = float(stdtr(n - 1, -room / error)) if error > 0 else float(room <= 0)
    return p, Interval(mean, mean - half, mean + half, n)


def judge_equivalence(
    fresh: Comparison, voice: str, files: Sequence[str], margins: Sequence[Constraint]
) -> tuple[Equivalence, ...]:
    """Each file against the voice that it was made of, in the order of ``files``.

    The tests are made one after another, from the largest file, and only while they succeed: so all
    of them together err at one level, without an adjustment (a fixed sequence: Maurer, Hothorn and
    Lehmacher 1995). A file passes if it, and all before it, are equivalent in every metric, and it
    has no more failed clips than the gates allow beside the voice's.

    They are tests of their own beside those of the finalists: none of them changes the verdict.

    Args:
        fresh: the base, the voice and its files on set B.
        voice: its variant's id.
        files: ids of the files' variants, the largest file first.
        margins: by metric; each counts in both directions.
    """
    found: list[Equivalence] = []
    for name in files:
        before = all(each.passes for each in found)
        found.append(_judge(fresh, voice, name, margins, before=before))
    return tuple(found)


def _judge(
    fresh: Comparison, voice: str, name: str, margins: Sequence[Constraint], *, before: bool
) -> Equivalence:
    level = fresh.protocol.significance
    tests, reasons, is_beyond = [], [], False
    for each in margins:
        low = fresh.scores(name, each.metric) - fresh.lenient.scores(voice, each.metric)
        high = fresh.lenient.scores(name, each.metric) - fresh.scores(voice, each.metric)
        # Where scores are missing both bounds count; where none is, they are the same.
        p, difference = max(
            (two_one_sided(side, each.margin, level) for side in (low, high)),
            key=lambda test: test[0],
        )
        tests.append(MarginTest(each.metric, each.margin, difference, p))
        is_beyond |= min(abs(difference.low), abs(difference.high)) > each.margin and (
            difference.low > 0 or difference.high < 0
        )
        if p >= level:
            reasons.append(
                f"{each.metric} {difference.mean:+.3g} ({difference.low:+.3g} to "
                f"{difference.high:+.3g}), margin {each.margin:g}"
            )
    gate, of_voice = fresh.failure_gate(name), fresh.failure_gate(voice)
    allowed = of_voice.failed + math.floor(gate.tolerance * gate.clips + ROUNDING)
    if gate.failed > allowed:
        reasons.append(f"{gate.failed} of {gate.clips} clips fail, {allowed} are allowed")
    finding: EquivalenceFinding = "equivalent"
    if reasons:
        finding = "different" if is_beyond or gate.failed > allowed else "undecided"
    elif not before:
        reasons.append("a larger file is not equivalent")
    return Equivalence(
        name,
        finding,
        before and finding == "equivalent",
        tuple(tests),
        gate.failed,
        allowed,
        tuple(reasons),
    )


@dataclass(frozen=True)
class HostedFile:
    """A file of the winner, what it costs to run, and whether it sounds as the winner does.

    Times are of one thread of a CPU, one prompt of set B after another.
    """

    type: str
    bytes: int
    tokens_per_second: float
    """Of the language model, over all prompts."""
    first_audio_p50: float
    first_audio_p95: float
    """Seconds from a request to the first 0.4 s of sound, the codec included."""
    real_time_factor: float
    """Seconds of work for a second of sound, the codec included."""
    memory: int
    """Bytes to load and run the file, without the codec."""
    equivalence: Equivalence


HOSTING_FIGURES = (
    "bytes",
    "tokens_per_second",
    "first_audio_p50",
    "first_audio_p95",
    "real_time_factor",
    "memory",
)
"""Fields of a :class:`HostedFile` that are numbers."""


@dataclass(frozen=True)
class Hosting:
    """The files of a sweep's winner: ``hosting.json``."""

    variant: str
    """The winner."""
    machine: str
    """What the times were taken on."""
    files: tuple[HostedFile, ...]
    """The largest first."""
    recommended: str | None
    """The type of the smallest file that passes; None where none does."""

    def to_json(self) -> str:
        """The text of the document."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Hosting":
        """The inverse of :meth:`to_json`."""
        return TypeAdapter(cls).validate_json(text)
