"""Two hundred listeners at once, on SQLite and on PostgreSQL, with the server killed in the middle.

Command: python benchmarks/listening_load.py [--raters N] [--items N] [--quick] [--json]

Claim: no answer that was acknowledged is lost, and none counts twice, though the server is killed
with SIGKILL in the middle and started again; at the 99th percentile no request that was answered
waits over a second, at 200 listeners who take five seconds for an item.
Baseline: the same load on SQLite, for PostgreSQL.
Where it loses: what is asked while the server is down waits until it is back; listeners who answer
without a pause are not meant.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
import psutil

from orchestrator.listening_room.app import create_app
from orchestrator.listening_room.plans import clip_names
from orchestrator.listening_room.serving import open_door, serve
from orchestrator.listening_room.sounds import beeps, levelled
from orchestrator.listening_room.store import StudyStore
from orchestrator.listening_room.study import ListeningStudy

SENTENCES = 20
THINKS = 5.0
"""Seconds that a listener takes for an item, on average; half of it for all."""
PATIENCE = 30.0
"""Seconds to wait for the server to answer at all."""
CLIP_SECONDS = 4.0
"""A clip is of so many bytes as four seconds of speech at 16 kHz have."""


def make_study(store: StudyStore) -> ListeningStudy:
    """Of made-up clips, short enough to have been heard at once, and as large as speech."""
    pairs = [(f"b{i:02d}", "variant") for i in range(SENTENCES)]
    training = [("t0", "variant"), ("t1", "variant")]
    study = ListeningStudy(
        secrets.token_hex(8), "load", "", "cmos", "en", 7, {"": pairs}, {"": training}, time.time()
    )
    (wav, _), *_ = levelled([beeps(int(CLIP_SECONDS / 0.6), 16_000)])
    store.add(study, "here", {clip: (wav, 0.1) for clip in clip_names(pairs, training)})
    return study


def start(database: str, port: int) -> "subprocess.Popen[bytes]":
    """The server, in a process of its own."""
    command = [sys.executable, __file__, "--serve", database, "--port", str(port)]
    return subprocess.Popen(command, env=os.environ)


def serve_load(database: str, port: int) -> None:
    """What the server's process does."""
    store = StudyStore(database)
    study = store.open_study("here", "load")
    assert study is not None
    texts = {sentence: f"Sentence {sentence}." for sentence, _ in study.pairs[""]}
    texts |= {sentence: f"Sentence {sentence}." for sentence, _ in study.training[""]}
    app = create_app(store, study, texts, secrets.token_urlsafe(32), "")
    serve(app, open_door("127.0.0.1", port, ""))


@dataclass
class Load:
    """What listeners saw."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of requests that were answered, by kind."""
    acknowledged: set[str] = field(default_factory=set)
    """Submissions."""
    refused: int = 0
    retried: int = 0


async def ask(
    session: aiohttp.ClientSession,
    load: Load,
    kind: str,
    method: str,
    path: str,
    **more: Any,  # noqa: ANN401 (whatever aiohttp takes)
) -> tuple[int, bytes]:
    """One request, again until it is answered, as the page does."""
    while True:
        began = time.perf_counter()
        try:
            async with session.request(method, path, **more) as reply:
                body = await reply.read()
                if reply.status < 500:
                    load.seconds.setdefault(kind, []).append(time.perf_counter() - began)
                    return reply.status, body
        except (TimeoutError, aiohttp.ClientError):
            pass
        load.retried += 1
        await asyncio.sleep(1.0)


async def listener(base: str, token: str, items: int, load: Load, rng: Random) -> None:
    """Joins, and takes so many items."""
    jar = aiohttp.CookieJar(unsafe=True)
    patience = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(base, cookie_jar=jar, timeout=patience) as session:
        await asyncio.sleep(rng.uniform(0, THINKS))
        await ask(session, load, "join", "GET", f"/join/{token}")
        for _ in range(items):
            _, page = await ask(session, load, "page", "GET", "/")
            found = re.search(rb'data-item="(\d+)" data-version="(\d+)"', page)
            csrf = re.search(rb'name="csrf" content="(\w+)"', page)
            if found is None or csrf is None:
                return
            item = int(found[1])
            for side in "ab":
                await ask(session, load, "clip", "GET", f"/clip/{item}/{side}")
            await asyncio.sleep(THINKS / 2 + rng.expovariate(2 / THINKS))
            body = {
                "item": item,
                "version": int(found[2]),
                "answer": rng.randint(-3, 3),
                "submission": secrets.token_hex(16),
                "seconds": 5.0,
                "plays": 2,
            }
            status, _ = await ask(
                session,
                load,
                "answer",
                "POST",
                "/answers",
                data=json.dumps(body),
                headers={"content-type": "application/json", "x-csrf-token": csrf[1].decode()},
            )
            if status == 200:
                load.acknowledged.add(body["submission"])
            else:
                load.refused += 1


