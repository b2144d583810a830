"""What a family asks of its data, where the spec does not say otherwise. No torch in here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataRules:
    """Bounds of a clip, and what is done to it."""

    min_seconds: float = 0.5
    max_seconds: float = 20.0
    max_text_tokens: int | None = None
    """As the base's tokenizer counts them, the language tag included; None: what the base reads."""
    trailing_silence: float = 0.0
    """Seconds put after every clip."""
    conditions_on_reference: bool = False
    """Whether a clip is learned beside another recording of its speaker."""


CODEC_LM = DataRules()
QWEN3_TTS = DataRules(
    # Its users found that a second of silence after each clip makes speech end cleanly.
    trailing_silence=1.0,
    conditions_on_reference=True,
)
