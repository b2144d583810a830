"""What ``voxsweep check`` is asked, and what it answers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from jobs.audio.files import RESAMPLER
from jobs.data.checks.target import CheckedTarget
from jobs.data.clips import TargetClip
from jobs.data.findings import Finding
from jobs.families.registry import FAMILIES
from jobs.problems import InputError, Problem, nearest
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec

Totals = dict[str | None, tuple[int, float]]
"""Clips and seconds of each group by its name; None is what has no name."""


def host_from_options(family: str, base: str) -> HostSpec:
    """The base that a command names.

    Raises:
        InputError: the family is not known.
    """
    if family not in FAMILIES:
        what = f"family must be known, got {family!r}"
        raise InputError([Problem("--family", what, nearest(family, FAMILIES))])
    return HostSpec(family=family, source=base, codec=EMBEDDED, voice=None, precision="fp32")


def data_from_options(**options: object) -> DataSpec:
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


def to_dict(found: CheckedTarget) -> dict[str, Any]:
    """The one object that ``voxsweep check --json`` prints."""
    clips, findings = found.checked.clips, found.checked.findings
    errors = len(found.checked.errors)
    return {
        "manifest": list(found.data.paths),
        "family": found.family,
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 3),
        "rates": {str(rate): count for rate, count in rates(clips).items()},
        "base_rate": found.rate,
        "resampler": RESAMPLER,
        "splits": _plain(totals(clips, "split")),
        "speakers": _plain(totals(clips, "speaker")),
        "languages": _plain(totals(clips, "language")),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [
            {"rule": each.rule, "severity": each.severity, **asdict(each.problem)}
            for each in findings
        ],
    }


def rates(clips: Iterable[TargetClip]) -> dict[int, int]:
    """Clips by the rate at which they were recorded, Hz, the lowest first."""
    return dict(sorted(Counter(clip.rate for clip in clips).items()))


def totals(clips: Iterable[TargetClip], key: str) -> Totals:
    """How many clips and seconds each split, speaker or language has, the unnamed one last."""
    found: Totals = {}
    for clip in clips:
        name = getattr(clip.row, key)
        count, seconds = found.get(name, (0, 0.0))
        found[name] = count + 1, seconds + clip.seconds
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or "")))


def by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings under the names of their rules, those with errors first, then by how many."""
    rules: dict[str, list[Finding]] = {}
    for finding in findings:
        rules.setdefault(finding.rule, []).append(finding)

    def last(rule: str) -> tuple[bool, int, str]:
        found = rules[rule]
        return all(each.severity == "warning" for each in found), -len(found), rule

    return {rule: rules[rule] for rule in sorted(rules, key=last)}


def _plain(totals: Totals) -> list[dict[str, Any]]:
    return [
        {"name": name, "clips": clips, "seconds": round(seconds, 3)}
        for name, (clips, seconds) in totals.items()
    ]
