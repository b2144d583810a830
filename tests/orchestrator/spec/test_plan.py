"""What a plan says, against numbers worked out by hand."""

from dataclasses import asdict, replace
from io import StringIO

import pytest
from rich.console import Console

from cluster.storage.base import LocalStorage
from jobs.data.clips import ManifestRow, TargetClip
from jobs.metrics.base import ClipScores
from jobs.spec.trial import PromptSpec, TrialSpec
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.ledger import CONFIRMATION, Ledger, TrialResult
from orchestrator.spec.inputs import Inputs
from orchestrator.spec.plan import plan
from orchestrator.terminal.sweep import show_plan

PROMPTS = [PromptSpec(id=f"p{i}", text="one two") for i in range(5)]
FRESH = [PromptSpec(id=f"f{i}", text="three") for i in range(6)]
CLIPS = [
    TargetClip(
        ManifestRow(where="m:1", audio="a.wav", text="one", split=split, speaker=speaker),
        "",
        16_000,
        1.0,
    )
    for split, speaker in [("train", "ann")] * 4
    + [("train", "bob")] * 6
    + [("validation", "ann")] * 3
]
INPUTS = Inputs(CLIPS, [], 0, PROMPTS, FRESH)
SCALES = "variants: {lora_scales: [0, 0.5, 1.0]}"


@pytest.fixture
def storage(tmp_path) -> LocalStorage:
    return LocalStorage(tmp_path / "st")


