"""Where a base lies: what is shipped, a directory, or the model hub."""

from pathlib import Path

from jobs.embedded import BASE_DIR
from jobs.spec import EMBEDDED

HUB = "hub:"
"""Before an id of the hub, such as ``hub:Qwen/Qwen3-TTS-12Hz-1.7B-Base``."""


def is_path(source: str) -> bool:
    """Whether a source is a place on this machine that the user names."""
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
