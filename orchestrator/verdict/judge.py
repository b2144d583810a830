"""The judgement: tables of scores to a verdict, by the protocol's rule and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.confirm import Decision, Final, decide
from orchestrator.verdict.decodings import redecoded
from orchestrator.verdict.error_rates import error_rates
from orchestrator.verdict.loss import group_loss, loss_report
from orchestrator.verdict.outcome import Confirmation, GroupVerdict, Outcome, VariantRow, Verdict
from orchestrator.verdict.protocol import GroupName, Protocol
from orchestrator.verdict.recipe import judge_recipe
from orchestrator.verdict.screen import Finalists, choose_finalists, choose_shortlist
from orchestrator.verdict.shares import share_on_all, shares_in_group
from orchestrator.verdict.table import ScoreTable


def judge(
    screen: ScoreTable,
    confirmation: ScoreTable | None,
    protocol: Protocol,
    shortlist: ScoreTable | None = None,
) -> Verdict:
    """Choose the variant to promote, or say why there is none. The same tables, the same verdict.

    Args:
        screen: every variant on the prompts of set A that all speak, ``protocol.screening()``.
        confirmation: set B, the base and the finalists that :func:`choose_finalists` gives, and the
            winner's replicates, built with ``protocol.confirming()``; None if there are none.
        protocol: under which all was scored.
        shortlist: all of set A, the base and the variants that :func:`choose_shortlist` gives, of
            the search and then of the best checkpoints' decodings; None where every variant speaks
            all of it.
    """
    every = first = Comparison(screen, protocol.screening())
    rows = {variant: every.row(variant) for variant in screen.variants}
    searched = [v.id for v in screen.adapted if not v.own_decoding]
    if len(searched) < len(screen.adapted):
        first = Comparison(screen.of((BASE_VARIANT, *searched)), protocol.screening())
    scored = [rows[name] for name in searched if first.has_scores(name)]
    verdict = Verdict(
        verdict="NO-VERDICT",
        sentence=sentences.too_few_scores(first.table.adapted),
        variant=None,
        runner_up=None,
        protocol_hash=protocol.digest(),
        primary=protocol.primary,
        effect=None,
        prompts_needed=None,
        rows=tuple(rows.values()),
        shortlisted=(),
        confirmed=(),
        groups=(),
        error_rates=(),
        unscored={},
        listening=(),
        loss=None,
    )
    if not scored or not first.has_scores(BASE_VARIANT):
        return replace(verdict, rows=tuple(map(_not_compared, rows.values())))
    verdict = replace(verdict, loss=loss_report(first, scored))
    whole, considered = first, scored
    if listed := choose_shortlist(first, protocol):
        if lacking := _without_scores(shortlist, listed, protocol):
            return replace(verdict, sentence=sentences.scores_lacking(lacking, "the rest of set A"))
        assert shortlist is not None
        whole = Comparison(shortlist.of((BASE_VARIANT, *listed)), protocol)
        considered = [whole.row(name) for name in listed]
    if protocol.decodings:
        with_decodings = _with_decodings(every, whole, protocol, shortlist)
        if isinstance(with_decodings, str):
            return replace(verdict, sentence=with_decodings)
        whole = with_decodings
        considered = [whole.row(v.id) for v in whole.table.adapted if whole.has_scores(v.id)]
    if listed:
        verdict = _with_shortlist(verdict, considered)
    finalists = choose_finalists(whole)
    if not finalists.sweep:
        best = max(considered, key=lambda row: row.objective)
        sentence = sentences.none_feasible(best, screen.variants[best.id].name, len(scored))
        verdict = replace(verdict, verdict="DO-NOT-FINE-TUNE", sentence=sentence, runner_up=best.id)
    if not finalists.all:
        return verdict
    if lacking := _without_scores(confirmation, finalists.all, protocol.confirming()):
        sentence = sentences.scores_lacking(lacking, "set B")
        return replace(verdict, verdict="NO-VERDICT", sentence=sentence, runner_up=None)
    assert confirmation is not None
    fresh = Comparison(confirmation, protocol.confirming())
    on_all, in_groups = _finals(fresh, finalists)
    decision, *decisions = decide([on_all, *in_groups.values()])
    groups = tuple(_groups(every, in_groups, finalists, decisions))
    return _confirmed(verdict, every, considered, fresh, decision, groups)


def _with_decodings(
    every: Comparison, whole: Comparison, protocol: Protocol, shortlist: ScoreTable | None
) -> Comparison | str:
    """All of set A, with the decodings of the best checkpoints; or the sentence without a verdict.

    Args:
        every: every variant on the prompts of set A that all speak.
        whole: those that decode as the sweep does, on all of set A.
        protocol: over all of set A.
        shortlist: all of set A, as :func:`judge` has it.
    """
    best = [every.table.variants[name] for name in choose_finalists(whole).all]
    tried = [info.id for info in redecoded(best, protocol)]
    if not tried:
        return whole
    if lacking := _without_scores(every.table, tried, every.protocol):
        return sentences.scores_lacking(lacking, "set A's first part")
    searched = [info.id for info in whole.table.adapted]
    if not protocol.rest:
        return Comparison(every.table.of((BASE_VARIANT, *searched, *tried)), protocol)
    names = (BASE_VARIANT, *(info.id for info in best), *tried)
    listed = choose_shortlist(Comparison(every.table.of(names), every.protocol), protocol)
    if lacking := _without_scores(shortlist, listed, protocol):
        return sentences.scores_lacking(lacking, "the rest of set A")
    assert shortlist is not None
    kept = dict.fromkeys((BASE_VARIANT, *searched, *listed))
    return Comparison(shortlist.of(kept), protocol)


def _finals(fresh: Comparison, finalists: Finalists) -> tuple[Final, dict[GroupName, Final]]:
    """What set B tests: the sweep's finalists on all of it, and those of each group on its part."""
    rules, sweep = fresh.protocol.groups(), finalists.sweep
    on_all = dict.fromkeys(sweep, share_on_all(len(sweep), len(rules)) if sweep else 0.0)
    return Final(fresh, on_all), {
        group: Final(
            fresh.only(rule.prompts, beside=len(rules)),
            shares_in_group(finalists.own.get(group), sweep, len(rules)),
        )
        for group, rule in rules.items()
    }


