"""A spec is valid, or every problem in it is said at once with its line."""

import os
from pathlib import Path

import pytest

from jobs.problems import InputError
from jobs.spec.trial import TrainingSpec
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_spec

HERE = Path(__file__).parent
STEPS = "training: {steps: 200, checkpoint_steps: 50}"


def problems_of(path: Path) -> list[str]:
    """Each problem as ``line: text``."""
    with pytest.raises(InputError) as caught:
        read_spec(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_the_least_spec_has_the_defaults(make_spec):
    spec = make_spec()
    assert (spec.search.sampler, spec.search.trial_count) == ("tpe", 8)
    assert spec.scoring.measured == (
        "similarity",
        "word_error",
        "end_of_speech_failure",
        "duration",
        "tail_silence",
        "clipping",
    )


def test_what_is_adapted_by_default_is_the_familys(make_spec):
    """In a sweep and in a job without Ray; what a spec names stands."""
    from jobs.__main__ import JobSpec  # seconds to import

    ours, host = make_spec(), {"source": "a", "codec": "a", "voice": None, "precision": "fp32"}
    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    everything = (*attention, "gate_proj", "up_proj", "down_proj")
    for family, expected in (("codec_lm", everything), ("voxcpm2", attention)):
        rest = ours.model_dump(exclude={"family", "training"})
        for training, targets in (({}, expected), ({"targets": ["up_proj"]}, ("up_proj",))):
            given = {"training": training} if training else {}
            spec = SweepSpec.model_validate({"family": family, **rest, **given})
            assert spec.training.targets == targets
            job = JobSpec.model_validate({"host": {"family": family, **host}, **given})
            assert job.training.targets == targets


TRAINING = (
    "accumulation, acoustic_share, acoustic_weight, alpha, batch_size, batch_tokens, betas, "
    "checkpoint_steps, clip, dit_rank, dropout, epochs, layers_to_transform, learning_rate, "
    "loraplus_lr_ratio, mix, rank, rslora, schedule, seed, speech_rows, steps, stop_weight, "
    "targets, warmup_steps, weight_decay"
)
UNFIT = [
    # what the case is, the sections, the problems
    ("unknown top", {"traning": "traning: {}"}, ["5: unknown key traning. Did you mean training"]),
    (
        "unknown nested",
        {"training": "training:\n  epochs: 2\n  lerning_rate: 0.1"},
        ["7: unknown key training.lerning_rate. Did you mean learning_rate"],
    ),
    (
        "unknown in a list item",
        {
            "scoring": "scoring:\n  metrics: [similarity, word_error]\n  primary: similarity\n"
            "  min_effect: 0.05\n  constraints:\n    - {metric: word_error, margin: 0.1}\n"
            "    - {metric: word_error,\n       margin: 0.1, margn: 2}"
        },
        ["11: unknown key scoring.constraints.1.margn. Did you mean margin"],
    ),
    (
        "unknown in a dimension",
        {"search": "search:\n  space:\n    rank: {low: 1, hihg: 4}"},
        [
            "5: unknown key search.space.rank.hihg. Did you mean high",
        ],
    ),
    (
        "unknown like nothing",
        {"rungs": "rungs: {zzz: 1}"},
        [
            "5: unknown key rungs.zzz. Valid names: grace_epochs, grace_steps, metric, reduction, "
            "scheduler."
        ],
    ),
    (
        "missing",
        {"family": None, "scoring": "scoring: {metrics: [similarity]}"},
        [
            "1: family is required, but it is absent. Add it.",
            "3: scoring.primary is required, but it is absent. Add it.",
            "3: scoring.min_effect is required, but it is absent. Add it.",
        ],
    ),
    ("wrong type", {"training": "training: {rank: two}"}, ["5: training.rank: Input should be"]),
    ("a section that is none", {"training": "training: 3"}, ["5: training: Input should be"]),
    (
        "out of range",
        {"training": "training: {dropout: 1.0, epochs: 0}"},
        [
            "5: training.dropout: Input should be less than 1, got 1.0.",
            "5: training.epochs: Input should be greater than or equal to 1, got 0.",
        ],
    ),
    (
        "slots that are no number",
        {"resources": "resources:\n  hosts: 0\n  slots_per_host: many"},
        [
            "6: resources.hosts: Input should be greater than or equal to 1, got 0.",
            "7: resources.slots_per_host: a host has an integer >= 1 of slots, or auto, got 'many'",
        ],
    ),
    (
        "slots below one",
        {"resources": "resources: {slots_per_host: 0}"},
        ["5: resources.slots_per_host: a host has an integer >= 1 of slots, or auto, got 0."],
    ),
    (
        "slots from the memory of no GPU",
        {"resources": "resources:\n  hosts: 2\n  slots_per_host: auto"},
        [
            "7: resources.slots_per_host: auto measures a GPU's memory, but gpus_per_rank is 0. "
            "Write a number, or give each rank a GPU."
        ],
    ),
    ("bad name", {"name": "name: Small Sweep"}, ["1: name: String should match pattern"]),
    (
        "several manifests, a folder and S3",
        {"data": "data:\n  synthetic: true\n  manifest: [embedded, ., s3://b/m.jsonl,\n    gone]"},
        ["8: data.manifest must name something that exists, but there is no {here}/gone"],
    ),
    (
        "root",
        {"data": "data:\n  root: gone"},
        ["6: data.root must be a folder, but there is no {here}/gone"],
    ),
    (
        "mixes",
        {
            "data": "data: {mixes: {even: {by: speaker, temperature: 2}}}",
            "training": "training: {mix: evn}",
            "search": "search: {space: {mix: [even, null, evenn]}}",
        },
        [
            "6: training.mix must name one of data.mixes, got 'evn'. Did you mean even",
            "3: search.space.mix.2 must name one of data.mixes, got 'evenn'. Did you mean even",
        ],
    ),
    (
        "a mix where there is none",
        {"training": "training: {mix: even}"},
        ["5: training.mix must name one of data.mixes, got 'even'. There are none"],
    ),
    ("name of the data", {"name": "name: data"}, ["1: name must not be 'data': that folder"]),
    (
        "duplicate key",
        {"training": "training:\n  rank: 2\n  seed: 1\n  rank: 4"},
        ["8: a key may stand once, but training.rank is on line 6 too. Delete one of the two."],
    ),
    ("unknown family", {"family": "family: codeclm"}, ["2: family must be known, got 'codeclm'."]),
    (
        "a family without a shipped base",
        {"family": "family: qwen3_tts"},
        ["1: base.source: no base of qwen3_tts is shipped. Name a directory, or hub: and an id."],
    ),
    (
        "layers that the family has not",
        {
            "family": "family: qwen3_tts\nbase: {source: hub:a/b}",
            "training": "training: {targets: [q_proj, talker.atention]}",
        },
        [
            "6: training.targets: talker.atention is no layer that can be adapted (embeddings and "
            "heads stay frozen). Did you mean talker.attention or "
        ],
    ),
    (
        "layers that the base has not, written and searched",
        {
            "training": "training: {targets: [q_proj, v_prooj, embed_tokens]}",
            "search": "search:\n  space:\n    targets:\n      - [k_proj]\n      - [lm_head]",
        },
        [
            "9: training.targets: v_prooj is no layer that can be adapted (embeddings and heads "
            "stay frozen). Did you mean v_proj or ",
            "9: training.targets: embed_tokens is no layer that can be adapted",
            "7: search.space.targets.1: lm_head is no layer that can be adapted (embeddings and "
            "heads stay frozen). Valid names: down_proj, gate_proj, k_proj, o_proj, q_proj, up_pro",
        ],
    ),
    (
        "blocks that the base has not",
        {"search": "search: {space: {layers_to_transform: [null, [0, 9], [4, 7]]}}"},
        [
            "3: search.space.layers_to_transform.1: the targets are in blocks 0 to 3, not in 9. "
            "Correct it, or let it be null for all blocks.",
            "3: search.space.layers_to_transform.2: the targets are in blocks 0 to 3, not in 4; "
            "the targets are in blocks 0 to 3, not in 7; q_proj is in blocks 0 to 3, not in [4, 7]",
        ],
    ),
    (
        "what is refused for a reason",
        {
            "training": "training: {use_dora: true}",
            "search": "search: {space: {dora: [true, false]}}",
        },
        [
            "5: training.use_dora is refused: an adapter with a trained magnitude (DoRA) is not "
            "the base at LoRA scale 0",
            "3: search.space.dora is refused: an adapter with a trained magnitude (DoRA)",
        ],
    ),
    (
        "a rank of a decoder that the family has not",
        {"search": "search: {space: {dit_rank: [4, null]}}"},
        ["3: search.space.dit_rank.0: a base of codec_lm has no diffusion decoder. Delete it."],
    ),
    (
        "a key of a decoding that picks no tokens",
        {"variants": "variants:\n  decoding: {cfg_value: 3.0}"},
        ["6: variants.decoding.cfg_value changes nothing: codec_lm picks tokens. Delete it."],
    ),
    (
        "a part of the loss that the family has not",
        {"training": "training:\n  acoustic_share: 0.5"},
        ["6: training.acoustic_share: the loss of codec_lm has no such part. Delete it."],
    ),
    (
        "rows that the family has not",
        {
            "family": "family: qwen3_tts\nbase: {source: hub:a/b}",
            "search": "search: {space: {speech_rows: [frozen, trained]}}",
        },
        ["4: search.space.speech_rows.1: a base of qwen3_tts has no rows that can be trained"],
    ),
    (
        "a reference before what the family reads nothing behind",
        {
            "family": "family: qwen3_tts\nbase: {source: hub:a/b}",
            "data": "data: {reference_prefix: true}",
        },
        ["6: data.reference_prefix: qwen3_tts reads nothing behind a clip of its speaker."],
    ),
    (
        "blocks that are not computed again",
        {
            "family": "family: voxcpm2\nbase: {source: hub:a/b}",
            "engine": "engine: {gradient_checkpointing: true}",
        },
        ["6: engine.gradient_checkpointing: blocks of voxcpm2 are not computed again. Delete it."],
    ),
    (
        "space with an unknown key",
        {"search": "search: {space: {lr: [0.1]}}"},
        [f"3: search.space may hold keys of training, got lr. Valid names: {TRAINING}."],
    ),
    (
        "space with an illegal choice",
        {"search": "search:\n  space:\n    rank: [2, 0, 4]\n    schedule: [constant, step]"},
        [
            "5: search.space.rank: Input should be greater than or equal to 1, got 0.",
            "6: search.space.schedule: Input should be 'constant', 'linear' or 'cosine', got 's",
        ],
    ),
    (
        "space with an illegal range",
        {"search": "search: {space: {rank: {low: 1.5, high: 4}, dropout: {low: 0, high: 2}}}"},
        [
            "3: search.space.rank: Input should be a valid integer, got a number with a frac",
            "3: search.space.dropout: Input should be less than 1, got 2.0.",
        ],
    ),
    (
        "a choice that is a mapping",
        {"search": "search:\n  space:\n    rank:\n      - 2\n      - {a: 1}"},
        [
            "7: search.space.rank: a choice is a number, a text, true, false, null or a list of "
            "numbers or texts, got {'a': 1}. Correct the value."
        ],
    ),
    (
        "a range without end",
        {"search": "search: {space: {epochs: {low: 1, high: .inf}}}"},
        ["3: search.space.epochs.high: Input should be a finite number, got inf."],
    ),
    (
        "both forms of a dimension",
        {"search": "search: {space: {rank: {choices: [1], low: 1, high: 2}}}"},
        ["3: search.space.rank: a dimension is a list of choices or a range {low, high}, not both"],
    ),
    (
        "a range upside down",
        {"search": "search: {space: {clip: {low: 2, high: 1}}}"},
        ["3: search.space.clip: a range needs low < high, got low=2.0 high=1.0"],
    ),
    (
        "a log range from 0",
        {"search": "search: {space: {clip: {low: 0, high: 1, log: true}}}"},
        ["3: search.space.clip: a log range needs low > 0, got low=0.0"],
    ),
    (
        "an empty list of choices",
        {"search": "search: {space: {rank: []}}"},
        ["3: search.space.rank: a dimension is a list of choices or a range"],
    ),
    ("an empty space", {"search": "search: {space: {}}"}, ["3: search.space: Dictionary should"]),
    (
        "a grid with a range",
        {"search": "search: {sampler: grid, space: {rank: [2], clip: {low: 1, high: 2}}}"},
        ["3: search: a grid needs lists of choices, but ['clip'] are ranges"],
    ),
    (
        "unknown metrics",
        {
            "scoring": "scoring:\n  metrics: [similarity,\n    wer]\n  finalist_metrics: [dnsmos]\n"
            "  primary: similarity\n  min_effect: 0.05"
        },
        [
            "6: unknown metric wer. Valid names: choice_accuracy, clipping, distillmos",
            "7: unknown metric dnsmos. Did you mean",
        ],
    ),
    (
        "a primary that is not measured",
        {"scoring": "scoring: {metrics: [similarity], primary: word_error, min_effect: 0.05}"},
        ["4: scoring.primary must be a metric that is measured, got word_error."],
    ),
    (
        "a primary without a better direction",
        {"scoring": "scoring: {metrics: [similarity], primary: duration, min_effect: 0.05}"},
        ["4: scoring.primary must have a better direction, but duration has none. Use one of "],
    ),
    (
        "a derived primary",
        {"scoring": "scoring: {metrics: [similarity], primary: duration_ratio, min_effect: 0.05}"},
        ["4: scoring.primary must have a better direction, but duration_ratio has none."],
    ),
    (
        "a flag as primary and constraint",
        {
            "scoring": "scoring: {metrics: [plcmos], primary: plcmos, min_effect: 0.05,\n"
            "  constraints: [{metric: plcmos, margin: 0.1}]}"
        },
        [
            "4: scoring.primary must fall as speech gets worse, plcmos does not. Measure it as a ",
            "5: scoring.constraints.0.metric must fall as speech gets worse, plcmos does not.",
        ],
    ),
    (
        "a guard as the primary metric",
        {
            "scoring": "scoring: {metrics: [similarity, {name: distillmos, required: false}],\n"
            "  primary: distillmos, min_effect: 0.05}"
        },
        [
            "4: distillmos decides (the primary metric), so it must be required.",
            "5: scoring.primary must fall when words are wrong or missing, distillmos does not. ",
        ],
    ),
    (
        "options of a metric",
        {
            "scoring": "scoring:\n  primary: similarity\n"
            "  min_effect: 0.05\n  metrics:\n    - similarity\n"
            "    - {name: level, modl: x}\n    - {name: duration, requird: 3, language: Englisch}\n"
            "    - {name: wada_snr, model: some/model}\n    - nothing\n    - {required: false}"
        },
        [
            "9: unknown key scoring.metrics.1.modl. Did you mean model",
            "10: unknown key scoring.metrics.2.requird. Did you mean required",
            "10: scoring.metrics.2.language: a language must be a tag",
            "13: scoring.metrics.5.name is required, but it is absent. Add it.",
        ],
    ),
    (
        "an unknown option and, all the same, what else is wrong",
        {
            "scoring": "scoring:\n  primary: similarity\n  min_effect: 0.05\n  metrics:\n"
            "    - {name: similarity, mo: x}\n"
            "    - {name: wada_snr, model: some/model}\n    - {name: wada_sn}\n    - wada_snr",
            "family": "family: qwen",
        },
        [
            "8: unknown key scoring.metrics.0.mo. Did you mean model",
            "9: wada_snr takes no model, got 'some/model'. Remove it.",
            "10: unknown metric wada_sn. Did you mean wada_snr",
            "11: a metric is named once, got wada_snr again. Remove one of the two.",
            "2: family must be known, got 'qwen'.",
        ],
    ),
    (
        "models that are not there",
        {
            "scoring": "scoring:\n  primary: similarity\n"
            "  min_effect: 0.05\n  metrics:\n    - similarity\n"
            "    - {name: whisper_word_error, model: ./no/model, language: en}\n"
            "    - {name: whisper_word_count, model: ./no/model, language: km}\n"
            "    - name: wavlm_similarity\n      model: no/model"
        },
        [
            "9: whisper_word_error needs a directory that exists, but there is no {here}/no/model.",
            "10: whisper_word_error and whisper_word_count come from one scorer and take the same ",
            "11: every metric asked for must be scored, and wavlm_similarity cannot be: "
            "FileNotFoundError: a model must be a directory or in the hub's cache, and 'no/model' "
            "is neither; run `hf download no/model --include ",
        ],
    ),
    (
        "a model of what is required, named first by what is not",
        {
            "scoring": "scoring:\n  primary: similarity\n"
            "  min_effect: 0.05\n  metrics:\n    - similarity\n"
            "    - {name: whisper_word_count, model: ./no/model, language: en, required: false}\n"
            "    - {name: whisper_word_error, model: ./no/model, language: en}"
        },
        ["10: whisper_word_error needs a directory that exists, but there is no {here}/no/model."],
    ),
    (
        "what decides, not required",
        {
            "scoring": "scoring:\n  primary: similarity\n  min_effect: 0.05\n  metrics:\n"
            "    - {name: similarity, required: false}\n    - name: speaking_rate\n"
            "      required: false\n    - {name: clipping, required: false}\n"
            "    - {name: level, required: false}\n"
            "  finalist_metrics:\n    - {name: dnsmos_ovrl, required: false}\n  constraints:\n"
            "    - {metric: rate_ratio, margin: 0.1}\n    - {metric: dnsmos_ovrl, margin: 0.1}"
        },
        [
            "8: similarity decides (the primary metric), so it must be required. Remove required:",
            "10: speaking_rate decides (a constraint), so it must be required. Remove required:",
            "11: clipping decides (the gates read it), so it must be required. Remove required:",
            "14: dnsmos_ovrl decides (a constraint), so it must be required. Remove required:",
        ],
    ),
    (
        "what every variant needs, for finalists",
        {
            "scoring": "scoring: {metrics: [similarity], primary: similarity, min_effect: 0.05,\n"
            "  finalist_metrics: [similarity, dnsmos_ovrl, clipping]}"
        },
        [
            "5: every variant needs similarity, so it cannot be kept for finalists.",
            "5: every variant needs clipping, so it cannot be kept for finalists.",
        ],
    ),
    (
        "a constraint that is not measured",
        {
            "scoring": "scoring:\n  metrics: [similarity]\n  primary: similarity\n"
            "  min_effect: 0.05\n  constraints:\n"
            "    - {metric: duration_ratio, margin: 0.1}\n    - {metric: rate_ratio, margin: 0.1}"
        },
        ["10: scoring.constraints.1.metric must be a metric that is measured, got rate_ratio."],
    ),
    (
        "grace beyond the epochs",
        {"rungs": "rungs:\n  grace_epochs: 5"},
        ["6: rungs.grace_epochs must be <= training.epochs (4), got 5. Lower it."],
    ),
    (
        "grace beyond the searched epochs",
        {
            "training": "training: {schedule: linear}",
            "search": "search: {space: {epochs: [1, 2]}}",
            "rungs": "rungs: {grace_epochs: 3}",
        },
        ["6: rungs.grace_epochs must be <= the most of search.space.epochs (2), got 3. Lower it."],
    ),
    (
        "shipped prompts of several languages",
        {"variants": "variants: {prompts: 'embedded:km,xx,km'}"},
        [
            "5: variants.prompts: a language is named once, got embedded:km,xx,km. Delete one",
            "5: variants.prompts: no prompts are shipped in the language 'xx'",
        ],
    ),
    (
        "steps without checkpoints",
        {"training": "training: {steps: 100}"},
        ["5: training: training.steps needs training.checkpoint_steps, got steps 100 alone"],
    ),
    (
        "epochs and steps",
        {"training": "training: {epochs: 2, steps: 100, checkpoint_steps: 50}"},
        ["5: training: a training is as long as epochs or as steps says, got epochs 2 and"],
    ),
    (
        "steps that end between two checkpoints",
        {"training": "training: {steps: 120, checkpoint_steps: 50}"},
        ["5: training: training.steps must be a multiple of training.checkpoint_steps, 50,"],
    ),
    (
        "neither epochs nor steps",
        {"training": "training: {epochs: null}"},
        ["5: training: a training has epochs, or steps and checkpoint_steps, got none of them"],
    ),
    (
        "grace in steps between two checkpoints",
        {"training": STEPS, "rungs": "rungs: {grace_steps: 70}"},
        ["6: rungs.grace_steps must be a multiple of checkpoint_steps, 50, got 70. Correct it."],
    ),
    (
        "grace beyond the steps",
        {"training": STEPS, "rungs": "rungs: {grace_steps: 250}"},
        ["6: rungs.grace_steps must be <= training.steps (200), got 250. Lower it."],
    ),
    (
        "grace in epochs of a training in steps",
        {"training": STEPS, "rungs": "rungs: {grace_epochs: 2}"},
        ["6: rungs.grace_epochs counts epochs, not training.steps, got 2. Give grace_steps."],
    ),
    (
        "grace in steps of a training in epochs",
        {"rungs": "rungs: {grace_steps: 50}"},
        ["5: rungs.grace_steps needs training.checkpoint_steps, got 50. Give grace_epochs."],
    ),
    (
        "a search for steps",
        {
            "training": "training: {steps: 200, checkpoint_steps: 50, schedule: cosine}",
            "search": "search: {space: {steps: [100, 130], checkpoint_steps: [50]}}",
        },
        [
            "3: search.space.checkpoint_steps: trials are compared at the same checkpoints. Set",
            "3: search.space.steps: training.steps must be a multiple of training.checkpoint_steps",
        ],
    ),
    (
        "a range of steps",
        {
            "training": "training: {steps: 200, checkpoint_steps: 50, schedule: cosine}",
            "search": "search: {space: {steps: {low: 100, high: 200}}}",
        },
        ["3: search.space.steps is a list, since each must be a multiple of checkpoint_steps."],
    ),
    (
        "epochs searched where each is a checkpoint",
        {"search": "search: {space: {epochs: [2, 8]}}"},
        ["3: search.space.epochs needs a schedule that depends on it"],
    ),
    (
        "only the base speaks",
        {"variants": "variants: {lora_scales: [0]}"},
        ["5: variants.lora_scales needs a scale above 0. Add 1.0."],
    ),
    (
        "files that are not there",
        {
            "base": "base:\n  source: no/base\n  codec: no/codec",
            "data": "data: {synthetic: true, manifest: no/manifest.jsonl}",
            "variants": "variants: {prompts: no/prompts.jsonl}",
        },
        [
            "6: base.source must name something that exists, but there is no {here}/no/base/config",
            "7: base.codec must name something that exists, but there is no {here}/no/codec/config",
            "8: data.manifest must name something that exists, but there is no {here}/no/manifest",
            "9: variants.prompts must name something that exists, but there is no {here}/no/prom",
        ],
    ),
    (
        "a wrong key and a wrong name",
        {"training": "training: {epoch: 8}", "family": "family: qwen"},
        [
            "5: unknown key training.epoch. Did you mean epochs",
            "2: family must be known, got 'qwen'.",
        ],
    ),
]


@pytest.mark.parametrize(
    ("sections", "expected"), [case[1:] for case in UNFIT], ids=[c[0] for c in UNFIT]
)
def test_each_problem_is_said_with_its_line(write_spec, tmp_path, sections, expected):
    problems = problems_of(write_spec(**sections))
    expected = [text.replace("{here}", str(tmp_path)) for text in expected]
    assert len(problems) == len(expected), problems
    for problem, start in zip(sorted(problems), sorted(expected), strict=True):
        assert problem.startswith(start)


def test_a_bad_value_of_the_space_has_a_next_step(write_spec):
    for problem in problems_of(write_spec(search="search: {space: {rank: [0, {a: 1}]}}")):
        assert problem.endswith(" Correct the value.")


def test_every_problem_of_a_file_at_once(tmp_path):
    """The whole message of a spec with a problem of most kinds."""
    text = (HERE / "broken.yaml").read_text()
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_spec(path)
    message = str(caught.value).replace(str(tmp_path), "TMP") + "\n"
    golden = HERE / "golden_broken.txt"
    if os.environ.get("REGENERATE_GOLDEN"):
        golden.write_text(message)
    assert message == golden.read_text()
    assert len(caught.value.problems) == 9


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": a spec is a mapping of keys"),
        (b"- name\n", ": a spec is a mapping of keys"),
        (b"name: s\nfamily: [codec_lm\n", ":3: not YAML: "),
        (b"name: s\nfamily: !!python/name:os.system\n", ":2: not YAML: "),
        (b"name: caf\xe9\n", ": cannot read it: 'utf-8' codec can't decode"),
        (b"name: \x07\n", ": not YAML: "),
        (b"name: a\n---\nname: b\n", ":2: not YAML: "),
        (b"name: a\ntraining: &x {rank: *x}\n", ":2: training.rank: a value may not contain"),
    ],
    ids=[
        *("empty", "a list", "syntax", "a Python object", "latin-1", "control", "two documents"),
        "a loop",
    ],
)
def test_what_is_no_spec_at_all(tmp_path, content, expected):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_spec(path)
    assert [str(problem).startswith(f"{path}{expected}") for problem in caught.value.problems] == [
        True
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot read it: .*No such file"):
        read_spec(tmp_path / "none.yaml")


def test_paths_start_at_the_specs_folder(make_spec, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "own" / "prompts.jsonl").touch()
    spec = make_spec(
        base="base: {source: own, codec: ./own}", variants="variants: {prompts: own/prompts.jsonl}"
    )
    assert spec.base.source == spec.base.codec == str(tmp_path / "own")
    assert spec.variants.prompts == str(tmp_path / "own" / "prompts.jsonl")
    assert spec.data.paths == ("embedded",)
    manifests = "{synthetic: true, manifest: [s3://b/m.jsonl, ., embedded], root: .}"
    data = make_spec(data=f"data: {manifests}").data
    assert data.paths == ("s3://b/m.jsonl", str(tmp_path), "embedded")
    assert data.root == str(tmp_path)
    assert make_spec(data="data: {root: s3://b/clips}").data.root == "s3://b/clips"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"model_type": "gpt2"}', "must be 'qwen2' or 'qwen3' or 'llama', got 'gpt2'"),
        ('["qwen2"]', "must be 'qwen2' or 'qwen3' or 'llama', got None"),
        ("{", " must be JSON: "),
        (
            '{"model_type": "qwen2", "num_hidden_layers": 0}',
            "num_hidden_layers must be an integer above 0, got 0",
        ),
    ],
)
def test_a_base_of_another_architecture_is_refused_by_its_config(
    make_spec, tmp_path, config, expected
):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError) as caught:
        make_spec(base="base: {source: .}")
    (problem,) = caught.value.problems
    assert problem.where.endswith(":5")
    assert f"base.source: {tmp_path / 'config.json'}" in problem.what
    assert expected in problem.what


