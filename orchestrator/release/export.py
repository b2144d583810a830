"""From the name of a voice to a directory that other tools load."""

from collections.abc import Iterator
from pathlib import Path

from cluster.storage.base import Storage
from jobs.export.formats import Quantization
from jobs.export.load_back import LoadBackError
from jobs.export.manifest import Manifest
from jobs.export.write import export_voice
from orchestrator.errors import InfrastructureError
from orchestrator.release.speech import voice_of


def export_model(
    model: str,
    wanted: str,
    target: Path,
    quantization: Quantization | None,
    storage: Storage,
    variant: str | None = None,
    mlflow: str | None = None,
) -> Manifest:
    """Export what ``model`` means to :func:`orchestrator.release.speech.voice_of`.

    Raises:
        InputError: there is no such voice, or no such format of it; nothing was written.
        InfrastructureError: what was written did not load back as the voice; it was deleted.
    """
    with voice_of(model, storage, variant, mlflow) as voice:
        try:
            return export_voice(voice, wanted, target, quantization)
        except LoadBackError as error:
            raise InfrastructureError(str(error)) from error


def lines(made: Manifest, target: Path) -> Iterator[str]:
    """What a person is told of an export."""
    yield f"{target}: {made.voice.sweep}, {made.voice.variant.id}, as {made.format}"
    for name, facts in made.files.items():
        yield f"  {facts['bytes']:>13,} {name}".replace(",", " ")
    yield "Loaded back, and compared with the voice:"
    for check in made.load_back.checks:
        yield f"  {check.what}: {check.difference:.4g}, at most {check.tolerance:.4g}"
    if made.load_back.not_done:
        yield f"  {made.load_back.not_done}"
