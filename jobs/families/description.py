"""What is known of a family and of a base before a model is loaded. No torch in here."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs.embedded import BASE_DIR
from jobs.spec import EMBEDDED

TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Of a base, those of them that it has."""
HUB = "hub:"
"""Before an id of the model hub, such as ``hub:Qwen/Qwen3-TTS-12Hz-1.7B-Base``."""


@dataclass(frozen=True)
class DataRules:
    """What a family asks of its clips, and does to them, where the spec does not say otherwise."""

    min_seconds: float = 0.5
    max_seconds: float = 20.0
    max_text_tokens: int | None = None
    """As the base's tokenizer counts them, the language tag included; None: what the base reads."""
    trailing_silence: float = 0.0
    """Seconds put after every clip."""
    conditions_on_reference: bool = False
    """Whether a clip is learned beside another recording of its speaker."""


CODEC_LM_RULES = DataRules()
QWEN3_TTS_RULES = DataRules(
    # Its users found that a second of silence after each clip makes speech end cleanly.
    trailing_silence=1.0,
    conditions_on_reference=True,
)


TokenCounter = Callable[[str, str | None], int]
"""Counts the tokens of the prompt that a text becomes, behind the tag of its language if one is
given. Raises ValueError where the base cannot read the text; the message says why."""


@dataclass(frozen=True)
class Family:
    """One kind of TTS model. Its modules are named, and imported only when they are needed."""

    module: str
    """Its ``load(source, codec, voice, precision, language_tag)`` gives a
    :class:`~jobs.families.base.FrozenBase`."""
    rules: DataRules
    text: str
    """Its ``open_text(host)`` gives a ``TokenCounter``, or None where the base is not on this
    machine; its ``sample_rate(host)`` gives that of all audio, Hz. It loads no weights."""
    embedded: bool = False
    """Whether a base of it is shipped."""
    targets: tuple[str, ...] | None = None
    """What ``training.targets`` may name; None is any layer of the base."""
    packages: Mapping[str, str | None] = field(default_factory=dict)
    """What only it needs to be installed, each with its version; None is any."""
    acoustic: bool = False
    """Whether its loss has the parts that ``training.acoustic_...`` are about."""


def tagged(text: str, language: str) -> str:
    """``text`` behind the tag of its language, ``[km] text``: in training and in speech.

    Aligners and metrics get the text without the tag, which is not spoken. A limit on a text's
    length counts it.
    """
    return f"[{language}] {text}"


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256, hex, over the names and the contents of files, in their order."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def is_path(source: str) -> bool:
    """Whether ``source`` is a directory of this machine: neither ``embedded`` nor on the hub."""
    return source != EMBEDDED and not source.startswith(HUB)


def directory_of(source: str) -> Path:
    """The directory of a base. One on the hub is downloaded, unless it was before.

    Raises:
        FileNotFoundError: the hub has no such model, or it cannot be reached.
    """
    if source == EMBEDDED:
        return BASE_DIR
    if is_path(source):
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = source.removeprefix(HUB)
    try:
        return Path(snapshot_download(name))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"base.source must be on the hub or in its cache, and {name} is not ({error}); "
            f"correct the name, run `hf download {name}` where there is a network, or name a "
            "directory that holds it"
        ) from error
