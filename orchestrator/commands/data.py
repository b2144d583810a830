"""A sweep's dataset: check it, and encode it ahead of training."""

from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cluster.storage.base import open_storage
from jobs.problems import InputError
from jobs.spec import EMBEDDED
from orchestrator.commands.common import (
    AsJson,
    SpecPath,
    StorageUrl,
    language_option,
    print_json,
    read_sweep,
)
from orchestrator.errors import Exit
from orchestrator.terminal.console import messages, output, print_line, progress_bar

if TYPE_CHECKING:
    from jobs.data.checks.check import Checked
    from jobs.data.checks.listening import Heard

Manifests = Annotated[
    list[str],
    typer.Argument(
        metavar="MANIFEST...",
        help="The dataset: JSONL files, directories or s3:// URLs, as data.manifest.",
    ),
]
Family = Annotated[
    str, typer.Option(help="The model family whose limits apply; `voxsweep doctor` lists them.")
]
Base = Annotated[
    str,
    typer.Option(metavar="DIR", help="The base model, whose tokenizer reads the transcripts."),
]
Root = Annotated[
    str | None,
    typer.Option(help="The directory that must hold all audio. Default: each manifest's."),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that decode audio. Default: one for each CPU."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=COLUMN",
        help="The column of a list that holds a key: text=3, text=sentence. May be repeated. "
        "Default: by its header.",
    ),
]


class Tags(StrEnum):
    """What is done with annotations in texts."""

    REJECT = "reject"
    STRIP = "strip"


SpeakerOfAll = Annotated[
    str | None,
    typer.Option(help="The speaker of clips whose manifest names none. Default: unnamed."),
]
LanguageOfAll = Annotated[
    str | None,
    typer.Option(
        callback=language_option,
        help="Language of clips whose manifest names none (en). Default: unnamed.",
    ),
]
TagsOption = Annotated[
    Tags,
    typer.Option(help="Reject transcripts with annotations such as <laugh>, or strip them."),
]
Spoken = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WORDS",
        help="What in brackets is spoken; * is any characters. Default: nothing.",
    ),
]
Annotations = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WORDS", help="What in brackets is not, beside what is known. Default: nothing."
    ),
]
Clean = Annotated[
    bool, typer.Option("--clean", help="Repair invisible and broken characters in texts.")
]
MinSeconds = Annotated[
    float | None,
    typer.Option(help="The shortest clip, in seconds. Default: the family's limit."),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(help="The longest clip, in seconds. Default: the family's limit."),
]
MaxTextTokens = Annotated[
    int | None,
    typer.Option(help="The longest transcript, in tokens. Default: the family's limit."),
]
WithLanguageTag = Annotated[
    bool, typer.Option("--language-tag", help="Put the language's tag before each transcript.")
]
Listening = Annotated[
    bool, typer.Option("--listen", help="Transcribe a sample of the clips too, and compare.")
]
Recogniser = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="What transcribes, which implies --listen: embedded, or a Whisper (a directory or "
        "an id in the hub's cache). Default: the one that fits the texts.",
    ),
]


def _columns(texts: list[str]) -> dict[str, str | int]:
    """``KEY=COLUMN``, each. Raises BadParameter where one is not written so."""
    from jobs.spec.data import ClipKey  # with pydantic, for which help would wait

    found: dict[str, str | int] = {}
    for text in texts:
        key, is_given, column = text.partition("=")
        if key not in get_args(ClipKey) or not is_given or column in {"", "0"}:
            keys = ", ".join(get_args(ClipKey))
            raise typer.BadParameter(
                f"must be KEY=COLUMN with a key of {keys} and the name of a column, or its number "
                f"from 1, got {text!r}"
            )
        found[key] = int(column) if column.isdecimal() else column
    return found


def check(
    manifests: Manifests,
    family: Family,
    base: Base = EMBEDDED,
    root: Root = None,
    columns: Columns = None,
    speaker: SpeakerOfAll = None,
    language: LanguageOfAll = None,
    tags: TagsOption = Tags.REJECT,
    spoken: Spoken = None,
    annotations: Annotations = None,
    clean: Clean = False,
    min_seconds: MinSeconds = None,
    max_seconds: MaxSeconds = None,
    max_text_tokens: MaxTextTokens = None,
    language_tag: WithLanguageTag = False,
    workers: Processes = None,
    listen: Listening = False,
    recogniser: Recogniser = None,
    as_json: AsJson = False,
) -> None:
    """Check a dataset and report every problem with its file and line, changing nothing."""
    from jobs.data.checks.held_out import small_splits
    from jobs.data.checks.target import check_target
    from orchestrator.spec.check_summary import data_from_options, host_from_options, to_dict
    from orchestrator.terminal.data import check_progress, show_check

    host = host_from_options(family, base)
    data = data_from_options(
        manifest=[{"path": p, "speaker": speaker, "language": language} for p in manifests],
        root=root,
        columns=_columns(columns or []),
        tags=tags.value,
        spoken=spoken or (),
        annotations=annotations or (),
        clean=clean,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        max_text_tokens=max_text_tokens,
        language_tag=language_tag,
    )
    with check_progress(messages) as progress:
        checked = check_target(data, host, workers, progress)
    checked = replace(checked, findings=[*checked.findings, *small_splits(checked, data)])
    heard = None
    if (listen or recogniser) and checked.clips:
        checked, heard = _listen(checked, ", ".join(data.paths), recogniser)
    if as_json:
        print_json(to_dict(checked, data, family, heard))
    else:
        show_check(output, checked, heard)
    if checked.errors:
        raise typer.Exit(Exit.BAD_INPUT)


