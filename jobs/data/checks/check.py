"""The check of a target's data: each row by itself, then all clips together."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from jobs.audio.files import AudioError
from jobs.data.checks.corpus import (
    Candidate,
    Fault,
    leaks,
    odd_speaking_rates,
    repeated_audio,
    repeated_texts,
    shifted_texts,
)
from jobs.data.checks.limits import Limits
from jobs.data.checks.parallel import map_ordered
from jobs.data.checks.recording import (
    RecordingFacts,
    check_recording,
    check_reference,
    measure_recording,
)
from jobs.data.checks.sound import SoundsOfClips, told_by_distribution
from jobs.data.checks.text import check_text, learned_text
from jobs.data.clips import ManifestRow, Progress, TargetClip
from jobs.data.findings import Finding, error, warning
from jobs.data.order.split import assign_splits
from jobs.data.texts import normalise_text
from jobs.families.description import DataRules, TokenCounter
from jobs.metrics.signal import SILENCE
from jobs.spec.data import DataSpec
from jobs.spec.languages import language_name

_OF_AUDIO = "audio-"
"""Prefix of the rules on recordings, as opposed to those on lines."""
_LEFT_OUT = "The clip is left out."


@dataclass(frozen=True)
class Checked:
    """The findings, and the clips that can be trained on."""

    clips: list[TargetClip]
    """Those without errors, in the order of the rows, each with its split."""
    findings: list[Finding]
    """In the order of the rows; those that concern all rows come last."""
    dropped: int
    """Clips left out because ``data.bad_clips`` is ``drop``; their errors are warnings."""
    base_rate: int
    """Hz: that of the base which the clips were checked for."""
    changes: dict[str, int] = field(default_factory=dict)
    """How often texts were changed, by what was: annotations taken out, characters repaired."""
    drawn: frozenset[str] = frozenset()
    """Manifests whose clips were split by ``data.split``."""
    reads_as: dict[str, str] = field(default_factory=dict)
    """By manifest, what it was read as, in words."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that keep the data from being used."""
        return [finding for finding in self.findings if finding.severity == "error"]


