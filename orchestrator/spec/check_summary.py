"""The inputs of ``voxsweep check`` from its options, and its result by groups and by rules."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from jobs.audio.files import RESAMPLER
from jobs.data.checks.check import Checked
from jobs.data.checks.listening import Heard
from jobs.data.clips import TargetClip
from jobs.data.findings import Finding
from jobs.families.registry import FAMILIES
from jobs.problems import InputError, Problem, nearest
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec


def host_from_options(family: str, base: str) -> HostSpec:
    """The base that ``--family`` and ``--base`` name.

    Raises:
        InputError: the family is unknown.
    """
    if family not in FAMILIES:
        what = f"family must be known, got {family!r}"
        raise InputError([Problem("--family", what, nearest(family, FAMILIES))])
    return HostSpec(family=family, source=base, codec=EMBEDDED, voice=None, precision="fp32")


def data_from_options(**options: object) -> DataSpec:
    """The dataset that options describe, by the keys of ``data:`` in a spec.

    Raises:
        InputError: with every value that is out of its range.
    """
    try:
        return DataSpec.model_validate(options)
    except ValidationError as error:
        # Pydantic also counts a manifest that it refuses as one that is missing.
        found = [each for each in error.errors() if each["type"] != "too_short"]
        raise InputError(list(map(_option_problem, found))) from None


_RULES = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
}
"""By the type of pydantic's error what an option must be."""


def _option_problem(details: Any) -> Problem:  # noqa: ANN401 (pydantic's ErrorDetails)
    """What is wrong with an option, in this tool's words."""
    context = details.get("ctx", {})
    keys = [key for key in details["loc"] if isinstance(key, str)]
    option = "--" + (keys[-1] if keys[0] == "manifest" else keys[0]).replace("_", "-")
    if details["type"] == "value_error":
        what, _, advice = str(context["error"]).partition(". ")
        return Problem(option, what, advice or "Correct the value.")
    rule = _RULES[details["type"]].format_map(context)
    return Problem(option, f"{rule}, got {details['input']!r}", "Correct the value.")


def to_dict(
    checked: Checked, data: DataSpec, family: str, heard: Heard | None = None
) -> dict[str, Any]:
    """The one object that ``voxsweep check --json`` prints; ``heard`` is for ``--listen``."""
    clips, findings, errors = checked.clips, checked.findings, len(checked.errors)
    groups = {
        f"{key}s": [
            {"name": name, "clips": count, "seconds": round(seconds, 3)}
            for name, (count, seconds) in totals(clips, key).items()
        ]
        for key in ("split", "speaker", "language")
    }
    return {
        "manifest": list(data.paths),
        "reads_as": checked.reads_as,
        "family": family,
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 3),
        "rates": {str(rate): count for rate, count in rates(clips).items()},
        "base_rate": checked.base_rate,
        "resampler": RESAMPLER,
        **groups,
        **({"heard": heard.to_dict()} if heard else {}),
        "changes": checked.changes,
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [
            {"rule": each.rule, "severity": each.severity, **asdict(each.problem)}
            for each in findings
        ],
    }


def rates(clips: Iterable[TargetClip]) -> dict[int, int]:
    """The number of clips by their sample rate in Hz, lowest first."""
    return dict(sorted(Counter(clip.rate for clip in clips).items()))


def totals(clips: Iterable[TargetClip], key: str) -> dict[str | None, tuple[int, float]]:
    """Clips and seconds of each split, speaker or language by its name; None, no name, is last."""
    found: dict[str | None, tuple[int, float]] = {}
    for clip in clips:
        name = getattr(clip.row, key)
        count, seconds = found.get(name, (0, 0.0))
        found[name] = count + 1, seconds + clip.seconds
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or "")))


def by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by the rule they break: rules with errors first, then by the number of findings."""
    rules: dict[str, list[Finding]] = {}
    for finding in findings:
        rules.setdefault(finding.rule, []).append(finding)

    def order(rule: str) -> tuple[bool, int, str]:
        only_warnings = all(each.severity == "warning" for each in rules[rule])
        return only_warnings, -len(rules[rule]), rule

    return {rule: rules[rule] for rule in sorted(rules, key=order)}
