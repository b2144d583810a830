"""The web application of a listening test: a rater's pages, and the organiser's.

Nothing that leaves it tells which system a clip is of: clips are named by a rater's own item and
side, and pages, headers and errors are the same whatever is heard.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.listening_room.labels import labels
from orchestrator.listening_room.plans import Mode
from orchestrator.listening_room.progress import progress_of
from orchestrator.listening_room.store import (
    Enrolled,
    ItemState,
    RefusedAnswer,
    StudyStore,
    digest,
)
from orchestrator.listening_room.study import ListeningStudy, labels_for
from orchestrator.verdict.listening.ratings import COMPARISON_SCALE, SCALE

LARGEST_BODY = 8192
"""Bytes of a request's body."""
RATER_COOKIE = "voxsweep_rater"
ORGANISER_COOKIE = "voxsweep_organiser"
_HERE = Path(__file__).parent / "pages"
_FILES = {"room.js": "text/javascript", "room.css": "text/css", "organiser.js": "text/javascript"}
_SLACK = 0.5
"""Seconds by which a browser may play a clip faster than its file is long."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NO_ENTRY = "This link is not good, or not any more. Ask the person who sent it for a new one."

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Answer(BaseModel):
    """What a rater's page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item: Annotated[int, Field(ge=0, le=10_000)]
    version: Annotated[int, Field(ge=0, le=10_000)]
    answer: Annotated[int, Field(ge=-3, le=5)]
    submission: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{16,64}$")]
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, strict=False)]
    plays: Annotated[int, Field(ge=0, le=10_000)]


class Invitation(BaseModel):
    """What the organiser's page sends to enrol a rater."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    languages: Annotated[list[str], Field(max_length=50)] = []


class _Guard:
    """Refuses bodies that are too large, and gives every response the same headers."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], root_path: str
    ) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        # Whether the proxy takes the root path away or leaves it, routes are found.
        scope["root_path"] = self._root_path

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), text.encode()) for name, text in _HEADERS.items()),
                ]
            await send(message)

        # Read here and handed on whole: a handler never sees more, declared or not.
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                await PlainRefusal(413, "The request is too large.")(scope, receive, send_guarded)
                return
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_whole() -> Message:
            return next(given, None) or await receive()

        await self._app(scope, receive_whole, send_guarded)


class PlainRefusal(HTMLResponse):
    """A refusal that says nothing of why."""

    def __init__(self, status: int, text: str) -> None:
        title = "voxsweep"
        page = f"<!DOCTYPE html><html lang=en><title>{title}</title><p>{text}</p></html>"
        super().__init__(page, status)


@dataclass(frozen=True)
class Guest:
    """Who is asking."""

    rater: Enrolled
    csrf: str
    """What a request of theirs that changes something has in its header."""


def csrf_of(token: str) -> str:
    """What a page of the holder of a token sends with each change, and no other site can know."""
    return hmac.new(token.encode(), b"voxsweep csrf", hashlib.sha256).hexdigest()


