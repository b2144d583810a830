"""The model card of a promoted voice: what it is made of, how good it is, what is not known."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.families.description import is_path
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec
from jobs.speech.voice_files import VoiceFiles
from jobs.training.epochs import pack_difference
from jobs.training.packing import equality
from orchestrator.ledger import DATA_FILE
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.scores.from_ledger import stored_hosting
from orchestrator.verdict.outcome import Confirmation, Verdict

CARD_FILE = "README.md"
_HERE = Path(__file__).parent
_OF_EMBEDDED = (
    "shipped with voxsweep under Apache-2.0; it learned from audio of flite and espeak-ng, see "
    "jobs/embedded/assets/README.md"
)
_UNKNOWN = "not known here: read the base's own card before you share the voice"


def model_card(
    sweep: FinishedSweep,
    voice: VoiceFiles,
    title: str,
    verdict: Verdict,
    confirmations: Sequence[tuple[str, Confirmation]],
) -> str:
    """The card as Markdown.

    Args:
        sweep: where the voice comes from.
        voice: with its other variants, if they speak some of its languages.
        title: the registered model's name.
        verdict: by which the voice was nominated.
        confirmations: what set B shows of it, each with its language, which is empty for all; none
            where it was no finalist.
    """
    facts = voice.facts
    variants = [facts, *(other.facts for other in voice.others.values())]
    pages = Environment(  # Markdown: there is no HTML in it to be escaped
        loader=FileSystemLoader(_HERE),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    data = sweep.ledger.read_text(DATA_FILE)
    return pages.get_template("model_card.md").render(
        title=title,
        facts=facts,
        verdict=verdict,
        confirmations=confirmations,
        shown=dict(confirmations),
        protocol=sweep.protocol,
        licence=_licence(facts.host),
        speakers=[each["summary"] for each in json.loads(data)["speakers"]] if data else [],
        manifests=", ".join(f"`{path}`" for path in sweep.spec.data.paths),
        variants=variants,
        pack_difference=pack_difference(
            losses for of in variants for losses in sweep.ledger.epochs(of.trial)[: of.epoch]
        ),
        equality=equality,
        hosting=stored_hosting(sweep.ledger, facts.variant.id),
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