async def until_it_answers(base: str) -> None:
    """Wait for the server."""
    async with aiohttp.ClientSession(base) as session:
        for _ in range(600):
            try:
                async with session.get("/"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise RuntimeError("the server did not start")


async def press(database: str, raters: int, items: int) -> dict[str, Any]:
    """The whole load on one database."""
    store = StudyStore(database)
    study = make_study(store)
    tokens = [store.invite(study, f"r{i}") for i in range(raters)]
    port = int(open_and_close())
    base = f"http://127.0.0.1:{port}"
    server = start(database, port)
    await until_it_answers(base)
    idle = psutil.Process(server.pid).cpu_times()
    load, began = Load(), time.perf_counter()
    crowd = [
        asyncio.create_task(listener(base, token, items, load, Random(i)))
        for i, token in enumerate(tokens)
    ]
    await asyncio.sleep(items * THINKS / 2)
    used = psutil.Process(server.pid).cpu_times()
    answered = sum(map(len, load.seconds.values()))
    server.send_signal(signal.SIGKILL)
    server.wait()
    before = len(load.acknowledged)
    server = start(database, port)
    await asyncio.gather(*crowd)
    wall = time.perf_counter() - began
    server.terminate()
    server.wait()
    logged = [row for rater in store.raters(study.id) for row in store.log(rater.id)]
    stored = {row.submission for row in logged}
    states = [s for rater in store.raters(study.id) for s in store.states(rater.id)]
    store.close()
    every = [seconds for of in load.seconds.values() for seconds in of]
    return {
        "acknowledged": len(load.acknowledged),
        "of those before the kill": before,
        "lost": len(load.acknowledged - stored),
        "twice": len(logged) - len(stored) + sum(s.version > 1 for s in states),
        "refused": load.refused,
        "retried": load.retried,
        "server's CPU milliseconds a request": round(
            1000 * (used.user + used.system - idle.user - idle.system) / max(answered, 1), 2
        ),
        "requests a second": round(len(every) / wall, 1),
        "p50": round(float(np.quantile(every, 0.5)), 3),
        "p99": round(float(np.quantile(every, 0.99)), 3),
        "p99 of answers": round(float(np.quantile(load.seconds["answer"], 0.99)), 3),
    }


def open_and_close() -> str:
    """A port that is free."""
    door = open_door("127.0.0.1", 0, "")
    door.socket.close()
    return door.address.rstrip("/").rpartition(":")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--items", type=int, default=8, help="that each listener takes")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL too, if it is here")
    parser.add_argument("--quick", action="store_true", help="20 listeners, 3 items")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_load(options.serve, options.port)
        return
    raters, items = (20, 3) if options.quick else (options.raters, options.items)
    rows: dict[str, dict[str, Any]] = {}

    def run(name: str, database: str) -> None:
        rows[name] = asyncio.run(press(database, raters, items))
        if not options.json:
            print(json.dumps({"database": name, **rows[name]}), flush=True)

    with TemporaryDirectory() as folder:
        run("SQLite", f"sqlite:///{folder}/load.db")
    if options.postgres:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.postgres import MISSING, binaries, running_postgres

        programs = binaries()
        if programs is None:
            sys.exit(MISSING)
        with running_postgres(programs) as server:
            os.environ["PGPASSWORD"] = server.password
            run("PostgreSQL", server.create_database())
    result = {
        "name": "listening_load",
        "ratios": {
            "p99 on PostgreSQL to SQLite": rows["PostgreSQL"]["p99"] / rows["SQLite"]["p99"]
            if "PostgreSQL" in rows
            else None,
        },
        "baseline": "the same load on SQLite",
        "conditions": {
            "raters": raters,
            "items": items,
            "seconds for an item": THINKS,
            "load average": os.getloadavg()[0],
            "rows": rows,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
