"""A voice that answers requests, as MLflow serves it once it is registered.

Each registered model holds a copy of ``orchestrator/release/spoken_model.py``, which imports this
module and nothing else of voxsweep. What is moved or renamed here, no registered model finds.
"""

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import write_sound
from jobs.problems import InputError
from jobs.speech.clips import Origin
from jobs.speech.say import StreamedText, say
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import read_voice

_NOTHING = np.zeros(0, dtype=np.float32)


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
        given = _given(row)
        try:
            spoken = say(self._voice, given["text"], given.get("language"), given.get("speaker"))
        except (InputError, ValueError) as error:
            return self._piece(_NOTHING, problem=str(error))
        return self._piece(spoken.audio, spoken.variant, spoken.problem)

    def answer_stream(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Say the same piece by piece: each as :meth:`answer` has it, with a WAV file of its own.

        The last is without sound and has the ``problem`` of the whole.
        """
        given = _given(row)
        try:
            said = StreamedText(
                self._voice, given["text"], given.get("language"), given.get("speaker")
            )
            yield from (self._piece(audio, said.variant) for audio in said)
            problem = said.problem
        except (InputError, ValueError) as error:
            problem = str(error)
        yield self._piece(_NOTHING, problem=problem)

    def _piece(
        self, audio: NDArray[np.float32], variant: str = "", problem: str = ""
    ) -> dict[str, Any]:
        facts = self._voice.facts
        file = io.BytesIO()
        if audio.size:
            origin = Origin(variant, facts.host.family, facts.provenance, facts.sweep)
            write_sound(file, audio, facts.sample_rate, "WAV", origin.tags())
        return {
            "audio": base64.b64encode(file.getvalue()).decode("ascii"),
            "sample_rate": facts.sample_rate,
            "seconds": len(audio) / facts.sample_rate,
            "problem": problem,
        }


def _given(row: Mapping[str, Any]) -> dict[str, str]:
    # What one row names and another does not is no text in that other: NaN, in a data frame.
    return {name: value for name, value in row.items() if isinstance(value, str)}
