"""What a listening test compares: opened from a sweep's verdict, and fixed from then on."""

import io
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import soundfile

from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT
from jobs.speech.clips import clip_name
from orchestrator.ledger import CONFIRMATION, VERDICT_FILE, Ledger
from orchestrator.listening_room.labels import LANGUAGES
from orchestrator.listening_room.plans import (
    ANCHOR,
    BEEPS,
    TRAINING,
    ClipName,
    Mode,
    Pair,
    clip_names,
)
from orchestrator.listening_room.sounds import Sound, beeps, levelled, low_anchor
from orchestrator.scores.stored_ratings import is_settled, stored_tests, verdict_of_metrics
from orchestrator.verdict.listening.finalists import to_hear
from orchestrator.verdict.listening.languages import panels
from orchestrator.verdict.protocol import Prompt, Protocol


@dataclass(frozen=True)
class ListeningStudy:
    """A listening test of one sweep."""

    id: str
    sweep: str
    protocol: str
    """The digest of the rule by which it is decided."""
    mode: Mode
    labels: str
    """The language of the pages, where a rater's own is not known."""
    seed: int
    """Of the plans."""
    pairs: dict[str, list[Pair]]
    """What is rated, by language; under the empty name where prompts have none."""
    training: dict[str, list[Pair]]
    """What raters learn by, likewise."""
    opened_at: float
    """Unix time, seconds."""

    @property
    def sentences(self) -> int:
        """How many are rated."""
        return len({sentence for pairs in self.pairs.values() for sentence, _ in pairs})

    @property
    def variants(self) -> int:
        """How many are compared with the base."""
        return len({variant for pairs in self.pairs.values() for _, variant in pairs})

    @property
    def languages(self) -> list[str]:
        """Those that a rater may have; none where prompts have none."""
        return [name for name in self.pairs if name]

    def of(self, languages: Sequence[str], part: dict[str, list[Pair]]) -> list[Pair]:
        """The pairs of a rater of these languages; of any, where prompts have none."""
        return [pair for name in part if not name or name in languages for pair in part[name]]

    def to_json(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ListeningStudy":
        """The inverse of :meth:`to_json`."""
        row = json.loads(text)
        for part in ("pairs", "training"):
            row[part] = {name: [tuple(p) for p in pairs] for name, pairs in row[part].items()}
        return cls(**row)


def design(
    ledger: Ledger, protocol: Protocol, mode: Mode, labels: str, winner_alone: bool
) -> ListeningStudy:
    """A study of what the sweep's verdict asks listeners to confirm.

    Each panel of the verdict gets the first ``listening.sentences`` sentences of its own; what is
    left of set B is for training. Unless it is to hear the ``winner_alone``, the panel of all
    sentences also hears the other finalists that it may choose.

    Raises:
        InputError: the verdict asks nothing of listeners, or listeners have decided already.
    """
    where = ledger.path(VERDICT_FILE)
    verdict = verdict_of_metrics(ledger)
    tests = stored_tests(ledger)
    if any(is_settled(test, verdict, protocol) for test in tests):
        what = "a verdict is confirmed by one listening test, and this one's has been closed"
        step = "To hear more, run the spec under another name with a new set B."
        raise InputError([Problem(where, what, step)])
    asked = panels(verdict, protocol)
    if not asked:
        what = f"listeners confirm a winner, but the verdict is {verdict.verdict} without one"
        raise InputError([Problem(where, what, "Listen to the report's players instead.")])
    limit = protocol.listening.sentences
    pairs: dict[str, list[Pair]] = {}
    training: dict[str, list[Pair]] = {}
    finalists = to_hear(verdict)
    for panel in asked:
        name = panel.group[1] if panel.group and panel.group[0] == "language" else ""
        is_choice = panel.group is None and not winner_alone
        heard = finalists if is_choice else (panel.variant,)
        sentences = _rateable(ledger, panel.sentences, heard)
        known = pairs.setdefault(name, [])
        of = [(sentence, variant) for sentence in sentences[:limit] for variant in heard]
        known += [pair for pair in of if pair not in known]
        spare = sentences[limit:] or sentences
        training.setdefault(name, [(s, panel.variant) for s in spare[:TRAINING]])
    return ListeningStudy(
        id=secrets.token_hex(8),
        sweep=ledger.sweep,
        protocol=protocol.digest(),
        mode=mode,
        labels=labels,
        seed=secrets.randbits(32),
        pairs=pairs,
        training=training,
        opened_at=time.time(),
    )


def _rateable(ledger: Ledger, sentences: Sequence[str], variants: Sequence[str]) -> list[str]:
    """The sentences of which the base and all of these have a clip."""
    have = [ledger.clips(name, CONFIRMATION) for name in (*variants, BASE_VARIANT)]
    names = [set(ledger.storage.children(key)) for key in have]
    return [s for s in sentences if all(clip_name(s) in each for each in names)]


def sounds_of(ledger: Ledger, study: ListeningStudy) -> dict[ClipName, tuple[bytes, float]]:
    """Every clip of the study as raters get it: a WAV file, and its seconds.

    Raises:
        InputError: a clip is missing or is no sound.
    """
    names = [
        clip for name in study.pairs for clip in clip_names(study.pairs[name], study.training[name])
    ]
    names = list(dict.fromkeys(names))
    problems: list[Problem] = []
    spoken: dict[ClipName, Sound] = {}
    for clip in names:
        if clip.system == BEEPS:
            continue
        system = BASE_VARIANT if clip.system == ANCHOR else clip.system
        key = ledger.clips(system, CONFIRMATION)
        try:
            sound = _decoded(ledger.storage.read_from(key, clip_name(clip.sentence)))
        except (FileNotFoundError, soundfile.LibsndfileError) as error:
            step = "Run the sweep again: it makes again what it lacks."
            problems.append(Problem(key, f"a clip must be there to be heard: {error}", step))
            continue
        spoken[clip] = low_anchor(sound) if clip.system == ANCHOR else sound
    if problems:
        raise InputError(problems)
    rate = max(rate for _, rate in spoken.values())
    heard = {c: spoken[c] if c in spoken else beeps(int(c.sentence), rate) for c in names}
    return dict(zip(heard, levelled(heard.values()), strict=True))


def _decoded(file: bytes) -> Sound:
    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    return np.mean(samples, axis=1, dtype=np.float32), int(rate)


def texts_of(protocol: Protocol) -> dict[str, str]:
    """What each sentence says, by id."""
    prompts: Sequence[Prompt] = protocol.confirmation
    return {prompt.id: prompt.text for prompt in prompts}


def labels_for(study: ListeningStudy, languages: Sequence[str]) -> str:
    """The language of a rater's pages: their only one, where it has labels; else the study's."""
    primary = languages[0].partition("-")[0] if len(languages) == 1 else ""
    return primary if primary in LANGUAGES else study.labels
