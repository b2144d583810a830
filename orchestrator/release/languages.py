"""Which variant of a sweep speaks each language, where their verdicts differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT, Variant
from jobs.speech.voice_files import SpokenLanguage, VoiceFiles
from orchestrator.ledger import VERDICT_FILE
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.verdict.outcome import AGAINST, REFUSED, Confirmation, GroupVerdict, Verdict


@dataclass(frozen=True)
class LanguageChoice:
    """What speaks a language, by its own verdict."""

    group: GroupVerdict
    variant: Variant | None
    """None where the base does."""

    @property
    def spoken_by(self) -> str:
        """The id of the variant, or ``base``."""
        return BASE_VARIANT if self.variant is None else self.variant.id

    @property
    def confirmation(self) -> Confirmation | None:
        """What the language's prompts of set B show of the variant; None where it was no finalist,
        and of the base."""
        return next((c for c in self.group.confirmed if c.row.id == self.spoken_by), None)


def language_choices(
    sweep: FinishedSweep, verdict: Verdict, variant: str | None = None
) -> tuple[LanguageChoice, ...]:
    """What speaks each language; empty where one variant speaks all.

    Args:
        sweep: of the variants.
        verdict: the sweep's, as listeners have left it.
        variant: one named by hand, which speaks wherever it is not refused.

    Raises:
        InputError: there is no such variant.
    """
    languages = [group for group in verdict.groups if group.group == "language"]
    ids = {
        group.name: verdict.variant_for(group)
        if variant is None
        else None
        if _refuses(group, variant)
        else variant
        for group in languages
    }
    if set(ids.values()) <= {verdict.variant if variant is None else variant}:
        return ()
    return tuple(
        LanguageChoice(group, None if (name := ids[group.name]) is None else sweep.variant(name))
        for group in languages
    )


def _refuses(group: GroupVerdict, variant: str) -> bool:
    findings = {each.row.id: each.finding for each in group.confirmed}
    return group.verdict in AGAINST or findings.get(variant) in REFUSED


def lead(choices: Sequence[LanguageChoice], winner: str | None) -> Variant | None:
    """The variant that a voice of several is named after: the sweep's winner, or else the first."""
    speaking = [each.variant for each in choices if each.variant is not None]
    return next((each for each in speaking if each.id == winner), next(iter(speaking), None))


def write_by_language(
    sweep: FinishedSweep, choices: Sequence[LanguageChoice], first: Variant, directory: Path
) -> VoiceFiles:
    """Make ``directory`` a voice in which each language is spoken by its choice.

    ``first`` is one of them, and lies in the directory itself.

    Raises:
        InputError: the sweep does not have a checkpoint any more.
    """
    parts = tuple(
        SpokenLanguage(language=each.group.name, verdict=each.group.verdict, variant=each.spoken_by)
        for each in choices
    )
    variants = {each.spoken_by: each.variant for each in choices}
    by_base = BASE_VARIANT in variants
    told = {"by_language": parts, "base_decoding": sweep.protocol.decoding if by_base else None}
    facts = sweep.facts(first).model_copy(update=told)
    others = [sweep.facts(each) for each in variants.values() if each not in (None, first)]
    return sweep.write_voice(directory, facts, others)


def write_sweep_voice(sweep: FinishedSweep, variant: str | None, directory: Path) -> VoiceFiles:
    """Make ``directory`` the voice of a sweep's winners, or of a variant named by hand.

    Raises:
        InputError: there is no such variant, the verdict chose none, or every language refuses it.
    """
    by_hand = None if variant == sweep.verdict.variant else variant
    choices = language_choices(sweep, sweep.verdict, by_hand)
    if not choices:
        return sweep.write_voice(directory, sweep.facts(sweep.variant(variant)))
    first = lead(choices, sweep.verdict.variant)
    if first is None:
        ends = ", ".join(f"{each.group.name}: {each.group.verdict}" for each in choices)
        what = f"a language must have a variant that speaks it, but none has ({ends})"
        where = sweep.ledger.path(VERDICT_FILE)
        raise InputError([Problem(where, what, "Hear its clips in the sweep's report.")])
    return write_by_language(sweep, choices, first, directory)