@pytest.mark.parametrize(
    ("training", "space", "targets", "blocks"),
    [
        ("{targets: [o_proj]}", "{rank: [4, 9]}", ("o_proj",), None),
        (
            "{targets: [o_proj], layers_to_transform: [3]}",
            "{rank: [9, 4], targets: [[q_proj], [up_proj]], layers_to_transform: [[1], [0, 1]]}",
            ("q_proj", "up_proj"),
            (1, 0),
        ),
        (
            "{rank: 9, layers_to_transform: [3]}",
            "{layers_to_transform: [[1], null]}",
            TrainingSpec().targets,
            None,
        ),
    ],
)
def test_hosts_measure_themselves_with_all_that_trials_may_adapt(
    make_spec, training, space, targets, blocks
):
    spec = make_spec(training=f"training: {training}", search=f"search: {{space: {space}}}")
    largest = spec.largest_training
    assert (largest.rank, largest.targets, largest.layers_to_transform) == (9, targets, blocks)
    assert largest.speech_rows == "frozen"
    some = make_spec(search="search: {space: {speech_rows: [frozen, trained]}}")
    assert some.largest_training.speech_rows == "trained"


def test_a_constraint_may_be_on_what_finalists_get(make_spec):
    spec = make_spec(
        scoring="scoring: {metrics: [similarity], primary: similarity, min_effect: 0.05, "
        "finalist_metrics: [dnsmos_ovrl], constraints: [{metric: dnsmos_ovrl, margin: 0.2}]}"
    )
    assert spec.scoring.constraints[0].metric == "dnsmos_ovrl"


