"""The judgement: tables of scores to a verdict, by the protocol's rule and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.confirm import decide
from orchestrator.verdict.error_rates import error_rates
from orchestrator.verdict.loss import group_loss, loss_report
from orchestrator.verdict.outcome import Confirmation, GroupVerdict, VariantRow, Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import choose_finalists, choose_shortlist
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
        confirmation: set B, the base and the finalists that :func:`choose_finalists` gives, built
            with ``protocol.confirming()``; None if there are none.
        protocol: under which all was scored.
        shortlist: all of set A, the base and the variants that :func:`choose_shortlist` gives;
            None where every variant speaks all of it.
    """
    first = Comparison(screen, protocol.screening())
    rows = {variant: first.row(variant) for variant in screen.variants}
    scored = [rows[v.id] for v in screen.adapted if first.has_scores(v.id)]
    verdict = Verdict(
        verdict="NO-VERDICT",
        sentence=sentences.too_few_scores(screen.adapted),
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
    verdict = replace(verdict, loss=loss_report(screen, scored, protocol.primary))
    whole, considered = first, scored
    if listed := choose_shortlist(first, protocol):
        if lacking := _without_scores(shortlist, listed, protocol):
            return replace(verdict, sentence=sentences.scores_lacking(lacking, "the rest of set A"))
        assert shortlist is not None
        whole = Comparison(shortlist.of((BASE_VARIANT, *listed)), protocol)
        considered = [whole.row(name) for name in listed]
        verdict = _with_shortlist(verdict, considered)
    finalists = choose_finalists(whole)
    if not finalists:
        best = max(considered, key=lambda row: row.objective)
        sentence = sentences.none_feasible(best, screen.variants[best.id].name, len(scored))
        return replace(verdict, verdict="DO-NOT-FINE-TUNE", sentence=sentence, runner_up=best.id)
    if lacking := _without_scores(confirmation, finalists, protocol.confirming()):
        return replace(verdict, sentence=sentences.scores_lacking(lacking, "set B"))
    assert confirmation is not None
    fresh = Comparison(confirmation, protocol.confirming())
    return _confirmed(verdict, first, considered, fresh, finalists)


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
    finalists: Sequence[str],
) -> Verdict:
    """The verdict of a sweep whose finalists all have scores of set B."""
    protocol, decision = fresh.protocol, decide(fresh, finalists)
    first, winner = decision.first, decision.winner
    groups = tuple(_groups(screen, fresh, finalists))
    name = fresh.table.variants[first.row.id].name
    unscored = {
        variant: len(clips)
        for variant in (BASE_VARIANT, *finalists)
        if (clips := fresh.unscored_clips(variant))
    }
    sentence = (
        sentences.promotion(winner, name, protocol)
        if winner
        else sentences.refusal(
            decision.outcome, first, name, len(finalists), decision.prompts_needed, protocol
        )
    )
    others = [row for row in considered if row.id != first.row.id and row.feasible]
    return replace(
        verdict,
        verdict=decision.outcome,
        sentence=(
            sentence
            + sentences.unscored(unscored, first.row.id, decision.outcome, len(fresh.table.keys))
            + sentences.near_duplicates(protocol)
            + sentences.regressions(groups)
            + sentences.used_before(protocol)
        ),
        variant=winner.row.id if winner else None,
        runner_up=_runner_up(screen.table, others, winner.row.id) if winner else first.row.id,
        effect=first.effect,
        prompts_needed=decision.prompts_needed,
        rows=tuple(_settle(row, decision.confirmed, winner, protocol) for row in verdict.rows),
        confirmed=decision.confirmed,
        groups=groups,
        error_rates=tuple(
            rate
            for variant in (BASE_VARIANT, *finalists)
            for rate in error_rates(fresh.table, variant, protocol)
        ),
        unscored=unscored,
    )


def _groups(
    screen: Comparison, fresh: Comparison, finalists: Sequence[str]
) -> Iterator[GroupVerdict]:
    """The verdict of each language's and each speaker's prompts of set B.

    Beside it, what the loss over the group's validation clips would have chosen.
    """
    for (group, name), rule in fresh.protocol.groups().items():
        verdict = GroupVerdict(group, name, "NO-VERDICT", None, None, None, ())
        part = fresh.only(rule.prompts)
        shown = BASE_VARIANT
        if all(part.has_scores(variant) for variant in (BASE_VARIANT, *finalists)):
            decision = decide(part, finalists)
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
    row: VariantRow,
    confirmed: Sequence[Confirmation],
    winner: Confirmation | None,
    protocol: Protocol,
) -> VariantRow:
    """Give a row of set A its final standing, once set B has decided."""
    finalist = next((each for each in confirmed if each.row.id == row.id), None)
    if finalist is None:
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
