"""What raters are shown, hear and answer."""

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Cookie, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.listening_room.entrance import Entrance, check_change, csrf_of
from orchestrator.listening_room.labels import labels
from orchestrator.listening_room.store import Answer, ItemState, RefusedAnswer
from orchestrator.listening_room.study import labels_for
from orchestrator.verdict.listening.ratings import COMPARISON_SCALE, SCALE

_SLACK = 0.5
"""Seconds by which a browser may play a clip faster than its file is long."""
_NOTHING = "There is nothing here."
_MALFORMED = "The request cannot be understood."

Token = Annotated[str, Cookie(alias="voxsweep_rater")]


class SentAnswer(BaseModel):
    """What a rater's page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item: Annotated[int, Field(ge=0, le=10_000)]
    version: Annotated[int, Field(ge=0, le=10_000)]
    """How often the item had been answered when the page was shown."""
    answer: Annotated[int, Field(ge=-3, le=5)]
    submission: Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{16,64}$")]
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False, strict=False)]
    plays: Annotated[int, Field(ge=0, le=10_000)]


def rater_routes(entrance: Entrance, texts: dict[str, str]) -> APIRouter:
    """The routes of a study for those who rate.

    Args:
        entrance: of the study.
        texts: what each sentence says, by id.
    """
    store, study = entrance.store, entrance.study
    is_comparison = study.mode == "cmos"
    scale = COMPARISON_SCALE if is_comparison else SCALE
    router = APIRouter()

    @router.get("/")
    def room(token: Token = "", item: int | None = None) -> Response:
        visit = entrance.rater(token)
        language = labels_for(study, visit.rater.languages)
        words = labels(language)
        shown = None if visit.is_closed else _shown(visit.states, item)
        if shown is not None and shown.opened_at is None:
            store.show(visit.rater.id, shown.at)
        asked = [state for state in visit.states if state.item.kind != "training"]
        return entrance.page(
            "room.html",
            words=words,
            language=language,
            closed=visit.is_closed,
            state=shown,
            text=texts[_sentence(visit.states, shown)] if shown else "",
            at=1 + sum(state.at < shown.at for state in asked) if shown else 0,
            all=len(asked),
            has_before=shown is not None and shown.at > 0,
            answers=list(
                zip(scale, words["comparison" if is_comparison else "opinion"], strict=True)
            ),
            csrf=csrf_of(token),
        )

    @router.get("/clip/{item}/{side}")
    def clip(item: int, side: Literal["a", "b"], token: Token = "") -> Response:
        visit = entrance.rater(token)
        latest = _shown(visit.states, None)
        reached = len(visit.states) - 1 if latest is None else latest.at
        if not 0 <= item <= reached or visit.is_closed:
            raise HTTPException(404, _NOTHING)
        heard = visit.states[item].item.clips
        if side == "b" and len(heard) < 2:
            raise HTTPException(404, _NOTHING)
        wav = store.clip(study.id, heard[0 if side == "a" else 1])
        return Response(wav, media_type="audio/wav")

    @router.post("/answers")
    def answers(
        given: SentAnswer,
        request: Request,
        token: Token = "",
        x_csrf_token: Annotated[str, Header()] = "",
    ) -> Response:
        visit = entrance.rater(token)
        check_change(request, x_csrf_token, token)
        if given.item >= len(visit.states) or given.answer not in scale:
            raise HTTPException(422, _MALFORMED)
        state = visit.states[given.item]
        takes = store.seconds(study.id, state.item)
        if state.opened_at is None or store.now() - state.opened_at < takes - _SLACK:
            return JSONResponse({"refused": "listen_first"}, 409)
        agent = request.headers.get("user-agent", "")
        answer = Answer(
            at=given.item,
            version=given.version + 1,
            answer=given.answer,
            submission=given.submission,
            seconds=given.seconds,
            plays=given.plays,
            agent=hashlib.sha256(agent.encode()).hexdigest()[:16],
        )
        try:
            store.answer(visit.rater, answer)
        except RefusedAnswer as error:
            return JSONResponse({"refused": error.why}, 409)
        return JSONResponse({"saved": given.item})

    return router


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
