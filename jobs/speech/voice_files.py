"""A voice directory: all that a variant needs to speak away from its sweep, but for the base.

    voice.json    which base, adapter, strength and decoding; whose voice, and by what right
    adapter/      the checkpoint's adapter in PEFT's format, and what its family keeps beside it
    others/       a voice directory of each other variant that speaks some of its languages

Nothing of the optimiser comes along, and nothing in here is a pickle.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from jobs.problems import InputError, Problem, collecting, read_text
from jobs.spec.strict import Language, Strict, validation_problems
from jobs.spec.trial import BASE_VARIANT, DecodingSpec, HostSpec, TrainingSpec, Variant, place

VOICE_FILE = "voice.json"
ADAPTER_FOLDER = "adapter"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
"""What every adapter has."""
EXTRAS_FILES = ("voice.safetensors", "voice.json")
"""What some families keep beside it."""

OTHERS_FOLDER = "others"
REFUSING = ("REGRESSION", "DO-NOT-FINE-TUNE")
"""Verdicts of a language after which only the base speaks it."""

_AGAIN = "Write the voice directory again from its sweep."
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SpokenLanguage(Strict):
    """What speaks one language of a voice, and the verdict by which it does."""

    language: Language
    verdict: str
    variant: Annotated[
        str, Field(pattern=r"^(base|t[0-9a-f]{12}-[en]\d+-s\d+\.\d\d(-d[0-9a-f]{8})?)$")
    ]
    """``base``, the voice's own variant, or one in ``others/``."""

    @model_validator(mode="after")
    def _check_verdict(self) -> Self:
        if self.verdict in REFUSING and self.variant != BASE_VARIANT:
            raise ValueError(
                f"after {self.verdict} only the base speaks a language, and {self.language} has "
                f"{self.variant}"
            )
        return self


class VoiceFacts(Strict):
    """What a voice is: ``voice.json``."""

    format: Literal[1] = 1
    sweep: str
    trial: Annotated[str, Field(pattern=r"^t[0-9a-f]{12}$")]
    epoch: Annotated[int, Field(ge=1)]
    lora_scale: Annotated[float, Field(ge=0)]
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps that an epoch of its training is; None for a pass over the clips."""
    training: TrainingSpec
    """Of the adapter: its rank, alpha and layers are needed to load it."""
    host: HostSpec
    """The base. One in a directory has to lie at the same path, or ``host.source`` be changed."""
    base_digest: _Digest
    """Of that base; the voice speaks on no other."""
    encoder_digest: _Digest
    """Of what turns sound to codes and back beside it."""
    decoding: DecodingSpec
    own_decoding: dict[str, int | float] = Field(default={})
    """What of it is its own, and not its sweep's."""
    gguf: str | None = None
    """The type of the smallest GGUF file that was shown to sound as the voice; None where none
    was."""
    sample_rate: Annotated[int, Field(gt=0)]
    """Hz of what it says."""
    longest: _Seconds
    """Seconds of the longest clip that it may have learned from: longer texts are cut for it."""
    max_text_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of the longest text that it may have learned from; None where no limit was set."""
    language: Language | None = None
    """What a text is written in that does not say it."""
    speaker: str | None = None
    """The speaker of texts that name none; None is the voice's only or first speaker."""
    languages: tuple[str, ...] = ()
    """The languages of its sweep's prompts, where they have one."""
    by_language: tuple[SpokenLanguage, ...] = ()
    """What speaks each language, where their verdicts differ: it speaks no other. Empty where the
    voice's one variant speaks all."""
    base_decoding: DecodingSpec | None = None
    """How the base speaks the languages that it speaks; None where it speaks none."""
    speakers: tuple[str, ...] = ()
    """The speakers of its sweep's prompts, where they have one."""
    provenance: str
    """By what right the voice is used."""
    protocol: _Digest
    """Of the protocol that it was judged by."""
    versions: dict[str, str]
    """Of the packages that made it."""
    files: dict[str, _Digest] = Field(default_factory=dict)
    """SHA-256 of what lies in ``adapter/``, by name."""

    @property
    def place(self) -> str:
        """Where its training stood: ``epoch 3``, or ``step 1500``."""
        return place(self.epoch, self.checkpoint_steps)

    @property
    def variant(self) -> Variant:
        """The same in the words of its sweep."""
        return Variant.model_validate(self, from_attributes=True)

    def variant_for(self, language: str | None) -> str:
        """The id of the variant that speaks a text, or ``base``.

        Raises:
            ValueError: the voice does not speak the text's language.
        """
        if not self.by_language:
            return self.variant.id
        wanted = language or self.language
        for each in self.by_language:
            if each.language == wanted:
                return each.variant
        known = ", ".join(each.language for each in self.by_language)
        raise ValueError(
            f"a text must be in one of the languages that the voice was judged in, {known}, got "
            f"{wanted or 'none'}: name its language"
        )


@dataclass(frozen=True)
class VoiceFiles:
    """A voice directory that passed all checks."""

    directory: Path
    facts: VoiceFacts
    others: "Mapping[str, VoiceFiles]" = field(default_factory=dict)
    """By id, the other variants that speak some of its languages."""

    @property
    def adapter(self) -> Path:
        """The adapter's directory, as PEFT loads it."""
        return self.directory / ADAPTER_FOLDER

    def alone(self, language: str | None) -> "VoiceFiles":
        """The voice as it speaks one of its languages, which is then all that it speaks.

        Itself without a ``language``, where one variant speaks all of them.

        Raises:
            InputError: the base speaks the language, nothing does, or a needed one is not named.
        """
        parts = {each.language: each for each in self.facts.by_language}
        if not parts and language is None:
            return self
        speaking = [name for name, each in parts.items() if each.variant != BASE_VARIANT]
        if language not in speaking:
            found = parts.get(language or "")
            what = "of a voice whose languages have verdicts of their own, one must be named"
            if not parts:
                what = "one adapter speaks all languages of the voice"
            elif found is not None:
                what = f"{found.verdict}: the base speaks {language}, and no adapter"
            step = f"Name one of {', '.join(speaking)}." if parts else "Leave it out."
            raise InputError([Problem("--language", f"{what}, got {language or 'none'}", step)])
        part = parts[str(language)]
        files = self.others.get(part.variant, self)
        only = {"by_language": (part,), "language": language, "languages": (language,)}
        return replace(files, facts=files.facts.model_copy(update=only), others={})


