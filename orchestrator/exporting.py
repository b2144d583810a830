"""From the name of a voice to a directory that other tools load."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.storage import open_storage
from jobs.export.formats import Format, Quantization
from jobs.export.load_back import LoadBackError
from jobs.export.manifest import Manifest
from jobs.export.write import export_voice
from jobs.speech.voice_files import VoiceFiles, read_voice
from orchestrator.errors import InfrastructureError
from orchestrator.finished import read_finished
from orchestrator.ledger import Ledger


def export_model(
    model: str,
    variant: str | None,
    storage: str,
    wanted: Format,
    target: Path,
    quantization: Quantization | None,
) -> Manifest:
    """Export a voice directory, or a variant of a sweep.

    Raises:
        InputError: there is no such voice, or no such format of it; nothing was written.
        InfrastructureError: what was written did not load back as the voice; it was deleted.
    """
    with TemporaryDirectory() as folder:
        voice = _voice(model, variant, storage, Path(folder) / "voice")
        try:
            return export_voice(voice, wanted, target, quantization)
        except LoadBackError as error:
            raise InfrastructureError(str(error)) from error


def _voice(model: str, variant: str | None, storage: str, folder: Path) -> VoiceFiles:
    if Path(model).is_dir() and variant is None:
        return read_voice(Path(model))
    finished = read_finished(Ledger(open_storage(storage), model))
    return finished.write_voice(folder, finished.facts(finished.variant(variant)))


def lines(made: Manifest, target: Path) -> Iterator[str]:
    """What a person is told of an export."""
    yield f"{target}: {made.voice.sweep}, {made.voice.variant.id}, as {made.format}"
    for name, facts in made.files.items():
        yield f"  {facts['bytes']:>13,} {name}".replace(",", " ")
    yield "Loaded back, and compared with the voice:"
    for check in made.load_back.checks:
        yield f"  {check.what}: {check.difference:.4g}, at most {check.tolerance:g}"
    if made.load_back.not_done:
        yield f"  {made.load_back.not_done}"
