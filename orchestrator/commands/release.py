"""What happens with a sweep's winner: model registry, synthesis, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.storage.base import open_storage
from jobs.export.formats import Quantization
from jobs.problems import InputError, Problem
from orchestrator.commands.common import (
    AsJson,
    MlflowUri,
    StorageUrl,
    VariantOfSweep,
    VoiceSource,
    language_option,
    print_json,
)
from orchestrator.errors import Exit, InfrastructureError
from orchestrator.terminal.console import messages, output, print_line

if TYPE_CHECKING:
    from jobs.speech.voice_files import VoiceFiles
    from orchestrator.release.voices import Wanted

Reason = Annotated[str, typer.Option(help="Why, for the registry's history. Default: no reason.")]


def promote(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The name of a finished sweep.")],
    variant: Annotated[
        str | None,
        typer.Option(help="Register this variant, not as champion. Default: the winner."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The registered model. Default: the sweep's name.")
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="CSV of a listening test, which can confirm the winner. Default: none."),
    ] = None,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Register a sweep's winner in MLflow, as champion if it beats the current one."""
    from orchestrator.ledger import Ledger
    from orchestrator.release.finished_sweep import read_finished
    from orchestrator.release.promotion import promote as register
    from orchestrator.release.promotion import select_nominees
    from orchestrator.release.registry import Registry, checked_name, registry_store

    place = open_storage(storage)
    name = checked_name(model or sweep)
    finished = read_finished(Ledger(place, sweep))
    selected = select_nominees(finished, name, variant, ratings)
    if not selected.nominees:
        for line in selected.refusals:
            print_line(messages, line, "red")
        if as_json:
            print_json({"promoted": [], "refused": selected.refusals})
        raise typer.Exit(Exit.NO_VERDICT)
    with place.exclusively("models"):  # of two at once, the second finds what the first made
        registry = Registry(registry_store(place, mlflow or finished.spec.records.mlflow))
        promoted = [register(registry, finished, nominee) for nominee in selected.nominees]
    if as_json:
        rows = [each.to_dict() for each in promoted]
        uri = registry.store.uri
        print_json({"registry": uri, "promoted": rows, "refused": selected.refusals})
        return
    for each in promoted:
        version, done = each.version, "is now" if each.is_new else "is already"
        print_line(output, f"{each.variant} {done} {version.uri}, {each.alias}: {each.reason}.")
        voice = f"models:/{version.model}@{each.alias}"
        named = "" if each.language is None else f"--language {each.language} "
        print_line(output, f'  voxsweep say {voice} "..." {named}-o out.wav')
    for line in selected.refusals:
        print_line(output, line)
    print_line(output, f"Registry: {registry.store.uri}")


def demote(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@champion|/VERSION]", help="A registered model, or one version of it."
        ),
    ],
    reason: Reason = "",
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Remove the alias champion from a version and never promote that version again."""
    from orchestrator.release.registry import Registry, registry_store

    registry = Registry(registry_store(open_storage(storage), mlflow), must_exist=True)
    demoted = registry.demote(name, reason)
    if as_json:
        print_json({"demoted": demoted and demoted.uri})
    elif demoted is None:
        print_line(output, f"{name} is not champion; nothing was changed.")
    else:
        print_line(output, f"{demoted.uri} is champion no more.")


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered model.")],
    reason: Reason = "",
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Give the alias champion back to the version that had it before."""
    from orchestrator.release.registry import Registry, registry_store

    registry = Registry(registry_store(open_storage(storage), mlflow), must_exist=True)
    restored = registry.rollback(name, reason)
    if as_json:
        print_json({"champion": restored.uri})
    else:
        print_line(output, f"{restored.uri} is champion again.")


