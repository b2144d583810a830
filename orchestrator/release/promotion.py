"""From a finished sweep to registered models: which variants are nominated, and the champion."""

from collections.abc import Mapping, Sequence
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
from orchestrator.release.languages import (
    LanguageChoice,
    language_choices,
    lead,
    write_by_language,
)
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
_PENDING = "listeners have not confirmed it{}: have them rate it, with voxsweep listen"


@dataclass(frozen=True)
class Nominee:
    """A variant that is nominated for a registered model."""

    model: str
    variant: Variant
    verdict: Verdict
    """Of the sweep, or of the one speaker that it is nominated for."""
    protocol: Protocol
    """Over the prompts of set B that count for it."""
    group: GroupName | None = None
    """The speaker it is for; None for all."""
    languages: tuple[LanguageChoice, ...] = ()
    """What speaks each language, where their verdicts differ; ``variant`` is one of them."""
    by_hand: bool = False
    """Whether it was named, and not chosen by the verdict."""

    @property
    def spoken_by(self) -> str:
        """The variant's id, or that of each language: ``km=t0123456789ab-e03-s0.70 ko=base``."""
        parts = [f"{each.group.name}={each.spoken_by}" for each in self.languages]
        return " ".join(parts) or self.variant.id

    @property
    def confirmations(self) -> list[tuple[str, Confirmation]]:
        """What set B shows of it, each with the language, which is empty for all."""
        if self.languages:
            found = [(each.group.name, each.confirmation) for each in self.languages]
        else:
            found = [("", self.confirmation)]
        return [(language, each) for language, each in found if each is not None]

    @property
    def confirmation(self) -> Confirmation | None:
        """What set B shows of it; None where it was no finalist."""
        confirmed = self.verdict.confirmed
        return next((each for each in confirmed if each.row.id == self.variant.id), None)

    @property
    def barred(self) -> str:
        """Why it cannot become champion, whatever the other versions; empty where it can."""
        if self.by_hand:
            chosen = self.verdict.variant or "none"
            return f"it was named by hand, and the verdict chose {chosen}"
        adapted = [each.group for each in self.languages if each.variant is not None]
        if pending := [group.name for group in adapted if group.verdict != "PROMOTE"]:
            return _PENDING.format(f" in {', '.join(pending)}")
        return "" if adapted or self.verdict.verdict == "PROMOTE" else _PENDING.format("")


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
    language: str | None = None
    """One that it speaks, where a text has to name its language."""

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

    Where languages come to different ends, the model speaks each as its verdict allows, with an
    adapter or as the base. Where else speakers do, each has a model of its own, named
    ``<model>-<speaker>``. A ``variant`` that the verdict did not choose can be named all the same,
    but does not become champion, and speaks no language that refuses it.

    Raises:
        InputError: there is no such variant, or the ratings cannot be used.
    """
    sentences = {prompt.id for prompt in sweep.protocol.confirmation}
    fresh, verdict = sweep.protocol.confirming(), sweep.verdict
    if ratings:
        rated = read_ratings(ratings, sentences, sweep.variants)
        verdict = apply_ratings(verdict, rated, sweep.protocol, ratings)
    by_hand = None if variant == verdict.variant else variant
    if choices := language_choices(sweep, verdict, by_hand):
        return _by_language(sweep, model, verdict, choices, by_hand)
    speakers = [] if by_hand else _divided_speakers(verdict)
    if speakers:
        return _by_speaker(sweep, model, verdict, speakers)
    if verdict.variant is None and by_hand is None:
        return Nominations(refusals=(f"{verdict.verdict}: {verdict.sentence}",))
    chosen = sweep.variant(variant or verdict.variant)
    return Nominations((Nominee(model, chosen, verdict, fresh, by_hand=by_hand is not None),))


def promote(registry: Registry, sweep: FinishedSweep, nominee: Nominee) -> Promoted:
    """Register the nominee, unless it is, and give it the alias that it earned."""
    variant = nominee.spoken_by
    version = registry.find(
        nominee.model,
        {VARIANT_TAG: variant, PROTOCOL_TAG: sweep.protocol.digest(), SWEEP_TAG: sweep.spec.name},
    )
    is_new = version is None
    if version is None:
        with TemporaryDirectory() as folder:
            version = registry.add(_new_version(sweep, nominee, Path(folder)))
    elif not nominee.barred:
        known = _verdict_tags(nominee, sweep.protocol.primary)
        registry.tag(version, {VERDICT_TAG: nominee.verdict.verdict, **known})
    wins, reason = _challenge(registry, sweep, nominee, version)
    if wins:
        registry.set_champion(version, reason)
    else:
        registry.set_candidate(version, reason)
    alias = CHAMPION if wins else CANDIDATE
    speaking = (each.group.name for each in nominee.languages if each.variant is not None)
    return Promoted(version, variant, alias, reason, is_new, next(speaking, None))


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
    if nominee.languages:
        voice = write_by_language(sweep, nominee.languages, nominee.variant, folder / "voice")
    else:
        speaker = nominee.group[1] if nominee.group else None
        facts = sweep.facts(nominee.variant, speaker=speaker)
        voice = sweep.write_voice(folder / "voice", facts)
    facts = voice.facts
    card = model_card(sweep, voice, nominee.model, nominee.verdict, nominee.confirmations)
    texts = {
        PROTOCOL_FILE: sweep.protocol.model_dump_json(indent=2),
        VERDICT_FILE: sweep.verdict.to_json(),
        SCORES_FILE: "\n".join(row.to_json() for row in _scores(sweep, nominee)),
        CARD_FILE: card,
    }
    for file, text in texts.items():
        (folder / file).write_text(text + "\n", encoding="utf-8")
    optional = ("language",) * (len(facts.languages) > 1 or facts.host.language_tag)
    prompt = nominee.protocol.prompts[0]
    example = {"text": prompt.text}
    if facts.by_language and prompt.language is not None:
        example["language"] = prompt.language
    return NewVersion(
        model=nominee.model,
        tags={**_tags(sweep, nominee), "voxsweep.provenance": facts.provenance},
        description=card,
        artifacts={file: folder / file for file in ("voice", *texts)},
        example=example,
        optional=optional + ("speaker",) * (len(facts.speakers) > 1),
    )


def _tags(sweep: FinishedSweep, nominee: Nominee) -> dict[str, str]:
    assert nominee.variant.trial is not None
    decoding = sweep.protocol.decoding.at(nominee.variant.own_decoding)
    tags = {
        SWEEP_TAG: sweep.spec.name,
        TRIAL_TAG: nominee.variant.trial,
        VARIANT_TAG: nominee.spoken_by,
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
    return tags | _verdict_tags(nominee, sweep.protocol.primary)


def _verdict_tags(nominee: Nominee, primary: str) -> dict[str, str]:
    """What set B and listeners say of it; by language, where each is spoken as its verdict says."""
    if not nominee.languages:
        shown = _measured(nominee.confirmation, primary)
        return _tagged("voxsweep.", shown | _heard(nominee.verdict, nominee.variant.id))
    tags: dict[str, str] = {}
    taken: set[str] = set()
    for each in nominee.languages:
        told = {"verdict": each.group.verdict, "variant": each.spoken_by}
        told |= _measured(each.confirmation, primary)
        told |= _heard(nominee.verdict, each.spoken_by, each.group.name)
        tags |= _tagged(f"voxsweep.language.{legal_name(each.group.name, taken)}.", told)
    return tags


def _tagged(prefix: str, told: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in told.items()}


def _measured(confirmation: Confirmation | None, primary: str) -> dict[str, str]:
    """The primary metric on set B."""
    if confirmation is None:
        return {}
    row, gain = confirmation.row, confirmation.effect
    return {
        "value": f"{row.means[primary]:.6g}",
        "gain": f"{gain.mean:.6g}",
        "gain_low": f"{gain.low:.6g}",
        "gain_high": f"{gain.high:.6g}",
    }


def _heard(verdict: Verdict, variant: str, language: str | None = None) -> dict[str, str]:
    """What listeners said of the variant, in points of their scale; nothing where none did."""
    for report in verdict.listening:
        is_of = language is None or report.group == ("language", language)
        if report.variant == variant and is_of and (result := report.result):
            return {
                "listening": f"{result.difference.mean:.6g}",
                "listening_low": f"{result.difference.low:.6g}",
                "listening_high": f"{result.difference.high:.6g}",
                "listeners": str(report.raters),
            }
    return {}


def _scores(sweep: FinishedSweep, nominee: Nominee) -> list[ClipScores]:
    """Of the voice and the base on the prompts that count for it.

    Where languages are spoken by several variants, or by the base, the voice's clip of a prompt is
    that of whichever speaks its language.
    """
    speakers = {each.group.name: each.spoken_by for each in nominee.languages}
    rows = {
        (row.variant, row.prompt): row
        for variant in {BASE_VARIANT, nominee.variant.id, *speakers.values()}
        for row in sweep.ledger.scores(variant, CONFIRMATION) or []
    }
    found = []
    for prompt in nominee.protocol.prompts:
        speaker = speakers.get(prompt.language or "", BASE_VARIANT if speakers else None)
        own = rows.get((speaker or nominee.variant.id, prompt.id))
        found += [rows[key] for key in [(BASE_VARIANT, prompt.id)] if key in rows]
        found += [replace(own, variant=nominee.variant.id)] if own is not None else []
    return found


def _by_language(
    sweep: FinishedSweep,
    model: str,
    verdict: Verdict,
    choices: tuple[LanguageChoice, ...],
    by_hand: str | None,
) -> Nominations:
    """One model, in which a language that has no winner, or refuses it, is spoken by the base."""
    first = lead(choices, verdict.variant)
    ends = [(each, f"language {each.group.name}: {each.group.verdict}") for each in choices]
    if first is None:
        why = f", so no version of {model} is registered"
        return Nominations(refusals=tuple(f"{end}{why}" for _, end in ends))
    nominee = Nominee(
        model,
        first,
        verdict,
        sweep.protocol.confirming(),
        languages=choices,
        by_hand=by_hand is not None,
    )
    by_base = tuple(f"{end}, so the base speaks it" for each, end in ends if each.variant is None)
    return Nominations((nominee,), by_base)


def _divided_speakers(verdict: Verdict) -> list[GroupVerdict]:
    """The speakers, where not all may have what the sweep chose."""
    of = [each for each in verdict.groups if each.group == "speaker"]
    return of if {verdict.variant_for(each) for each in of} - {verdict.variant} else []


def _by_speaker(
    sweep: FinishedSweep, model: str, verdict: Verdict, groups: Sequence[GroupVerdict]
) -> Nominations:
    """A model for each speaker whose own verdict has a winner."""
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