def check(
    rows: Sequence[ManifestRow | Finding],
    data: DataSpec,
    rules: DataRules,
    text: TokenCounter | None,
    sample_rate: int,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Checked:
    """Check every row by itself, then all together.

    Args:
        rows: as :func:`jobs.data.checks.target.target_rows` has them; findings among them are
            passed on.
        data: the data section of the spec.
        rules: the family's bounds, for what ``data`` leaves open.
        text: how the base reads texts; None leaves them uncounted.
        sample_rate: the base's, in Hz.
        workers: processes that decode audio; with one it is this process.
        progress: called now and then.

    Clips with errors of their own are compared with the others too, so that every problem is
    reported at once, unless they are left out or silent. Rows without a split get one after the
    clips have been checked by themselves.
    """
    checking = _Checking(rows, data, rules, text, sample_rate)
    for job, facts in map_ordered(_measure, checking.jobs(), workers):
        checking.check_row(job, *facts)
        if (done := job.place + 1) % _PROGRESS_EVERY == 0 and done < len(rows):
            progress(done, len(rows))
    progress(len(rows), len(rows))
    return checking.conclude()


_MANY = 10
"""Clips from which on a property that all of them share is told once."""
_PROGRESS_EVERY = 16
"""Rows from one call of ``progress`` to the next."""


@dataclass(frozen=True, slots=True)
class _Job:
    """The recordings of a row that must be decoded."""

    place: int
    row: ManifestRow
    reference: str | None
    """None also where an earlier row has the same one."""


_Measured = RecordingFacts | AudioError


def _measure(job: _Job) -> tuple[_Measured, _Measured | None]:
    reference = measure_recording(job.reference) if job.reference else None
    return measure_recording(job.row.audio), reference


class _Checking:
    """The state of one check: a few facts of every row, never its samples."""

    def __init__(
        self,
        rows: Sequence[ManifestRow | Finding],
        data: DataSpec,
        rules: DataRules,
        text: TokenCounter | None,
        rate: int,
    ) -> None:
        self._rows, self._data, self._limits = rows, data, Limits.of(data, rules)
        self._known_languages = rules.languages
        self._text, self._rate = text, rate
        self._found: list[tuple[int, Finding]] = []
        self._candidates: list[Candidate] = []
        self._references: dict[str, _Measured | None] = {}
        self._changes: Counter[str] = Counter()
        self._sounds = SoundsOfClips()
        self._dropped: set[str] = set()
        self._with_split = [row for row in rows if isinstance(row, ManifestRow) and row.split]

    def jobs(self) -> Iterator[_Job]:
        """The decoding jobs; findings of the reading are kept."""
        for place, row in enumerate(self._rows):
            if isinstance(row, ManifestRow):
                reference = None if row.ref_audio in self._references else row.ref_audio
                if reference is not None:
                    self._references[reference] = None
                yield _Job(place, row, reference)
            elif row.rule.startswith(_OF_AUDIO):
                self._keep(place, [row])  # its clip may be dropped
            else:
                self._found.append((place, row))

    def check_row(self, job: _Job, facts: _Measured, reference: _Measured | None) -> None:
        """Check one row by itself. Rows come in order: its reference was measured before."""
        written = job.row
        if job.reference is not None:
            self._references[job.reference] = reference
        change = learned_text(written, self._data)
        learned = change.row
        self._changes += change.counts()
        found = [
            *check_recording(written, facts, self._limits, self._rate),
            *check_text(written, change, self._data, self._limits, self._text),
        ]
        if written.ref_audio and (known := self._references[written.ref_audio]) is not None:
            found += check_reference(written, known)
        is_good = self._keep(job.place, found)
        if isinstance(facts, RecordingFacts) and (
            # Of bad clips, not those that are left out, nor silences: any two are the same.
            is_good or (self._data.bad_clips == "refuse" and facts.level >= SILENCE)
        ):
            clip = TargetClip(learned, facts.pcm, facts.rate, facts.seconds)
            plain = normalise_text(learned.text)
            digest = hashlib.blake2b(plain.encode(), digest_size=16).digest() if plain else None
            letters = len(plain.replace(" ", ""))
            self._candidates.append(Candidate(job.place, clip, digest, letters, is_good))
            if facts.seconds >= self._limits.min_seconds:  # the shorter, the less a mean says
                self._sounds.add(written.where, facts.sound)

    def conclude(self) -> Checked:
        """Compare the clips with each other."""
        self._leave_out(repeated_audio(self._candidates))
        self._leave_out(repeated_texts(self._candidates))
        self._split()
        self._leave_out(leaks(self._candidates))
        self._leave_out(odd_speaking_rates(self._candidates))
        self._check_splits()
        self._check_languages()
        self._tell_of_all()
        clips = [each.clip for each in self._candidates if each.is_good]
        self._found.sort(key=lambda found: found[0])
        findings = [finding for _, finding in self._found]
        return Checked(
            clips, findings, len(self._dropped), self._rate, dict(self._changes), self._drawn
        )

    def _leave_out(self, faults: Iterator[Fault]) -> None:
        found: dict[int, list[Finding]] = {}
        for at, finding in faults:
            found.setdefault(at, []).append(finding)
        bad = {at for at, each in found.items() if not self._keep(self._candidates[at].place, each)}
        if bad:
            self._candidates = [each for at, each in enumerate(self._candidates) if at not in bad]

    def _keep(self, place: int, found: list[Finding]) -> bool:
        """Keep the findings of one clip; returns whether it can be used."""
        is_bad = any(finding.severity == "error" for finding in found)
        if is_bad and self._data.bad_clips == "drop":
            self._dropped.add(found[0].problem.where)
            found = [
                warning(each.rule, each.problem.where, each.problem.what, _LEFT_OUT)
                if each.severity == "error"
                else each
                for each in found
            ]
        self._found += [(place, finding) for finding in found]
        return not is_bad

    def _split(self) -> None:
        """Hold out clips of the manifests that leave it open, all of them together."""
        with_split = Counter(row.manifest for row in self._with_split)
        for place, row in enumerate(self._rows):
            if isinstance(row, Finding) or row.split:
                continue
            if count := with_split[row.manifest]:
                what = f"a manifest must give all its clips a split or none, but {count} have one"
                advice = "Write train or validation, or take the key out everywhere."
                self._found.append((place, error("split-missing", row.where, what, advice)))
        open_rows = [
            each.clip.row
            for each in self._candidates
            if each.clip.row.split is None and not with_split[each.clip.row.manifest]
        ]
        self._drawn = frozenset(row.manifest for row in open_rows)
        split = {row.where: row for row in assign_splits(open_rows, self._data.split)}
        self._candidates = [
            replace(
                each, clip=replace(each.clip, row=split.get(each.clip.row.where, each.clip.row))
            )
            for each in self._candidates
        ]

    def _check_languages(self) -> None:
        """Languages that the base has no token for: it learns and speaks them all the same."""
        if not self._known_languages:
            return
        used = Counter(
            each.clip.row.language for each in self._candidates if each.clip.row.language
        )
        for tag, clips in sorted(used.items()):
            if tag.partition("-")[0] not in self._known_languages:
                known = ", ".join(sorted(self._known_languages))
                what = (
                    f"the family is told the language by a token for {known}; {tag} "
                    f"({language_name(tag)}), of {clips} clips, has none and is learned without"
                )
                where = ", ".join(self._data.paths)
                advice = "Go on if it is the right language, or correct it."
                finding = warning("language-without-token", where, what, advice)
                self._found.append((len(self._rows), finding))

    def _tell_of_all(self) -> None:
        """Findings about the recordings as a whole; and a property that all clips share, once."""
        where, last = ", ".join(self._data.paths), len(self._rows)
        self._found += [(last, each) for each in shifted_texts(self._candidates)]
        self._found += [(last, each) for each in told_by_distribution(self._sounds, where)]
        rows = sum(isinstance(row, ManifestRow) for row in self._rows)
        by_rule: dict[tuple[str, str], dict[str, Finding]] = {}
        for place, each in self._found:
            if place < last:
                by_rule.setdefault((each.rule, each.severity), {}).setdefault(
                    each.problem.where, each
                )
        for (rule, severity), found in by_rule.items():
            first = next(iter(found.values()))
            texts = {each.problem.what for each in found.values()}
            # Errors that differ are corrected one by one.
            if len(found) < max(rows, _MANY) or (severity == "error" and len(texts) > 1):
                continue
            what = f"all {rows} clips: {first.problem.what}"
            if len(texts) > 1:
                what = f"all {rows} clips have it; the first: {first.problem.what}"
            told = Finding(first.rule, first.severity, replace(first.problem, what=what))
            self._found = [
                (place, each)
                for place, each in self._found
                if place == last or (each.rule, each.severity) != (rule, severity)
            ]
            self._found.append((last, told))

    def _check_splits(self) -> None:
        present = {each.clip.row.split for each in self._candidates}
        given = {row.split for row in self._with_split}
        if self._data.bad_clips == "refuse":
            # A bad clip may be corrected, so its split counts as present.
            present |= given
            if not given and any(found.severity == "error" for _, found in self._found):
                return
        for split in ("train", "validation"):
            if split not in present:
                where = ", ".join(self._data.paths)
                what = (
                    f"a target needs clips with split {split!r} that can be used, but it has none"
                )
                advice = (
                    "Mark about a fifth as validation."
                    if given
                    else "Correct the clips, or set data.split.validation."
                )
                self._found.append((len(self._rows), error("split-empty", where, what, advice)))