CASES = {
    # trials 3 x 2 epochs; 10 clips in batches of 4 are 3 steps; 2 scales above 0, and the base once
    "tpe": (
        {
            "training": "training: {epochs: 2, batch_size: 4}",
            "search": "search: {trials: 3, space: {rank: [2, 4]}}",
            "variants": SCALES,
        },
        {"trials": 3, "most_checkpoints": 6, "most_optimiser_steps": 18, "most_variants": 13},
    ),
    # 2 ranks x 3 seeds, whatever `trials` says; the default 4 epochs and batches of 4
    "grid": (
        {
            "search": "search: {sampler: grid, trials: 1, space: {rank: [2, 4], seed: [1, 2, 3]}}",
            "variants": SCALES,
        },
        {"trials": 6, "most_checkpoints": 24, "most_optimiser_steps": 72, "most_variants": 49},
    ),
    # as the first, and 3 replicates of at most 2 epochs
    "replicates": (
        {
            "training": "training: {epochs: 2, batch_size: 4}",
            "search": "search: {trials: 3, confirm_seeds: 3, space: {rank: [2, 4]}}",
            "variants": SCALES,
        },
        {
            "trials": 3,
            "replicates": 3,
            "most_checkpoints": 12,
            "most_optimiser_steps": 36,
            "most_variants": 13,
        },
    ),
    # a grid's epochs are exact: 2 ranks x (1 + 3) epochs
    "grid over epochs": (
        {
            "training": "training: {schedule: cosine, batch_size: 10}",
            "search": "search: {sampler: grid, space: {rank: [2, 4], epochs: [1, 3]}}",
            "variants": SCALES,
        },
        {"trials": 4, "most_checkpoints": 8, "most_optimiser_steps": 8, "most_variants": 17},
    ),
    # 5 trials of at most 3 epochs; smallest step is 2 clips x 2: 3 steps an epoch
    "searched epochs and batches": (
        {
            "training": "training: {schedule: linear}",
            "search": "search: {trials: 5, space: {epochs: {low: 1, high: 3}, "
            "batch_size: [8, 2], accumulation: {low: 2, high: 4}}}",
            "variants": "variants: {lora_scales: [1.0]}",
        },
        {"trials": 5, "most_checkpoints": 15, "most_optimiser_steps": 45, "most_variants": 16},
    ),
    # 4 clips of ann's are 80 %, 6 of bob's 20 %: 24 + 6 an epoch, in batches of 4 are 8 steps
    "mixes": (
        {
            "data": "data: {mixes: {mixed: {by: speaker, shares: {ann: 0.8, bob: 0.2}}, "
            "single: {by: speaker, shares: {ann: 1}}}}",
            "training": "training: {epochs: 2}",
            "search": "search: {sampler: grid, space: {mix: [single, mixed]}}",
            "variants": SCALES,
        },
        {"trials": 2, "most_checkpoints": 4, "most_optimiser_steps": 32, "most_variants": 9},
    ),
    # 3 trials of 2 checkpoints and of 10 steps, whatever an epoch has
    "steps": (
        {
            "training": "training: {steps: 10, checkpoint_steps: 5, batch_tokens: 4000}",
            "search": "search: {trials: 3, space: {rank: [2, 4]}}",
            "variants": SCALES,
        },
        {"trials": 3, "most_checkpoints": 6, "most_optimiser_steps": 30, "most_variants": 13},
    ),
    # nobody knows yet how long the clips are in tokens
    "a token budget": (
        {
            "search": "search: {trials: 3, space: {batch_tokens: [null, 4000]}}",
            "training": "training: {epochs: 2}",
            "variants": SCALES,
        },
        {"trials": 3, "most_checkpoints": 6, "most_optimiser_steps": None, "most_variants": 13},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_counts(make_spec, storage, case):
    sections, expected = CASES[case]
    planned = asdict(plan(make_spec(**sections), INPUTS, storage))
    assert {key: planned[key] for key in expected} == expected
    # set A by all variants, set B by the base, three finalists and the replicates
    clips = expected["most_variants"] * 5 + (4 + planned["replicates"]) * 6
    assert planned["most_clips"] == clips
    assert planned["most_clip_megabytes"] == pytest.approx(clips * 0.044, abs=0.05)
    assert (planned["prompts"], planned["training_clips"], planned["validation_clips"]) == (
        5,
        10,
        3,
    )
    assert (planned["trials_done"], planned["checkpoints_done"]) == (0, 0)
    assert not storage.root.exists()


def test_decodings_that_are_tried_cost_clips_of_set_a(make_spec, storage):
    def clips(more: str) -> int:
        return plan(
            make_spec(variants=f"variants: {{lora_scales: [1.0]{more}}}"), INPUTS, storage
        ).most_clips

    search = "decoding_search: {space: {temperature: [0.5, 0.9]}}"
    # five prompts by the base with three decodings, and by three finalists with two others
    assert clips(f", {search}") - clips("") == 5 * 3 + 5 * 3 * 2
    # three prompts first; the rest by three of the base's, and by a third of nine and the best of
    # two ranks
    halved = clips(f", shortlist_after: 3, {search}") - clips(", shortlist_after: 3")
    assert halved == 3 * 3 + 2 * 3 + 3 * 6 + 2 * 5


def test_languages_and_speakers_add_finalists_and_variants_on_the_shortlist(make_spec, storage):
    """Two languages and two speakers in set B, one of the languages not in set A."""

    def named(prompts, languages):
        return [
            prompt.model_copy(
                update={"language": languages[i % 2], "speaker": ("ann", "bob")[i % 2]}
            )
            for i, prompt in enumerate(prompts)
        ]

    spec = make_spec(
        search="search: {trials: 30, space: {rank: [2, 4]}}",
        training="training: {epochs: 1}",
        variants="variants: {lora_scales: [0, 1.0], shortlist_after: 2}",
    )
    inputs = replace(
        INPUTS,
        prompts=named(PROMPTS, ("en", "km")),
        confirmation=named(FRESH, ("en", "ko")),
    )
    # Set A by the base and 30 variants, the rest of it by 10 of them, those of two ranks and three
    # groups, and set B by three finalists and those of en, ann and bob.
    clips = 31 * 2 + (1 + 10 + 2 + 3) * 3 + (1 + 3 + 3) * 6
    assert plan(spec, inputs, storage).most_clips == clips


def test_what_is_done_and_what_it_tells_of_gpu_hours(make_spec, storage):
    """2 trials of 3 committed epochs at 30, 60 and 90 s: 60 s each, on 2 ranks of half a GPU."""
    spec = make_spec(
        training="training: {epochs: 2}",
        search="search: {trials: 3, space: {rank: [2, 4]}}",
        engine="engine: {ranks: 2}",
        resources="resources: {gpus_per_rank: 0.5, hosts: 3, slots_per_host: 4}",
    )
    ledger = Ledger(storage, spec.name)
    for rank, seconds in ((2, [30.0, 60.0]), (4, [90.0])):
        trial = TrialSpec(
            family="codec_lm",
            base_digest="b",
            data_digest="d",
            training=spec.training_for({"rank": rank}),
            engine=spec.engine,
        )
        ledger.start_trial(trial, {"rank": rank})
        for epoch, wall in enumerate(seconds, start=1):
            with storage.commit(ledger.checkpoint(trial.id, epoch)) as directory:
                write_losses(directory, EpochLosses(epoch, 2.0, 2.0, (2.0,), (0.1,), wall, 1e9))
        if rank == 2:
            ledger.end_trial(trial.id, TrialResult("finished", 2))
    with storage.commit(ledger.checkpoint(trial.id, 3)):
        """An epoch after a gap is none: epoch 2 was never committed."""
    before = sorted(storage.root.rglob("*"))
    planned = plan(spec, INPUTS, storage)
    assert (planned.trials_done, planned.checkpoints_done) == (1, 3)
    assert (planned.hosts, planned.slots_per_host, planned.trials_at_once) == (3, 4, 12)
    assert (planned.ranks, planned.gpus) == (2, 3.0)
    assert sorted(storage.root.rglob("*")) == before


def test_a_margin_beyond_what_set_b_can_show_is_told_before_anything_is_spent(make_spec, storage):
    """By an assumption, until the base's own scores are stored."""
    spec = make_spec(
        scoring="scoring: {metrics: [similarity, word_error], primary: similarity, "
        "min_effect: 0.2, constraints: [{metric: word_error, margin: 0.02}]}"
    )
    (told,) = plan(spec, INPUTS, storage).weak_rules
    assert told.startswith("word_error: a variant that does not change it is shown to keep the")
    assert "if differences spread by 0.1, as assumed for this unit; 155 prompts or" in told
    values = [{"word_error": 0.01 * (i % 2), "similarity": 0.9} for i in range(6)]
    rows = [ClipScores("base", f"f{i}", 0, found) for i, found in enumerate(values)]
    Ledger(storage, spec.name).write_scores("base", rows, CONFIRMATION)
    assert plan(spec, INPUTS, storage).weak_rules == ()
    console = Console(width=200, record=True, file=StringIO())
    show_plan(console, replace(plan(spec, INPUTS, storage), weak_rules=(told,)))
    assert f"Seldom decided: {told}." in " ".join(console.export_text().split())


def test_no_more_hosts_than_trials(make_spec, storage):
    spec = make_spec(
        search="search: {sampler: grid, space: {rank: [2, 4]}}",
        resources="resources: {hosts: 5, slots_per_host: 1, gpus_per_rank: 1}",
    )
    planned = plan(spec, INPUTS, storage)
    assert (planned.hosts, planned.trials_at_once, planned.gpus) == (2, 2, 2.0)


@pytest.mark.parametrize(
    ("sections", "slots", "at_once", "packing"),
    [
        ({}, 2, 2, "packs of up to 2: zero_stage 0 keeps the base whole"),
        (
            {"resources": "resources: {hosts: 2, slots_per_host: auto, gpus_per_rank: 1}"},
            None,
            None,
            "packs of up to as many as a GPU's memory takes: zero_stage 0",
        ),
        (
            {"resources": "resources: {hosts: 2, slots_per_host: 1}"},
            1,
            2,
            "packs of one: slots_per_host is 1",
        ),
        (
            {
                "engine": "engine: {zero_stage: 3, ranks: 2}",
                "resources": "resources: {hosts: 3, slots_per_host: 4}",
            },
            1,
            3,
            "packs of one: zero_stage 3 splits a trial over its ranks",
        ),
    ],
    ids=["by default", "from memory", "one slot", "split"],
)
def test_which_packs_are_possible_and_why(make_spec, storage, sections, slots, at_once, packing):
    planned = plan(make_spec(**sections), INPUTS, storage)
    assert (planned.slots_per_host, planned.trials_at_once) == (slots, at_once)
    assert planned.packing.startswith(packing)
