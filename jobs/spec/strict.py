"""The base class of models that are read from users' files."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from jobs.problems import Problem
from jobs.spec.languages import language_tag


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Language = Annotated[str, AfterValidator(language_tag)]
"""A language tag as BCP 47 writes it, ``en``, ``km``, ``zh-Hant``, whatever was written for it."""


def validation_problems(error: ValidationError, where: str, next_step: str) -> list[Problem]:
    """A problem for each of pydantic's errors: the key, and the rule that its value breaks."""
    return [
        Problem(where, f"{'.'.join(map(str, each['loc']))}: {each['msg']}", next_step)
        for each in error.errors()
    ]
