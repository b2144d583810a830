"""Ray's token: where it comes from, and that it is shown nowhere."""

import os
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN_SOURCES = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


def find_token() -> str | None:
    """The token that Ray will send, from where Ray takes it; None where there is none.

    Never from a spec, an option or an address: those end up in histories and in logs.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    # Ray looks in its own file last (its authentication_token_setup.py).
    named = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    try:
        return Path(named).expanduser().read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def sends_token() -> bool:
    """Whether Ray will send a token from this process: there is one, and it is not switched off."""
    return os.environ.get(MODE, "token").lower() == "token" and find_token() is not None


def redacted(text: str) -> str:
    """``text`` with the token, wherever it stands in it, replaced by a word."""
    token = find_token()
    return text.replace(token, "[token]") if token else text
