"""The check of a target's data as the command line and a sweep ask for it."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from jobs.data.audio import RESAMPLER
from jobs.data.check import Checked, check
from jobs.data.clips import TargetClip
from jobs.data.findings import Finding
from jobs.data.limits import Limits
from jobs.data.spec import DataSpec
from jobs.data.target import target_rows
from jobs.families.registry import FAMILIES, open_text, sample_rate
from jobs.families.rules import DataRules
from jobs.problems import InputError, Problem, nearest
from jobs.spec import HostSpec
from jobs.strict import EMBEDDED

_MANY = 200
"""Rows from which on starting other processes, a second or two each, pays."""

Progress = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


@dataclass(frozen=True)
class DataCheck:
    """What a check found, and for whom."""

    data: DataSpec
    family: str
    rate: int | None
    """The base's, Hz."""
    checked: Checked

    @property
    def rates(self) -> Counter[int]:
        """Clips by the rate at which they were recorded, Hz; those that can be used."""
        return Counter(clip.rate for clip in self.checked.clips)

    def totals(self, group: str) -> dict[str | None, tuple[int, float]]:
        """Clips that can be used and their seconds, by ``split``, ``speaker`` or ``language``."""
        return totals(self.checked.clips, group)

    def to_dict(self) -> dict[str, Any]:
        """The one object that ``voxsweep check --json`` prints."""
        clips, findings = self.checked.clips, self.checked.findings
        errors = len(self.checked.errors)
        return {
            "manifest": list(self.data.manifest),
            "family": self.family,
            "clips": len(clips),
            "seconds": _seconds(clips),
            "dropped": self.checked.dropped,
            "rates": {str(rate): count for rate, count in sorted(self.rates.items())},
            "base_rate": self.rate,
            "resampler": RESAMPLER,
            "splits": _plain(self.totals("split")),
            "speakers": _plain(self.totals("speaker")),
            "languages": _plain(self.totals("language")),
            "errors": errors,
            "warnings": len(findings) - errors,
            "findings": [
                {"rule": each.rule, "severity": each.severity, **asdict(each.problem)}
                for each in findings
            ],
        }


def asked_host(family: str, base: str) -> HostSpec:
    """The base that a command names.

    Raises:
        InputError: the family is not known.
    """
    if family not in FAMILIES:
        what = f"family must be known, got {family!r}"
        raise InputError([Problem("--family", what, nearest(family, FAMILIES))])
    return HostSpec(family=family, source=base, codec=EMBEDDED, voice=None, precision="fp32")


def asked_data(**options: object) -> DataSpec:
    """The data that a command names, by the keys of ``data:`` in a spec.

    Raises:
        InputError: with every value that is out of its range.
    """
    try:
        return DataSpec.model_validate(options)
    except ValidationError as error:
        raise InputError(
            [
                Problem(
                    f"--{str(details['loc'][0]).replace('_', '-')}",
                    f"{details['msg']}, got {details['input']!r}",
                    "Correct the value.",
                )
                for details in error.errors()
            ]
        ) from None


def check_data(
    data: DataSpec, host: HostSpec, workers: int | None = None, progress: Progress | None = None
) -> DataCheck:
    """Check the clips that ``data`` names for the base that ``host`` names.

    ``workers`` decode audio; None takes one a CPU where there are many clips.

    Raises:
        InputError: a manifest or the base cannot be read at all, or no clip could keep the bounds.
    """
    rules = FAMILIES[host.family].rules
    _check_bounds(data, rules)
    try:
        reader, rate = open_text(host), sample_rate(host)
    except (ValueError, OSError) as error:
        raise InputError([Problem("base", str(error), "Correct the base.")]) from error
    rows = target_rows(data)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(rows) >= _MANY else 1

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, len(rows))

    checked = check(rows, data, rules, reader, rate, workers, tell)
    return DataCheck(data, host.family, rate, checked)


def by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings under the names of their rules, those with errors first, then by how many."""
    rules: dict[str, list[Finding]] = {}
    for finding in findings:
        rules.setdefault(finding.rule, []).append(finding)

    def last(rule: str) -> tuple[bool, int, str]:
        found = rules[rule]
        return all(each.severity == "warning" for each in found), -len(found), rule

    return {rule: rules[rule] for rule in sorted(rules, key=last)}


def totals(clips: Iterable[TargetClip], group: str) -> dict[str | None, tuple[int, float]]:
    """How many clips and seconds each group has, the unnamed group last."""
    found: dict[str | None, tuple[int, float]] = {}
    for clip in clips:
        name = getattr(clip.row, group)
        count, seconds = found.get(name, (0, 0.0))
        found[name] = count + 1, seconds + clip.seconds
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or "")))


def _check_bounds(data: DataSpec, rules: DataRules) -> None:
    limits = Limits.of(data, rules)
    if limits.min_seconds > limits.max_seconds:
        what = (
            f"the shortest clip ({limits.min_seconds:g} s, {limits.min_by}) must not be longer "
            f"than the longest ({limits.max_seconds:g} s, {limits.max_by})"
        )
        raise InputError([Problem("data.min_seconds", what, "Correct one of the two.")])


def _plain(totals: dict[str | None, tuple[int, float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "clips": clips, "seconds": round(seconds, 3)}
        for name, (clips, seconds) in totals.items()
    ]


def _seconds(clips: list[TargetClip]) -> float:
    return round(sum(clip.seconds for clip in clips), 3)
