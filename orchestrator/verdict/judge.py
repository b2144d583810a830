"""The judgement: tables of scores to a verdict, by the protocol's rule and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.confirm import decide
from orchestrator.verdict.error_rates import error_rates
from orchestrator.verdict.loss import group_loss, loss_report
from orchestrator.verdict.outcome import Confirmation, GroupVerdict, VariantRow, Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import choose_finalists, choose_shortlist, is_silent
from orchestrator.verdict.table import ScoreTable
from orchestrator.verdict.variant_rows import row_of


def judge(
    screen: ScoreTable,
    confirmation: ScoreTable | None,
    protocol: Protocol,
    shortlist: ScoreTable | None = None,
) -> Verdict:
    """Choose the variant to promote, or say why there is none. The same tables, the same verdict.

    Args:
        screen: every variant on what all of them say of set A, ``protocol.screening()``.
        confirmation: set B, the base and the finalists that :func:`choose_finalists` gives, built
            with ``protocol.confirming()``; None if there are none.
        protocol: under which all was scored.
        shortlist: all of set A, the base and the variants that :func:`choose_shortlist` gives;
            None where the protocol has every variant say all of it.
    """
    rows = {variant: row_of(screen, variant, protocol.screening()) for variant in screen.variants}
    scored = [rows[v.id] for v in screen.adapted if not is_silent(screen, v.id, protocol)]
    empty = Verdict(
        verdict="NO-VERDICT",
        sentence=sentences.silence(screen.adapted),
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
        listening=None,
        loss=None,
    )
    if not scored or is_silent(screen, BASE_VARIANT, protocol):
        return replace(empty, rows=tuple(map(_not_compared, rows.values())))
    verdict = replace(empty, loss=loss_report(screen, scored, protocol.primary))
    of_all_a, considered = screen, scored
    if listed := choose_shortlist(screen, protocol):
        lacking = [
            name for name in (BASE_VARIANT, *listed) if not _is_heard(shortlist, name, protocol)
        ]
        if shortlist is None or lacking:
            return replace(verdict, sentence=sentences.unheard(lacking, "the rest of set A"))
        of_all_a = shortlist.of((BASE_VARIANT, *listed))
        considered = [row_of(of_all_a, name, protocol) for name in listed]
        verdict = _with_shortlist(verdict, considered)
    finalists = choose_finalists(of_all_a, protocol)
    if not finalists:
        best = max(considered, key=lambda row: row.objective)
        sentence = sentences.none_allowed(best, screen.variants[best.id].name, scored)
        return replace(verdict, verdict="DO-NOT-FINE-TUNE", sentence=sentence, runner_up=best.id)
    lacking = [
        name
        for name in (BASE_VARIANT, *finalists)
        if not _is_heard(confirmation, name, protocol.confirming())
    ]
    if confirmation is None or lacking:
        return replace(verdict, sentence=sentences.unheard(lacking, "set B"))
    confirmed = _confirmed(verdict, of_all_a, considered, confirmation, finalists, protocol)
    groups = tuple(_with_loss(each, screen, scored, protocol) for each in confirmed.groups)
    return replace(confirmed, groups=groups)


def _with_shortlist(verdict: Verdict, shortlisted: Sequence[VariantRow]) -> Verdict:
    """Give every row of the first part of set A what all of it says, or that it was not asked."""
    on_all = {row.id: row for row in shortlisted}

    def told(row: VariantRow) -> VariantRow:
        if row.id in on_all:
            full = on_all[row.id]
            return replace(row, standing=full.standing, reasons=sentences.on_all_of_a(full))
        passed = row.standing == "passed"
        return replace(row, reasons=(sentences.NOT_SHORTLISTED,)) if passed else row

    return replace(
        verdict, rows=tuple(told(row) for row in verdict.rows), shortlisted=tuple(shortlisted)
    )


def _confirmed(
    verdict: Verdict,
    of_all_a: ScoreTable,
    considered: Sequence[VariantRow],
    confirmation: ScoreTable,
    finalists: Sequence[str],
    protocol: Protocol,
) -> Verdict:
    """The verdict of a sweep whose finalists were all heard on set B."""
    fresh = protocol.confirming()
    decision = decide(confirmation, finalists, fresh)
    first, winner = decision.first, decision.winner
    groups = tuple(_groups(confirmation, finalists, fresh))
    name = confirmation.variants[first.row.id].name
    sentence = (
        sentences.promotion(winner, name, protocol)
        if winner
        else sentences.refusal(
            decision.outcome, first, name, decision.confirmed, decision.prompts_needed, protocol
        )
    )
    others = [row for row in considered if row.id != first.row.id and row.feasible]
    return replace(
        verdict,
        verdict=decision.outcome,
        sentence=sentence + sentences.warning(groups),
        variant=winner.row.id if winner else None,
        runner_up=_runner_up(of_all_a, others, winner.row.id) if winner else first.row.id,
        effect=first.row.gain,
        prompts_needed=decision.prompts_needed,
        rows=tuple(_settle(row, decision.confirmed, winner, protocol) for row in verdict.rows),
        confirmed=decision.confirmed,
        groups=groups,
        error_rates=tuple(
            rate
            for variant in (BASE_VARIANT, *finalists)
            for rate in error_rates(confirmation, variant, fresh)
        ),
    )


def _groups(
    confirmation: ScoreTable, finalists: Sequence[str], protocol: Protocol
) -> Iterator[GroupVerdict]:
    """The verdict of each language's and each speaker's prompts."""
    for (group, name), rule in protocol.groups().items():
        part = confirmation.only({prompt.id for prompt in rule.prompts})
        if any(is_silent(part, variant, rule) for variant in (BASE_VARIANT, *finalists)):
            yield GroupVerdict(group, name, "NO-VERDICT", None, None, None, ())
            continue
        decision = decide(part, finalists, rule)
        yield GroupVerdict(
            group=group,
            name=name,
            verdict=decision.outcome,
            variant=decision.winner.row.id if decision.winner else None,
            effect=decision.first.row.gain,
            prompts_needed=decision.prompts_needed,
            confirmed=decision.confirmed,
        )


def _with_loss(
    verdict: GroupVerdict, screen: ScoreTable, scored: Sequence[VariantRow], protocol: Protocol
) -> GroupVerdict:
    """The same with what the loss over the group's validation clips would have chosen."""
    rule = protocol.screening()
    said = tuple(p for p in rule.prompts if getattr(p, verdict.group) == verdict.name)
    variant = verdict.variant or next((each.row.id for each in verdict.confirmed), BASE_VARIANT)
    loss = group_loss(
        screen,
        scored,
        f"{verdict.group}/{verdict.name}",
        rule.model_copy(update={"prompts": said}),
        variant,
    )
    return replace(verdict, loss=loss)


def _is_heard(table: ScoreTable | None, variant: str, protocol: Protocol) -> bool:
    """Whether the variant is in a table, with scores."""
    if table is None or variant not in table.variants:
        return False
    return not is_silent(table, variant, protocol)


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
    """Give a row of set A its last word, once set B has spoken."""
    finalist = next((each for each in confirmed if each.row.id == row.id), None)
    if finalist is None:
        untold = row.standing == "passed" and not row.reasons
        return replace(row, reasons=(sentences.NOT_A_FINALIST,)) if untold else row
    if winner is finalist:
        return replace(row, standing="winner", reasons=())
    if winner and finalist.finding == "better":
        reason = sentences.preferred_reason(finalist.row.gain, winner.row.gain)
        return replace(row, standing="passed", reasons=(reason,))
    reasons = sentences.finding_reasons(finalist, protocol)
    return replace(row, standing="rejected", reasons=reasons)


def _not_compared(row: VariantRow) -> VariantRow:
    if row.id == BASE_VARIANT:
        return row
    return replace(row, standing="rejected", reasons=row.reasons or (sentences.BASE_INCOMPLETE,))
