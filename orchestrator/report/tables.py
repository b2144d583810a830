"""The tables of a page, cell by cell."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from jobs.spec.trial import BASE_VARIANT, place
from orchestrator.report.audio import Sounds
from orchestrator.report.report_input import ReportInput, labelled, number, short
from orchestrator.verdict.listening.sentences import excluded_raters
from orchestrator.verdict.outcome import (
    AxisMeans,
    Confirmation,
    ListeningReport,
    PanelResult,
    VariantRow,
)
from orchestrator.verdict.protocol import Prompt, Protocol, groups_of_both
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import VariantInfo, as_trained, in_words

Cells = tuple[str, ...]
_CLAIM = "gain given that it was found better"
GROUP_HEADINGS = ("", "prompts", "finalist", "gain", _CLAIM, "p after Holm", "finding")
"""Over :func:`groups`."""
SHOWN_ROWS = 16
"""Longer tables of variants fold what is below."""


def played(sounds: Sounds, prompts: Iterable[Prompt], variants: Sequence[str]) -> list[Prompt]:
    """The prompts of which the page has the sound of any of the variants."""
    return [p for p in prompts if any((variant, p.id) in sounds for variant in variants)]


def prompt_scores(report: ReportInput, variant: str, prompt: str) -> list[tuple[str, str]]:
    """Each deciding metric on one prompt, the measured mean over seeds.

    A dash where a seed has no value of its own.
    """
    compared, scores = report.comparison, []
    place = report.table.prompts.index(prompt)
    for metric in report.protocol.of_clips().deciding_metrics:
        mean = None
        if metric in compared.metrics(variant):
            lacking = report.table.by_prompt(compared.lacks(variant, metric).astype(float))
            means = report.table.by_prompt(compared.clips(variant, metric))
            mean = None if lacking[place] else means[place]
        scores.append((metric, number(mean)))
    return scores


def headings(report: ReportInput) -> list[str]:
    """The headings over :func:`variant_cells`."""
    primary, *constraints = (
        labelled(report, metric) for metric in report.protocol.deciding_metrics
    )
    return [primary, _gain(report), *constraints, "failed clips", "validation loss"]


def variant_cells(report: ReportInput, row: VariantRow) -> Cells:
    """A variant, or the base, on the prompts of set A that all speak."""
    primary, *constraints = (
        number(row.means.get(metric)) for metric in report.protocol.deciding_metrics
    )
    gain = "–" if row.id == BASE_VARIANT else effect(row.gain)
    loss = number(report.table.variants[row.id].validation_loss)
    return primary, gain, *constraints, _failed(row), loss


def shortlist_cells(report: ReportInput, row: VariantRow) -> Cells:
    """A variant on all of set A: its gain, constraints and failed clips."""
    _, *constraints = report.protocol.deciding_metrics
    return effect(row.gain), *(number(row.means.get(m)) for m in constraints), _failed(row)


def decoding_headings(report: ReportInput) -> list[str]:
    """The headings over :func:`decodings`."""
    metrics = (labelled(report, metric) for metric in report.protocol.deciding_metrics)
    return ["decoding", "prompts", _gain(report), *metrics, "failed clips", "objections"]


def decodings(report: ReportInput) -> list[Cells]:
    """What the base was tried with, which it was; that of the spec first."""
    found = report.decodings
    assert found is not None
    return [
        (
            f"{'◆ ' if each.decoding == found.chosen else ''}{in_words(each.decoding)}",
            str(each.prompts),
            "–" if place == 0 else effect(each.gain),
            *(number(each.means.get(metric)) for metric in report.protocol.deciding_metrics),
            str(each.failed),
            "; ".join(each.reasons),
        )
        for place, each in enumerate(found.tried)
    ]


HOSTING_HEADINGS = (
    "file",
    "MB",
    "finding",
    "difference to the winner (margin)",
    "failed clips",
    "tokens/s",
    "first audio, s (p50, p95)",
    "real-time factor",
    "memory, MB",
)
"""Over :func:`hosting`."""


def hosting(report: ReportInput) -> list[Cells]:
    """The winner's files for llama.cpp, which there are, the largest first."""
    found = report.hosting
    assert found is not None
    return [
        (
            f"{'◆ ' if each.type == found.recommended else ''}{each.type}",
            f"{each.bytes / 1e6:.1f}",
            f"{each.equivalence.finding}{'' if each.equivalence.passes else ', does not pass'}",
            "; ".join(
                f"{test.metric} {effect(test.difference, 3)} ({test.margin:g})"
                for test in each.equivalence.tests
            ),
            str(each.equivalence.failed),
            f"{each.tokens_per_second:.0f}",
            f"{each.first_audio_p50:.2f}, {each.first_audio_p95:.2f}",
            f"{each.real_time_factor:.2f}",
            f"{each.memory / 1e6:.0f}",
        )
        for each in found.files
    ]


