"""Export a voice as a directory that other tools load; one that does not load back is deleted.

Its ``manifest.json`` lists the files, the voice, the versions of the tools, and the checks.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from jobs.export.formats import (
    DEFAULT_QUANTIZATION,
    QUANTIZATIONS,
    Exporter,
    Quantization,
    exporter,
)
from jobs.export.load_back import LoadBack
from jobs.problems import InputError, Problem, collecting, nearest
from jobs.speech.voice_files import VoiceFacts, VoiceFiles, sha256_of
from jobs.vendor import QWEN_TTS, VOXCPM

MANIFEST_FILE = "manifest.json"
_TOOLS = (
    *("voxsweep", "torch", "transformers", "peft", "safetensors", "gguf", "xllamacpp"),
    *(QWEN_TTS, VOXCPM),
)


@dataclass(frozen=True)
class Manifest:
    """An export."""

    format: str
    quantization: Quantization | None
    """None for a format that has none."""
    voice: VoiceFacts
    files: dict[str, dict[str, int | str]]
    """Of each file but this one, by its path: bytes and SHA-256."""
    versions: dict[str, str]
    load_back: LoadBack

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        voice = self.voice.model_dump(mode="json", exclude={"files", "format", "versions"})
        return {**asdict(self), "voice": voice, "family": self.voice.host.family}


def files_of(directory: Path) -> dict[str, dict[str, int | str]]:
    """What :attr:`Manifest.files` says of a directory."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in paths
    }


def versions() -> dict[str, str]:
    """Of the packages that may have had a part in it, those that are installed."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


_README = """\
# {sweep}, {variant}

A voice that voxsweep {version} exported as `{format}`. It was made of the base `{base}`, of digest
`{digest}`, and speaks at lora_scale {scale}, which is in its weights already.
By what right it is used: {provenance}.
{language}
{use}
`manifest.json` has what all files are, and how far they are from the voice as voxsweep runs it.
"""


def export_voice(
    voice: VoiceFiles,
    wanted: str,
    target: Path,
    quantization: Quantization | None = None,
    language: str | None = None,
) -> Manifest:
    """Write ``target``, load it back and compare it with the voice; returns its manifest.

    Of a voice whose languages have verdicts of their own, it is the adapter of ``language``.
    Without a ``quantization`` it is the smallest that was shown to sound as the voice, or else
    ``DEFAULT_QUANTIZATION``.

    Raises:
        InputError: the family has no such format, ``target`` is there already, or no adapter
            speaks ``language``; nothing was done.
        LoadBackError: what was written is not the voice; it was deleted.
    """
    found, voice = _check(voice, wanted, target, quantization, language)
    heard = [each for each in QUANTIZATIONS if each == voice.facts.gguf]
    kept = quantization or next(iter(heard), DEFAULT_QUANTIZATION)
    module = import_module(found.module)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    written.mkdir()
    try:
        module.write(voice, written, kept)
        loaded = module.load_back(voice, written, kept)
        (written / "README.md").write_text(_readme(voice, wanted, module.USE), encoding="utf-8")
        made = Manifest(
            format=wanted,
            quantization=kept if found.quantized else None,
            voice=voice.facts,
            files=files_of(written),
            versions=versions(),
            load_back=loaded,
        )
        text = json.dumps(made.to_dict(), indent=2, sort_keys=True)
        (written / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        written.rename(target)
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return made


def _check(
    voice: VoiceFiles, wanted: str, target: Path, quantization: str | None, language: str | None
) -> tuple[Exporter, VoiceFiles]:
    problems: list[Problem] = []
    with collecting(problems):
        voice = voice.alone(language)
    found: Exporter | None = None
    with collecting(problems):
        found = exporter(voice.facts.host.family, wanted)
    if quantization is not None and quantization not in QUANTIZATIONS:
        what = f"a quantization must be known, got {quantization!r}"
        problems.append(Problem("--quantization", what, nearest(quantization, QUANTIZATIONS)))
    if quantization is not None and found is not None and not found.quantized:
        what = f"only gguf has a quantization, and {wanted} was asked for"
        problems.append(Problem("--quantization", what, "Leave it out."))
    if target.exists():
        what = "an export must go where nothing is, and this is there already"
        problems.append(Problem(str(target), what, "Name another directory, or remove it."))
    if problems or found is None:
        raise InputError(problems)
    return found, voice


def _readme(voice: VoiceFiles, wanted: str, use: str) -> str:
    facts = voice.facts
    return _README.format(
        sweep=facts.sweep,
        variant=facts.variant.id,
        version=versions()["voxsweep"],
        format=wanted,
        base=facts.host.source,
        digest=facts.base_digest,
        scale=f"{facts.lora_scale:g}",
        provenance=facts.provenance,
        language="".join(
            f"It is for {each.language} alone: {each.verdict}. Others have their own verdicts.\n"
            for each in facts.by_language
        ),
        use="".join(f"    {line}\n" for line in use.splitlines()),
    )
