"""The open listening test of a sweep, old or new."""

from jobs.problems import InputError, Problem
from orchestrator.ledger import Ledger
from orchestrator.listening_room.plans import Mode
from orchestrator.listening_room.store import StudyStore
from orchestrator.listening_room.study import ListeningStudy, design, sounds_of
from orchestrator.verdict.protocol import Protocol


def enter(
    store: StudyStore,
    ledger: Ledger,
    protocol: Protocol,
    mode: Mode | None,
    labels: str,
    winner_alone: bool = False,
) -> ListeningStudy:
    """The open study of a sweep; without one, a new one.

    One that was opened for all finalists serves whoever asks for the ``winner_alone`` too.

    Raises:
        InputError: the open one has another mode or asks something else than the verdict does, or
            none can be opened.
    """
    where = f"listening test of {ledger.sweep}"
    close = f"Close it first: voxsweep listen {ledger.sweep} --close."
    known = store.open_study(ledger.storage.url, ledger.sweep)
    wanted = mode or (known.mode if known else "cmos")
    fresh = design(ledger, protocol, wanted, labels, winner_alone)
    if known is None:
        store.add(fresh, ledger.storage.url, sounds_of(ledger, fresh))
        return fresh
    if known.mode != fresh.mode:
        what = f"the open test has mode {known.mode}, got {mode}"
        raise InputError([Problem(where, what, close)])
    narrow, wide = (design(ledger, protocol, wanted, labels, alone) for alone in (True, False))
    if known.protocol != fresh.protocol or known.pairs not in (narrow.pairs, wide.pairs):
        what = "the open test asks what the verdict asks, but the sweep has another winner by now"
        raise InputError([Problem(where, what, close)])
    if known.pairs != wide.pairs and not winner_alone:
        what = "a test of all finalists has all of them, but the open one has the winner alone"
        step = f"{close} To go on with it: voxsweep listen {ledger.sweep} --me."
        raise InputError([Problem(where, what, step)])
    return known
