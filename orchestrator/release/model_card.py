"""The model card of a promoted voice: what it is made of, how good it is, what is not known."""

import json
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.families.description import is_path
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec
from jobs.speech.voice_files import VoiceFacts
from jobs.training.epochs import pack_difference
from jobs.training.packing import equality
from orchestrator.ledger import DATA_FILE
from orchestrator.release.finished_sweep import FinishedSweep
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
        verdict: by which the voice was nominated.
        confirmation: what set B shows of it; None where it was no finalist.
    """
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
        row=confirmation.row if confirmation else None,
        claim=confirmation.claim if confirmation else None,
        protocol=sweep.protocol,
        licence=_licence(facts.host),
        speakers=[each["summary"] for each in json.loads(data)["speakers"]] if data else [],
        manifests=", ".join(f"`{path}`" for path in sweep.spec.data.paths),
        pack_difference=pack_difference(sweep.ledger.epochs(facts.trial)[: facts.epoch]),
        equality=equality,
        training=facts.training.model_dump(mode="json", exclude_none=True),
        decoding=facts.decoding.model_dump(exclude_none=True),
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
