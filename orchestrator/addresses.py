"""Addresses of servers and databases in a spec: which are refused, and how they are shown.

No address holds a secret: a spec is kept in the storage, shown and logged.
"""

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

WEB = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Without their drivers, which SQLAlchemy takes after a plus: ``postgresql+psycopg2``."""

SQLITE = "sqlite:///"
"""How the address of a SQLite file begins."""
JOURNAL = "journal:"
"""How the address of an Optuna study in a journal file begins."""

_SECRET = re.compile(r"pass|token|secret|credential|api_?key|signature", re.IGNORECASE)
"""Keys of a query whose values are secret."""
_PASSWORD = re.compile(r"(?<=//)([^\s/@:]*):[^\s]*@")
"""What a URL has before its host; a password may hold a slash that nobody quoted."""
_WEB_LOGIN = re.compile(r"(?<=http://)[^\s/@]+@|(?<=https://)[^\s/@]+@", re.IGNORECASE)
_VALUE = re.compile(r"(?<=[?&])([^=&\s]+)=([^&\s]*)")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever its path contains.

    >>> sqlite_url(Path("/srv/sweeps/mlflow.db"))
    'sqlite:////srv/sweeps/mlflow.db'
    >>> sqlite_url(Path("/srv/50%/mlflow.db"))
    'sqlite+pysqlite:////srv/50%25/mlflow.db'
    """
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(path))
    text = url.render_as_string()
    if text == f"{SQLITE}{path}":
        return text
    # Of a URL that begins with sqlite:/// MLflow makes the folder as it is written there, quoted.
    return url.set(drivername="sqlite+pysqlite").render_as_string()


def sqlite_path(url: str) -> Path:
    """The file that a SQLite URL names."""
    from sqlalchemy.engine import make_url

    return Path(make_url(url).database or "")


def redacted(text: str) -> str:
    """``text`` with the secrets of every address in it replaced by ``***``.

    >>> redacted("no answer from postgresql://ann:secret@db/x?sslpassword=y&sslmode=require")
    'no answer from postgresql://ann:***@db/x?sslpassword=***&sslmode=require'
    >>> redacted("https://token@host/mlflow")
    'https://***@host/mlflow'
    """
    text = _WEB_LOGIN.sub("***@", _PASSWORD.sub(r"\1:***@", text))
    return _VALUE.sub(lambda m: f"{m[1]}=***" if _SECRET.search(m[1]) else m[0], text)


def address_problem(text: str, schemes: Collection[str], secrets: str) -> tuple[str, str] | None:
    """What is wrong with an address, without its secrets, and the next step; None if nothing is.

    ``schemes`` are what it may begin with; ``secrets`` says where a password goes instead.
    """
    kind = _kind(text)
    if "://" not in text or kind not in schemes:
        return f"must begin with {_listed(schemes)}, got {redacted(text)!r}", "Correct it."
    if any(character <= " " or character == "\x7f" for character in text):
        return f"may hold no spaces or control characters, got {redacted(text)!r}", "Correct it."
    if redacted(text) != text:
        what = f"may hold no password or token, since it is kept and shown, got {redacted(text)!r}"
        return what, secrets
    misplaced = _misplaced(text, kind)
    if misplaced:
        return f"{misplaced}, got {text!r}", "Correct it."
    return None


def tracking_problem(text: str) -> tuple[str, str] | None:
    """What keeps MLflow from being reached at ``text``, and the next step.

    A folder is refused: MLflow's files keep twice what is logged twice, its databases once.
    """
    return address_problem(text, (*WEB, *DATABASES), _MLFLOW_SECRETS)


_MLFLOW_SECRETS = (
    "Give a server's login by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or by "
    "MLFLOW_TRACKING_TOKEN, a database's as its driver takes it, such as PGPASSWORD or ~/.pgpass."
)


def study_problem(text: str) -> tuple[str, str] | None:
    """What keeps Optuna from having its study at ``text``, and the next step."""
    if text.startswith(JOURNAL):
        return None if text != JOURNAL else (f"must name a file after {JOURNAL}", "Add its path.")
    problem = address_problem(text, ("sqlite", "postgresql"), _STUDY_SECRETS)
    if problem and "://" not in text:
        what, _ = problem
        return what, f"Correct it; a study's own file is {JOURNAL}PATH."
    return problem


_STUDY_SECRETS = "Give the password as the driver takes it: PGPASSWORD or ~/.pgpass."


def is_database(address: str) -> bool:
    """Whether the address is a database's, not a server's."""
    return _kind(address) in DATABASES


def _kind(address: str) -> str:
    return address.partition("://")[0].lower().partition("+")[0]


def _misplaced(text: str, kind: str) -> str | None:
    """The rule that host, port or path break."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "must have a host and a port from 1 to 65535"
    if port == 0:
        return "must have a port from 1 to 65535"
    if kind in WEB and not parts.hostname:
        return "must name a host"
    if kind == "sqlite" and parts.netloc:
        return "must have a file's path after sqlite:///"
    return None


def _listed(schemes: Collection[str]) -> str:
    *first, last = [f"{scheme}://" for scheme in schemes]
    return f"{', '.join(first)} or {last}" if first else last
