"""From a finished sweep to registered models: who is put up, and who becomes champion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.metrics.base import ClipScores
from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT, Variant
from orchestrator.ledger import CONFIRMATION, PROTOCOL_FILE, VERDICT_FILE
from orchestrator.records.params import legal_name
from orchestrator.records.runs import TRIAL_TAG
from orchestrator.records.sweep_run import SWEEP_TAG
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
from orchestrator.scores.ratings import read_ratings
from orchestrator.verdict.confirm import contest, differing_keys
from orchestrator.verdict.listening import Ratings, apply_listening_test
from orchestrator.verdict.outcome import (
    Confirmation,
    GroupVerdict,
    ListeningReport,
    Outcome,
    Verdict,
)
from orchestrator.verdict.protocol import Group, Protocol
from orchestrator.verdict.table import ScoreTableError

SCORES_FILE = "scores.jsonl"
_PENDING = "listeners have not confirmed it: have them rate it, then voxsweep promote ... --ratings"


@dataclass(frozen=True)
class Nominee:
    """A variant that is put up for a registered model."""

    model: str
    variant: Variant
    outcome: Outcome
    """Of the sweep, or of the one language or speaker that it is put up for."""
    sentence: str
    confirmation: Confirmation | None
    """What set B shows of it; None where it was no finalist."""
    protocol: Protocol
    """Over the prompts of set B that count for it."""
    barred: str
    """Why it cannot become champion, whoever else there is; empty where it can."""
    listening: ListeningReport | None = None
    """What listeners heard of it, if they did."""
    group: tuple[Group, str] | None = None
    """The language or speaker it is for; None for all."""


@dataclass(frozen=True)
class Slate:
    """Who is put up, and for what nobody is, with the reason."""

    nominees: tuple[Nominee, ...]
    refusals: tuple[str, ...]


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


def slate(
    sweep: FinishedSweep, model: str, variant: str | None = None, ratings: Path | None = None
) -> Slate:
    """Who a sweep's verdict puts up for ``model``.

    Where languages, or else speakers, come to different ends, each has a model of its own, named
    ``<model>-<language>``. A ``variant`` that the verdict did not choose is put up all the same,
    but cannot become champion.

    Raises:
        InputError: there is no such variant, or the ratings cannot be used.
    """
    heard_by = _read(ratings, sweep) if ratings else None
    fresh = sweep.protocol.confirming()
    groups = _divided(sweep.verdict.groups)
    verdict = sweep.verdict
    if heard_by is not None and not groups:
        try:
            verdict = apply_listening_test(verdict, heard_by, sweep.protocol)
        except ValueError as error:
            step = "Have listeners rate the winner and the base on the same sentences."
            raise InputError([Problem(str(ratings), str(error), step)]) from None
    if variant is not None and variant != verdict.variant:
        chosen = verdict.variant or "none"
        return Slate(
            (
                Nominee(
                    model=model,
                    variant=sweep.variant(variant),
                    outcome=verdict.verdict,
                    sentence=verdict.sentence,
                    confirmation=_of(verdict.confirmed, variant),
                    protocol=fresh,
                    barred=f"it was named by hand, and the verdict chose {chosen}",
                ),
            ),
            (),
        )
    if groups:
        return _by_group(sweep, model, groups, heard_by, fresh)
    if verdict.variant is None:
        return Slate((), (f"{verdict.verdict}: {verdict.sentence}",))
    nominee = Nominee(
        model=model,
        variant=sweep.variant(verdict.variant),
        outcome=verdict.verdict,
        sentence=verdict.sentence,
        confirmation=_of(verdict.confirmed, verdict.variant),
        protocol=fresh,
        barred="" if verdict.verdict == "PROMOTE" else _PENDING,
        listening=verdict.listening,
    )
    return Slate((nominee,), ())


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
    elif nominee.outcome == "PROMOTE":
        registry.tag(version, {VERDICT_TAG: nominee.outcome})
    wins, reason = _title(registry, sweep, nominee, version)
    if wins:
        registry.crown(version, reason)
    else:
        registry.nominate(version, reason)
    return Promoted(version, variant, CHAMPION if wins else CANDIDATE, reason, is_new)


def _title(
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
    card = model_card(
        sweep,
        facts,
        title=nominee.model,
        outcome=nominee.outcome,
        sentence=nominee.sentence,
        confirmation=nominee.confirmation,
        listening=nominee.listening,
    )
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
        sweep=sweep.spec.name,
        trial=facts.trial,
        tags={**_tags(sweep, nominee), "voxsweep.provenance": facts.provenance},
        description=card,
        artifacts={file: folder / file for file in ("voice", *texts)},
        example=nominee.protocol.prompts[0].text,
        optional=optional + ("speaker",) * (len(facts.speakers) > 1),
    )


def _tags(sweep: FinishedSweep, nominee: Nominee) -> dict[str, str]:
    assert nominee.variant.trial is not None
    tags = {
        SWEEP_TAG: sweep.spec.name,
        TRIAL_TAG: nominee.variant.trial,
        VARIANT_TAG: nominee.variant.id,
        PROTOCOL_TAG: sweep.protocol.digest(),
        VERDICT_TAG: nominee.outcome,
        "voxsweep.family": sweep.spec.family,
        "voxsweep.base_digest": sweep.protocol.family_digests["base_digest"],
        "voxsweep.lora_scale": f"{nominee.variant.lora_scale:g}",
        "voxsweep.primary": sweep.protocol.primary,
    }
    if nominee.group is not None:
        kind, name = nominee.group
        tags[f"voxsweep.{kind}"] = name
    if nominee.confirmation is not None:
        row = nominee.confirmation.row
        tags |= {
            "voxsweep.value": f"{row.means[sweep.protocol.primary]:.6g}",
            "voxsweep.gain": f"{row.gain.mean:.6g}",
            "voxsweep.gain_low": f"{row.gain.low:.6g}",
            "voxsweep.gain_high": f"{row.gain.high:.6g}",
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


def _divided(groups: Sequence[GroupVerdict]) -> list[GroupVerdict]:
    """The languages, or else the speakers, where they do not all have the same winner."""
    for kind in ("language", "speaker"):
        of = [each for each in groups if each.group == kind]
        if len({each.variant for each in of}) > 1:
            return of
    return []


def _by_group(
    sweep: FinishedSweep,
    model: str,
    groups: Sequence[GroupVerdict],
    ratings: Ratings | None,
    fresh: Protocol,
) -> Slate:
    """A model a language, or a speaker, for those whose own verdict has a winner."""
    nominees, refusals = [], []
    taken: set[str] = set()
    for each in groups:
        rule = fresh.groups()[each.group, each.name]
        alone = replace(sweep.verdict, verdict=each.verdict, variant=each.variant)
        verdict = _heard_alone(alone, ratings, rule)
        said = f"{each.group} {each.name}: {verdict.verdict}"
        if verdict.variant is None:
            refusals.append(f"{said}, so no version of {model} is registered for it")
            continue
        name = legal_name(each.name, taken)
        taken.add(name)
        nominees.append(
            Nominee(
                model=f"{model}-{name}",
                variant=sweep.variant(verdict.variant),
                outcome=verdict.verdict,
                sentence=said,
                confirmation=_of(each.confirmed, verdict.variant),
                protocol=rule,
                barred="" if verdict.verdict == "PROMOTE" else _PENDING,
                listening=verdict.listening,
                group=(each.group, each.name),
            )
        )
    return Slate(tuple(nominees), tuple(refusals))


def _of(confirmed: Sequence[Confirmation], variant: str) -> Confirmation | None:
    return next((each for each in confirmed if each.row.id == variant), None)


def _read(path: Path, sweep: FinishedSweep) -> Ratings:
    sentences = {prompt.id for prompt in sweep.protocol.confirmation}
    return read_ratings(path, sentences, sweep.variants)


def _heard_alone(verdict: Verdict, ratings: Ratings | None, rule: Protocol) -> Verdict:
    """A group's verdict after what listeners said of its own sentences, if they heard some."""
    if ratings is None or verdict.variant is None:
        return verdict
    try:
        return apply_listening_test(
            verdict, ratings.only([prompt.id for prompt in rule.prompts]), rule
        )
    except ValueError:
        return verdict  # nobody rated its winner and the base on these: it stays pending