def test_a_bare_name_is_short_for_a_mapping(make_spec):
    bare = make_spec(
        scoring="scoring: {metrics: [similarity, level], primary: similarity, min_effect: 0.05}"
    )
    written = make_spec(
        scoring="scoring: {metrics: [{name: similarity}, {name: level, required: true}], "
        "primary: similarity, min_effect: 0.05}"
    )
    assert bare == written


def test_a_model_is_a_directory_if_there_is_one_and_else_an_id_of_the_hub(make_spec, tmp_path):
    text = (
        "scoring:\n  primary: similarity\n  min_effect: 0.05\n  metrics:\n    - similarity\n"
        "    - {name: wavlm_similarity, model: some/model, required: false}"
    )
    assert make_spec(scoring=text).scoring.metrics[1].model == "some/model"
    (tmp_path / "some" / "model").mkdir(parents=True)
    assert make_spec(scoring=text).scoring.metrics[1].model == str(tmp_path / "some" / "model")


@pytest.mark.parametrize("model", ["no/such", "./no/such"])
def test_what_is_not_required_may_be_missing(make_spec, tmp_path, model):
    spec = make_spec(
        scoring="scoring:\n  primary: similarity\n"
        "  min_effect: 0.05\n  metrics:\n    - similarity\n"
        f"    - {{name: wavlm_similarity, model: {model}, required: false}}"
    )
    assert "wavlm_similarity" in spec.scoring.measured
    found = spec.scoring.metric_specs(["wavlm_similarity"])[0].model
    assert found == (model if model == "no/such" else str(tmp_path / "no" / "such"))
    assert "wavlm_similarity" not in spec.scoring.without(["wavlm_similarity"]).measured


