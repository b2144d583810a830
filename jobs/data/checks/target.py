"""The check of the clips that a spec names, over all its manifests."""

import os
from dataclasses import dataclass, replace

from jobs.data.checks.check import Checked, check
from jobs.data.checks.limits import Limits
from jobs.data.clips import ManifestRow, Progress, TargetClip
from jobs.data.findings import Finding
from jobs.data.manifest.reading import OpenManifest
from jobs.families.registry import FAMILIES, open_text, sample_rate
from jobs.problems import InputError, Problem, collecting
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec

_MANY = 200
"""Rows from which on starting other processes, a second or two each, pays."""


@dataclass(frozen=True)
class TargetRows:
    """The manifests of a target, read."""

    items: list[ManifestRow | Finding]
    """One a line, manifest after manifest."""
    reads_as: dict[str, str]
    """By manifest, what it was read as, in words."""


def target_rows(data: DataSpec) -> TargetRows:
    """The rows of all manifests, with the speaker and language of a manifest where they have none.

    Raises:
        InputError: a manifest cannot be read at all; with the problem of each such.
    """
    items: list[ManifestRow | Finding] = []
    reads_as: dict[str, str] = {}
    problems: list[Problem] = []
    for manifest in data.manifest:
        with collecting(problems):
            rows = OpenManifest(manifest.path, data.root, data.columns)
            for row in rows:
                if isinstance(row, ManifestRow):
                    speaker = row.speaker or manifest.speaker
                    language = row.language or manifest.language
                    row = replace(row, speaker=speaker, language=language)
                items.append(row)
            reads_as[manifest.path] = rows.name
    if problems:
        raise InputError(problems)
    return TargetRows(items, reads_as)


def check_target(
    data: DataSpec,
    host: HostSpec,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Checked:
    """Check the clips that ``data`` names for the base that ``host`` names, without loading it.

    ``workers`` decode audio; None takes one a CPU where there are many clips.

    Raises:
        InputError: a manifest or the base cannot be read at all, or no clip could keep the bounds.
    """
    host = host.reading(data)
    try:
        reader, rate = open_text(host), sample_rate(host)
    except ImportError as error:
        raise InputError([Problem("base", str(error), "Then run this again.")]) from error
    except (ValueError, OSError) as error:
        raise InputError([Problem("base", str(error), "Correct the base.")]) from error
    if reader is None and data.max_text_tokens is not None:
        what = f"data.max_text_tokens needs the base's tokenizer, which {host.source} does not give"
        raise InputError([Problem("base", what, "Name the directory that holds the base.")])
    rules = FAMILIES[host.family].rules
    limits = Limits.of(data, rules)
    if limits.min_seconds > limits.max_seconds:
        what = (
            f"the shortest clip ({limits.min_seconds:g} s, {limits.min_by}) must not be longer "
            f"than the longest ({limits.max_seconds:g} s, {limits.max_by})"
        )
        raise InputError([Problem("data.min_seconds", what, "Correct one of the two.")])
    rows = target_rows(data)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(rows.items) >= _MANY else 1
    checked = check(rows.items, data, rules, reader, rate, workers, progress)
    return replace(checked, reads_as=rows.reads_as)


def checked_clips(data: DataSpec, host: HostSpec) -> list[TargetClip]:
    """The clips that can be used, each with its split.

    Raises:
        InputError: with every error of the data.
    """
    checked = check_target(data, host)
    if checked.errors:
        raise InputError([finding.problem for finding in checked.errors])
    return checked.clips