def finalist_headings(report: ReportInput) -> list[str]:
    """The headings over :func:`finalist_cells`."""
    metrics = (labelled(report, metric) for metric in _metrics_of_finalists(report))
    tests = (_gain(report), _CLAIM, "p", "p after Holm")
    return [*tests, *metrics, "failed clips", "gain on set A"]


def finalist_cells(report: ReportInput, confirmation: Confirmation) -> Cells:
    """A finalist on set B, each metric with its difference to the base."""
    row, verdict = confirmation.row, report.verdict
    on_a = {each.id: each for each in verdict.shortlisted}.get(row.id) or verdict.row(row.id)
    return (
        effect(row.gain),
        "–" if confirmation.claim is None else effect(confirmation.claim),
        f"{confirmation.p:.2g}",
        f"{confirmation.p_holm:.2g}",
        *(
            f"{row.means[metric]:.3g} ({row.differences[metric].mean:+.2g})"
            if metric in row.differences
            else number(row.means.get(metric))
            for metric in _metrics_of_finalists(report)
        ),
        _failed(row),
        f"{on_a.gain.mean:+.2f}",
    )


def _metrics_of_finalists(report: ReportInput) -> list[str]:
    """The primary metric, those of the constraints, and what finalists alone are measured by."""
    return list(
        dict.fromkeys([*report.protocol.deciding_metrics, *report.protocol.finalist_metrics])
    )


def _gain(report: ReportInput) -> str:
    return f"gain ({report.protocol.confidence:.0%} interval)"


def _failed(row: VariantRow) -> str:
    gate = row.failures
    unscored = f", {gate.unscored} not scored" if gate.unscored else ""
    return f"{len(row.failed_clips)} of {gate.clips}{unscored}"


def effect(gain: Interval, digits: int = 2) -> str:
    """A gain with its interval."""
    return f"{gain.mean:+.{digits}f} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"


def groups(report: ReportInput) -> list[Cells]:
    """Each language and speaker, each of its finalists: its prompts, gain, tests, and finding."""
    return [
        (
            f"{each.group} {each.name}: {each.verdict}",
            str(confirmed.row.gain.n),
            short(report.table.variants[confirmed.row.id])
            + (", its own" if confirmed.row.id == each.own else ""),
            effect(confirmed.row.gain),
            "–" if confirmed.claim is None else effect(confirmed.claim),
            f"{confirmed.p_holm:.2g}",
            confirmed.finding + (", winner" if confirmed.row.id == each.variant else ""),
        )
        for each in report.verdict.groups
        for confirmed in each.confirmed
    ] + [
        (f"{each.group} {each.name}: {each.verdict}", *["–"] * (len(GROUP_HEADINGS) - 1))
        for each in report.verdict.groups
        if not each.confirmed
    ]


def group_loss_headings(report: ReportInput) -> list[str]:
    """The headings of :func:`group_losses`."""
    return [*loss_to_base_headings(report), "lowest", "of", "its rank there"]


def loss_to_base_headings(report: ReportInput) -> list[str]:
    """The headings of :func:`loss_to_base`."""
    names = [short(report.table.variants[each.row.id]) for each in report.verdict.confirmed]
    return ["validation clips of", *names]


def group_losses(report: ReportInput) -> list[Cells]:
    """Each language and speaker: validation loss of the finalists, the lowest, whose that is, and
    how that one ranks on the group's own prompts; empty where clips name no two of either."""
    trained = as_trained(report.table.adapted)
    groups = dict.fromkeys(group for variant in trained for group in variant.group_losses)
    return [_group_losses(report, group, trained) for group in groups]


