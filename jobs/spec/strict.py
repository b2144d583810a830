"""The base of every model that is read from somebody's file."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


LANGUAGE_TAG = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

Language = Annotated[str, Field(pattern=LANGUAGE_TAG)]
"""A language tag as BCP 47 writes it: ``en``, ``km``, ``zh-Hant``."""