def create_app(
    store: StudyStore,
    study: ListeningStudy,
    texts: dict[str, str],
    organiser: str,
    root_path: str = "",
) -> FastAPI:
    """The application of one study.

    Args:
        store: where it is kept.
        study: the one that is served.
        texts: what each sentence says, by id.
        organiser: the organiser's token.
        root_path: the path under which a reverse proxy has it, such as ``/listen``.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard, root_path=root_path)
    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )

    @app.exception_handler(HTTPException)
    async def _refuse(_: Request, error: HTTPException) -> Response:
        return PlainRefusal(error.status_code, str(error.detail))

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def _not_found(_: Request, __: Exception) -> Response:
        return PlainRefusal(404, "There is nothing here.")

    @app.exception_handler(RequestValidationError)
    async def _malformed(_: Request, __: RequestValidationError) -> Response:
        return PlainRefusal(422, "The request cannot be understood.")

    def guest(voxsweep_rater: Annotated[str, Cookie()] = "") -> Guest:
        rater = store.rater_of(voxsweep_rater)
        if rater is None or rater.study != study.id:
            raise HTTPException(403, _NO_ENTRY)
        return Guest(rater, csrf_of(voxsweep_rater))

    def host(voxsweep_organiser: Annotated[str, Cookie()] = "") -> str:
        if not hmac.compare_digest(voxsweep_organiser.encode(), organiser.encode()):
            raise HTTPException(403, _NO_ENTRY)
        return csrf_of(organiser)

    def checked(given: str, wanted: str, request: Request) -> None:
        """A change comes from a page of ours: no form of another site can send either of these."""
        is_json = request.headers.get("content-type", "").partition(";")[0] == "application/json"
        if not is_json or not hmac.compare_digest(given.encode(), wanted.encode()):
            raise HTTPException(403, _NO_ENTRY)

    @app.get("/join/{token}")
    def join(token: str, request: Request) -> Response:
        is_organiser = hmac.compare_digest(digest(token), digest(organiser))
        rater = None if is_organiser else store.rater_of(token)
        if not is_organiser and (rater is None or rater.study != study.id):
            raise HTTPException(403, _NO_ENTRY)
        # Whatever the browser had before is replaced, and the address has the token no more.
        response = RedirectResponse("../organiser" if is_organiser else "../", 303)
        response.set_cookie(
            ORGANISER_COOKIE if is_organiser else RATER_COOKIE,
            token,
            max_age=30 * 86400,
            path=f"{root_path}/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    @app.get("/file/{name}")
    def file(name: Literal["room.js", "room.css", "organiser.js"]) -> Response:
        return Response((_HERE / name).read_bytes(), media_type=_FILES[name])

    @app.get("/")
    def room(who: Annotated[Guest, Depends(guest)], item: int | None = None) -> Response:
        states = store.states(who.rater.id)
        language = labels_for(study, who.rater.languages)
        words = labels(language)
        closed = store.is_frozen(study.id)
        shown = None if closed else _shown(states, item)
        if shown is not None and shown.opened_at is None:
            store.show(who.rater.id, shown.at)
        asked = [state for state in states if state.item.kind != "training"]
        scale = COMPARISON_SCALE if study.mode == "cmos" else SCALE
        page = pages.get_template("room.html").render(
            words=words,
            language=language,
            closed=closed,
            state=shown,
            text=texts[_sentence(states, shown)] if shown else "",
            at=1 + sum(state.at < shown.at for state in asked) if shown else 0,
            all=len(asked),
            has_before=shown is not None and shown.at > 0,
            answers=list(
                zip(scale, words["comparison" if study.mode == "cmos" else "opinion"], strict=True)
            ),
            csrf=who.csrf,
        )
        return HTMLResponse(page)

    @app.get("/clip/{item}/{side}")
    def clip(who: Annotated[Guest, Depends(guest)], item: int, side: Literal["a", "b"]) -> Response:
        states = store.states(who.rater.id)
        latest = _shown(states, None)
        reached = len(states) - 1 if latest is None else latest.at
        if not 0 <= item <= reached or store.is_frozen(study.id):
            raise HTTPException(404, "There is nothing here.")
        heard = states[item].item.clips
        if side == "b" and len(heard) < 2:
            raise HTTPException(404, "There is nothing here.")
        wav = store.clip(study.id, heard[0 if side == "a" else 1])
        return Response(wav, media_type="audio/wav")

    @app.post("/answers")
    def answers(
        given: Answer,
        request: Request,
        who: Annotated[Guest, Depends(guest)],
        x_csrf_token: Annotated[str, Header()] = "",
    ) -> Response:
        checked(x_csrf_token, who.csrf, request)
        states = store.states(who.rater.id)
        scale = COMPARISON_SCALE if study.mode == "cmos" else SCALE
        if given.item >= len(states) or given.answer not in scale:
            raise HTTPException(422, "The request cannot be understood.")
        state = states[given.item]
        takes = store.seconds(study.id, state.item)
        if state.opened_at is None or store.now() - state.opened_at < takes - _SLACK:
            return JSONResponse({"refused": "listen_first"}, 409)
        agent = request.headers.get("user-agent", "")
        try:
            store.answer(
                who.rater,
                given.item,
                given.version,
                given.answer,
                given.submission,
                given.seconds,
                given.plays,
                hashlib.sha256(agent.encode()).hexdigest()[:16],
            )
        except RefusedAnswer as error:
            return JSONResponse({"refused": error.why}, 409)
        return JSONResponse({"saved": given.item})

    @app.get("/organiser")
    def organiser_page(csrf: Annotated[str, Depends(host)]) -> Response:
        page = pages.get_template("organiser.html").render(
            study=study,
            mode=_MODES[study.mode],
            closed=store.is_frozen(study.id),
            progress=progress_of(store, study),
            csrf=csrf,
        )
        return HTMLResponse(page)

    @app.post("/organiser/raters")
    def invite(
        given: Invitation,
        request: Request,
        csrf: Annotated[str, Depends(host)],
        x_csrf_token: Annotated[str, Header()] = "",
    ) -> Response:
        checked(x_csrf_token, csrf, request)
        try:
            token = store.invite(study, given.name, given.languages)
        except ValueError as error:
            return JSONResponse({"refused": str(error)}, 422)
        return JSONResponse({"join": f"join/{token}"})

    return app


_MODES: dict[Mode, str] = {
    "cmos": "comparisons with the base, from −3 to +3",
    "mos": "opinions of single clips, from 1 to 5, in three passes",
}


def _sentence(states: list[ItemState], shown: ItemState) -> str:
    """What the page says is spoken; a trap has that of another item, or it would show as one."""
    if shown.item.expected is None:
        return shown.item.sentence
    spoken = [state.item.sentence for state in states if state.item.kind == "rating"]
    return spoken[(7 * shown.at) % len(spoken)]


def _shown(states: list[ItemState], wanted: int | None) -> ItemState | None:
    """The first item without an answer, or an earlier one that a rater goes back to."""
    first = next((state for state in states if state.answer is None), None)
    reached = len(states) if first is None else first.at
    if wanted is not None and 0 <= wanted < reached:
        return states[wanted]
    return first
