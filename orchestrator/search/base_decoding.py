"""The search for the base's decoding, before the first trial; no training, and nothing of set B."""

from collections.abc import Callable, Sequence

from orchestrator.ledger import DECODINGS_FILE, SCREEN, Ledger, PromptSet, shortlist_sets
from orchestrator.scores.from_ledger import base_decoding_id, base_table
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.decodings import BaseDecoding, Decoding, choose_base_decoding
from orchestrator.verdict.protocol import Prompt, Protocol
from orchestrator.verdict.screen import choose_shortlist
from orchestrator.workers.preparation import BaseSpeech


def tried_speech(
    protocol: Protocol,
    decodings: Sequence[Decoding],
    prompt_set: PromptSet,
    prompts: Sequence[Prompt],
) -> list[BaseSpeech]:
    """What the base says of a part of set A with each of ``decodings``."""
    specs = [prompt.spec for prompt in prompts]
    items = protocol.items if prompt_set == SCREEN else ()
    return [
        BaseSpeech(base_decoding_id(point), protocol.decoding.at(point), prompt_set, specs, items)
        for point in decodings
    ]


def find_base_decoding(
    ledger: Ledger,
    protocol: Protocol,
    speak: Callable[[Sequence[BaseSpeech]], None],
    score: Callable[[Sequence[str], PromptSet], object],
) -> BaseDecoding:
    """How the base speaks best on set A, by the rule and the halving of variants; written.

    Args:
        ledger: of the sweep.
        protocol: with the decoding of the spec, which is the first of its ``decodings``.
        speak: has the base say what is not committed.
        score: scores the clips of these ids on a prompt set.
    """
    points = protocol.decodings

    def hear(decodings: Sequence[Decoding], prompt_set: PromptSet, of: Sequence[Prompt]) -> None:
        speak(tried_speech(protocol, decodings, prompt_set, of))
        score([base_decoding_id(point) for point in decodings], prompt_set)

    screening = protocol.screening()
    hear(points, SCREEN, screening.prompts)
    whole = first = Comparison(base_table(ledger, points, (SCREEN,), screening), screening)
    if listed := choose_shortlist(first, protocol):
        kept = [points[0], *(first.table.variants[name].own_decoding for name in listed)]
        parts = shortlist_sets(protocol.rest_parts)
        for name, prompts in parts.items():
            hear(kept, name, prompts)
        whole = Comparison(base_table(ledger, kept, (SCREEN, *parts), protocol), protocol)
    found = choose_base_decoding(whole, first)
    ledger.write_text(DECODINGS_FILE, found.to_json() + "\n")
    return found
