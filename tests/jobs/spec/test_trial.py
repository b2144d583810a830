"""What a trial's id follows from, and what cannot be asked for."""

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.spec.data import MixSpec
from jobs.spec.trial import (
    BASE_VARIANT,
    DecodingSpec,
    EngineSpec,
    HostSpec,
    TrainingSpec,
    TrialSpec,
    Variant,
)


def trial(engine: EngineSpec | None = None, **training: Any) -> TrialSpec:
    return TrialSpec(
        family="codec_lm",
        base_digest="b" * 64,
        data_digest="d" * 64,
        training=TrainingSpec(**training),
        engine=engine or EngineSpec(),
    )


def test_an_id_is_for_ever():
    # Checkpoints are found by it: a change here orphans every trial that was ever trained.
    assert trial().id == "t730154d20782"


CHANGES: dict[str, Any] = {
    "rank": 16,
    "alpha": 3.0,
    "rslora": True,
    "dropout": 0.1,
    "targets": ("q_proj",),
    "layers_to_transform": (0, 3),
    "speech_rows": "trained",
    "dit_rank": 4,
    "learning_rate": 2e-3,
    "loraplus_lr_ratio": 4.0,
    "schedule": "cosine",
    "warmup_steps": 5,
    "betas": (0.8, 0.99),
    "weight_decay": 0.1,
    "clip": None,
    "batch_size": 8,
    "batch_tokens": 512,
    "accumulation": 2,
    "seed": 1,
    "acoustic_weight": 1.0,
    "acoustic_share": 0.25,
    "stop_weight": 2.0,
}


def test_every_hyper_parameter_is_looked_at():
    assert {*CHANGES, "epochs", "steps", "checkpoint_steps", "mix"} == set(
        TrainingSpec.model_fields
    )


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_the_weights_changes_the_id(field: str):
    assert trial(**{field: CHANGES[field]}).id != trial().id


def test_neither_order_nor_repeats_of_layers_make_another_trial():
    targets = TrainingSpec().targets
    assert trial(targets=(*reversed(targets), "q_proj")).id == trial().id
    some = trial(targets=("k_proj", "own", "q_proj"), layers_to_transform=(3, 0, 3))
    assert some.id == trial(targets=("q_proj", "k_proj", "own"), layers_to_transform=(0, 3)).id
    assert some.id != trial(targets=("q_proj", "k_proj"), layers_to_transform=(0, 3)).id
    # What a trial was asked for stays as it was written.
    assert some.training.targets == ("k_proj", "own", "q_proj")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("talker.attention",), "t2bc5438403b7"),
        (("talker.attention", "talker.mlp"), "t12a39ee20570"),
        (
            ("talker.attention", "talker.mlp", "predictor.attention", "predictor.mlp"),
            "t5aea446e8a36",
        ),
    ],
)
def test_ids_of_the_shipped_configs_are_for_ever(targets, expected):
    assert trial(targets=targets).id == expected


def test_a_mix_counts_by_what_it_is_and_not_by_its_name():
    mix = MixSpec(by="speaker", shares={"ann": 1.0})
    mixed = trial(mix="ann alone").model_copy(update={"mix": mix})
    assert trial(mix="ann alone").id == trial().id
    assert mixed.id == trial(mix="other").model_copy(update={"mix": mix}).id != trial().id


@pytest.mark.parametrize("field", ["family", "base_digest", "data_digest"])
def test_another_base_or_other_data_is_another_trial(field: str):
    assert trial().model_copy(update={field: "other"}).id != trial().id


@pytest.mark.parametrize(
    "engine",
    [EngineSpec(zero_stage=1), EngineSpec(ranks=2), EngineSpec(precision="bf16")],
    ids=["stage", "ranks", "precision"],
)
def test_another_engine_rounds_otherwise(engine: EngineSpec):
    assert trial(engine).id != trial().id


def test_ids_of_distinct_trials_are_distinct():
    ids = {trial(rank=rank, seed=seed).id for rank in range(1, 40) for seed in range(40)}
    assert len(ids) == 39 * 40


def test_a_longer_training_goes_on_from_a_shorter_one():
    assert trial(epochs=4).id == trial(epochs=40).id
    # The spec in use keeps its length.
    assert trial(epochs=40).training.epochs == 40


def test_a_training_in_steps_is_a_trial_of_its_own():
    """Its checkpoints are others, and what it has is found by their numbers."""
    by_fifty = trial(steps=200, checkpoint_steps=50)
    assert by_fifty.training.checkpoints == 4
    assert by_fifty.id not in (trial().id, trial(steps=200, checkpoint_steps=100).id)
    assert by_fifty.id == trial(steps=400, checkpoint_steps=50).id
    cosine = trial(steps=200, checkpoint_steps=50, schedule="cosine")
    assert cosine.id != trial(steps=400, checkpoint_steps=50, schedule="cosine").id
    assert (by_fifty.training.horizon, cosine.training.horizon) == ("", "step 200")
    assert TrialSpec.model_validate_json(cosine.model_dump_json()) == cosine


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_with_a_horizon_makes_another_trial_of_each_length(schedule: str):
    assert trial(epochs=4, schedule=schedule).id != trial(epochs=40, schedule=schedule).id


def test_the_default_alpha_is_twice_the_rank():
    assert trial(rank=6).id == trial(rank=6, alpha=12.0).id
    assert trial(rank=6, alpha=None).training.scaling_alpha == 12.0


def test_what_changes_no_bit_makes_no_other_trial():
    assert trial(EngineSpec(gradient_checkpointing=True)).id == trial().id


@pytest.mark.parametrize("model", [TrainingSpec, EngineSpec, DecodingSpec, Variant, HostSpec])
def test_an_unknown_key_is_an_error(model: type[TrainingSpec]):
    with pytest.raises(ValidationError, match="learing_rate"):
        model.model_validate({"learing_rate": 1e-3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank", 0),
        ("alpha", 0.0),
        ("dropout", 1.0),
        ("targets", ()),
        ("layers_to_transform", ()),
        ("layers_to_transform", (-1,)),
        ("loraplus_lr_ratio", 0.0),
        ("learning_rate", 0.0),
        ("warmup_steps", -1),
        ("betas", (0.9, 1.0)),
        ("clip", 0.0),
        ("batch_size", 0),
        ("accumulation", 0),
        ("epochs", 0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_name_their_key(key: str, value: object):
    with pytest.raises(ValidationError, match=key):
        TrainingSpec.model_validate({key: value})


def test_variants_have_readable_names():
    assert Variant().id == BASE_VARIANT == "base"
    variant = Variant(trial="t0123456789ab", epoch=3, lora_scale=0.7)
    assert variant.id == "t0123456789ab-e03-s0.70"
    in_steps = variant.model_copy(update={"checkpoint_steps": 500})
    assert in_steps.id == "t0123456789ab-n01500-s0.70"


def test_a_decoder_of_the_same_rank_makes_no_other_trial():
    assert trial(rank=8, dit_rank=8).id == trial(rank=8).id
    assert trial(rank=8, dit_rank=4).id != trial(rank=8).id
