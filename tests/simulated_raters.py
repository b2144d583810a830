"""Raters who take a listening test as people do: over HTTP, by ear, one page after another.

In a made-up sweep a system is a pitch, so that a rater can hear which one speaks, untold.
"""

import io
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from random import Random
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np
import soundfile

BEEP = 600.0
"""Hz, of a trap's tones."""
PITCH = {"base": 300.0, "variant": 450.0}
"""Hz, of the systems of a made-up sweep."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Browser(Protocol):
    """Keeps cookies and follows redirects; paths are relative to the test's own root."""

    def get(self, path: str) -> Reply: ...

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Reply: ...


class HttpBrowser:
    """A browser without a screen, over a real connection."""

    def __init__(self, address: str) -> None:
        """``address``: the test's own, such as ``http://127.0.0.1:8770/``."""
        self._root = urlsplit(address)
        self._connection = HTTPConnection(self._root.hostname, self._root.port)
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Reply:
        reply = self._ask("GET", path, b"", {})
        while reply.status == 303:
            reply = self._ask("GET", reply.headers["location"].lstrip("./"), b"", {})
        return reply

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        return self._ask("POST", path, body, headers)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        sent = {**headers, "cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())}
        self._connection.request(method, self._root.path + path, body, sent)
        got = self._connection.getresponse()
        for name, morsel in SimpleCookie(got.headers.get("set-cookie", "")).items():
            self._cookies[name] = morsel.value
        return Reply(got.status, {k.lower(): v for k, v in got.headers.items()}, got.read())


class _Page(HTMLParser):
    """The attributes of a page's elements, by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict[str, str]]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append({k: v or "" for k, v in attrs})


@dataclass
class Shown:
    """An item as its page tells it."""

    item: int
    version: int
    sides: str
    csrf: str
    practice: bool


def read_page(text: str) -> Shown | None:
    """The item of a page; None where it has none."""
    page = _Page(text).found
    csrf = next(meta["content"] for meta in page["meta"] if meta.get("name") == "csrf")
    for form in page.get("form", []):
        return Shown(
            int(form["data-item"]),
            int(form["data-version"]),
            form["data-sides"],
            csrf,
            "section" in page,
        )
    return None


def heard_pitch(wav: bytes) -> float:
    """Hz, of the strongest tone."""
    samples, rate = soundfile.read(io.BytesIO(wav))
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def count_beeps(wav: bytes) -> int:
    """How many bursts of sound there are."""
    samples, rate = soundfile.read(io.BytesIO(wav))
    size = rate // 50
    loud = np.abs(samples[: len(samples) // size * size]).reshape(-1, size).max(axis=1) > 0.02
    return int(np.sum(np.diff(loud.astype(int)) == 1) + loud[0])


Opinion = Callable[[Random, float], int]
"""What a rater says of a pair: given how far the second's pitch is above the first's."""


def prefers(points: int, noise: float = 0.0) -> Opinion:
    """Hears the variant so many points better than the base, more or less."""

    def say(rng: Random, rise: float) -> int:
        heard = points * np.sign(rise) + rng.gauss(0, noise) * (abs(rise) > 1)
        return int(np.clip(round(heard), -3, 3))

    return say


def sleeps(rng: Random, rise: float) -> int:
    """Answers anything."""
    return rng.randint(-3, 3)


@dataclass
class SimulatedRater:
    """Takes a test of comparisons to its end, or to a number of answers."""

    browser: Browser
    opinion: Opinion
    seed: int = 0
    wait: Callable[[float], None] = lambda seconds: None
    """Lets time pass while a clip plays."""
    hears_traps: bool = True
    ear: Callable[[bytes], float] = heard_pitch
    """What tells systems apart: Hz, of a WAV file."""
    log: list[tuple[int, int]] = field(default_factory=list)

    def run(self, answers: int | None = None) -> int:
        """Returns how many answers were taken."""
        rng, taken = Random(self.seed), 0
        while answers is None or taken < answers:
            shown = read_page(self.browser.get("").text)
            if shown is None:
                return taken
            reply = self.answer(shown, self._listen(shown, rng))
            assert reply.status == 200, reply.text
            taken += 1
        return taken

    def _listen(self, shown: Shown, rng: Random) -> int:
        clips = [self.browser.get(f"clip/{shown.item}/{side}").body for side in shown.sides]
        for clip in clips:
            self.wait(soundfile.info(io.BytesIO(clip)).duration)
        pitches = [self.ear(clip) for clip in clips]
        if abs(pitches[0] - BEEP) < 20:
            return count_beeps(clips[0]) - 4 if self.hears_traps else rng.randint(-3, 3)
        return self.opinion(rng, pitches[-1] - pitches[0])

    def answer(self, shown: Shown, answer: int, submission: str | None = None) -> Reply:
        body = {
            "item": shown.item,
            "version": shown.version,
            "answer": answer,
            "submission": submission or secrets.token_hex(16),
            "seconds": 3.2,
            "plays": len(shown.sides),
        }
        headers = {"content-type": "application/json", "x-csrf-token": shown.csrf}
        self.log.append((shown.item, answer))
        return self.browser.post("answers", json.dumps(body).encode(), headers)


def join_path(link: str) -> str:
    """The path of a link below the test's root."""
    return re.sub(r"^.*?(join/)", r"\1", link)
