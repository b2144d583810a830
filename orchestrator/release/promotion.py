"""From a finished sweep to registered models: which variants are nominated, and the champion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT, Variant
from orchestrator.ledger import CONFIRMATION, PROTOCOL_FILE, VERDICT_FILE
from orchestrator.records.params import legal_name
from orchestrator.records.runs import SWEEP_TAG, TRIAL_TAG
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.release.model_card import CARD_FILE, model_card
from orchestrator.release.registry import (
    CANDIDATE,
    CHAMPION,
    DEMOTED_TAG,
    PROTOCOL_TAG,
    VARIANT_TAG,
    VERDICT_TAG,
    NewVersion,
    Registry,
    Version,
)
from orchestrator.scores.from_files import apply_ratings, read_ratings
from orchestrator.verdict.confirm import contest, differing_keys
from orchestrator.verdict.outcome import Confirmation, GroupVerdict, Verdict
from orchestrator.verdict.protocol import GroupName, Protocol
from orchestrator.verdict.table import ScoreTableError

SCORES_FILE = "scores.jsonl"
_PENDING = "listeners have not confirmed it: have them rate it, with voxsweep listen"


@dataclass(frozen=True)
class Nominee:
    """A variant that is nominated for a registered model."""

    model: str
    variant: Variant
    verdict: Verdict
    """Of the sweep, or of the one language or speaker that it is nominated for."""
    protocol: Protocol
    """Over the prompts of set B that count for it."""
    group: GroupName | None = None
    """The language or speaker it is for; None for all."""

    @property
    def confirmation(self) -> Confirmation | None:
        """What set B shows of it; None where it was no finalist."""
        confirmed = self.verdict.confirmed
        return next((each for each in confirmed if each.row.id == self.variant.id), None)

    @property
    def barred(self) -> str:
        """Why it cannot become champion, whatever the other versions; empty where it can."""
        if self.variant.id != self.verdict.variant:
            chosen = self.verdict.variant or "none"
            return f"it was named by hand, and the verdict chose {chosen}"
        return "" if self.verdict.verdict == "PROMOTE" else _PENDING


@dataclass(frozen=True)
class Nominations:
    """The nominees, and the reasons where there is none."""

    nominees: tuple[Nominee, ...] = ()
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promoted:
    """A version, and which alias it has come to."""

    version: Version
    variant: str
    alias: str
    reason: str
    is_new: bool

    def to_dict(self) -> dict[str, Any]:
        """A row of what ``voxsweep promote --json`` prints."""
        return {
            "model": self.version.model,
            "version": self.version.number,
            "uri": self.version.uri,
            "variant": self.variant,
            "alias": self.alias,
            "reason": self.reason,
            "new": self.is_new,
        }


def select_nominees(
    sweep: FinishedSweep, model: str, variant: str | None = None, ratings: Path | None = None
) -> Nominations:
    """The variants that a sweep's verdict nominates for ``model``.

    Where languages, or else speakers, come to different ends, each has a model of its own, named
    ``<model>-<language>``. A ``variant`` that the verdict did not choose can be named all the same,
    but does not become champion.

    Raises:
        InputError: there is no such variant, or the ratings cannot be used.
    """
    sentences = {prompt.id for prompt in sweep.protocol.confirmation}
    fresh, verdict = sweep.protocol.confirming(), sweep.verdict
    if ratings:
        rated = read_ratings(ratings, sentences, sweep.variants)
        verdict = apply_ratings(verdict, rated, sweep.protocol, ratings)
    groups = _divided(verdict)
    is_by_hand = variant is not None and variant != verdict.variant
    if groups and not is_by_hand:
        return _by_group(sweep, model, verdict, groups)
    if verdict.variant is None and not is_by_hand:
        return Nominations(refusals=(f"{verdict.verdict}: {verdict.sentence}",))
    nominee = Nominee(model, sweep.variant(variant or verdict.variant), verdict, fresh)
    return Nominations((nominee,))


def promote(registry: Registry, sweep: FinishedSweep, nominee: Nominee) -> Promoted:
    """Register the nominee, unless it is, and give it the alias that it earned."""
    variant = nominee.variant.id
    version = registry.find(
        nominee.model,
        {VARIANT_TAG: variant, PROTOCOL_TAG: sweep.protocol.digest(), SWEEP_TAG: sweep.spec.name},
    )
    is_new = version is None
    if version is None:
        with TemporaryDirectory() as folder:
            version = registry.add(_new_version(sweep, nominee, Path(folder)))
    elif nominee.verdict.verdict == "PROMOTE":
        registry.tag(version, {VERDICT_TAG: "PROMOTE", **_listening_tags(nominee)})
    wins, reason = _challenge(registry, sweep, nominee, version)
    if wins:
        registry.set_champion(version, reason)
    else:
        registry.set_candidate(version, reason)
    return Promoted(version, variant, CHAMPION if wins else CANDIDATE, reason, is_new)


def _challenge(
    registry: Registry, sweep: FinishedSweep, nominee: Nominee, version: Version
) -> tuple[bool, str]:
    """Whether the version is to be the champion, and why, or why not."""
    champion = registry.holder(nominee.model)
    if champion is not None and champion.number == version.number:
        return True, "it is the champion already"
    if nominee.barred:
        return False, nominee.barred
    if DEMOTED_TAG in version.tags:
        return (
            False,
            f"it was demoted at {version.tags[DEMOTED_TAG]}; voxsweep rollback undoes that",
        )
    if champion is None:
        return True, "there was no champion"
    if not registry.has_files(champion):
        return True, f"the files of the champion, version {champion.number}, are gone"
    theirs = Protocol.model_validate_json(registry.download(champion, PROTOCOL_FILE).read_text())
    if keys := differing_keys(theirs, sweep.protocol):
        return False, (
            f"the champion, version {champion.number}, was judged by another protocol, which "
            f"differs in {', '.join(keys)}: scores do not compare"
        )
    lines = registry.download(champion, SCORES_FILE).read_text().splitlines()
    known = {prompt.id for prompt in nominee.protocol.prompts}
    before = [row for row in map(ClipScores.from_json, lines) if row.prompt in known]
    try:
        found = contest(before, _scores(sweep, nominee), nominee.protocol)
    except ScoreTableError as error:
        return False, f"its scores cannot be compared with the champion's: {error}"
    return found.wins, found.reason


def _new_version(sweep: FinishedSweep, nominee: Nominee, folder: Path) -> NewVersion:
    """The files of a version, written into ``folder``, and its tags."""
    kind, name = nominee.group or (None, None)
    facts = sweep.facts(
        nominee.variant,
        language=name if kind == "language" else None,
        speaker=name if kind == "speaker" else None,
    )
    sweep.write_voice(folder / "voice", facts)
    card = model_card(sweep, facts, nominee.model, nominee.verdict, nominee.confirmation)
    texts = {
        PROTOCOL_FILE: sweep.protocol.model_dump_json(indent=2),
        VERDICT_FILE: sweep.verdict.to_json(),
        SCORES_FILE: "\n".join(row.to_json() for row in _scores(sweep, nominee)),
        CARD_FILE: card,
    }
    for file, text in texts.items():
        (folder / file).write_text(text + "\n", encoding="utf-8")
    optional = ("language",) * (len(facts.languages) > 1 or facts.host.language_tag)
    return NewVersion(
        model=nominee.model,
        tags={**_tags(sweep, nominee), "voxsweep.provenance": facts.provenance},
        description=card,
        artifacts={file: folder / file for file in ("voice", *texts)},
        example=nominee.protocol.prompts[0].text,
        optional=optional + ("speaker",) * (len(facts.speakers) > 1),
    )


def _tags(sweep: FinishedSweep, nominee: Nominee) -> dict[str, str]:
    assert nominee.variant.trial is not None
    decoding = sweep.protocol.decoding.at(nominee.variant.own_decoding)
    tags = {
        SWEEP_TAG: sweep.spec.name,
        TRIAL_TAG: nominee.variant.trial,
        VARIANT_TAG: nominee.variant.id,
        PROTOCOL_TAG: sweep.protocol.digest(),
        VERDICT_TAG: nominee.verdict.verdict,
        "voxsweep.family": sweep.spec.family,
        "voxsweep.base_digest": sweep.protocol.family_digests["base_digest"],
        "voxsweep.lora_scale": f"{nominee.variant.lora_scale:g}",
        "voxsweep.decoding": decoding.model_dump_json(exclude_none=True),
        "voxsweep.primary": sweep.protocol.primary,
    }
    if nominee.group is not None:
        kind, name = nominee.group
        tags[f"voxsweep.{kind}"] = name
    tags |= _listening_tags(nominee)
    if nominee.confirmation is not None:
        row, gain = nominee.confirmation.row, nominee.confirmation.effect
        tags |= {
            "voxsweep.value": f"{row.means[sweep.protocol.primary]:.6g}",
            "voxsweep.gain": f"{gain.mean:.6g}",
            "voxsweep.gain_low": f"{gain.low:.6g}",
            "voxsweep.gain_high": f"{gain.high:.6g}",
        }
    return tags


def _scores(sweep: FinishedSweep, nominee: Nominee) -> list[ClipScores]:
    """Of the variant and the base on the prompts that count for it."""
    known = {prompt.id for prompt in nominee.protocol.prompts}
    return [
        row
        for variant in (BASE_VARIANT, nominee.variant.id)
        for row in sweep.ledger.scores(variant, CONFIRMATION) or []
        if row.prompt in known
    ]


def _listening_tags(nominee: Nominee) -> dict[str, str]:
    """What listeners said of the nominee, in points of their scale; nothing where none did."""
    for report in nominee.verdict.listening:
        if report.variant == nominee.variant.id and (result := report.result):
            return {
                "voxsweep.listening": f"{result.difference.mean:.6g}",
                "voxsweep.listening_low": f"{result.difference.low:.6g}",
                "voxsweep.listening_high": f"{result.difference.high:.6g}",
                "voxsweep.listeners": str(report.raters),
            }
    return {}


def _divided(verdict: Verdict) -> list[GroupVerdict]:
    """The languages, or else the speakers, where not all may hear what the sweep chose."""
    for kind in ("language", "speaker"):
        of = [each for each in verdict.groups if each.group == kind]
        if {verdict.variant_for(each) for each in of} - {verdict.variant}:
            return of
    return []


def _by_group(
    sweep: FinishedSweep, model: str, verdict: Verdict, groups: Sequence[GroupVerdict]
) -> Nominations:
    """A model a language, or a speaker, for those whose own verdict has a winner."""
    nominees, refusals = [], []
    taken: set[str] = set()
    rules = sweep.protocol.confirming().groups()
    for group in groups:
        alone = _group_verdict(verdict, group)
        if alone.variant is None:
            refusals.append(f"{alone.sentence}, so no version of {model} is registered for it")
            continue
        name = legal_name(group.name, taken)
        variant = sweep.variant(alone.variant)
        key = (group.group, group.name)
        nominees.append(Nominee(f"{model}-{name}", variant, alone, rules[key], key))
    return Nominations(tuple(nominees), tuple(refusals))


def _group_verdict(verdict: Verdict, group: GroupVerdict) -> Verdict:
    """A group's own verdict, in the place of the sweep's."""
    return replace(
        verdict,
        verdict=group.verdict,
        sentence=f"{group.group} {group.name}: {group.verdict}",
        variant=group.variant,
        confirmed=group.confirmed,
        listening=tuple(
            report for report in verdict.listening if report.group == (group.group, group.name)
        ),
    )
