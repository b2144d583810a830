"""Memory and hours of cards that nothing was measured on, against numbers worked out by hand."""

import json
from pathlib import Path

import pytest

from jobs.data.clips import ManifestRow, TargetClip
from jobs.spec.trial import EngineSpec, TrainingSpec
from orchestrator.spec.cost import Range
from orchestrator.spec.model import BaseSpec, SweepSpec
from orchestrator.spec.worked_out import CARDS, SHARES, work_out

GPU = "resources: {gpus_per_rank: 1.0}"
RELEASED = BaseSpec(source="hub:openbmb/VoxCPM2")


def clips(*seconds: float) -> list[TargetClip]:
    """The last is held out; each text has ten characters for a second."""
    last = len(seconds) - 1
    return [
        TargetClip(
            ManifestRow(
                where=f"m:{at}",
                audio="a.wav",
                text="1" * round(10 * length),
                split="validation" if at == last else "train",
            ),
            "",
            16_000,
            length,
        )
        for at, length in enumerate(seconds)
    ]


def voxcpm2(spec: SweepSpec, **training: object) -> SweepSpec:
    """The spec for the released base."""
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    of = {"rank": 128, "targets": targets, **training}
    return spec.model_copy(
        update={
            "family": "voxcpm2",
            "base": RELEASED,
            "engine": EngineSpec(precision="bf16"),
            "training": TrainingSpec.model_validate(of),
            "search": spec.search.model_copy(update={"space": {}}),
        }
    )


def test_the_released_base_is_worked_out_without_any_file(make_spec):
    spec = voxcpm2(make_spec(resources=GPU), batch_size=4)
    some = clips(4.0, 8.0, 4.0)
    large, small = work_out(spec, some, epochs=10, trained=1000)
    assert (large.card, small.card) == ("A100 80GB", "RTX 4090")
    # 2,290,004,544 weights in two bytes, 94,213,954 in four, and 72,351,744 in sixteen.
    assert large.parts["base"] == pytest.approx(2 * 2.290004544, rel=1e-3)
    assert large.parts["codec"] == pytest.approx(0.376856, rel=1e-4)
    assert large.parts["adapter"] == pytest.approx(16 * 0.072351744, rel=1e-9)
    # Of 8 s and 80 tokens: 130 positions in 36 blocks, and 11 a patch in the decoder's 12.
    of_models = 130 * 36 * (4 * 2048 + 2 * 2048 + 2 * 256 + 4 * 6144)
    of_decoder = 50 * 11 * 12 * (4 * 1024 + 2 * 2048 + 2 * 256 + 4 * 4096)
    assert large.parts["activations"] == pytest.approx(4 * 2 * (of_models + of_decoder) / 1e9)
    assert large.memory == pytest.approx(sum(large.parts.values()))
    assert large.fits
    assert small.fits
    assert "8.0 s, a token a character" in large.how

    # Training clips of 6 s on average: 97.5 positions forward and back, the encoder forward alone.
    def of_clip(seconds: float, learning: int) -> float:
        positions, patches = 16.25 * seconds, 6.25 * seconds
        models = positions * 1_698_693_120 * learning
        return 2 * (models + patches * 207_618_048 * (11 * learning + 5))

    operations = 10 * (1000 * of_clip(6.0, 2) + of_clip(4.0, 1))
    for card, found in zip(CARDS, (large, small), strict=True):
        least = operations / (SHARES.high * card.peak["bf16"] * 1e12) / 3600
        assert found.hours.low == pytest.approx(least, rel=1e-9)
        assert found.hours.high == pytest.approx(40 * least, rel=1e-9)


def test_the_low_share_is_what_the_recipe_reached():
    """16 clips of 4.8 s (26 h in 19,375) at 1.07 steps a second on 989 TFLOP/s."""
    patches = 6.25 * 4.8
    # A text of as many tokens as patches, to the nearest guess that the paper allows.
    of_clip = 2 * (2 * patches * 1_698_693_120 * 2 + patches * 207_618_048 * 27)
    reached = 16 * 1.07 * of_clip / 989e12
    assert SHARES.low == pytest.approx(reached, abs=0.005)


def test_computing_again_takes_less_memory_and_more_time(make_spec):
    spec = voxcpm2(make_spec(resources=GPU))
    again = spec.model_copy(update={"engine": EngineSpec(gradient_checkpointing=True)})
    plain = spec.model_copy(update={"engine": EngineSpec()})
    less, more = (work_out(each, clips(4.0, 4.0), 1, 100)[0] for each in (again, plain))
    assert less.parts["activations"] < more.parts["activations"] / 5
    assert less.parts["adapter"] == more.parts["adapter"]
    assert more.hours.high < less.hours.high < 1.5 * more.hours.high


def test_a_decoder_of_its_own_rank_takes_that(make_spec):
    spec = make_spec(resources=GPU)
    (one, *_), (own, *_) = (
        work_out(voxcpm2(spec, dit_rank=rank), clips(4.0, 4.0), 1, 100) for rank in (None, 8)
    )
    less = one.parts["adapter"] - own.parts["adapter"]
    assert less == pytest.approx(16 * (128 - 8) * 12 * 8704 / 1e9)


def test_a_base_of_another_family_is_worked_out_from_its_config(make_spec, tmp_path: Path):
    """The head of a codec model is of all words and codes: its logits count."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "tie_word_embeddings": True,
    }
    spec = make_spec(resources=GPU, training="training: {rank: 2, batch_size: 3}")
    source = Path(__file__).parents[3] / "jobs" / "embedded" / "assets" / "base"
    for name in ("layout.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = spec.model_copy(update={"base": BaseSpec(source=str(tmp_path))})
    found, _ = work_out(spec, clips(0.6, 0.6), 1, 10)
    of_a_block = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128
    assert found.parts["base"] == pytest.approx(4 * (2 * of_a_block + 64_000) / 1e9)
    # The search goes to rank 4: in and out of seven layers.
    sums = 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))
    assert found.parts["adapter"] == pytest.approx(16 * 4 * sums / 1e9)
    frames = 0.6 * 25
    assert found.parts["activations"] > 3 * frames * 1000 * 12 / 1e9
    assert "tokens a character" in found.how


def test_nothing_is_claimed_where_nothing_is_known(make_spec):
    assert work_out(make_spec(), clips(2.0, 2.0), 1, 10) == ()
    elsewhere = voxcpm2(make_spec(resources=GPU)).model_copy(
        update={"base": BaseSpec(source="hub:nobody/nothing")}
    )
    assert work_out(elsewhere, clips(2.0, 2.0), 1, 10) == ()
    assert Range(0.01, 0.4) == SHARES