def _group_losses(report: ReportInput, group: str, trained: Sequence[VariantInfo]) -> Cells:
    lowest = min(
        (variant for variant in trained if group in variant.group_losses),
        key=lambda variant: variant.group_losses[group],
    )
    judged = {f"{each.group}/{each.name}": each.loss for each in report.verdict.groups}
    loss = judged.get(group)
    rank = None if loss is None or loss.lowest != lowest.id else loss.lowest_rank
    return (
        group.replace("/", " ", 1),
        *(
            number(report.table.variants[each.row.id].group_losses.get(group), ".3f")
            for each in report.verdict.confirmed
        ),
        number(lowest.group_losses[group], ".3f"),
        short(lowest),
        "–" if rank is None or loss is None else f"{rank} of {loss.variants}",
    )


def loss_to_base(report: ReportInput) -> list[Cells]:
    """Each language, and all: by how much the finalists' checkpoints, as trained, differ from the
    base in validation loss, with the standard error; empty where that was not paired."""
    epochs = {trial.record.id: trial.epochs for trial in report.trials}
    found: list[Mapping[str, float]] = []
    for each in report.verdict.confirmed:
        variant = report.table.variants[each.row.id]
        assert variant.trial is not None
        known = epochs.get(variant.trial, [])[: variant.epoch]
        found.append(known[-1].validation_figures if len(known) == variant.epoch else {})
    paired = (name.partition(".") for figures in found for name in figures)
    groups = dict.fromkeys(group for kind, _, group in paired if kind == "to_base")
    return [
        (
            group.replace(".", " ", 1) or "all",
            *(_paired(figures, f".{group}" if group else "") for figures in found),
        )
        for group in groups
    ]


def _paired(figures: Mapping[str, float], ending: str) -> str:
    """A mean difference and its standard error."""
    mean, error = figures.get(f"to_base{ending}"), figures.get(f"to_base_se{ending}")
    return f"{number(mean, '+.4f')} ± {number(error, '.4f')}"


def replicates(report: ReportInput) -> list[Cells]:
    """Each training with another seed: its trial, seed, end, gain and failed clips; the mean."""
    recipe = report.verdict.recipe
    if recipe is None:
        return []
    of_winner = [t for t in report.replicates if t.record.replicate_of == report.winning_trial]
    heard = {each.variant.partition("-")[0]: each for each in recipe.replicates}
    rows: list[Cells] = []
    for trial in of_winner:
        name = trial.record.id
        found = heard.get(name)
        rows.append(
            (
                name,
                str(trial.training.seed),
                f"{trial.end or 'unfinished'} after "
                f"{place(len(trial.epochs), trial.training.checkpoint_steps)}",
                clock(trial.seconds),
                "–" if found is None else effect(found.gain),
                "–" if found is None else str(found.failed),
            )
        )
    if recipe.gain:
        rows.append((f"mean, {recipe.confidence:.0%}", "", "", "", effect(recipe.gain), ""))
    return rows


def error_rates(report: ReportInput) -> list[Cells]:
    """Each rate: the variant, metric, language, mean of clips, of the corpus, prompts."""
    return [
        (
            short(report.table.variants[rate.variant]),
            rate.metric,
            rate.language or "all",
            f"{rate.macro:.1%}",
            number(rate.corpus, ".1%"),
            str(rate.prompts),
        )
        for rate in report.verdict.error_rates
    ]


def listening(test: ListeningReport) -> Sequence[tuple[str, str]]:
    """One panel of a listening test as label and value."""
    facts = [
        ("verdict", test.verdict),
        ("listeners", f"{test.raters} over {test.sentences} sentences"),
        *(("not counted", told) for told in excluded_raters(test)),
    ]
    result = test.result
    if result is None:
        return facts
    alpha = "undefined" if result.alpha is None else f"{result.alpha:.2f}"
    if result.alpha is not None and result.alpha < 0.4:
        alpha += ": raters hardly agree"
    return [
        *facts,
        *((means.axis, _axis_means(means)) for means in result.axes),
        ("preferred", f"{_preference(test, result)}"),
        (
            "difference",
            f"{effect(result.difference)} points, two-way bootstrap, {100 * test.confidence:.3g} %",
        ),
        *(
            (
                f"without {name}",
                effect(part) + (": the panel turns on them" if name in test.turns_on else ""),
            )
            for name, part in result.without.items()
        ),
        ("pooled Wilcoxon p", f"{result.pooled_p:.2g} (does not decide)"),
        ("Krippendorff's alpha, ordinal", alpha),
    ]


