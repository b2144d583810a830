"""The protocol holds what is measured, what is left out, and what the prompts say of themselves."""

import pytest

from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import PromptSpec, TrialSpec, Variant
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import TrialRecord
from orchestrator.report.report_input import short
from orchestrator.scores.from_ledger import protocol_for, variant_info
from orchestrator.verdict.protocol import Protocol
from orchestrator.workers.preparation import Prepared

PROMPTS = [PromptSpec(id="a", text="one", language="km", speaker="Sokha")]
FRESH = [PromptSpec(id=f"b{i}", text=f"fresh {i}") for i in range(8)]
PREPARED = Prepared("base", "data", "encoder")


@pytest.fixture
def spec(make_spec):
    return make_spec(
        scoring="scoring:\n  primary: similarity\n"
        "  min_effect: 0.05\n  metrics:\n    - similarity\n"
        "    - {name: wavlm_similarity, model: no/such, required: false}\n"
        "  finalist_metrics:\n    - dnsmos_ovrl\n"
        "    - {name: whisper_word_error, model: no/such, language: en, required: false}"
    )


def test_what_is_not_required_and_not_there_is_left_out_with_its_reason(spec):
    protocol = protocol_for(spec, PROMPTS, FRESH, PREPARED)
    assert [metric.name for metric in protocol.metrics] == [
        "similarity",
        "end_of_speech_failure",
        "duration",
        "tail_silence",
        "clipping",
        "dnsmos_ovrl",
    ]
    assert protocol.finalist_metrics == ("dnsmos_ovrl",)
    assert [omitted.name for omitted in protocol.omitted] == [
        "wavlm_similarity",
        "whisper_word_error",
    ]
    for omitted in protocol.omitted:
        assert omitted.reason.startswith("a model must be a directory or in the hub's cache")
        assert "run `hf download no/such " in omitted.reason
    assert Protocol.model_validate_json(protocol.model_dump_json()) == protocol


def test_what_is_required_is_never_left_out(spec):
    required = tuple(m.model_copy(update={"required": True}) for m in spec.scoring.metrics)
    scoring = spec.scoring.model_copy(update={"metrics": required})
    with pytest.raises(ScorerUnavailable, match="wavlm_similarity cannot be"):
        protocol_for(spec.model_copy(update={"scoring": scoring}), PROMPTS, FRESH, PREPARED)


def test_the_version_is_that_of_the_options(make_spec, tmp_path):
    from tests.jobs.metrics.tiny_models import write_wavlm  # seconds to import

    model = write_wavlm(tmp_path / "wavlm")
    spec = make_spec(
        scoring="scoring:\n  primary: similarity\n"
        "  min_effect: 0.05\n  metrics:\n    - similarity\n"
        "    - {name: wavlm_similarity, model: ./wavlm}"
    )
    protocol = protocol_for(spec, PROMPTS, FRESH, PREPARED)
    expected = metric_of(MetricSpec(name="wavlm_similarity", model=str(model))).version
    assert protocol.judged_metrics()["wavlm_similarity"].version == expected
    assert protocol.omitted == ()


def test_losses_by_group_and_the_mix_go_with_a_variant(spec):
    training = spec.training_for({"rank": 4, "learning_rate": 2e-4, "mix": "mixed"})
    trial = TrialSpec(
        family="codec_lm", base_digest="b", data_digest="d", training=training, engine=spec.engine
    )
    by_group = {"language/km": 1.5, "language/ko": 2.5}
    losses = EpochLosses(1, 3.0, 2.0, (3.0,), (0.1,), 1.0, 1e9, by_group)
    variant = Variant(trial=trial.id, epoch=1, lora_scale=1.0)
    info = variant_info(variant, TrialRecord(trial.id, 0, {"rank": 4}, trial), losses)
    assert (info.validation_loss, info.group_losses) == (2.0, by_group)
    assert info.name == f"the checkpoint of trial {info.trial}, epoch 1, at lora_scale 1"
    assert info.recipe == "rank 4, learning rate 2e-4, mix mixed"
    assert short(info) == "r4 · 2e-4 · mixed · e1 · ×1"


def test_prompts_keep_their_language_and_speaker(spec):
    protocol = protocol_for(spec, PROMPTS, FRESH, PREPARED)
    assert [prompt.spec for prompt in protocol.prompts] == PROMPTS
    assert [prompt.spec for prompt in protocol.confirmation] == FRESH
