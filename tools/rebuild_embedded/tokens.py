"""The base's tokenizer and layout: Qwen2's byte-level BPE, cut down to the words it needs."""

import json
from itertools import accumulate, pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2TokenizerFast

from jobs.families.layout import DIGIT_WORDS, LAYOUT_FILE, Layout, Length, Markers
from tools.rebuild_embedded.codec import CODEBOOK_SIZE
from tools.rebuild_embedded.corpus import BASE_VOICES

MAX_TOKENS = 512  # of a prompt and its speech together; six digits take about 110
LAYOUT = Layout(
    front_end="digits",
    prompt="<|TEXT_PROMPT_START|>{voice}{text}<|TEXT_PROMPT_END|>",
    start="<|SPEECH_GENERATION_START|>",
    end="<|SPEECH_GENERATION_END|>",
    code="<|speech_{code}|>",
    codebook_size=CODEBOOK_SIZE,
    length=Length(fixed=15, per_word=18),
    markers=Markers(ordinal="<|word_{ordinal}|>", max_words=6),
    voice="<|voice_{voice}|>",
    voices=BASE_VOICES,
    default_voice="awb",
)


def write_tokenizer(directory: Path) -> None:
    """Write Qwen2's tokenizer files, cut down to bytes, " word" and the layout's tokens."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = directory / "vocab.json", directory / "merges.txt"
    pairs = _merges()
    tokens = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in pairs)]
    vocabulary.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    merges.write_text("".join(f"{left} {right}\n" for left, right in pairs))
    tokenizer = Qwen2TokenizerFast(
        vocab_file=str(vocabulary),
        merges_file=str(merges),
        eos_token=LAYOUT.end,
        model_max_length=MAX_TOKENS,
    )
    tokenizer.add_tokens(LAYOUT.added_tokens())
    tokenizer.save_pretrained(directory)
    (directory / LAYOUT_FILE).write_text(LAYOUT.model_dump_json(indent=2) + "\n")


def _merges() -> list[tuple[str, str]]:
    """Merges that build each " word" from its left; `Ġ` is how byte-level BPE writes the space."""
    steps = (pair for word in DIGIT_WORDS for pair in pairwise(accumulate("Ġ" + word)))
    return list(dict.fromkeys((before, after[len(before) :]) for before, after in steps))
