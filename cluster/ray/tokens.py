"""Ray's token: where it comes from, and that it is shown nowhere."""

import os
import secrets
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN_SOURCES = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"

_RAYS_FILE = "~/.ray/auth_token"


def find_token() -> str | None:
    """The token that Ray will send, from where Ray takes it; None where there is none.

    Never from a spec, an option or an address: those end up in histories and in logs.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    # Ray looks in its own file last (its authentication_token_setup.py).
    named = os.environ.get("RAY_AUTH_TOKEN_PATH") or _RAYS_FILE
    try:
        return Path(named).expanduser().read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def make_token() -> None:
    """Make a token where there is none, for a cluster that is started here.

    In the file that RAY_AUTH_TOKEN_PATH names, or else in Ray's own; where it cannot be written, as
    in a home that is read-only, in the environment of this process and those that it starts.
    """
    token = secrets.token_hex(32)
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or _RAYS_FILE).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(token)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = token


def sends_token() -> bool:
    """Whether Ray will send a token from this process: there is one, and it is not switched off."""
    return os.environ.get(MODE, "token").lower() == "token" and find_token() is not None


def redacted(text: str) -> str:
    """``text`` with the token, wherever it stands in it, replaced by a word."""
    token = find_token()
    return text.replace(token, "[token]") if token else text
