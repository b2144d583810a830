"""What the organiser sees: progress without preferences, and links for raters."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Cookie, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.listening_room.entrance import Entrance, check_change, csrf_of
from orchestrator.listening_room.plans import Mode
from orchestrator.listening_room.progress import progress_of

_MODES: Mapping[Mode, str] = {
    "cmos": "comparisons with the base, from −3 to +3",
    "mos": "opinions of single clips, from 1 to 5, in three passes",
}

Token = Annotated[str, Cookie(alias="voxsweep_organiser")]


class Invitation(BaseModel):
    """What the organiser's page sends to enrol a rater."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    languages: Annotated[list[str], Field(max_length=50)] = []


def organiser_routes(entrance: Entrance, end: str) -> APIRouter:
    """The routes of a study for whoever holds it.

    Args:
        entrance: of the study.
        end: the command that ends it.
    """
    store, study = entrance.store, entrance.study
    router = APIRouter(prefix="/organiser")

    @router.get("")
    def organiser(token: Token = "") -> Response:
        entrance.admit_organiser(token)
        return entrance.page(
            "organiser.html",
            study=study,
            mode=_MODES[study.mode],
            closed=store.is_closed(study.id),
            progress=progress_of(store, study),
            end=end,
            csrf=csrf_of(token),
        )

    @router.post("/raters")
    def invite(
        given: Invitation,
        request: Request,
        token: Token = "",
        x_csrf_token: Annotated[str, Header()] = "",
    ) -> Response:
        entrance.admit_organiser(token)
        check_change(request, x_csrf_token, token)
        try:
            made = store.invite(study, given.name, given.languages)
        except ValueError as error:
            return JSONResponse({"refused": str(error)}, 422)
        return JSONResponse({"join": f"join/{made}"})

    return router
