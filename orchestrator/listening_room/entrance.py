"""Who may come in to a listening test: links, cookies, and what a change must carry."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.listening_room.store import StudyStore, Visit, digest
from orchestrator.listening_room.study import ListeningStudy

RATER_COOKIE = "voxsweep_rater"
ORGANISER_COOKIE = "voxsweep_organiser"
PAGES = Path(__file__).parent / "pages"
_NO_ENTRY = "This link is not good, or not any more. Ask the person who sent it for a new one."
_COOKIE_DAYS = 30


class PlainRefusal(HTMLResponse):
    """A refusal that says nothing of why."""

    def __init__(self, status: int, text: str) -> None:
        title = "voxsweep"
        page = f"<!DOCTYPE html><html lang=en><title>{title}</title><p>{text}</p></html>"
        super().__init__(page, status)


@dataclass(frozen=True)
class Entrance:
    """The door of one study."""

    store: StudyStore
    study: ListeningStudy
    organiser: str
    """The organiser's token."""
    root_path: str
    """The path under which a reverse proxy has it, such as ``/listen``."""
    pages: Environment

    @classmethod
    def of(
        cls, store: StudyStore, study: ListeningStudy, organiser: str, root_path: str
    ) -> "Entrance":
        """With the pages of this folder."""
        pages = Environment(
            loader=FileSystemLoader(PAGES),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        return cls(store, study, organiser, root_path, pages)

    def rater(self, token: str) -> Visit:
        """The rater whose cookie has this token, with all that their plan holds now.

        Raises:
            HTTPException: 403 for a token that is forged, replaced, too old or of another study.
        """
        visit = self.store.visit(token)
        if visit is None or visit.rater.study != self.study.id:
            raise HTTPException(403, _NO_ENTRY)
        return visit

    def admit_organiser(self, token: str) -> None:
        """Let nobody else pass.

        Raises:
            HTTPException: 403 for another token.
        """
        if not hmac.compare_digest(token.encode(), self.organiser.encode()):
            raise HTTPException(403, _NO_ENTRY)

    def join(self, token: str, is_https: bool) -> Response:
        """What a link answers: a cookie, and the address without the token.

        Raises:
            HTTPException: 403, as above.
        """
        is_organiser = hmac.compare_digest(digest(token), digest(self.organiser))
        if not is_organiser:
            self.rater(token)
        # Whatever the browser had before is replaced, and the address has the token no more.
        response = RedirectResponse("../organiser" if is_organiser else "../", 303)
        response.set_cookie(
            ORGANISER_COOKIE if is_organiser else RATER_COOKIE,
            token,
            max_age=_COOKIE_DAYS * 86400,
            path=f"{self.root_path}/",
            secure=is_https,
            httponly=True,
            samesite="lax",
        )
        return response

    def page(self, name: str, **shown: Mapping[str, Any] | Any) -> HTMLResponse:  # noqa: ANN401 (a template takes anything)
        """A page of this folder."""
        return HTMLResponse(self.pages.get_template(name).render(**shown))


def csrf_of(token: str) -> str:
    """What a page of the holder of a token sends with each change, and no other site can know."""
    return hmac.new(token.encode(), b"voxsweep csrf", hashlib.sha256).hexdigest()


def check_change(request: Request, given: str, token: str) -> None:
    """A change comes from a page of ours: no form of another site can send either of these.

    Args:
        request: whose body is JSON.
        given: what it has in its header.
        token: of whoever asks.

    Raises:
        HTTPException: 403 otherwise.
    """
    is_json = request.headers.get("content-type", "").partition(";")[0] == "application/json"
    if not is_json or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
        raise HTTPException(403, _NO_ENTRY)
