"""The base class of models that are read from users' files."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.problems import Problem


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


LANGUAGE_TAG = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

Language = Annotated[str, Field(pattern=LANGUAGE_TAG)]
"""A language tag as BCP 47 writes it: ``en``, ``km``, ``zh-Hant``."""


def validation_problems(error: ValidationError, where: str, next_step: str) -> list[Problem]:
    """A problem for each of pydantic's errors: the key, and the rule that its value breaks."""
    return [
        Problem(where, f"{'.'.join(map(str, each['loc']))}: {each['msg']}", next_step)
        for each in error.errors()
    ]