def init(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST", help="The dataset: a directory, a list of clips or an s3:// URL."
        ),
    ],
    family: Family,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="SPEC", help="The spec to write. Default: by the dataset's name."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base model. Default: the shipped one, or by the GPU's memory."),
    ] = None,
    columns: Columns = None,
    language: Annotated[
        str | None,
        typer.Option(
            callback=language_option,
            help="The language of the texts (en). Default: by the dataset and its texts.",
        ),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(help="Where the speaker's consent is recorded. Default: left for you."),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="The clips are nobody's voice.")
    ] = False,
    storage: StorageUrl = "sweeps",
    as_json: AsJson = False,
) -> None:
    """Write a spec for a dataset and this machine, with prompts; say what was assumed."""
    from jobs.data.checks.target import check_target
    from orchestrator.spec.check_summary import data_from_options, host_from_options
    from orchestrator.spec.first_spec import Places, Wishes, base_for, first_spec
    from orchestrator.spec.inputs import limit_per_rule
    from orchestrator.spec.machine import this_machine
    from orchestrator.terminal.data import check_progress

    places = Places.of(manifest, out)
    machine = this_machine(Path(storage).absolute() if "://" not in storage else Path.cwd())
    host_from_options(family, EMBEDDED)  # an unknown family is told first
    host = host_from_options(family, base_for(family, base, machine))
    data = data_from_options(
        manifest=[{"path": places.manifest, "language": language}],
        columns=_columns(columns or []),
        bad_clips="drop",
    )
    with check_progress(messages) as progress:
        checked = check_target(data, host, progress=progress)
    if checked.errors:
        # Where nothing is left, why clips were dropped is the reason.
        told = checked.errors if checked.clips else checked.findings
        raise InputError(list(limit_per_rule(told, [manifest])))
    wishes = Wishes(family, base, language, consent, synthetic)
    written = first_spec(wishes, places, checked.clips, checked.dropped, machine)
    written.write()
    if as_json:
        files = [str(path) for path in written.files]
        print_json({"spec": files[-1], "files": files, "assumed": written.assumed})
        return
    for name in checked.reads_as.values():
        print_line(output, f"{manifest} reads as: {name}")
    for assumption in written.assumed:
        print_line(output, f"Assumed: {assumption}.")
    if "YOURS TO FILL IN" in written.files[places.spec]:
        print_line(output, "Yours to fill in: data.consent, without which nothing runs.")
    print_line(output, f"{places.spec} is written. Next: voxsweep plan {places.spec}")


def _listen(
    checked: "Checked", where: str, recogniser: str | None
) -> "tuple[Checked, Heard | None]":
    """The check with what listening found; without a recogniser, that is an error like others."""
    from jobs.data.checks.listening import listen_to, open_transcriber
    from jobs.data.findings import error

    heard = None
    try:
        transcriber = open_transcriber(checked.clips, recogniser)
    except InputError as missing:
        found = [
            error("not-listened", each.where, each.what, each.next_step)
            for each in missing.problems
        ]
    else:
        with progress_bar(messages, "listening") as progress:
            heard = listen_to(checked.clips, transcriber, where, progress=progress)
        found = heard.findings
    return replace(checked, findings=[*checked.findings, *found]), heard


class FirstRows(StrEnum):
    """How the rows of new tokens begin."""

    SPREAD = "spread"
    CENTROIDS = "centroids"


def make_base(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A Qwen2, Qwen3 or Llama checkpoint: a directory, hub: and an id, or a GGUF file.",
        ),
    ],
    layout: Annotated[
        Path, typer.Option(metavar="FILE", help="The layout.json of the base (docs/codec-lm.md).")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="The directory of the base, made.")
    ],
    rows: Annotated[
        FirstRows,
        typer.Option(help="Rows of new tokens: spread like the known ones, or by the centroids."),
    ] = FirstRows.SPREAD,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="The codec whose centroids they follow, or embedded. Default: none."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a codec_lm base of a language model: tokens of speech are added to its tokenizer."""
    from jobs.embedded import CODEC_DIR
    from jobs.families.new_base import make_base

    directory = CODEC_DIR if codec == EMBEDDED else codec and Path(codec)
    made = make_base(source, layout, out, rows.value, directory or None)
    if as_json:
        print_json(asdict(made))
        return
    print_line(
        output, f"{out} is made: {made.added_tokens} tokens added, of which {made.added_rows} rows."
    )


def prepare(spec: SpecPath, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Encode a sweep's clips ahead of training; each clip is encoded once for all sweeps."""
    from orchestrator.terminal.data import show_prepared
    from orchestrator.workers.preparation import prepare_data

    sweep, inputs = read_sweep(spec)
    with progress_bar(messages, "encoding") as progress:
        prepared = prepare_data(sweep, inputs.clips, open_storage(storage), progress)
    if as_json:
        print_json(prepared.to_dict())
    else:
        show_prepared(output, prepared)
