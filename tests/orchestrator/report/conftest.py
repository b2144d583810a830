"""A demonstration sweep: sine sweeps for speech, made-up scores with the failures of real ones."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT, EngineSpec, TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import TrialHistory, TrialRecord, TrialResult
from orchestrator.report.clip_selection import select_clips
from orchestrator.report.report_input import ReportInput
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.judge import judge
from orchestrator.verdict.protocol import (
    Constraint,
    Gates,
    Listening,
    MetricVersion,
    Prompt,
    Protocol,
)
from orchestrator.verdict.screen import choose_finalists
from orchestrator.verdict.table import ScoreTable, VariantInfo

TEXTS = (
    "The seventh ferry leaves at a quarter to nine.",
    "Have you ever heard rain on a tin roof?",
    "Doctor Okafor ordered 250 grams of saffron.",
    "No, I said the blue one, not the green one!",
    "Quietly, the librarian closed the heavy door.",
    "From Tuesday on, the museum opens at ten.",
    "She sells fresh figs, dates and almonds.",
    "Turn left after the bridge, then keep straight on.",
)
FRESH = (
    "Snow closed the mountain pass for three whole days.",
    "Could you lend me a pencil and some paper?",
    "Her grandfather repaired clocks in a tiny workshop.",
    "Yes, both tickets are already paid for!",
    "A grey heron waited beside the frozen pond.",
    "Breakfast is served between seven and half past eleven.",
    "Mix flour, butter and a pinch of salt.",
    "The lift is broken, so please take the stairs.",
    "Nobody answered when the telephone rang at midnight.",
    "Why would anyone paint a fence purple?",
    "Professor Lindqvist measured 84 meteorites last winter.",
    "Stop, you have forgotten your umbrella again!",
    "Slowly, fog rolled across the empty harbour.",
    "Every Sunday my cousins play chess in the park.",
    "We ordered soup, fried rice and iced tea.",
    "Cross the square, pass the fountain, ring twice.",
)
EPOCHS = (1, 2, 3)
SCALES = (0.5, 0.75, 1.0)
TRIALS = {  # name: rank, learning rate, what the primary metric gains at its best
    "7f3a91": (16, 1e-4, 0.20),
    "0b52de": (32, 1e-4, 0.32),
    "c41e07": (64, 1e-4, 0.36),
    "9d80aa": (16, 4e-4, 0.10),
    "e6617b": (32, 4e-4, 0.05),
    "52c9f4": (64, 4e-4, -0.30),
}


def metric(name, direction, low, high, unit):
    return MetricVersion(name=name, version="1", unit=unit, direction=direction, low=low, high=high)


PROTOCOL = Protocol(
    prompt_set="demo-en",
    prompts=tuple(Prompt(id=f"p{i}", text=text) for i, text in enumerate(TEXTS)),
    shortlist_after=None,
    seed=11,
    confirmation_set="demo-en-fresh",
    confirmation=tuple(Prompt(id=f"c{i}", text=text) for i, text in enumerate(FRESH)),
    confirmation_seed=12,
    lora_scales=SCALES,
    temperature=0.8,
    top_k=50,
    primary="dnsmos_p808",
    min_effect=0.1,
    significance=0.05,
    constraints=(
        Constraint(metric="similarity", margin=0.03),
        Constraint(metric="word_error", margin=0.05),
        Constraint(metric="rate_ratio", margin=0.15),
    ),
    gates=Gates(),
    metrics=(
        metric("dnsmos_p808", "higher", 1, 5, "MOS"),
        metric("similarity", "higher", -1, 1, "cosine"),
        metric("word_error", "lower", 0, 1, "share"),
        metric("duration", "neither", 0, 30, "s"),
        metric("speaking_rate", "neither", 0, 40, "characters/s"),
        metric("end_of_speech_failure", "lower", 0, 1, "0 or 1"),
        metric("tail_silence", "lower", 0, 30, "s"),
        metric("clipping", "lower", 0, 1, "share"),
    ),
    finalists=3,
    finalist_metrics=(),
    listening=Listening(),
    bootstrap_resamples=2000,
    confidence=0.95,
    family_digests={"base": "sha256:6f1d0c", "codec": "sha256:a90b11"},
)


def flac(start: float, end: float, seconds: float = 1.2, rate: int = 16000) -> bytes:
    """A sine that sweeps from ``start`` to ``end`` Hz."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * math.pi * (start * time + (end - start) * time**2 / (2 * seconds))
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(phase), rate, format="FLAC")
    return file.getvalue()


def healthy(rng, quality, similarity, word_error, rate):
    return {
        "dnsmos_p808": quality + rng.normal(0, 0.06),
        "similarity": similarity + rng.normal(0, 0.01),
        "word_error": max(0.0, word_error + rng.normal(0, 0.015)),
        "duration": 3.4 / rate,
        "speaking_rate": 13.0 * rate,
        "end_of_speech_failure": 0.0,
        "tail_silence": 0.2,
        "clipping": 0.0,
    }


