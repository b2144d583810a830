"""Which digit strings are spoken by whom. Everything that must stay unseen is drawn first."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.families.layout import DIGIT_WORDS

TEXT_SEED = 20261121  # another one changes prompts and corpus, and so needs a new work directory
CLIPS_PER_VOICE = 900


@dataclass(frozen=True)
class Texts:
    """The digit strings of one rebuild. No string is in two of the fields, except `training`:

    `training` is disjoint from the prompts, `test` and `validation`, and may share with `voice`.
    """

    prompts_a: list[str]
    prompts_b: list[str]
    test: list[str]  # spoken by every voice, never trained on
    voice: list[str]  # the target voice's clips that LoRA may train on
    validation: list[str]  # the target voice's clips that LoRA is validated on
    heard: list[str]  # the target voice's clips that only codec and recogniser hear
    training: dict[str, list[str]]  # base voice -> what the language model trains on


def plan_texts(seed: int, voices: Sequence[str], clips_per_voice: int) -> Texts:
    """Draw all texts of a rebuild; the same arguments give the same texts."""
    taken: set[str] = set()

    def draw(purpose: str, count: int, lengths: Sequence[int]) -> list[str]:
        return _draw(random.Random(f"{seed}/{purpose}"), count, lengths, taken)

    prompts_a = draw("prompts-a", 48, range(2, 7))
    draw("prompts-b", 48, range(2, 7))
    test = draw("test", 40, range(3, 7))
    validation = draw("validation", 20, range(2, 7))
    unseen = frozenset(taken)
    voice = draw("voice", 64, range(2, 6))
    heard = [*DIGIT_WORDS, *draw("heard", 240, range(2, 7))]
    training = {
        name: _training(random.Random(f"{seed}/{name}"), clips_per_voice, unseen) for name in voices
    }
    # Last, so that more of them leave the rest as it was; of pairs hardly any are unheard by now.
    taken.update(*training.values())
    draw("prompts-b-more", 48, range(3, 7))
    voice += draw("voice-more", 192, range(3, 7))
    voice += draw("voice-even-more", 500, range(4, 7))
    # The demo's settings were chosen by the first of these, and each earlier set B has been looked
    # at: they confirm nothing any more.
    draw("dev", 96, range(4, 7))
    draw("prompts-b-unseen", 96, range(4, 7))
    prompts_b = draw("prompts-b-last", 192, range(4, 7))
    return Texts(prompts_a, prompts_b, test, voice, validation, heard, training)


def _training(source: random.Random, count: int, unseen: frozenset[str]) -> list[str]:
    """Each digit alone, some pairs (there are only a hundred), the rest 3-6 digits; all differ."""
    taken = set(unseen)
    pairs = _draw(source, 40, [2], taken)
    longer = _draw(source, count - len(DIGIT_WORDS) - len(pairs), range(3, 7), taken)
    return [*DIGIT_WORDS, *pairs, *longer]


def _draw(source: random.Random, count: int, lengths: Sequence[int], taken: set[str]) -> list[str]:
    """`count` strings that are not yet in `taken`, the lengths in turn; adds them to `taken`."""
    drawn: list[str] = []
    while len(drawn) < count:
        length = lengths[len(drawn) % len(lengths)]
        text = " ".join(source.choices(DIGIT_WORDS, k=length))
        if text not in taken:
            taken.add(text)
            drawn.append(text)
    return drawn
