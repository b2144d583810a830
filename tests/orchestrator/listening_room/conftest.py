"""A made-up sweep whose systems are tones, and its listening test."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
import uvicorn

from cluster.storage.base import LocalStorage
from orchestrator.ledger import CONFIRMATION, VARIANTS_FILE, Ledger
from orchestrator.listening_room.app import create_app
from orchestrator.listening_room.opening import enter
from orchestrator.listening_room.serving import open_door
from orchestrator.listening_room.store import StudyStore
from orchestrator.listening_room.study import ListeningStudy, texts_of
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.scores.variants import variant_lines
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_spec
from orchestrator.spec.stored import stored_protocol
from orchestrator.verdict.outcome import Verdict
from tests.asgi_browser import AsgiBrowser
from tests.orchestrator.conftest import SECTIONS
from tests.orchestrator.records.made_sweep import MadeSweep
from tests.simulated_raters import PITCH

SCORING = (
    "scoring: {metrics: [similarity], primary: similarity, min_effect: 0.05, "
    "bootstrap_resamples: 1000, finalists: 1, listening: {raters: 3, sentences: 8}}"
)
RATE = 16_000
END = "voxsweep listen small --close --storage sweeps"


class Clock:
    """Unix time that passes when it is told to."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


def tone(pitch: float, seconds: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def speak(ledger: Ledger, variant: str, sentences: list[str]) -> None:
    """Clips of a system, of other lengths and levels than another's, and with tags that tell."""
    is_base = variant == "base"
    with ledger.storage.commit(ledger.clips(variant, CONFIRMATION)) as folder:
        for i, sentence in enumerate(sentences):
            sound = tone(PITCH["base" if is_base else "variant"], 0.4 + 0.02 * i)
            sound *= 1.0 if is_base else 3.0
            with soundfile.SoundFile(
                folder / f"{sentence}.flac", "w", RATE, 1, format="FLAC"
            ) as file:
                file.comment = f"variant {variant}"
                file.write(sound)


def make_sweep(spec: SweepSpec, storage: Path) -> Ledger:
    """A sweep that awaits listeners."""
    made = MadeSweep(spec, storage).run()
    ledger = made.ledger
    scored = ScoredSweep.read(ledger)
    assert scored is not None
    ledger.write_text(VARIANTS_FILE, variant_lines(scored.table.variants.values()))
    verdict = Verdict.from_json(ledger.read_text("verdict.json") or "")
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    sentences = [prompt.id for prompt in made.protocol.confirmation]
    for variant in ("base", verdict.variant or ""):
        speak(ledger, variant, sentences)
    return ledger


@dataclass(frozen=True)
class Opened:
    """A sweep and its open test, to be copied."""

    storage: Path
    database: Path


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("opened")
    spec = folder / "spec.yaml"
    spec.write_text("\n".join({**SECTIONS, "scoring": SCORING}.values()))
    ledger = make_sweep(read_spec(spec), folder / "st")
    store = StudyStore(f"sqlite:///{folder / 'listening.db'}")
    protocol = stored_protocol(ledger)
    assert protocol is not None
    enter(store, ledger, protocol, None, "en")
    store.close()
    return Opened(folder / "st", folder / "listening.db")


@pytest.fixture
def ledger(opened: Opened, tmp_path: Path) -> Ledger:
    """Of a copy of the sweep."""
    shutil.copytree(opened.storage, tmp_path / "st")
    return Ledger(LocalStorage(tmp_path / "st"), "small")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[StudyStore]:
    """One that is empty."""
    store = StudyStore(f"sqlite:///{tmp_path / 'empty.db'}", clock)
    yield store
    store.close()


@dataclass
class Room:
    """A test that is open, and who comes in."""

    store: StudyStore
    study: ListeningStudy
    ledger: Ledger
    clock: Clock
    root_path: str = ""
    stripped: bool = True

    def __post_init__(self) -> None:
        protocol = stored_protocol(self.ledger)
        assert protocol is not None
        self.texts = texts_of(protocol)
        self.organiser = "organiser-" + "x" * 30
        self.app = create_app(
            self.store, self.study, self.texts, self.organiser, END, root_path=self.root_path
        )

    def browser(self) -> AsgiBrowser:
        return AsgiBrowser(self.app, self.root_path, self.stripped)

    def rater(self, name: str) -> AsgiBrowser:
        """The browser of a rater who has followed the link."""
        browser = self.browser()
        token = self.store.invite(self.study, name)
        assert browser.get(f"join/{token}").status == 200
        return browser

    @property
    def variant(self) -> str:
        ((_, variant), *_) = self.study.pairs[""]
        return variant


@pytest.fixture
def room(opened: Opened, tmp_path: Path, clock: Clock) -> Iterator[Room]:
    """A copy of the open test, of a sweep that must be left as it is."""
    shutil.copy(opened.database, tmp_path)
    store = StudyStore(f"sqlite:///{tmp_path / 'listening.db'}", clock)
    study = store.open_study(str(opened.storage), "small")
    assert study is not None
    yield Room(store, study, Ledger(LocalStorage(opened.storage), "small"), clock)
    store.close()


class Served:
    """An open test behind a real server."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.start(0)

    def start(self, port: int) -> None:
        self.door = open_door("127.0.0.1", port, "")
        config = uvicorn.Config(self.room.app, access_log=False, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = Thread(target=self.server.run, kwargs={"sockets": [self.door.socket]})
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.door.socket.close()

    @property
    def port(self) -> int:
        return int(self.door.address.rstrip("/").rpartition(":")[2])

    def link(self, name: str) -> str:
        return f"{self.door.address}join/{self.room.store.invite(self.room.study, name)}"