def _without_scores(
    table: ScoreTable | None, variants: Sequence[str], protocol: Protocol
) -> list[str]:
    """Those of the base and these variants that are not in a table, or there without scores."""
    wanted = (BASE_VARIANT, *variants)
    if table is None:
        return list(wanted)
    comparison = Comparison(table, protocol)
    return [v for v in wanted if v not in table.variants or not comparison.has_scores(v)]


def _with_shortlist(verdict: Verdict, shortlisted: Sequence[VariantRow]) -> Verdict:
    """Give each row its standing on all of set A, or say that it is not on the shortlist."""
    on_all = {row.id: row for row in shortlisted}

    def settled(row: VariantRow) -> VariantRow:
        if full := on_all.get(row.id):
            reasons = tuple(f"all of set A: {reason}" for reason in full.reasons)
            return replace(row, standing=full.standing, reasons=reasons)
        passed = row.standing == "passed"
        return replace(row, reasons=(sentences.NOT_SHORTLISTED,)) if passed else row

    rows = tuple(map(settled, verdict.rows))
    return replace(verdict, rows=rows, shortlisted=tuple(shortlisted))


def _confirmed(
    verdict: Verdict,
    screen: Comparison,
    considered: Sequence[VariantRow],
    fresh: Comparison,
    decision: Decision | None,
    groups: tuple[GroupVerdict, ...],
) -> Verdict:
    """The verdict of a sweep whose finalists all have scores of set B.

    Without a ``decision`` of the sweep's own finalists, of which there are none, it is as it was.
    """
    protocol, table = fresh.protocol, fresh.table
    winner, sentence = None, verdict.sentence
    if decision:
        first, winner = decision.first, decision.winner
        recipe = judge_recipe(fresh, winner.row.id) if winner and protocol.confirm_seeds else None
        name = table.variants[first.row.id].name
        sentence = (
            sentences.promotion(winner, name, protocol)
            + sentences.seeds(table.variants[winner.row.id], recipe)
            if winner
            else sentences.refusal(
                decision.outcome,
                first,
                name,
                len(decision.confirmed),
                decision.prompts_needed,
                protocol,
            )
        )
        others = [row for row in considered if row.id != first.row.id and row.feasible]
        verdict = replace(
            verdict,
            verdict=decision.outcome,
            variant=winner.row.id if winner else None,
            runner_up=_runner_up(screen.table, others, winner.row.id) if winner else first.row.id,
            effect=first.effect,
            prompts_needed=decision.prompts_needed,
            confirmed=decision.confirmed,
            recipe=recipe,
        )
    verdict = replace(verdict, groups=groups)
    names = (BASE_VARIANT, *verdict.finalists)
    unscored = {name: len(clips) for name in names if (clips := fresh.unscored_clips(name))}
    told = decision.first.row.id if decision else None
    return replace(
        verdict,
        sentence=(
            sentence
            + sentences.unscored(unscored, told, verdict.verdict, len(table.keys))
            + sentences.near_duplicates(protocol)
            + sentences.of_groups(verdict, told, table.variants, protocol)
            + sentences.used_before(protocol)
        ),
        rows=tuple(_settle(row, verdict, winner, protocol) for row in verdict.rows),
        error_rates=tuple(rate for name in names for rate in error_rates(table, name, protocol)),
        unscored=unscored,
    )


