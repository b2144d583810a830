"""A registered voice as MLflow runs it: texts in, sound out. MLflow copies it into the model.

It is code, not a pickle, and needs voxsweep installed where it runs.
"""

import base64
import io
from pathlib import Path
from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SpokenModel(PythonModel):
    """One voice, loaded once."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the base and the adapter that lie in the model's artifacts."""
        from jobs.speech.origin import Origin
        from jobs.speech.voice import LoadedVoice
        from jobs.speech.voice_files import read_voice

        files = read_voice(Path(context.artifacts["voice"]))
        self._voice = LoadedVoice(files)
        facts = files.facts
        self._origin = Origin(facts.variant.id, facts.host.family, facts.provenance, facts.sweep)

    # The type has MLflow leave what is in the frame to the signature that the model is logged with.
    def predict(
        self,
        context: PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """A row a text: ``audio`` (a WAV file in base64, empty where nothing sounds),
        ``sample_rate``, ``seconds``, and ``problem``, empty where all of the text was said."""
        # What one row names and another does not is no text in that other: NaN, in a data frame.
        rows = [
            {name: value for name, value in row.items() if isinstance(value, str)}
            for row in model_input.to_dict(orient="records")
        ]
        return [self._said(row) for row in rows]

    def _said(self, row: dict[str, Any]) -> dict[str, Any]:
        from jobs.audio.files import write_sound
        from jobs.problems import InputError
        from jobs.speech.say import say

        rate = self._voice.facts.sample_rate
        try:
            said = say(self._voice, row["text"], row.get("language"), row.get("speaker"))
        except (InputError, ValueError) as error:
            return {"audio": "", "sample_rate": rate, "seconds": 0.0, "problem": str(error)}
        file = io.BytesIO()
        if said.audio.size:
            write_sound(file, said.audio, said.rate, "WAV", self._origin.tags())
        return {
            "audio": base64.b64encode(file.getvalue()).decode("ascii"),
            "sample_rate": said.rate,
            "seconds": said.seconds,
            "problem": said.problem,
        }


set_model(SpokenModel())
