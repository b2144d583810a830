"""A registered voice as MLflow runs it: texts in, sound out. MLflow copies it into the model.

It is code, not a pickle, and needs voxsweep installed where it runs. Of voxsweep it imports
``jobs.speech.served_voice`` alone: what is moved elsewhere does not break models registered before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SpokenModel(PythonModel):
    """One voice, loaded once."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the base and the adapter that lie in the model's artifacts."""
        from jobs.speech.served_voice import ServedVoice

        self._voice = ServedVoice(Path(context.artifacts["voice"]))

    # The type has MLflow leave what is in the frame to the signature that the model is logged with.
    def predict(
        self,
        context: PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """A row a text; see :meth:`jobs.speech.served_voice.ServedVoice.answer`."""
        return [self._voice.answer(row) for row in model_input.to_dict(orient="records")]

    def predict_stream(
        self,
        context: PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A row's sound piece by piece, then the next's; see :meth:`ServedVoice.answer_stream`."""
        for row in model_input.to_dict(orient="records"):
            yield from self._voice.answer_stream(row)


set_model(SpokenModel())
