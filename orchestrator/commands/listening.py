"""Listening tests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster.storage.base import open_storage
from orchestrator.commands.common import AsJson, StorageUrl, SweepName, print_json
from orchestrator.terminal.console import messages, output, print_line

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.listening_room.plans import Mode
    from orchestrator.release.finished_sweep import FinishedSweep
    from orchestrator.verdict.outcome import Verdict


def listen(
    sweep: SweepName,
    me: Annotated[
        bool,
        typer.Option(
            "--me",
            help="Enrol yourself as rater `me`, and print your link. A test that is opened so has "
            "the winner alone, not all finalists.",
        ),
    ] = False,
    mode: Annotated[
        Literal["cmos", "mos"] | None,
        typer.Option(
            help="What is rated. cmos: each finalist and the base side by side, -3 to 3. mos: "
            "single clips, 1 to 5, in a pass for each of naturalness, prosody and pronunciation. "
            "Default: that of the open test, else cmos."
        ),
    ] = None,
    labels: Annotated[
        Literal["en", "km", "ko"], typer.Option(help="The language of the raters' pages.")
    ] = "en",
    host: Annotated[
        str, typer.Option(help="The address to serve at. Default: this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to serve at; 0 takes a free one.")
    ] = 8770,
    path: Annotated[
        str,
        typer.Option(
            metavar="/PATH", help="Where a reverse proxy has the pages. Default: its root."
        ),
    ] = "",
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where answers are kept. Default: listening.db in the sweep's folder; "
            "postgresql://USER@HOST/NAME for many raters.",
        ),
    ] = None,
    close: Annotated[
        bool,
        typer.Option(
            "--close", help="End the test: unblind it, and judge the sweep by its ratings."
        ),
    ] = False,
    bring: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="CSV",
            help="End with the ratings of a test held elsewhere: as for judge, or webMUSHRA's. "
            "Default: none.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="CSV", help="Write the ratings of the closed test. Default: none."
        ),
    ] = None,
    storage: StorageUrl = "sweeps",
    as_json: AsJson = False,
) -> None:
    """Hold a listening test of a sweep's finalists and base, in the browser."""
    from orchestrator.ledger import Ledger
    from orchestrator.release.finished_sweep import read_finished

    if sum((close, bring is not None, export is not None)) > 1:
        raise typer.BadParameter("choose one of --close, --import and --export")
    if path and (not path.startswith("/") or path.endswith("/")):
        raise typer.BadParameter(f"a path begins with / and ends without, got {path!r}")
    ledger = Ledger(open_storage(storage), sweep)
    finished = read_finished(ledger)
    if export is not None:
        _export(ledger, export, as_json)
    elif bring is not None:
        _import(finished, bring, as_json)
    elif close:
        _close(ledger, database, as_json)
    else:
        _serve(finished, database, mode, labels, me, (host, port, path), as_json)


def _serve(
    sweep: "FinishedSweep",
    database: str | None,
    mode: "Mode | None",
    labels: str,
    me: bool,
    place: tuple[str, int, str],
    as_json: bool,
) -> None:
    import secrets

    from orchestrator.listening_room.app import create_app
    from orchestrator.listening_room.opening import enter
    from orchestrator.listening_room.serving import is_loopback, open_door, serve
    from orchestrator.listening_room.store import StudyStore
    from orchestrator.listening_room.study import texts_of

    host, port, path = place
    store = StudyStore(database_of(sweep.ledger, database))
    study = enter(store, sweep.ledger, sweep.protocol, mode, labels, winner_alone=me)
    token = secrets.token_urlsafe(32)
    door = open_door(host, port, path)
    links = {"organiser": f"{door.address}join/{token}"}
    end = f"voxsweep listen {sweep.spec.name} --close --storage {sweep.ledger.storage.url}"
    end += f" --database {database}" if database else ""
    if me:
        links["me"] = f"{door.address}join/{store.invite(study, 'me')}"
    if as_json:
        print_json({"sweep": sweep.spec.name, "study": study.id, "mode": study.mode, **links})
    else:
        heard = "the winner" if study.variants == 1 else f"{study.variants} variants"
        print_line(
            output,
            f"Listening test of {sweep.spec.name}: {heard} and the base, {study.sentences} "
            "sentences. Links:",
        )
        for who, link in links.items():
            print_line(output, f"  {who}: {link}")
        print_line(
            output, "Ctrl-C stops the server; answers are kept, and the same command goes on."
        )
        print_line(output, f"To end the test: {end}")
    if not is_loopback(host):
        print_line(
            messages,
            "This address may be reached from elsewhere, and http has no encryption: whoever reads "
            "along has the raters' links. Put a reverse proxy with TLS in front "
            "(docs/listening.md).",
            "yellow",
        )
    serve(create_app(store, study, texts_of(sweep.protocol), token, end, path), door)
    store.close()


def _close(ledger: "Ledger", database: str | None, as_json: bool) -> None:
    from jobs.problems import InputError, Problem
    from orchestrator.listening_room.closing import close
    from orchestrator.listening_room.store import StudyStore

    store = StudyStore(database_of(ledger, database))
    study = store.last_study(ledger.storage.url, ledger.sweep)
    if study is None:
        what = f"a listening test of {ledger.sweep} must have been opened, but was not"
        raise InputError(
            [Problem("--close", what, f"Hold one first: voxsweep listen {ledger.sweep}.")]
        )
    closed = close(store, study, ledger, lambda text: messages.print(text))
    store.close()
    _show(ledger, closed.key, closed.verdict, as_json)


def _import(sweep: "FinishedSweep", path: Path, as_json: bool) -> None:
    from orchestrator.listening_room.closing import conclude
    from orchestrator.listening_room.exchange import bring

    key = bring(sweep, path)
    verdict = conclude(sweep.ledger, lambda text: messages.print(text))
    _show(sweep.ledger, key, verdict, as_json)


def _export(ledger: "Ledger", path: Path, as_json: bool) -> None:
    from jobs.problems import InputError, Problem
    from orchestrator.scores.stored_ratings import RATINGS_FILE, stored_tests

    tests = stored_tests(ledger)
    if not tests:
        what = "ratings are shown when a test is closed, and none is"
        raise InputError(
            [Problem("--export", what, f"Close it: voxsweep listen {ledger.sweep} --close.")]
        )
    path.write_bytes(ledger.storage.read_from(tests[-1].key, RATINGS_FILE))
    if as_json:
        print_json({"sweep": ledger.sweep, "test": tests[-1].key, "written": str(path)})
    else:
        print_line(output, f"{path}: the ratings of {tests[-1].key}")


def _show(ledger: "Ledger", key: str, verdict: "Verdict", as_json: bool) -> None:
    from orchestrator.ledger import REPORT_FILE

    report = f"{ledger.storage.url}/{ledger.path(REPORT_FILE)}"
    if as_json:
        print_json(
            {
                "sweep": ledger.sweep,
                "test": key,
                "verdict": verdict.verdict,
                "variant": verdict.variant,
                "sentence": verdict.sentence,
                "report": report,
            }
        )
        return
    print_line(output, f"{verdict.verdict}: {verdict.sentence}")
    print_line(output, f"Ratings: {ledger.storage.url}/{key}\nReport: {report}")


def database_of(ledger: "Ledger", address: str | None) -> str:
    """Where the answers of a sweep's tests are: at ``address``, else in the sweep's folder."""
    from orchestrator.addresses import SQLITE

    folder = ledger.storage.workspace(ledger.sweep)
    return address or f"{SQLITE}{folder / 'listening.db'}"
