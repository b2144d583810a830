"""A metric as a spec names it, with its options."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from jobs.spec.strict import Language, Strict


class MetricSpec(Strict):
    """One entry of a list of metrics; a bare name stands for ``{name: ...}``."""

    name: str
    required: bool = True
    """False: where its library or weights are not there it is left out, and that is recorded."""
    model: Annotated[str, Field(min_length=1)] | None = None
    """A directory, or an id of the model hub; None for the metric's own. Not every metric has one.
    """
    language: Language | None = None
    """Of prompts that do not name their own. Not every metric has one."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, str]:
        """The options that were given, by key."""
        given = {"model": self.model, "language": self.language}
        return {key: value for key, value in given.items() if value is not None}
