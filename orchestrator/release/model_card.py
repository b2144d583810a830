"""The model card of a promoted voice: what it is made of, how good it is, what is not known."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.families.description import is_path
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec
from jobs.speech.voice_files import VoiceFacts
from orchestrator.ledger import DATA_FILE
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.verdict.outcome import Confirmation, ListeningReport, VariantRow, Verdict

CARD_FILE = "README.md"
_HERE = Path(__file__).parent
_OF_EMBEDDED = (
    "shipped with voxsweep under Apache-2.0; it learned from audio of flite and espeak-ng, see "
    "jobs/embedded/assets/README.md"
)
_UNKNOWN = "not known here: read the base's own card before you share the voice"


def model_card(
    sweep: FinishedSweep,
    facts: VoiceFacts,
    title: str,
    verdict: Verdict,
    confirmation: Confirmation | None,
) -> str:
    """The card as Markdown.

    Args:
        sweep: where the voice comes from.
        facts: of the voice.
        title: the registered model's name.
        verdict: by which the voice was put up.
        confirmation: what set B shows of it; None where it was no finalist.
    """
    pages = Environment(  # Markdown: there is no HTML in it to be escaped
        loader=FileSystemLoader(_HERE),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    row = confirmation.row if confirmation else None
    return pages.get_template("model_card.md").render(
        title=title,
        facts=facts,
        variant=facts.variant.id,
        outcome=verdict.verdict,
        sentence=verdict.sentence,
        licence=_licence(facts.host),
        languages=", ".join(facts.languages),
        speakers=", ".join(facts.speakers),
        example=sweep.protocol.prompts[0].text,
        data=_data(sweep),
        manifests=", ".join(f"`{path}`" for path in sweep.spec.data.paths),
        training=facts.training.model_dump(mode="json", exclude_none=True),
        decoding=_decoding(facts),
        row=row,
        metrics=list(_metrics(sweep, row)) if row else [],
        gates=list(_gates(row)) if row else [],
        confidence=f"{sweep.protocol.confidence:.0%}",
        listening=_listening(verdict.listening),
    )


def _licence(host: HostSpec) -> str:
    """The base's licence, as far as its own directory says."""
    if host.source == EMBEDDED:
        return _OF_EMBEDDED
    card = Path(host.source) / CARD_FILE
    if not is_path(host.source) or not card.is_file():
        return _UNKNOWN
    # Model cards of the hub open with YAML between two lines of dashes.
    _, _, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    head, closed, _ = rest.partition("\n---")
    try:
        fields = yaml.safe_load(head) if closed else None
    except yaml.YAMLError:
        fields = None
    licence = fields.get("license") if isinstance(fields, dict) else None
    return f"{licence}, as the base's own card says" if licence else _UNKNOWN


def _data(sweep: FinishedSweep) -> list[dict[str, Any]]:
    text = sweep.ledger.read_text(DATA_FILE)
    return [each["summary"] for each in json.loads(text)["speakers"]] if text else []


def _decoding(facts: VoiceFacts) -> str:
    settings = facts.decoding.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _metrics(sweep: FinishedSweep, row: VariantRow) -> Iterator[dict[str, Any]]:
    for name, mean in row.means.items():
        of_base = gain = "n/a"
        if difference := row.differences.get(name):
            of_base = f"{mean - difference.mean:.3g}"
            gain = f"{difference.mean:+.3g} ({difference.low:+.3g} to {difference.high:+.3g})"
        yield {
            "name": name,
            "primary": name == sweep.protocol.primary,
            "base": of_base,
            "mean": f"{mean:.3g}",
            "difference": gain,
        }


def _gates(row: VariantRow) -> Iterator[str]:
    gate = row.failures
    yield f"Failed clips: {gate.failed} of {gate.clips}; {gate.allowed} are allowed."
    for check in row.constraints:
        state = "holds" if not check.violation else "does not hold"
        yield (
            f"Constraint {state}: {check.metric} {check.variant:.3g} (base {check.base:.3g}), "
            f"margin {check.margin:g}."
        )


def _listening(report: ListeningReport | None) -> str:
    if report is None:
        return ""
    return (
        f"{report.raters} listeners rated {report.sentences} sentences: {report.mos:.2f} against "
        f"the base's {report.base_mos:.2f} of 5, by {report.difference.mean:+.2f} "
        f"({report.difference.low:+.2f} to {report.difference.high:+.2f})."
    )
