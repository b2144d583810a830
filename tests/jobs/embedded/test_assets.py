"""What is shipped is what was measured, is small, and keeps its promises of disjointness."""

import json

import pytest
import soundfile

from jobs.embedded import BASE_DIR, CODEC_DIR, PROMPTS_DIR, RECOGNISER_DIR, VOICE_DIR
from tools.rebuild_embedded.assets import digest_assets
from tools.rebuild_embedded.corpus import BASE_VOICES
from tools.rebuild_embedded.texts import CLIPS_PER_VOICE, TEXT_SEED, plan_texts

MB = 1_000_000


def _rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _size(*directories) -> int:
    return sum(file.stat().st_size for folder in directories for file in folder.rglob("*"))


def test_assets_are_small():
    assert _size(BASE_DIR, CODEC_DIR, RECOGNISER_DIR) <= 7 * MB
    assert _size(VOICE_DIR) <= 12 * MB


def test_assets_are_those_whose_digests_are_recorded():
    recorded = json.loads((BASE_DIR.parent / "digests.json").read_text())
    assert len(recorded) > 480
    assert digest_assets(BASE_DIR.parent) == recorded


def test_manifest_tells_the_truth_about_the_clips():
    rows = _rows(VOICE_DIR / "manifest.jsonl")
    assert [sum(row["split"] == s for row in rows) for s in ("train", "validation")] == [450, 20]
    for row in rows:
        info = soundfile.info(VOICE_DIR / row["audio"])
        assert (info.samplerate, info.channels) == (16_000, 1)
        assert info.duration == pytest.approx(row["duration"])
    assert len(list(VOICE_DIR.glob("*.flac"))) == len(rows)


def test_prompts_are_unseen_by_everything_that_was_trained():
    a, b = ([row["text"] for row in _rows(PROMPTS_DIR / f"{name}.jsonl")] for name in "ab")
    assert (len({*a, *b}), len(b)) == (240, 192)
    texts = plan_texts(TEXT_SEED, BASE_VOICES, CLIPS_PER_VOICE)
    assert (a, b) == (texts.prompts_a, texts.prompts_b)
    voice = {row["text"] for row in _rows(VOICE_DIR / "manifest.jsonl")}
    trained = voice.union(texts.heard, *texts.training.values())
    assert len(trained) > 3000
    assert trained.isdisjoint([*a, *b])


def test_prompts_are_of_every_length():
    for name in "ab":
        lengths = [len(row["text"].split()) for row in _rows(PROMPTS_DIR / f"{name}.jsonl")]
        # Of pairs and threes there are too few for set B, too.
        counts = [lengths.count(length) for length in range(4 if name == "b" else 2, 7)]
        assert sum(counts) == len(lengths)
        assert max(counts) - min(counts) <= 2


def test_validation_texts_are_not_trained_on():
    rows = _rows(VOICE_DIR / "manifest.jsonl")
    train, validation = (
        {row["text"] for row in rows if row["split"] == split} for split in ("train", "validation")
    )
    assert len(train) + len(validation) == len(rows)
    assert train.isdisjoint(validation)
