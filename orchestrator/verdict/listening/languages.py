"""A listening test and what it makes of a verdict: each language is decided by its own panel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.finalists import choose, hear_finalists, together
from orchestrator.verdict.listening.panel import PENDING, hear
from orchestrator.verdict.listening.ratings import Ratings
from orchestrator.verdict.listening.sentences import after_listening, not_chosen
from orchestrator.verdict.outcome import GroupVerdict, ListeningReport, Outcome, Verdict
from orchestrator.verdict.protocol import Group, GroupName, Protocol


@dataclass(frozen=True)
class Panel:
    """What one panel of listeners is asked."""

    group: GroupName | None
    """The language or speaker of its sentences; None for all of set B."""
    variant: str
    """To be compared with the base."""
    sentences: tuple[str, ...]
    """Ids of prompts of set B."""


def panels(verdict: Verdict, protocol: Protocol) -> list[Panel]:
    """What a verdict of the metrics asks of listeners; nothing where it has no winner.

    Each language hears its own winner, or else the sweep's, unless the metrics refused the
    language, or the winner in it. Without languages one panel hears the sweep's, and each speaker's
    own winner besides. Whether the panel hears other finalists too is left to whoever holds it.
    """
    fresh = protocol.confirming()
    groups = fresh.groups()
    kind = _kind(verdict)
    found = []
    if kind == "speaker" and verdict.variant is not None:
        found.append(Panel(None, verdict.variant, tuple(p.id for p in fresh.prompts)))
    for each in verdict.groups:
        variant = _to_hear(each, verdict) if each.group == kind else None
        if variant is not None:
            key = (each.group, each.name)
            found.append(Panel(key, variant, tuple(p.id for p in groups[key].prompts)))
    return found


def _kind(verdict: Verdict) -> Group:
    """Whose panels decide: languages', where there are several."""
    return "language" if any(g.group == "language" for g in verdict.groups) else "speaker"


def _to_hear(group: GroupVerdict, verdict: Verdict) -> str | None:
    return verdict.variant_for(group) if group.group == "language" else group.variant


@dataclass(frozen=True)
class _Heard:
    """What became of one language or speaker."""

    group: GroupVerdict
    variant: str | None
    """What its listeners were to confirm; None where the metrics left nothing to confirm."""
    report: ListeningReport | None
    """None where nobody rated it."""

    @property
    def outcome(self) -> Outcome:
        """Of its panel; where there was nothing to confirm, of the metrics."""
        if self.variant is None:
            return self.group.verdict
        return self.report.verdict if self.report else PENDING

    @property
    def settled(self) -> GroupVerdict:
        """The group's verdict, once its panel has decided."""
        if self.variant is None or self.outcome == PENDING:
            return self.group
        winner = self.variant if self.outcome == "PROMOTE" else None
        return replace(self.group, verdict=self.outcome, variant=winner)


def apply_listening_test(verdict: Verdict, ratings: Ratings, protocol: Protocol) -> Verdict:
    """Let listeners decide on a promotion that is pending; each panel decides as `hear` does.

    Where set B has several languages, each has a panel of its own: those who rated its sentences.
    It hears the language's own winner, or else the sweep's, unless the metrics refused the
    language. ``PROMOTE`` needs the same variant in every language; with some languages for and
    others against, the promotion is by language; while one is undecided it stays pending. Where
    the sweep has no winner, a language that its listeners confirm is promoted alone. Without
    languages one panel decides, and each speaker with a winner of its own is heard besides. Where
    that panel heard several finalists that the metrics found better, it may choose another one.

    Args:
        verdict: of the metrics. One without any winner has nothing to confirm and stays as it is.
        ratings: of the winners and the base, by prompt id and variant id.
        protocol: under which the verdict was reached.

    Raises:
        ValueError: nobody rated a winner and the base on one sentence.
    """
    prompts = {
        key: [prompt.id for prompt in part.prompts]
        for key, part in protocol.confirming().groups().items()
    }

    def heard(variant: str | None, group: GroupName | None) -> ListeningReport | None:
        part = ratings if group is None else ratings.only(prompts[group])
        try:
            return hear(part, variant, protocol, group) if variant else None
        except ValueError:  # nobody rated it on these sentences
            return None

    kind = _kind(verdict)
    parts = []
    for each in verdict.groups:
        if each.group == kind:
            variant = _to_hear(each, verdict)
            parts.append(_Heard(each, variant, heard(variant, (each.group, each.name))))
    languages = parts if kind == "language" else []
    whole = [] if languages else hear_finalists(ratings, verdict, protocol)
    reports = [*whole, *(part.report for part in parts if part.report)]
    if not reports:
        if wanted := [name for name in (verdict.variant, *(p.variant for p in parts)) if name]:
            ratings.differences(wanted[0], BASE_VARIANT)
        return verdict
    settled = {part.group.name: part.settled for part in parts}
    outcome, winner = verdict.verdict, verdict.variant
    if winner is not None:
        outcome = _together(languages, winner) if languages else together(whole)
        winner = choose(whole, ratings, winner, protocol) if whole else winner
    elif any(each.outcome == "PROMOTE" for each in languages):
        outcome = "PROMOTE-BY-LANGUAGE"
    is_promoted = outcome.startswith("PROMOTE")
    unheard = {
        part.group.name: part.group.verdict if part.variant is None else None
        for part in languages
        if part.report is None
    }
    after = replace(
        verdict,
        verdict=outcome,
        sentence=after_listening(outcome, verdict, reports, unheard, winner, protocol),
        variant=verdict.variant if is_promoted else None,
        runner_up=verdict.runner_up if is_promoted else verdict.variant or verdict.runner_up,
        groups=tuple(settled[g.name] if g.group == kind else g for g in verdict.groups),
        listening=tuple(reports),
    )
    if winner is None or winner == verdict.variant:
        return after
    return _with_another(after, winner)


def _with_another(verdict: Verdict, winner: str) -> Verdict:
    """With the finalist that listeners chose in the place of the metrics' winner."""
    (chosen,) = (each for each in verdict.confirmed if each.row.id == winner)
    before = verdict.variant
    rows = {
        row.id: replace(row, standing="winner", reasons=())
        if row.id == winner
        else replace(row, standing="passed", reasons=(not_chosen(winner),))
        if row.id == before
        else row
        for row in verdict.rows
    }
    # Other seeds were trained of the metrics' winner alone.
    return replace(
        verdict,
        variant=winner,
        runner_up=before,
        effect=chosen.effect,
        recipe=None,
        rows=tuple(rows.values()),
    )


def _together(languages: Sequence[_Heard], variant: str) -> Outcome:
    """What the languages make of the sweep's winner."""
    outcomes = {each.outcome for each in languages}
    if PENDING in outcomes:
        return PENDING
    if outcomes == {"PROMOTE"} and all(each.variant == variant for each in languages):
        return "PROMOTE"
    if "PROMOTE" in outcomes:
        return "PROMOTE-BY-LANGUAGE"
    if "INCONCLUSIVE" in outcomes:  # the metrics refuse the winner there, and no other finalist
        return "INCONCLUSIVE"
    return "REGRESSION" if outcomes == {"REGRESSION"} else "DO-NOT-FINE-TUNE"
