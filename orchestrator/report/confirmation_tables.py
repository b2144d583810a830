"""What a page says of the variants that got beyond the screen: shortlist, finalists, listeners."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.audio import Sounds
from orchestrator.report.audition import Audition
from orchestrator.report.report_input import ReportInput, as_trained, labelled, short
from orchestrator.report.tables import deciding, effect, number
from orchestrator.verdict.outcome import Confirmation, ErrorRate, VariantRow
from orchestrator.verdict.table import VariantInfo

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Finalist:
    """A finalist on set B."""

    name: str
    finding: str
    winner: bool
    cells: Cells


def headings(report: ReportInput) -> list[str]:
    """The headings over the cells of :func:`finalists`."""
    gain = f"gain ({report.protocol.confidence:.0%} interval)"
    metrics = (labelled(report, metric) for metric in _metrics(report))
    return [gain, "p", "p after Holm", *metrics, "failed clips", "gain on set A"]


def finalists(report: ReportInput) -> list[Finalist]:
    """What set B says of each finalist."""
    return [_finalist(report, each) for each in report.verdict.confirmed]


def _metrics(report: ReportInput) -> list[str]:
    """The primary metric, those of the constraints, and what finalists alone are measured by."""
    return list(dict.fromkeys([*deciding(report), *report.protocol.finalist_metrics]))


def _finalist(report: ReportInput, confirmation: Confirmation) -> Finalist:
    row, verdict = confirmation.row, report.verdict
    of_a = {each.id: each for each in verdict.shortlisted}.get(row.id) or verdict.row(row.id)
    cells = (
        effect(row.gain),
        f"{confirmation.p:.2g}",
        f"{confirmation.p_holm:.2g}",
        *(_against_base(row, metric) for metric in _metrics(report)),
        f"{row.failures.failed} of {row.failures.clips}",
        f"{of_a.gain.mean:+.2f}",
    )
    return Finalist(
        name=short(report.table.variants[row.id]),
        finding=confirmation.finding,
        winner=row.id == verdict.variant,
        cells=cells,
    )


def _against_base(row: VariantRow, metric: str) -> str:
    """The mean, and its difference to the base."""
    if metric not in row.differences:
        return number(row.means.get(metric))
    return f"{row.means[metric]:.3g} ({row.differences[metric].mean:+.2g})"


def columns(report: ReportInput, audition: Audition) -> list[str]:
    """Who is heard in :func:`takes`."""
    return [short(report.table.variants[name]) for name in audition.fresh]


def takes(audition: Audition, sounds: Sounds) -> list[tuple[str, list[str | None]]]:
    """A prompt of set B with the base64 text of the MP3 of the base and of every finalist."""
    return [
        (prompt.text, [sounds.get((name, prompt.id)) for name in audition.fresh])
        for prompt in audition.fresh_prompts
        if any((name, prompt.id) in sounds for name in audition.fresh)
    ]


def groups(report: ReportInput) -> list[Cells]:
    """Each language and speaker: its name, prompts, gain, verdict, winner."""
    return [
        (
            f"{each.group} {each.name}",
            "–" if each.effect is None else str(each.effect.n),
            "–" if each.effect is None else effect(each.effect),
            each.verdict,
            "–" if each.variant is None else short(report.table.variants[each.variant]),
        )
        for each in report.verdict.groups
    ]


def group_loss_headings(report: ReportInput) -> list[str]:
    """The headings of :func:`group_losses`."""
    names = [short(report.table.variants[each.row.id]) for each in report.verdict.confirmed]
    return ["validation clips of", *names, "lowest", "of", "its rank there"]


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
        *(_loss(report.table.variants[each.row.id], group) for each in report.verdict.confirmed),
        _loss(lowest, group),
        short(lowest),
        "–" if rank is None or loss is None else f"{rank} of {loss.variants}",
    )


def _loss(variant: VariantInfo, group: str) -> str:
    loss = variant.group_losses.get(group)
    return "–" if loss is None else f"{loss:.3f}"


def error_rates(report: ReportInput) -> list[Cells]:
    """Each rate: the variant, metric, language, mean of clips, of the corpus, prompts."""
    return [_rate(report, rate) for rate in report.verdict.error_rates]


def _rate(report: ReportInput, rate: ErrorRate) -> Cells:
    return (
        short(report.table.variants[rate.variant]),
        rate.metric,
        rate.language or "all",
        f"{rate.macro:.1%}",
        "–" if rate.corpus is None else f"{rate.corpus:.1%}",
        str(rate.prompts),
    )


def listening(report: ReportInput) -> Sequence[tuple[str, str]]:
    """The listening test as label and value; empty until there was one."""
    heard = report.verdict.listening
    if heard is None:
        return []
    alpha = "undefined" if heard.alpha is None else f"{heard.alpha:.2f}"
    if heard.alpha is not None and heard.alpha < 0.4:
        alpha += ": raters hardly agree"
    return [
        ("listeners", f"{heard.raters} over {heard.sentences} sentences"),
        ("mean opinion score", f"{heard.mos:.2f}, the base {heard.base_mos:.2f}"),
        ("difference", f"{effect(heard.difference)} points, two-way bootstrap"),
        ("pooled Wilcoxon p", f"{heard.pooled_p:.2g} (does not decide)"),
        ("Krippendorff's alpha, ordinal", alpha),
    ]


def shortlist(report: ReportInput) -> list[tuple[str, VariantRow, Cells]]:
    """Each variant that said all of set A: its name, row, gain, constraints, failed clips."""
    _, *constraints = deciding(report)
    return [
        (
            short(report.table.variants[row.id]),
            row,
            (
                effect(row.gain),
                *(number(row.means.get(metric)) for metric in constraints),
                f"{row.failures.failed} of {row.failures.clips}",
            ),
        )
        for row in report.verdict.shortlisted
    ]