def write_voice(directory: Path, facts: VoiceFacts, checkpoint: Path) -> VoiceFiles:
    """Make ``directory``, which is not there yet, of a committed checkpoint.

    ``facts.files`` is filled in here; ``voice.json`` is written last.
    """
    adapter = directory / ADAPTER_FOLDER
    adapter.mkdir(parents=True)
    names = [name for name in (*ADAPTER_FILES, *EXTRAS_FILES) if (checkpoint / name).is_file()]
    for name in names:
        shutil.copyfile(checkpoint / name, adapter / name)
    full = facts.model_copy(update={"files": {name: sha256_of(adapter / name) for name in names}})
    (directory / VOICE_FILE).write_text(full.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return VoiceFiles(directory, full)


def read_voice(directory: Path) -> VoiceFiles:
    """A voice directory, looked through before anything of it is loaded.

    Raises:
        InputError: with everything that keeps it from being one.
    """
    path = directory / VOICE_FILE
    step = f"Name a directory that holds {VOICE_FILE} and {ADAPTER_FOLDER}/."
    try:
        facts = VoiceFacts.model_validate_json(read_text(path, step))
    except ValidationError as error:
        raise InputError(validation_problems(error, str(path), _AGAIN)) from None
    problems = list(_problems(directory, facts))
    others: dict[str, VoiceFiles] = {}
    for name in sorted({p.variant for p in facts.by_language} - {BASE_VARIANT, facts.variant.id}):
        with collecting(problems):
            others[name] = other = read_voice(directory / OTHERS_FOLDER / name)
            problems += _differences(path, facts, name, other)
    if problems:
        raise InputError(problems)
    return VoiceFiles(directory, facts, others)


def _differences(path: Path, facts: VoiceFacts, name: str, other: VoiceFiles) -> Iterator[Problem]:
    """That a voice in ``others/`` is the variant ``name``, on the same base."""
    for what, wanted, found in (
        ("variant", name, other.facts.variant.id),
        ("base_digest", facts.base_digest, other.facts.base_digest),
        ("host", facts.host, other.facts.host),
    ):
        if wanted != found:
            rule = f"{what} of {OTHERS_FOLDER}/{name} must be {wanted}, got {found}"
            yield Problem(str(path), rule, _AGAIN)


def _problems(directory: Path, facts: VoiceFacts) -> Iterator[Problem]:
    where = str(directory / VOICE_FILE)
    known = {*ADAPTER_FILES, *EXTRAS_FILES}
    for name in sorted(facts.files.keys() - known):
        what = f"files must be of {', '.join(sorted(known))}, got {name!r}"
        yield Problem(where, what, _AGAIN)
    for name in sorted(set(ADAPTER_FILES) - facts.files.keys()):
        yield Problem(where, f"files must name {name}, but does not", _AGAIN)
    if facts.host.reference_prefix and not {*EXTRAS_FILES} <= facts.files.keys():
        what = f"files must name {EXTRAS_FILES[1]}, which has the reference that it speaks behind"
        yield Problem(where, f"{what}, but does not", _AGAIN)
    sound = True
    for name in sorted(facts.files.keys() & known):
        for problem in _file_problems(directory, name, facts.files[name]):
            sound = False
            yield problem
    if sound and not set(ADAPTER_FILES) - facts.files.keys():
        yield from _adapter_problems(directory / ADAPTER_FOLDER, facts)


def _file_problems(directory: Path, name: str, digest: str) -> Iterator[Problem]:
    path = directory / ADAPTER_FOLDER / name
    if not path.resolve().is_relative_to(directory.resolve()):
        yield Problem(
            str(path), "a voice's files must lie in its directory; this leads out", _AGAIN
        )
    elif not path.is_file():
        yield Problem(str(path), "the file must be there, but is not", _AGAIN)
    elif (found := sha256_of(path)) != digest:
        what = f"the file must be what was written, of SHA-256 {digest[:12]}, got {found[:12]}"
        yield Problem(str(path), what, _AGAIN)


def _adapter_problems(adapter: Path, facts: VoiceFacts) -> Iterator[Problem]:
    """That the two files are one adapter, and the one that ``voice.json`` speaks of."""
    weights, config = (adapter / name for name in ADAPTER_FILES)
    try:
        with safe_open(weights, framework="numpy") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        yield Problem(str(weights), f"it must be a safetensors file: {error}", _AGAIN)
        return
    ranks = {shape[0] for key, shape in shapes.items() if re.search(r"\.lora_A\.", key)}
    try:
        configured = json.loads(config.read_text(encoding="utf-8"))["r"]
    except (ValueError, KeyError, TypeError) as error:
        yield Problem(str(config), f"it must be PEFT's configuration: {error!r}", _AGAIN)
        return
    if ranks != {facts.training.rank} or configured != facts.training.rank:
        what = (
            f"the adapter must have the rank of {VOICE_FILE}, {facts.training.rank}, but its "
            f"weights have {sorted(ranks)} and its configuration has {configured}"
        )
        yield Problem(str(adapter), what, _AGAIN)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