def test_the_digest_follows_what_is_asked(make_spec):
    same, other = make_spec(), make_spec(training="training: {seed: 1}")
    assert same.digest() == make_spec().digest() != other.digest()


RECORDINGS = "data: {{manifest: ., {}}}"


@pytest.mark.parametrize(
    "data",
    ["data: {manifest: embedded}", *map(RECORDINGS.format, ["synthetic: true", "consent: C-17"])],
)
def test_consent_is_named_or_not_needed(make_spec, data):
    assert not make_spec(data=data).data.needs_consent


def test_recordings_need_a_record_of_consent(make_spec):
    with pytest.raises(InputError) as caught:
        make_spec(data="data: {manifest: .}")
    (problem,) = caught.value.problems
    assert "data.consent must say where the speakers' consent is recorded" in str(problem)
    assert "spec.yaml:5" in str(problem)


def test_nobody_consents_for_a_synthetic_voice(make_spec):
    with pytest.raises(InputError, match="exclude each other"):
        make_spec(data=RECORDINGS.format("synthetic: true, consent: C-17"))


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("objectives: [seconds]", "objectives begin with objective, got ['seconds']"),
        ("objectives: [objective, seconds, seconds]", "an objective is named once"),
        ("objectives: [objective, similarty]", "got 'similarty'. Did you mean similarity?"),
        ("sampler: grid, first: {hold: {rank: 2}, trials: 1}", "a grid is all of it"),
        ("first: {hold: {rank: 2}, trials: 9}", "must be <= search.trials (8), got 9"),
        ("first: {hold: {rank: 3}, trials: 1}", "must be one of the key's choices, got 3"),
        ("first: {hold: {rang: 2}, trials: 1}", "may hold searched keys, got rang"),
        ("first: {hold: {rank: 2, seed: 0}, trials: 1}", "leaves nothing to search"),
        ("sampler: qmc", "qmc spreads points over ranges"),
        ("warm_start: [small]", "got 'small', which is this one"),
        ("confirm_seeds: 2", "confirm_seeds is 0 or at least 3, got 2: of fewer seeds"),
        ("confirm_seeds: 3", "what the search found, got 3 and seed in the space"),
    ],
)
def test_a_search_that_cannot_be_guided_so(write_spec, search, said):
    path = write_spec(search=f"search: {{{search}, space: {{rank: [2, 4], seed: [0, 1]}}}}")
    assert any(said in str(problem) for problem in problems_of(path)), problems_of(path)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://ann:secret@h/x", "PGPASSWORD or ~/.pgpass"),
        ("mysql://h/x", "must begin with sqlite:// or postgresql://"),
        ("optuna.db", "a study's own file is journal:PATH"),
        ("'journal:'", "must name a file after journal:"),
    ],
)
def test_a_study_that_can_be_kept_nowhere(write_spec, address, said):
    (problem,) = problems_of(write_spec(records=f"records: {{optuna: {address}}}"))
    assert said in str(problem)
    assert "secret" not in str(problem)