def say(
    model: VoiceSource,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="WAV",
            help="The file to write; with --lines, the folder; with --stream, - for standard out.",
        ),
    ],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="The text to synthesise, of any length. Default: --lines."
        ),
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Synthesise each line of a text file, in one start. Default: TEXT alone.",
        ),
    ] = None,
    variant: VariantOfSweep = None,
    language: Annotated[
        str | None,
        typer.Option(
            callback=language_option,
            help="The text's language, such as en. Default: the voice's own.",
        ),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(help="The speaker who is to say it. Default: the voice's target speaker."),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write the sound while it is made. Default: when all is."),
    ] = False,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Synthesise a text with a registered voice, a sweep's winner, or any of its variants."""
    from orchestrator.release.voices import STDOUT, Wanted, open_voice, read_lines

    if (text is None) == (lines is None):
        what = "either a text or --lines must be given, got " + (
            "neither" if text is None else "both"
        )
        raise InputError([Problem("TEXT", what, "Give one of the two.")])
    if stream and lines:
        raise InputError([Problem("--stream", "one text is streamed, got --lines", "Give TEXT.")])
    if out == STDOUT and (not stream or as_json):
        what = "standard output takes a stream alone, got " + (
            "--json" if stream else "no --stream"
        )
        raise InputError([Problem("--out", what, "Give --stream without --json, or a file.")])
    wanted = read_lines(lines, out) if lines else [Wanted(text or "", out)]
    with open_voice(model, open_storage(storage), variant, mlflow) as files:
        if stream:
            said, problems = _say_stream(files, wanted[0], language, speaker, model, as_json)
        else:
            said, problems = _say_whole(files, wanted, language, speaker, model, as_json)
    if as_json:
        print_json({"out": str(out), "lines": said} if lines else said[0])
    for problem in problems:
        print_line(messages, problem, "red")
    if problems:
        raise typer.Exit(Exit.INCOMPLETE)


def _say_stream(
    files: "VoiceFiles",
    wanted: "Wanted",
    language: str | None,
    speaker: str | None,
    model: str,
    as_json: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Synthesise one text while it is written; what was said, and what was not."""
    from orchestrator.release.voices import STDOUT, synthesise_stream

    streamed = synthesise_stream(files, wanted, language, speaker, model)
    facts = streamed.to_dict()
    if streamed.samples and wanted.out != STDOUT and not as_json:
        length = f"{facts['seconds']:.2f} s, {len(facts['chunks'])} chunks"
        print_line(output, f"{wanted.out}: {length}")
    said = {"out": str(wanted.out) if streamed.samples else None, **facts}
    problem = streamed.problem
    return [said], [f"{wanted.where}: not all was said: {problem}"] if problem else []


def _say_whole(
    files: "VoiceFiles",
    wanted: "list[Wanted]",
    language: str | None,
    speaker: str | None,
    model: str,
    as_json: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Synthesise texts and write each when it is whole; what was said, and what was not."""
    from orchestrator.release.voices import synthesise, write_wav

    said, problems = [], []
    for each, spoken in synthesise(files, wanted, language, speaker):
        if spoken.audio.size:
            write_wav(each.out, spoken, files.facts, model)
        written = str(each.out) if spoken.audio.size else None
        said.append({"out": written, **spoken.to_dict()})
        if written and not as_json:
            length = f"{spoken.seconds:.2f} s, {len(spoken.chunks)} chunks"
            print_line(output, f"{written}: {length}")
        if spoken.problem:
            problems.append(f"{each.where}: not all was said: {spoken.problem}")
    return said, problems


def export(
    model: VoiceSource,
    wanted: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="peft|native|merged|gguf",
            help="An adapter for PEFT, the family's native files, merged Transformers weights, or "
            "one GGUF file for llama.cpp; or a format that a plug-in adds.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="DIR", help="The directory to write; it must not exist."
        ),
    ],
    quantization: Annotated[
        Quantization | None,
        typer.Option(
            help="Precision of the matrices in a GGUF file. Default: the smallest that was shown "
            "to sound as the voice, else q8_0."
        ),
    ] = None,
    variant: VariantOfSweep = None,
    language: Annotated[
        str | None,
        typer.Option(
            callback=language_option,
            help="The language whose adapter it is, where languages have verdicts of their own. "
            "Default: none.",
        ),
    ] = None,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Export a voice in another tool's format, load it back, and compare the two."""
    from jobs.export.load_back import LoadBackError
    from jobs.export.write import export_voice
    from orchestrator.release.voices import open_voice

    with open_voice(model, open_storage(storage), variant, mlflow) as voice:
        try:
            made = export_voice(voice, wanted, out, quantization, language)
        except LoadBackError as error:
            raise InfrastructureError(str(error)) from error
    if as_json:
        print_json(made.to_dict())
        return
    print_line(output, f"{out}: {made.voice.sweep}, {made.voice.variant.id}, as {made.format}")
    for name, facts in made.files.items():
        print_line(output, f"  {facts['bytes']:>13,} {name}".replace(",", " "))
    print_line(output, "Loaded back, and compared with the voice:")
    for check in made.load_back.checks:
        difference = f"{check.difference:.4g}, at most {check.tolerance:.4g}"
        print_line(output, f"  {check.what}: {difference}")
    if made.load_back.not_done:
        print_line(output, f"  {made.load_back.not_done}")
