"""Voices by name: opened as voice directories, and made to say a text."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from jobs.speech.voice_files import VOICE_FILE, VoiceFacts, VoiceFiles, read_voice
from orchestrator.ledger import Ledger
from orchestrator.release.finished_sweep import read_finished

if TYPE_CHECKING:
    from jobs.speech.say import SpokenText

REGISTERED = "models:/"
"""Before the name of a registered model."""


@contextmanager
def open_voice(
    model: str, storage: Storage, variant: str | None = None, mlflow: str | None = None
) -> Iterator[VoiceFiles]:
    """The voice that ``model`` names, for the block.

    Args:
        model: a registered model, a voice directory, or a sweep, whose winner speaks.
        storage: where sweeps are, and the registry unless another is named.
        variant: of a sweep, in place of its winner.
        mlflow: the registry's address.

    Raises:
        InputError: there is no such voice, or its files are not whole.
    """
    is_directory = (Path(model) / VOICE_FILE).is_file()
    if variant is not None and (model.startswith(REGISTERED) or is_directory):
        what = f"a variant is one of a sweep, but {model} is a voice already"
        raise InputError([Problem("--variant", what, "Leave it out, or name the sweep.")])
    if model.startswith(REGISTERED):
        from orchestrator.release.registry import Registry, registry_store  # MLflow takes seconds

        registry = Registry(registry_store(storage, mlflow))
        yield read_voice(registry.download(registry.resolve(model), "voice"))
    elif is_directory:
        yield read_voice(Path(model))
    elif "/" in model or model.startswith("."):
        what = f"a voice directory holds {VOICE_FILE}, and this does not"
        step = "Name one, a sweep of the storage, or models:/NAME@champion."
        raise InputError([Problem(model, what, step)])
    else:
        sweep = read_finished(Ledger(storage, model))
        facts = sweep.facts(sweep.variant(variant))
        with TemporaryDirectory() as folder:
            yield sweep.write_voice(Path(folder) / "voice", facts)


def synthesise(
    files: VoiceFiles, text: str, out: Path, language: str | None, speaker: str | None
) -> "SpokenText":
    """Say ``text``; what is wrong with it, or with ``out``, is found before the voice is loaded.

    Raises:
        InputError: ``out`` cannot be written, or the voice cannot read the text, or does not know
            the speaker.
    """
    from jobs.speech.texts import chunks

    facts = files.facts
    problems = []
    if out.suffix.lower() != ".wav":
        what = f"the file must be named .wav, got {out.name!r}"
        problems.append(Problem("--out", what, "Name it so."))
    elif not out.absolute().parent.is_dir():
        problems.append(Problem(str(out), "its folder must be there, but is not", "Make it."))
    if facts.host.language_tag and not (language or facts.language):
        what = f"the text must have a language, one of {', '.join(facts.languages)}"
        problems.append(Problem("--language", what, "Name it."))
    if problems:
        raise InputError(problems)
    chunks(text, facts, language or facts.language)  # before seconds go into loading
    from jobs.speech.say import say
    from jobs.speech.voice import LoadedVoice

    voice = LoadedVoice(files)
    try:
        return say(voice, text, language, speaker)
    except ValueError as error:
        step = "Name what the voice knows."
        raise InputError([Problem("the text", str(error), step)]) from None


def write_wav(path: Path, spoken: "SpokenText", facts: VoiceFacts, model: str) -> None:
    """Write 16-bit WAV that says what it is; ``path`` is never half written."""
    from jobs.audio.files import write_sound
    from jobs.speech.clips import Origin

    origin = Origin(facts.variant.id, facts.host.family, facts.provenance, model)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_sound(partial, spoken.audio, spoken.rate, "WAV", origin.tags())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
