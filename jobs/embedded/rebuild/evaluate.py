"""Measure what assets/README.md claims. Nothing here is trained but a throw-away LoRA."""

import random
from collections.abc import Sequence
from pathlib import Path

from jobs.codecs.world import WorldCodec
from jobs.embedded.rebuild.corpus import BASE_VOICES, SAMPLE_RATE, TARGET_VOICE, Clip, read_audio
from jobs.embedded.rebuild.speech import Audio, Speaker, VoiceSimilarity, word_error_rate
from jobs.embedded.rebuild.texts import Texts
from jobs.embedded.recogniser import WordRecogniser

Report = dict[str, float]


def evaluate_recogniser(recogniser: WordRecogniser, corpus: Path, clips: Sequence[Clip]) -> Report:
    """Word error on the held-out recordings of each voice, and against shuffled references."""
    report: Report = {}
    for voice in (*BASE_VOICES, TARGET_VOICE):
        audios, texts = _test_clips(corpus, clips, voice)
        report[voice] = word_error_rate(recogniser, audios, texts, SAMPLE_RATE)
        shuffled = random.Random(0).sample(texts, len(texts))
        report[f"{voice} shuffled"] = word_error_rate(recogniser, audios, shuffled, SAMPLE_RATE)
    return report


def evaluate_codec(
    codec: WorldCodec, recogniser: WordRecogniser, corpus: Path, clips: Sequence[Clip]
) -> Report:
    """Word error of coded held-out recordings; similarity of the target's to itself."""
    report: Report = {}
    for voice in (*BASE_VOICES, TARGET_VOICE):
        audios, texts = _test_clips(corpus, clips, voice)
        coded = [codec.decode(codec.encode(audio, SAMPLE_RATE)) for audio in audios]
        report[f"{voice} word error"] = word_error_rate(recogniser, coded, texts, SAMPLE_RATE)
    similarity = target_similarity(corpus, clips)
    report["target similarity, recordings"] = similarity(audios, SAMPLE_RATE)
    report["target similarity, coded"] = similarity(coded, SAMPLE_RATE)
    return report


def evaluate_base(
    base: Path,
    codec: WorldCodec,
    recogniser: WordRecogniser,
    corpus: Path,
    clips: Sequence[Clip],
    texts: Texts,
) -> Report:
    """Word error on unseen prompts in each voice the base knows; how far it is from the target."""
    speaker = Speaker.load(base, codec)
    prompts = [*texts.prompts_a, *texts.prompts_b]
    report: Report = {}
    for voice in BASE_VOICES:
        spoken = speaker.speak(prompts, voice)
        report[f"{voice} word error"] = word_error_rate(recogniser, spoken, prompts, SAMPLE_RATE)
    report["mean word error"] = sum(report.values()) / len(report)
    default = speaker.speak(prompts)
    report["target similarity"] = target_similarity(corpus, clips)(default, SAMPLE_RATE)
    return report


def target_similarity(corpus: Path, clips: Sequence[Clip]) -> VoiceSimilarity:
    """Similarity to the target voice's shipped training clips."""
    voice = [read_audio(corpus / clip.path) for clip in clips if clip.role == "voice"]
    return VoiceSimilarity(voice, SAMPLE_RATE)


def _test_clips(corpus: Path, clips: Sequence[Clip], voice: str) -> tuple[list[Audio], list[str]]:
    chosen = [clip for clip in clips if clip.voice == voice and clip.role == "test"]
    return [read_audio(corpus / clip.path) for clip in chosen], [clip.text for clip in chosen]
