"""Measure what `assets/README.md` claims, with the code that a sweep trains and speaks with."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.clips import PreparedClip, SpokenClip
from jobs.codecs.recogniser import WordRecogniser
from jobs.codecs.world import WorldCodec
from jobs.families import codec_lm
from jobs.metrics.base import MetricError
from jobs.metrics.speaker import SPEAKER_NAMES, SpeakerSimilarity
from jobs.metrics.words import word_edits
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.engine.start import start_distributed
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tools.rebuild_embedded.assets import choose_clips
from tools.rebuild_embedded.corpus import (
    BASE_VOICES,
    SAMPLE_RATE,
    SHIPPED_SPLITS,
    TARGET_VOICE,
    Clip,
    read_audio,
)

Report = dict[str, float]
GREEDY = DecodingSpec(temperature=0)
# A good setting among those tried in docs/lab-notes.md.
ADAPTATION = TrainingSpec(rank=32, learning_rate=1e-3, warmup_steps=8, batch_size=2, epochs=4)


@dataclass(frozen=True)
class Judge:
    """A corpus with what its clips are judged by."""

    corpus: Path
    clips: Sequence[Clip]
    recogniser: WordRecogniser
    similarity: SpeakerSimilarity

    @classmethod
    def of(cls, corpus: Path, clips: Sequence[Clip], recogniser: WordRecogniser) -> "Judge":
        """Similarity is to the target's validation clips, as in a sweep."""
        target = [read_audio(corpus / clip.path) for clip in clips if clip.role == "validation"]
        similarity = SpeakerSimilarity({None: [(audio, SAMPLE_RATE) for audio in target]})
        return cls(corpus, clips, recogniser, similarity)

    def recordings(self, voice: str) -> list[SpokenClip]:
        """The held-out recordings of a voice."""
        chosen = [clip for clip in self.clips if clip.voice == voice and clip.role == "test"]
        return [self._read(clip) for clip in chosen]

    def word_error(self, spoken: Sequence[SpokenClip]) -> float:
        """Edits over words, of all clips together."""
        heard = self.recogniser.transcribe_batch([clip.audio for clip in spoken], SAMPLE_RATE)
        edits = sum(word_edits(h, c.text.split()) for h, c in zip(heard, spoken, strict=True))
        return edits / sum(len(clip.text.split()) for clip in spoken)

    def target_similarity(self, spoken: Sequence[SpokenClip]) -> float:
        """Mean over the clips; one that holds no speech counts as 0."""
        return float(np.mean([self._similarity(clip) for clip in spoken]))

    def _similarity(self, clip: SpokenClip) -> float:
        try:
            return self.similarity.measure(clip)[SPEAKER_NAMES[0]]
        except MetricError:
            return 0.0

    def _read(self, clip: Clip) -> SpokenClip:
        audio = read_audio(self.corpus / clip.path)
        return SpokenClip(audio, SAMPLE_RATE, clip.text, reached_end=True)


def evaluate_recogniser(judge: Judge) -> Report:
    """Word error on the held-out recordings of each voice, and against shuffled references."""
    report: Report = {}
    for voice in (*BASE_VOICES, TARGET_VOICE):
        recordings = judge.recordings(voice)
        report[voice] = judge.word_error(recordings)
        texts = [clip.text for clip in recordings]
        shuffled = random.Random(0).sample(texts, len(texts))
        wrong = [
            SpokenClip(clip.audio, clip.rate, text, reached_end=True)
            for clip, text in zip(recordings, shuffled, strict=True)
        ]
        report[f"{voice}, shuffled references"] = judge.word_error(wrong)
    return report


def evaluate_codec(codec: WorldCodec, judge: Judge) -> Report:
    """Word error of coded held-out recordings; similarity of the target's to itself."""
    report: Report = {}
    for voice in (*BASE_VOICES, TARGET_VOICE):
        coded = [_coded(codec, clip) for clip in judge.recordings(voice)]
        report[f"{voice}, word error"] = judge.word_error(coded)
    recordings = judge.recordings(TARGET_VOICE)
    report["target similarity, recordings"] = judge.target_similarity(recordings)
    report["target similarity, coded"] = judge.target_similarity(coded)
    return report


def evaluate_base(
    directory: Path, codec: Path, judge: Judge, prompts: Sequence[PromptSpec]
) -> Report:
    """Word error on unseen prompts in each voice the base knows; how far it is from the target."""
    report: Report = {}
    for voice in BASE_VOICES:
        base = codec_lm.load(directory, codec, voice, "fp32")
        report[f"{voice}, word error"] = judge.word_error(base.speak(base.model, prompts, GREEDY))
    report["mean word error"] = sum(report.values()) / len(report)
    base = codec_lm.load(directory, codec, None, "fp32")
    spoken = base.speak(base.model, prompts, GREEDY)
    report["target similarity"] = judge.target_similarity(spoken)
    return report


def evaluate_adaptation(
    directory: Path, codec: Path, judge: Judge, prompts: Sequence[PromptSpec]
) -> Report:
    """Word error and target similarity on unseen prompts after each epoch of one good LoRA."""
    start_distributed()
    base = codec_lm.load(directory, codec, None, "fp32")
    host = Host(base, _prepared(base, judge), EngineSpec())
    trial = TrialSpec(
        family="codec_lm",
        base_digest=base.digest,
        data_digest="",
        training=ADAPTATION,
        engine=EngineSpec(),
    )
    host.attach(trial.id, trial)
    report: Report = {}
    for epoch in range(1, ADAPTATION.checkpoints + 1):
        report[f"epoch {epoch}, validation loss"] = host.advance(trial.id).validation_loss
        (spoken,) = host.speak([AdapterUse(trial.id)], prompts, GREEDY)
        report[f"epoch {epoch}, word error"] = judge.word_error(spoken)
        report[f"epoch {epoch}, target similarity"] = judge.target_similarity(spoken)
    return report


def _coded(codec: WorldCodec, clip: SpokenClip) -> SpokenClip:
    audio = codec.decode(codec.encode(clip.audio, clip.rate))
    return SpokenClip(audio, clip.rate, clip.text, reached_end=True)


def _prepared(base: codec_lm.CodecLM, judge: Judge) -> list[PreparedClip]:
    prepared = []
    for clip in choose_clips(judge.corpus, judge.clips, base.codec, judge.recogniser):
        codes, starts = base.encode(read_audio(judge.corpus / clip.path), clip.text)
        split = SHIPPED_SPLITS[clip.role]
        prepared.append(PreparedClip(clip.path, clip.text, split, codes, starts))
    return prepared
