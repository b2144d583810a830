"""Text items: what a language model is asked, to see what it has kept of text."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from jobs.spec.strict import Strict

CHOICE_ACCURACY = "choice_accuracy"
TEXT_NLL = "text_nll"
ITEM_METRICS = (CHOICE_ACCURACY, TEXT_NLL)
"""Metrics of answers to text items; all others measure clips."""

ItemId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Text = Annotated[str, Field(pattern=r"\S")]


class ChoiceItem(Strict):
    """A question with several answers, one of them right, as a line of MMLU has it."""

    metric: ClassVar[str] = CHOICE_ACCURACY
    id: ItemId
    question: _Text
    choices: Annotated[tuple[_Text, ...], Field(min_length=2)]
    answer: Annotated[int, Field(ge=0, strict=True)]
    """The place of the right one among the choices, from 0."""
    subject: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.answer >= len(self.choices):
            places = f"0 to {len(self.choices) - 1}"
            raise ValueError(f"answer must be the place of a choice, {places}, got {self.answer}")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices must differ, got {list(self.choices)}")
        return self

    @property
    def text(self) -> str:
        """By which items are compared with each other."""
        return " ".join((self.question, *self.choices))

    @property
    def continuations(self) -> Sequence[tuple[str, str]]:
        """What the model is given, and what it is asked the likelihood of: choice by choice.

        As ``mmlu_continuation`` of lm-evaluation-harness has it: the model does not see the other
        choices. One that has to name a letter answers by chance if it is small.
        """
        given = f"Question: {self.question.strip()}\nAnswer:"
        return [(given, f" {choice}") for choice in self.choices]


class PassageItem(Strict):
    """A text that the model was not trained on."""

    metric: ClassVar[str] = TEXT_NLL
    id: ItemId
    text: _Text

    @property
    def continuations(self) -> Sequence[tuple[str, str]]:
        """All of the text, given nothing."""
        return [("", self.text)]


TextItem = ChoiceItem | PassageItem


def text_item(row: Any) -> TextItem:  # noqa: ANN401 (whatever JSON held)
    """The item that ``row`` is. Raises ValidationError where it is none."""
    is_passage = isinstance(row, Mapping) and "text" in row
    return (PassageItem if is_passage else ChoiceItem).model_validate(row)
