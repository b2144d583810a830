"""Voices by name: opened as voice directories, and made to say a text."""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem, read_text
from jobs.speech.voice_files import VOICE_FILE, VoiceFacts, VoiceFiles, read_voice
from orchestrator.ledger import Ledger
from orchestrator.release.finished_sweep import read_finished
from orchestrator.release.languages import write_sweep_voice

if TYPE_CHECKING:
    from jobs.speech.say import SpokenText, StreamedText
    from jobs.speech.voice import LoadedVoice

REGISTERED = "models:/"
"""Before the name of a registered model."""
STDOUT = Path("-")
"""In place of a WAV file."""


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
        from jobs.vendor import quick_imports

        with quick_imports():  # MLflow takes seconds
            from orchestrator.release.registry import Registry, registry_store

        registry = Registry(registry_store(storage, mlflow), must_exist=True)
        yield read_voice(registry.download(registry.resolve(model), "voice"))
    elif is_directory:
        yield read_voice(Path(model))
    elif "/" in model or model.startswith("."):
        what = f"a voice directory holds {VOICE_FILE}, and this does not"
        step = "Name one, a sweep of the storage, or models:/NAME@champion."
        raise InputError([Problem(model, what, step)])
    else:
        sweep = read_finished(Ledger(storage, model))
        with TemporaryDirectory() as folder:
            yield write_sweep_voice(sweep, variant, Path(folder) / "voice")


@dataclass(frozen=True)
class Wanted:
    """A text that is to be said, and the WAV file that it becomes."""

    text: str
    out: Path
    where: str = "text"
    """Its place, for messages."""


def read_lines(path: Path, folder: Path) -> list[Wanted]:
    """Each line of a text file that is not blank, with a WAV file of ``folder`` by its number.

    Raises:
        InputError: the file cannot be read or has no text, or ``folder`` is there.
    """
    step = "Name a UTF-8 file with a text on each line."
    lines = enumerate(read_text(path, step).splitlines(), start=1)
    wanted = [
        Wanted(line.strip(), folder / f"{number:04d}.wav", f"{path}:{number}")
        for number, line in lines
        if line.strip()
    ]
    problems = [] if wanted else [Problem(str(path), "no line of it has a text", step)]
    if folder.exists():
        what = "the folder for the WAV files must not be there, but it is"
        problems.append(Problem(str(folder), what, "Name another with -o."))
    if problems:
        raise InputError(problems)
    return wanted


def synthesise(
    files: VoiceFiles, wanted: Sequence[Wanted], language: str | None, speaker: str | None
) -> "Iterator[tuple[Wanted, SpokenText]]":
    """Say the texts, one after another, in one start of the voice.

    What is wrong with any of them, or with where they go, is found before the voice is loaded.

    Raises:
        InputError: a file cannot be written, or the voice cannot read a text, or does not know
            the speaker.
    """
    voice = _load_for(files, wanted, language)
    from jobs.speech.say import say

    for each in wanted:
        with _speaker_errors(each):
            spoken = say(voice, each.text, language, speaker)
        yield each, spoken


def synthesise_stream(
    files: VoiceFiles, wanted: Wanted, language: str | None, speaker: str | None, model: str
) -> "StreamedText":
    """Say one text, and write its WAV file while it is said; ``STDOUT`` is standard output.

    A file that is cut off has the sound up to there, and its header says no size.

    Raises:
        InputError: as :func:`synthesise`.
        OSError: it cannot be written.
    """
    facts = files.facts
    voice = _load_for(files, [wanted], language)
    from jobs.audio.wav_stream import WavStream
    from jobs.speech.clips import Origin
    from jobs.speech.say import StreamedText

    with _speaker_errors(wanted):
        said = StreamedText(voice, wanted.text, language, speaker)
        origin = Origin(said.variant, facts.host.family, facts.provenance, model)
        pieces = iter(said)
        first = next(pieces, None)  # what is amiss with the speaker is known before a file is
        if first is not None:
            is_pipe = wanted.out == STDOUT
            with nullcontext(sys.stdout.buffer) if is_pipe else wanted.out.open("wb") as file:
                wav = WavStream(file, said.rate, origin.tags())
                for piece in chain([first], pieces):
                    wav.write(piece)
                if not is_pipe:
                    wav.finish()
    return said


@contextmanager
def _speaker_errors(wanted: Wanted) -> Iterator[None]:
    """What a base says of a speaker that it does not know, as a problem of the text."""
    try:
        yield
    except ValueError as error:
        what = Problem(wanted.where, str(error), "Name what the voice knows.")
        raise InputError([what]) from None


def _load_for(files: VoiceFiles, wanted: Sequence[Wanted], language: str | None) -> "LoadedVoice":
    """The voice, after the texts and where they go were checked."""
    from jobs.speech.texts import chunks

    facts = files.facts
    problems = list(_file_problems({each.out for each in wanted} - {STDOUT}))
    try:
        facts.variant_for(language)
    except ValueError as error:
        raise InputError([*problems, Problem("--language", str(error), "Name it.")]) from None
    if facts.host.language_tag and not (language or facts.language):
        what = f"the text must have a language, one of {', '.join(facts.languages)}"
        problems.append(Problem("--language", what, "Name it."))
    else:
        for each in wanted:
            try:
                chunks(each.text, facts, language or facts.language)
            except InputError as error:
                problems += (replace(problem, where=each.where) for problem in error.problems)
    if problems:
        raise InputError(problems)
    from jobs.vendor import quick_imports

    with quick_imports():
        from jobs.speech.voice import LoadedVoice

        return LoadedVoice(files)


def _file_problems(paths: Collection[Path]) -> Iterator[Problem]:
    for path in paths:
        if path.suffix.lower() != ".wav":
            what = f"the file must be named .wav, got {path.name!r}"
            yield Problem("--out", what, "Name it so.")
    for folder in {path.absolute().parent for path in paths}:
        # The folder of many is made for them.
        if not folder.is_dir() and (len(paths) == 1 or not folder.parent.is_dir()):
            yield Problem(str(folder), "the folder must be there, but is not", "Make it.")
        elif not os.access(folder if folder.is_dir() else folder.parent, os.W_OK | os.X_OK):
            yield Problem(str(folder), "the folder must be writable, but is not", "Name another.")


def write_wav(path: Path, spoken: "SpokenText", facts: VoiceFacts, model: str) -> None:
    """Write 16-bit WAV that says what it is; ``path`` is never half written."""
    from jobs.audio.files import write_sound
    from jobs.speech.clips import Origin

    origin = Origin(spoken.variant, facts.host.family, facts.provenance, model)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_sound(partial, spoken.audio, spoken.rate, "WAV", origin.tags())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