@pytest.mark.parametrize("start", ["journal:", "sqlite:///"])
def test_a_studys_file_is_beside_the_spec(make_spec, tmp_path, start):
    spec = make_spec(records=f"records: {{optuna: '{start}studies/a.db'}}")
    assert spec.records.optuna == f"{start}{tmp_path}/studies/a.db"


@pytest.mark.parametrize("written", ["1e-4", "0.0001", "1.0e-4"])
def test_a_choice_is_the_number_that_is_trained(make_spec, written):
    search = f"search: {{space: {{learning_rate: [{written}, 1], dropout: [0, 0.1], rank: [8.0]}}}}"
    space = make_spec(search=search).search.space
    found = {name: each.choices for name, each in space.items()}
    assert found == {"learning_rate": (1e-4, 1.0), "dropout": (0.0, 0.1), "rank": (8,)}
    types = {name: {type(value) for value in each} for name, each in found.items()}
    assert types == {"learning_rate": {float}, "dropout": {float}, "rank": {int}}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ('learning_rate: ["1e-4"]', "a choice must be a number, got '1e-4'. Write it as 0.0001."),
        ("rank: [true]", "a choice must be a number, got True. Write it as 1."),
        ('rslora: ["yes"]', "a choice must be true or false, got 'yes'. Write it as True."),
        ('betas: [["0.9", 0.99]]', "a choice must be a number, got ('0.9', 0.99)"),
    ],
)
def test_a_text_where_a_number_is_meant_is_refused(make_spec, choice, message):
    with pytest.raises(InputError) as refused:
        make_spec(search=f"search: {{space: {{{choice}}}}}")
    assert message in str(refused.value)