def _axis_means(means: AxisMeans) -> str:
    if means.variant is None:
        return f"{means.difference:+.2f} on the scale from −3 to +3"
    return (
        f"{means.variant:.2f}, the base {means.base:.2f}, a difference of {means.difference:+.2f}"
    )


def _preference(test: ListeningReport, result: PanelResult) -> str:
    counts, share = test.preferred, result.preference
    return (
        f"in {counts.variant} pairs, the base in {counts.base}, neither in {counts.neither}: "
        f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%}), where neither counts half"
    )


def rule(report: ReportInput) -> Sequence[tuple[str, str]]:
    """The protocol as label and value."""
    protocol, gates = report.protocol, report.protocol.gates
    low, high = gates.duration_ratio
    unit = report.table.metrics[protocol.primary].unit
    of_a, of_b = (
        Counter(item.metric for item in items)
        for items in (protocol.items, protocol.confirmation_items)
    )
    constraints = [
        f"{c.metric} at most {c.margin:g} {report.table.metrics[c.metric].unit} worse than the base"
        for c in protocol.constraints
    ]
    return [
        ("protocol", report.verdict.protocol_hash),
        (
            "set A, chooses",
            f"{_count(protocol.prompts)} of {protocol.prompt_set}{_shortlisting(protocol)}",
        ),
        ("set B, confirms", f"{_count(protocol.confirmation)} of {protocol.confirmation_set}"),
        *(
            (f"text items for {name}", f"{of_a[name]} in set A, {of_b[name]} in set B")
            for name in protocol.item_metrics
        ),
        (
            "decoding of the base" if protocol.decodings else "decoding",
            f"temperature {protocol.temperature:g}, top-k {protocol.top_k}, "
            f"{_further_decoding(protocol)}"
            f"seed {protocol.seed} on set A and {protocol.confirmation_seed} on set B",
        ),
        (
            "finalists",
            f"at most {protocol.finalists}{_own_finalists(protocol)}, tested together at "
            f"{protocol.significance:g} (one-sided paired signed-rank tests, adjusted by Holm)",
        ),
        ("primary metric", f"{protocol.primary}, at least {protocol.min_effect:g} {unit} better"),
        ("constraints", "; ".join(constraints) or "none"),
        (
            "gates",
            f"duration {low:g} to {high:g} x the base; at most {gates.tail_silence:g} s "
            f"silence at the end; at most {gates.clipping:.1%} clipped; end of speech reached",
        ),
        (
            "intervals",
            f"{protocol.confidence:.0%}, percentile bootstrap over prompts, "
            f"{protocol.bootstrap_resamples} resamples",
        ),
        (
            "metrics",
            "; ".join(f"{m.name} ({m.unit}) version {m.version}" for m in protocol.metrics),
        ),
        *((f"left out: {omitted.name}", omitted.reason) for omitted in protocol.omitted),
        *((f"digest of {name}", value) for name, value in protocol.family_digests.items()),
    ]


def _own_finalists(protocol: Protocol) -> str:
    if not (groups := groups_of_both(protocol.prompts, protocol.confirmation)):
        return ""
    return f" on all prompts, and one of each of {len(groups)} languages and speakers on its own"


def _further_decoding(protocol: Protocol) -> str:
    """What of the decoding is not as by default."""
    words = ""
    if protocol.top_p < 1:
        words += f"top-p {protocol.top_p:g}, "
    if protocol.repetition_penalty > 1:
        words += f"repetition penalty {protocol.repetition_penalty:g}, "
    if protocol.max_tokens is not None:
        words += f"at most {protocol.max_tokens} tokens, "
    if protocol.cfg_value != Protocol.model_fields["cfg_value"].default:
        words += f"guidance {protocol.cfg_value:g}, "
    if protocol.inference_timesteps != Protocol.model_fields["inference_timesteps"].default:
        words += f"{protocol.inference_timesteps} steps of diffusion, "
    return words


def _shortlisting(protocol: Protocol) -> str:
    if not protocol.rest:
        return ""
    after = len(protocol.screening().prompts)
    groups = groups_of_both(protocol.prompts, protocol.confirmation)
    each = "rank, language and speaker" if groups else "rank"
    return f"; after the first {after} the best third and the best of each {each} go on"


def _count(prompts: Sequence[Prompt]) -> str:
    return f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'}"


def clock(seconds: float) -> str:
    """A duration as hours:minutes:seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"
