"""A PostgreSQL of the tests' own: Debian's server on a loopback port that was free."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING = (
    "PostgreSQL's initdb and postgres must be on PATH or under /usr/lib/postgresql, and are not: "
    "apt-get install postgresql"
)
"""Why a test that needs the server is skipped, and what changes that."""

USER = "voxsweep"
_ACCOUNT = "nobody"
"""Who runs the server where the tests are root's: PostgreSQL refuses root."""
_SECONDS = 60
"""Until a server that does not answer is given up."""


@dataclass(frozen=True)
class Postgres:
    """A server that runs."""

    port: int
    password: str
    """Addresses are without it: who connects takes it from ``PGPASSWORD``, as libpq does."""

    def create_database(self) -> str:
        """The address of a database that is new and empty, as SQLAlchemy takes it."""
        name = f"test_{secrets.token_hex(8)}"
        with closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{name}"

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg2

        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname="postgres"
        )


def binaries() -> Path | None:
    """The folder of the server's programs, or None where they are not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    for folder in (*debian, *on_path):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


@contextmanager
def running_postgres(programs: Path) -> Iterator[Postgres]:
    """A server for the block, in a folder that is gone after it."""
    # Not pytest's folder, whose parents only the tests' own account may enter.
    folder = Path(tempfile.mkdtemp(prefix="voxsweep-postgres-"))
    account: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(folder, _ACCOUNT)
        account = {"user": _ACCOUNT, "extra_groups": []}
    server = None
    try:
        password = _initialise(programs, folder, account)
        postgres = Postgres(_free_port(), password)
        server = _start(programs, folder, postgres.port, account)
        _await(postgres, server, folder)
        yield postgres
    finally:
        if server is not None:
            # SIGINT is PostgreSQL's fast shutdown: it waits for no client.
            server.send_signal(signal.SIGINT)
            server.wait()
        shutil.rmtree(folder)


def _initialise(programs: Path, folder: Path, account: dict[str, Any]) -> str:
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if account:
        shutil.chown(secret, _ACCOUNT)
    asked = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
    subprocess.run(
        [
            programs / "initdb",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            *asked,
            folder / "data",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        **account,
    )
    return password


def _start(
    programs: Path, folder: Path, port: int, account: dict[str, Any]
) -> "subprocess.Popen[bytes]":
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        # What a test writes need not survive a power cut.
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", folder / "data"]
            + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            **account,
        )


def _await(postgres: Postgres, server: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not postgres.answers():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
