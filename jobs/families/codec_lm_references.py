"""Which clip of a speaker stands before what they say, where a base clones voices as NeuTTS does.

A speaker's clips are all learned behind one of them, the reference, and it behind another one: no
clip is learned behind itself, where it would be a copy.
"""

from collections.abc import Sequence

from jobs.clips import PreparedClip
from jobs.families.base import AdapterExtras
from jobs.families.layout import Layout, ReferenceClip
from jobs.spec.trial import PromptSpec


class ReferenceClips:
    """The reference of each speaker, by name; whoever has no name is None."""

    def __init__(self, layout: Layout) -> None:
        """Raises ValueError where ``layout`` takes no reference."""
        layout.check_reference()
        self._layout = layout
        self._known: dict[str | None, ReferenceClip] = {}
        self._before_the_reference: dict[str | None, ReferenceClip] = {}

    def fit(self, clips: Sequence[PreparedClip]) -> None:
        """Those of the speakers of ``clips`` that are not known yet.

        Raises:
            ValueError: a speaker has no reference, or no other training clip.
        """
        for speaker in dict.fromkeys(clip.speaker for clip in clips):
            if speaker in self._known:
                continue
            training = [c for c in clips if c.speaker == speaker and c.split == "train"]
            chosen = next((clip for clip in training if clip.is_reference), None)
            others = [clip for clip in training if clip is not chosen]
            if chosen is None or not others:
                raise ValueError(
                    f"data.reference_prefix needs a reference and another training clip of each "
                    f"speaker, and {speaker or 'the speaker'} has {len(training)} training clips "
                    f"and {'no' if chosen is None else 'a'} reference; prepare the data again"
                )
            nearest = min(others, key=lambda clip: abs(len(clip.codes) - len(chosen.codes)))
            self._before_the_reference[speaker] = self._as_reference(nearest)
            self._known[speaker] = self._as_reference(chosen)

    def of(self, utterance: PreparedClip | PromptSpec) -> ReferenceClip:
        """What ``utterance`` is read behind; without a speaker, the first one's.

        Raises:
            ValueError: its speaker has no reference.
        """
        speaker = utterance.speaker
        if speaker is None and None not in self._known:
            speaker = next(iter(self._known), None)
        if speaker not in self._known:
            known = ", ".join(map(str, self._known)) or "none"
            raise ValueError(
                f"data.reference_prefix needs a reference of each speaker, and there is none of "
                f"{speaker}; it must be one of: {known}"
            )
        if isinstance(utterance, PreparedClip) and utterance.is_reference:
            return self._before_the_reference[speaker]
        return self._known[speaker]

    def extras(self) -> AdapterExtras:
        """For an adapter: text and codes of each, which is all that generation needs."""
        rows = [
            {"speaker": speaker, "text": reference.text, "codes": [*reference.codes]}
            for speaker, reference in self._known.items()
        ]
        return AdapterExtras({}, {"references": rows})

    def load(self, extras: AdapterExtras) -> None:
        """Know the speakers of ``extras``, and no others."""
        self._known = {
            row["speaker"]: ReferenceClip(row["text"], row["codes"])
            for row in extras.facts["references"]
        }

    def _as_reference(self, clip: PreparedClip) -> ReferenceClip:
        return ReferenceClip(self._layout.spelt(clip.text, clip.language), clip.codes.tolist())