def _groups(
    screen: Comparison,
    finals: Mapping[GroupName, Final],
    finalists: Finalists,
    decisions: Sequence[Decision | None],
) -> Iterator[GroupVerdict]:
    """The verdict of each language's and each speaker's prompts of set B.

    Beside it, what the loss over the group's validation clips would have chosen.
    """
    for (group, name), decision in zip(finals, decisions, strict=True):
        own = finalists.own.get((group, name))
        # Without a finalist, every variant is shown to break a rule, unless set A does not tell.
        is_heard = finals[group, name].shares or not screen.protocol.in_group((group, name))
        outcome: Outcome = "NO-VERDICT" if is_heard else "DO-NOT-FINE-TUNE"
        verdict = GroupVerdict(group, name, own, outcome, None, None, None, ())
        shown = BASE_VARIANT
        if decision:
            shown = decision.first.row.id
            verdict = replace(
                verdict,
                verdict=decision.outcome,
                variant=decision.winner.row.id if decision.winner else None,
                effect=decision.first.effect,
                prompts_needed=decision.prompts_needed,
                confirmed=decision.confirmed,
            )
        yield replace(verdict, loss=group_loss(screen, f"{group}/{name}", shown))


def _runner_up(table: ScoreTable, others: Sequence[VariantRow], winner: str) -> str | None:
    trial = table.variants[winner].trial

    def preference(row: VariantRow) -> tuple[bool, bool, float]:
        return table.variants[row.id].trial != trial, row.standing == "passed", row.gain.mean

    return max(others, key=preference).id if others else None


def _settle(
    row: VariantRow, verdict: Verdict, winner: Confirmation | None, protocol: Protocol
) -> VariantRow:
    """Give a row of set A its final standing, once set B has decided."""
    finalist = next((each for each in verdict.confirmed if each.row.id == row.id), None)
    if finalist is None:
        groups = [each for each in verdict.groups if each.own == row.id]
        if groups:
            return replace(row, reasons=(*row.reasons, *map(sentences.own_finalist, groups)))
        unexplained = row.standing == "passed" and not row.reasons
        return replace(row, reasons=(sentences.NOT_A_FINALIST,)) if unexplained else row
    if winner is finalist:
        return replace(row, standing="winner", reasons=())
    if winner and finalist.finding == "better":
        reason = sentences.preferred_reason(finalist.row.gain, winner.row.gain)
        return replace(row, standing="passed", reasons=(reason,))
    reasons = sentences.not_better_reasons(finalist, protocol)
    return replace(row, standing="rejected", reasons=reasons)


def _not_compared(row: VariantRow) -> VariantRow:
    if row.id == BASE_VARIANT:
        return row
    return replace(row, standing="rejected", reasons=row.reasons or (sentences.BASE_INCOMPLETE,))
