"""A voice that answers requests, as MLflow serves it once it is registered.

Each registered model holds a copy of ``orchestrator/release/spoken_model.py``, which imports this
module and nothing else of voxsweep. What is moved or renamed here, no registered model finds.
"""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.audio.files import write_sound
from jobs.problems import InputError
from jobs.speech.clips import Origin
from jobs.speech.say import say
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import read_voice


class ServedVoice:
    """One voice, loaded once."""

    def __init__(self, directory: Path) -> None:
        """Load the base and the adapter of a voice directory."""
        files = read_voice(directory)
        self._voice = LoadedVoice(files)

    def answer(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Say ``text``, in ``language`` and by ``speaker`` where the row names them.

        Returns:
            ``audio`` (a WAV file in base64, empty where nothing sounds), ``sample_rate`` (Hz),
            ``seconds``, and ``problem``, empty where all of the text was said.
        """
        # What one row names and another does not is no text in that other: NaN, in a data frame.
        given = {name: value for name, value in row.items() if isinstance(value, str)}
        facts = self._voice.facts
        rate = facts.sample_rate
        try:
            spoken = say(self._voice, given["text"], given.get("language"), given.get("speaker"))
        except (InputError, ValueError) as error:
            return {"audio": "", "sample_rate": rate, "seconds": 0.0, "problem": str(error)}
        file = io.BytesIO()
        if spoken.audio.size:
            origin = Origin(spoken.variant, facts.host.family, facts.provenance, facts.sweep)
            write_sound(file, spoken.audio, spoken.rate, "WAV", origin.tags())
        return {
            "audio": base64.b64encode(file.getvalue()).decode("ascii"),
            "sample_rate": spoken.rate,
            "seconds": spoken.seconds,
            "problem": spoken.problem,
        }
