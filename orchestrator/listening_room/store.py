"""Where a listening test is kept while it runs: SQLite, or PostgreSQL by its address.

Every answer is committed before it is acknowledged. An item has one current answer, and every
answer that was ever accepted stands in the log.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from jobs.problems import InputError, Problem
from orchestrator.addresses import address_problem, redacted
from orchestrator.errors import InfrastructureError
from orchestrator.listening_room.plans import ClipName, PlannedItem, plan
from orchestrator.listening_room.study import ListeningStudy

TOKEN_DAYS = 30
"""A rater's link is good for so long."""
_BUSY = 30
"""Seconds to wait for another process that writes to the same SQLite file."""
_CONNECTIONS = 20
"""Kept open at most, and as many more for a while."""
_PLANS, _CLIPS = 1000, 256
"""Kept in memory at most; a clip has 130 kB."""
_SECRETS = "Give the password as the driver takes it: PGPASSWORD or ~/.pgpass."

_metadata = sa.MetaData()
_studies = sa.Table(
    "listening_studies",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("sweep", sa.Text, nullable=False),
    sa.Column("storage", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("closed_at", sa.Float),
)
_clips = sa.Table(
    "listening_clips",
    _metadata,
    sa.Column("study", sa.ForeignKey("listening_studies.id"), primary_key=True),
    sa.Column("name", sa.String(300), primary_key=True),
    sa.Column("wav", sa.LargeBinary, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)
_raters = sa.Table(
    "listening_raters",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.ForeignKey("listening_studies.id"), nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("languages", sa.Text, nullable=False),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.UniqueConstraint("study", "name"),
    sa.UniqueConstraint("study", "place"),
)
_items = sa.Table(
    "listening_items",
    _metadata,
    sa.Column("rater", sa.ForeignKey("listening_raters.id"), primary_key=True),
    sa.Column("at", sa.Integer, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("opened_at", sa.Float),
)
_answers = sa.Table(
    "listening_answers",
    _metadata,
    sa.Column("rater", sa.Integer, primary_key=True),
    sa.Column("at", sa.Integer, primary_key=True),
    sa.Column("answer", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(["rater", "at"], ["listening_items.rater", "listening_items.at"]),
)
_log = sa.Table(
    "listening_log",
    _metadata,
    sa.Column("submission", sa.String(64), primary_key=True),
    sa.Column("rater", sa.Integer, nullable=False),
    sa.Column("at", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("answer", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("plays", sa.Integer, nullable=False),
    sa.Column("agent", sa.String(16), nullable=False),
    sa.Column("answered_at", sa.Float, nullable=False),
    sa.UniqueConstraint("rater", "at", "version"),
    sa.ForeignKeyConstraint(["rater", "at"], ["listening_items.rater", "listening_items.at"]),
)

# What every request of a rater asks; to build a statement takes longer than to run it.
_VISITOR = (
    sa.select(_raters, _studies.c.closed_at)
    .join_from(_raters, _studies)
    .where(_raters.c.token == sa.bindparam("token"))
)
_ANSWERED = (
    sa.select(_items.c.opened_at, _answers.c.answer, _answers.c.version)
    .select_from(
        _items.outerjoin(
            _answers, (_answers.c.rater == _items.c.rater) & (_answers.c.at == _items.c.at)
        )
    )
    .where(_items.c.rater == sa.bindparam("rater"))
    .order_by(_items.c.at)
)
_SHOW = (
    _items.update()
    .where(_items.c.rater == sa.bindparam("of"), _items.c.at == sa.bindparam("item"))
    .where(_items.c.opened_at.is_(None))
)
_TURN = sa.select(_raters.c.id).where(_raters.c.id == sa.bindparam("rater")).with_for_update()
_SUBMITTED = sa.select(_log).where(_log.c.submission == sa.bindparam("submission"))
_CLOSED = sa.select(_studies.c.closed_at).where(_studies.c.id == sa.bindparam("study"))
_CURRENT = sa.select(_answers.c.version).where(
    _answers.c.rater == sa.bindparam("rater"), _answers.c.at == sa.bindparam("at")
)
_CORRECT = _answers.update().where(
    _answers.c.rater == sa.bindparam("of"), _answers.c.at == sa.bindparam("item")
)


class RefusedAnswer(Exception):
    """An answer that is not taken, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Enrolled:
    """A rater of a study."""

    id: int
    study: str
    place: int
    """Among the study's raters, from 0."""
    name: str
    languages: tuple[str, ...]


class ItemState(NamedTuple):
    """One item of a rater's plan, and what became of it; each request makes a plan of them."""

    at: int
    """From 0."""
    item: PlannedItem
    opened_at: float | None
    """When it was first shown, Unix time in seconds."""
    answer: int | None
    version: int
    """How often it was answered."""


@dataclass(frozen=True)
class Visit:
    """A rater, and where they are in the test: read at once, so that all of it is of one moment."""

    rater: Enrolled
    is_closed: bool
    """Whether no more answers are taken."""
    states: list[ItemState]
    """The whole plan, in order."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer to an item."""

    at: int
    """The item's place in the plan."""
    version: int
    """1 for the first answer to the item, 2 for its correction, and so on."""
    answer: int
    submission: str
    """Chosen by the page: the same one again is the same answer."""
    seconds: float
    """From showing the item to the answer, by the rater's clock."""
    plays: int
    agent: str
    """The beginning of a digest of the browser's name."""


@dataclass(frozen=True, kw_only=True)
class LoggedAnswer(Answer):
    """An answer as it was accepted."""

    answered_at: float
    """Unix time, seconds."""


class StudyStore:
    """Studies, their raters and answers in one database; safe for many threads and processes."""

    def __init__(self, address: str, clock: Callable[[], float] = time.time) -> None:
        """Open the database at ``address`` and make its tables.

        Args:
            address: as SQLAlchemy takes it, without a password.
            clock: Unix time in seconds.

        Raises:
            InputError: the address is not SQLite's or PostgreSQL's, or has a secret in it.
            InfrastructureError: no database answers there.
        """
        if problem := address_problem(address, ("sqlite", "postgresql"), _SECRETS):
            raise InputError([Problem("--database", *problem)])
        self.now = clock
        is_file = address.startswith("sqlite")
        # SQLite has one writer at a time; threads queue here, where the first is the first.
        self._turn: AbstractContextManager[Any] = Lock() if is_file else nullcontext()
        # What never changes is read once: every request needs a plan, every rater hears each clip.
        self._plan = lru_cache(maxsize=_PLANS)(self._read_plan)
        self._clip = lru_cache(maxsize=_CLIPS)(self._read_clip)
        try:
            self._engine = _engine(address, is_file)
            _metadata.create_all(self._engine)
        except (SQLAlchemyError, ArgumentError, NoSuchModuleError, ImportError) as error:
            what = " ".join(redacted(str(error)).split())[:300]
            raise InfrastructureError(f"the database of listening tests: {what}") from None

    def close(self) -> None:
        """Give its connections back."""
        self._engine.dispose()

    # studies

    def add(
        self, study: ListeningStudy, storage: str, sounds: dict[ClipName, tuple[bytes, float]]
    ) -> None:
        """Keep a study with all its clips."""
        row = {"id": study.id, "sweep": study.sweep, "storage": storage}
        clips = [
            {"study": study.id, "name": _clip_key(name), "wav": wav, "seconds": seconds}
            for name, (wav, seconds) in sounds.items()
        ]
        with self._write() as db:
            db.execute(_studies.insert().values(**row, content=study.to_json()))
            db.execute(_clips.insert(), clips)

    def open_study(self, storage: str, sweep: str) -> ListeningStudy | None:
        """The study of a sweep that has not been closed."""
        of = (_studies.c.sweep == sweep) & (_studies.c.storage == storage)
        with self._read() as db:
            text = db.scalar(
                sa.select(_studies.c.content).where(of & _studies.c.closed_at.is_(None))
            )
        return None if text is None else ListeningStudy.from_json(text)

    def last_study(self, storage: str, sweep: str) -> ListeningStudy | None:
        """The study of a sweep that is open, or else the one that was closed last."""
        if (found := self.open_study(storage, sweep)) is not None:
            return found
        of = (_studies.c.sweep == sweep) & (_studies.c.storage == storage)
        query = sa.select(_studies.c.content).where(of).order_by(_studies.c.closed_at.desc())
        with self._read() as db:
            text = db.scalar(query.limit(1))
        return None if text is None else ListeningStudy.from_json(text)

    def freeze(self, study: str) -> float:
        """Take no more answers; returns since when, Unix time in seconds."""
        with self._write() as db:
            this = _studies.c.id == study
            db.execute(
                _studies.update()
                .where(this & _studies.c.closed_at.is_(None))
                .values(closed_at=self.now())
            )
            closed: float | None = db.scalar(sa.select(_studies.c.closed_at).where(this))
        assert closed is not None
        return closed

    def is_closed(self, study: str) -> bool:
        """Whether no more answers are taken."""
        with self._read() as db:
            return self._closed(db, study)

    def _closed(self, db: Connection, study: str) -> bool:
        return db.scalar(_CLOSED, {"study": study}) is not None

    # raters

    def invite(self, study: ListeningStudy, name: str, languages: Sequence[str] = ()) -> str:
        """Enrol a rater, whose plan is fixed now, and return the token of their link.

        A rater who is enrolled keeps the plan and gets a new token; the old one is good no more.

        Raises:
            ValueError: the name or a language cannot be.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= 80:
            raise ValueError("a rater has a name of 1 to 80 characters")
        chosen = tuple(languages) or tuple(study.languages)
        if unknown := sorted(set(chosen) - set(study.languages)):
            raise ValueError(f"a language is one of the study's, got {', '.join(unknown)}")
        token = secrets.token_urlsafe(32)
        fresh = {"token": digest(token), "expires_at": self.now() + TOKEN_DAYS * 86400}
        with self._write() as db:
            # Two who enrol at once would take one place.
            db.execute(sa.select(_studies.c.id).where(_studies.c.id == study.id).with_for_update())
            this = (_raters.c.study == study.id) & (_raters.c.name == name)
            if db.scalar(sa.select(_raters.c.id).where(this)) is not None:
                db.execute(_raters.update().where(this).values(**fresh))
                return token
            of = _raters.c.study == study.id
            place = db.scalar(sa.select(sa.func.count()).select_from(_raters).where(of)) or 0
            row = {"study": study.id, "place": place, "name": name}
            made = db.execute(_raters.insert().values(**row, **fresh, languages=json.dumps(chosen)))
            (rater,) = made.inserted_primary_key or (None,)
            pairs, training = (study.of(chosen, part) for part in (study.pairs, study.training))
            items = plan(study.mode, pairs, training, study.seed, place)
            db.execute(
                _items.insert(),
                [
                    {"rater": rater, "at": at, "content": json.dumps(asdict(item))}
                    for at, item in enumerate(items)
                ],
            )
        return token

    def rater_of(self, token: str) -> Enrolled | None:
        """Whose token it is; None for one that is forged, replaced or too old."""
        visit = self.visit(token)
        return None if visit is None else visit.rater

    def visit(self, token: str) -> Visit | None:
        """The rater whose token it is; None for one that is forged, replaced or too old."""
        with self._read() as db:
            row = db.execute(_VISITOR, {"token": digest(token)}).first()
            if row is None or row.expires_at < self.now():
                return None
            answered = db.execute(_ANSWERED, {"rater": row.id}).all()
        return Visit(_enrolled(row), row.closed_at is not None, self._states(row.id, answered))

    def raters(self, study: str) -> list[Enrolled]:
        """Of a study, in the order in which they were enrolled."""
        query = sa.select(_raters).where(_raters.c.study == study).order_by(_raters.c.place)
        with self._read() as db:
            return [_enrolled(row) for row in db.execute(query)]

    # items and answers

    def states(self, rater: int) -> list[ItemState]:
        """A rater's plan with the answers so far."""
        with self._read() as db:
            answered = db.execute(_ANSWERED, {"rater": rater}).all()
        return self._states(rater, answered)

    def _states(self, rater: int, answered: Sequence[Any]) -> list[ItemState]:
        return [
            ItemState(at, item, opened_at, answer, version or 0)
            for at, (item, (opened_at, answer, version)) in enumerate(
                zip(self._plan(rater), answered, strict=True)
            )
        ]

    def _read_plan(self, rater: int) -> list[PlannedItem]:
        query = sa.select(_items.c.content).where(_items.c.rater == rater).order_by(_items.c.at)
        with self._read() as db:
            return [_item(text) for text in db.scalars(query)]

    def show(self, rater: int, at: int) -> None:
        """Note when an item was first shown."""
        with self._write() as db:
            db.execute(_SHOW, {"of": rater, "item": at, "opened_at": self.now()})

    def clip(self, study: str, name: ClipName) -> bytes:
        """A WAV file."""
        return self._clip(study, _clip_key(name))[0]

    def seconds(self, study: str, item: PlannedItem) -> float:
        """How long it takes to hear an item once."""
        return sum(self._clip(study, _clip_key(name))[1] for name in item.clips)

    def _read_clip(self, study: str, key: str) -> tuple[bytes, float]:
        this = (_clips.c.study == study) & (_clips.c.name == key)
        with self._read() as db:
            row = db.execute(sa.select(_clips.c.wav, _clips.c.seconds).where(this)).one()
        return bytes(row.wav), float(row.seconds)

    def answer(self, rater: Enrolled, given: Answer) -> None:
        """Commit an answer; the same submission again changes nothing.

        Raises:
            RefusedAnswer: the study is closed, another window answered first, or the submission
                was one of another answer.
        """
        whose = {"rater": rater.id, "at": given.at}
        current = {"answer": given.answer, "version": given.version}
        try:
            with self._write() as db:
                # One answer of a rater at a time: of two windows one comes first.
                db.execute(_TURN, {"rater": rater.id})
                known = db.execute(_SUBMITTED, {"submission": given.submission}).first()
                if known is not None:
                    if (known.rater, known.at, known.answer) != (rater.id, given.at, given.answer):
                        raise RefusedAnswer("stale")
                    return
                if self._closed(db, rater.study):
                    raise RefusedAnswer("closed")
                before = db.scalar(_CURRENT, whose) or 0
                if given.version != before + 1:
                    raise RefusedAnswer("stale")
                if before:
                    db.execute(_CORRECT, {"of": rater.id, "item": given.at, **current})
                else:
                    db.execute(_answers.insert(), {**whose, **current})
                logged = LoggedAnswer(**vars(given), answered_at=self.now())
                db.execute(_log.insert(), {**vars(logged), "rater": rater.id})
        except IntegrityError:  # the same submission at the same time, of another rater
            raise RefusedAnswer("stale") from None

    def log(self, rater: int) -> list[LoggedAnswer]:
        """Every answer that a rater ever gave, in order."""
        query = sa.select(_log).where(_log.c.rater == rater).order_by(_log.c.answered_at, _log.c.at)
        names = LoggedAnswer.__dataclass_fields__
        with self._read() as db:
            return [
                LoggedAnswer(**{name: getattr(row, name) for name in names})
                for row in db.execute(query)
            ]

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._turn, self._engine.connect() as db:
            db = db.execution_options(writes=True)
            with db.begin():
                yield db

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as db, db.begin():
            yield db


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _engine(address: str, is_file: bool) -> Engine:
    url = sa.make_url(address)
    if not is_file:
        # SQLAlchemy's own choice for PostgreSQL is a driver that voxsweep does not have.
        url = url.set(drivername="postgresql+psycopg2")
    options = {"connect_args": {"timeout": _BUSY}} if is_file else {}
    engine = sa.create_engine(
        url, pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS, pool_pre_ping=not is_file, **options
    )
    if is_file:
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:  # noqa: ANN401 (sqlite3's)
    # Python's sqlite3 would begin transactions by itself, and readers' so that they cannot write.
    connection.isolation_level = None
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(db: Connection) -> None:
    writes = db.get_execution_options().get("writes")
    db.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _clip_key(name: ClipName) -> str:
    return f"{name.system}/{name.sentence}"


def _enrolled(row: Any) -> Enrolled:  # noqa: ANN401 (a row of SQLAlchemy)
    languages = tuple(json.loads(row.languages))
    return Enrolled(row.id, row.study, row.place, row.name, languages)


def _item(text: str) -> PlannedItem:
    content = json.loads(text)
    for side in ("first", "second"):
        content[side] = content[side] and ClipName(**content[side])
    return PlannedItem(**content)