def clips_of(name, rng, gain, overdrive, prompts="p", seed=11):
    """Overdrive: how far rank, rate, epoch and scale push the adapter beyond the voice."""
    rows = []
    for place in range(len(TEXTS if prompts == "p" else FRESH)):
        scores = healthy(
            rng,
            3.2 + 0.1 * math.sin(place) + gain,
            0.84 + 0.06 * min(gain, 0.2) / 0.2 - 0.10 * overdrive,
            0.06 + 0.12 * overdrive,
            1 + 0.2 * overdrive,
        )
        if overdrive > 0.9 and place % 3 == 0:
            scores |= {"tail_silence": 6.5, "end_of_speech_failure": 1.0}
        rows.append(ClipScores(name, f"{prompts}{place}", seed, scores))
    return rows


def history(trial, rank, rate, losses, result, seconds=25.0) -> TrialHistory:
    """A trial of at most three epochs, with the training and validation loss of each."""
    spec = TrialSpec(
        family="codec_lm",
        base_digest="b",
        data_digest="d",
        training=TrainingSpec(rank=rank, learning_rate=rate, epochs=3),
        engine=EngineSpec(),
    )
    epochs = [
        EpochLosses(epoch, training, validation, (), (), seconds, 0.0)
        for epoch, (training, validation) in enumerate(losses, start=1)
    ]
    return TrialHistory(TrialRecord(trial, 0, {}, spec), epochs, result)


def make_sweep(
    trials,
    gain_of=lambda best, epoch, scale: best * (0.55 + 0.2 * epoch) * scale,
    group_losses_of=lambda loss: {},
):
    """Variants, their clips of set A and of set B, and the trials."""
    rng = np.random.default_rng(5)
    variants = [VariantInfo(BASE_VARIANT, None, 0, 0.0, None, None, None)]
    clips, histories = clips_of(BASE_VARIANT, rng, 0.0, 0.0), []
    fresh = clips_of(BASE_VARIANT, rng, 0.0, 0.0, "c", 12)
    for trial, (rank, rate, best) in trials.items():
        losses = [3.0 - 0.25 * math.log2(rank) / 2 - 900 * rate * (e > 0) - 0.2 * e for e in EPOCHS]
        histories.append(
            history(trial, rank, rate, [(x - 0.1, x) for x in losses], TrialResult("finished", 3))
        )
        for epoch, loss in zip(EPOCHS, losses, strict=True):
            for scale in SCALES:
                name = f"{trial}-e{epoch}-s{scale}"
                groups = group_losses_of(loss)
                variants.append(VariantInfo(name, trial, epoch, scale, rank, rate, loss, groups))
                overdrive = rate / 4e-4 * (rank / 64) * epoch / 3 * scale
                gain = gain_of(best, epoch, scale)
                clips += clips_of(name, rng, gain, overdrive)
                fresh += clips_of(name, rng, gain, overdrive, "c", 12)
    return variants, clips, fresh, histories


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportInput]:
    def make(trials=TRIALS, protocol=PROTOCOL, **changes) -> ReportInput:
        variants, clips, fresh, histories = make_sweep(trials, **changes)
        first = {prompt.id for prompt in protocol.screening().prompts}
        table = ScoreTable.build(
            variants, [clip for clip in clips if clip.prompt in first], protocol.screening()
        )
        of_all_a = ScoreTable.build(variants, clips, protocol)
        confirmation = ScoreTable.build(variants, fresh, protocol.confirming())
        verdict = judge(
            table,
            confirmation if choose_finalists(Comparison(of_all_a, protocol)).all else None,
            protocol,
            of_all_a if protocol.rest else None,
        )
        played = select_clips(verdict, table, protocol).clips()
        return ReportInput(
            sweep="aria-en",
            family="codec_lm",
            protocol=protocol,
            verdict=verdict,
            table=table,
            trials=[
                *histories,
                history(
                    "d15a0e",
                    64,
                    1e-3,
                    [(3.4, 3.5), (float("nan"), float("nan"))],
                    TrialResult("failed", 2, "loss is not a number at step 212"),
                    seconds=65.5,
                ),
                history(
                    "ab12cd",
                    16,
                    1e-3,
                    [(3.0, 3.1)],
                    TrialResult("stopped", 1, "worse than its peers"),
                ),
            ],
            clips={
                name: {
                    prompt: flac(200 + 4 * place, 600 + 9 * int(prompt[1:])) for prompt in prompts
                }
                for place, (name, prompts) in enumerate(played.items())
            },
            facts=[("voxsweep", "0.1.0"), ("wall time", "0:52:10"), ("storage", "1.2 GB")],
        )

    return make


@pytest.fixture(scope="session")
def report(make_report) -> ReportInput:
    return make_report()
