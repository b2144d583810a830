"""What is known of a family and of a base before a model is loaded. No torch in here."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec, TrainingSpec

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
    languages: frozenset[str] = frozenset()
    """First parts of the tags of the languages that a base is told of by a token of their own;
    empty where it is told of none."""


CODEC_LM_RULES = DataRules()
QWEN3_TTS_RULES = DataRules(
    # Its users found that a second of silence after each clip makes speech end cleanly.
    trailing_silence=1.0,
    conditions_on_reference=True,
    languages=frozenset({"zh", "en", "de", "it", "pt", "es", "ja", "ko", "fr", "ru"}),
)

VOXCPM2_RULES = DataRules(
    # As the recipe has it that docs/voxcpm2.md describes.
    max_text_tokens=256,
)


TokenCounter = Callable[[str, str | None], int]
"""Counts the tokens of the prompt that a text in a language becomes, behind the language's tag
where the host has ``language_tag``. Raises ValueError where the base cannot read the text; the
message says why."""


NO_PREFIX = "reads nothing behind a clip of its speaker"
"""What is told of a family without ``reference_prefix``."""


LOSS_KEYS = frozenset({"acoustic_weight", "acoustic_share", "stop_weight"})
"""Keys of ``training`` that weigh or sample a part of the loss that only some families have."""


@dataclass(frozen=True)
class Family:
    """One kind of TTS model. Its modules are named, and imported only when they are needed."""

    module: str
    """Its ``load(source, codec, voice, precision, language_tag)`` gives a
    :class:`~jobs.families.base.FrozenBase`."""
    rules: DataRules
    text: str
    """Its ``open_text(host)`` gives a ``TokenCounter``, and its ``layer_names(host)`` the whole
    names of the base's layers that may be adapted: both None where the base is not on this machine.
    Its ``sample_rate(host)`` gives that of the recordings, and its ``speech_rate(host)`` that of
    speech, Hz. It loads no weights."""
    targets: Mapping[str, str]
    """What ``training.targets`` may name, each with a pattern that the whole names of its layers
    match."""
    default_targets: tuple[str, ...] = TrainingSpec.model_fields["targets"].default
    """What ``training.targets`` is where a spec does not say."""
    embedded: bool = False
    """Whether a base of it is shipped."""
    packages: Mapping[str, str | None] = field(default_factory=dict)
    """What only it needs to be installed, each with its version; None is any."""
    loss_keys: frozenset[str] = frozenset()
    """Those of :data:`LOSS_KEYS` that its loss has a use for."""
    writes_latents: bool = False
    """Whether it speaks by diffusion, and picks no tokens."""
    recomputes: bool = True
    """Whether its blocks can be computed again for their gradients (gradient checkpointing)."""
    speech_rows: bool = False
    """Whether its bases are :class:`~jobs.families.base.SpeechTokens`."""
    reads_items: bool = False
    """Whether its bases are :class:`~jobs.families.base.TextBase`."""
    reference_prefix: bool = False
    """Whether its ``load`` takes ``reference_prefix``; only then is it given."""


def token_counter(
    spec: HostSpec, read: Callable[[Path], Callable[[str], list[int]]]
) -> TokenCounter | None:
    """The counter of a base directory whose texts ``read`` turns into ids; None for one elsewhere.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    if not is_path(spec.source):
        return None
    if not Path(spec.source).is_dir():
        raise FileNotFoundError(f"base.source must be a directory, and there is no {spec.source}")
    ids = read(Path(spec.source))

    def count(text: str, language: str | None) -> int:
        if not text.strip():
            raise ValueError(f"text must have words, got {text!r}")
        return len(ids(tagged(text, language) if spec.language_tag and language else text))

    return count


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


def read_config(directory: Path, *model_types: str, key: str = "model_type") -> dict[str, Any]:
    """The ``config.json`` of a base that is of one of these architectures, which ``key`` names.

    Hugging Face's loaders take weights of another one as well, with no more than a warning: of
    Qwen3 as Qwen2, for example, they drop the norms of queries and keys.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is malformed, or of another architecture.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    found = config.get(key) if isinstance(config, dict) else None
    if found not in model_types:
        known = " or ".join(map(repr, model_types))
        raise ValueError(f"{path}: {key} must be {known}, got {found!r}")
    read: dict[str, Any] = config
    return read


def block_count(
    config: Mapping[str, Any], path: str, default: int, key: str = "num_hidden_layers"
) -> int:
    """The blocks of a decoder, from its part of a ``config.json``; ``path`` names the part.

    ``default`` is that of Hugging Face's class, whose files may leave out what equals it.

    Raises:
        ValueError: it is no number above 0.
    """
    count = config.get(key, default)
    if type(count) is not int or count < 1:
        raise ValueError(f"{path}: {key} must be an integer above 0, got {count!r}")
    return count


def is_path(source: str) -> bool:
    """Whether ``source`` is a directory of this machine: neither ``embedded`` nor on the hub."""
    return source != EMBEDDED and not source.startswith(HUB)


def local_directory(source: str) -> Path | None:
    """The directory of a base; None for one on the hub that was not downloaded yet.

    Raises:
        ValueError: ``source`` is no id of the hub.
    """
    if not source.startswith(HUB):
        return directory_of(source)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.removeprefix(HUB), "config.json")
    return Path(found).parent if isinstance(found, str) else None


def codec_directory(spec: HostSpec) -> Path:
    """The directory of the codec that a base of ``spec`` has beside it, if it has one."""
    return CODEC_DIR if spec.codec == EMBEDDED else Path(spec.codec)


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
