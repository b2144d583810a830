"""Trained rows of tokens: PEFT's values and gradients, the slot's own in a pack, the base at 0."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from cluster.storage.base import LocalStorage
from jobs.clips import PreparedClip
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import IGNORED_LABEL
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.adapter import Adapters
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from jobs.training.token_rows import TokenEmbedding
from tests.row_products import rows_are_independent
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

STEPS = 6
ROUNDING = 1e-5
Weights = Mapping[str, Tensor]
ROWS = {"speech_rows": "trained"}


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    return toy_clips(count=12, validation=2)


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.full)], ids=["tied", "untied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def new_base(tied: bool = True) -> CodecLM:
    return toy_base(hidden=64, layers=1, tied=tied)


def trials() -> dict[str, TrialSpec]:
    shared = {"dropout": 0.1, "epochs": 40}
    return {
        "rows": toy_trial(**ROWS, **shared, rank=8, batch_size=2, seed=1, weight_decay=0.1),
        "plain": toy_trial(**shared, rank=4, batch_size=3, seed=2),
        "more": toy_trial(**ROWS, **shared, rank=2, batch_size=1, seed=3, accumulation=2),
    }


def packed(host: Host, names: list[str], passes: int) -> dict[str, Weights]:
    for name in names:
        host.attach(name, trials()[name])
    for _ in range(passes):
        assert host.step(names) == {}
        for name in names:
            if host.epoch_is_over(name):
                host.end_epoch(name)
    weights = {name: host.weights(name) for name in names}
    for name in names:
        host.detach(name)
    return weights


def difference(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max((one[key] - other[key]).abs().max().item() for key in one)


def rows_of(weights: Weights) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in weights.items() if "trainable_tokens" in key}


def test_a_pack_equals_each_alone_to_the_last_bit(clips: list[PreparedClip], tied: bool):
    host = Host(new_base(tied), clips, EngineSpec())
    together = packed(host, list(trials()), STEPS)
    for name, weights in together.items():
        tolerance = 0.0 if rows_are_independent() else ROUNDING
        assert difference(weights, packed(host, [name], STEPS)[name]) <= tolerance
    before = rows_of(together["rows"])
    assert len(before) == (1 if tied else 2)
    assert rows_of(together["plain"]) == {}
    base, fresh = host.base, new_base(tied)
    assert isinstance(base, CodecLM)
    for values in before.values():
        assert len(values) == len(base.speech_ids)
    embedded = fresh.model.get_input_embeddings().weight[sorted(base.speech_ids)]
    learned = together["rows"][
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    ]
    assert (learned - embedded).abs().max() > 1e-3


def test_without_slots_the_model_is_the_base(clips: list[PreparedClip]):
    base = new_base()
    layers = [base.model.get_input_embeddings(), base.model.get_output_embeddings()]
    adapters = Adapters(base)
    for name in ("one", "other"):
        adapters.add(name, TrainingSpec(rank=2, **ROWS))
    assert isinstance(base.model.get_input_embeddings(), TokenEmbedding)
    for name in ("one", "other"):
        adapters.remove(name)
    assert [base.model.get_input_embeddings(), base.model.get_output_embeddings()] == layers


def spread(parameters: Mapping[str, nn.Parameter]) -> None:
    draw = torch.Generator().manual_seed(1)
    for key in sorted(parameters):
        parameters[key].data += 0.1 * torch.randn(parameters[key].shape, generator=draw)


def by_peft(tied: bool) -> tuple[PeftModel, dict[str, nn.Parameter]]:
    base = new_base(tied)
    base.model.set_attn_implementation("sdpa")
    ids = sorted(base.speech_ids)
    model = get_peft_model(
        base.model,
        LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj", "up_proj"],
            trainable_token_indices={"embed_tokens": ids} | ({} if tied else {"lm_head": ids}),
        ),
    )
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return model, {
        n.removesuffix(".default").replace(".default.", "."): p for n, p in named.items()
    }


def test_losses_and_gradients_are_those_of_peft(clips: list[PreparedClip], tied: bool):
    base = new_base(tied)
    adapters = Adapters(base)
    training = TrainingSpec(rank=4, dropout=0.0, targets=("q_proj", "up_proj"), **ROWS)
    adapters.add("slot", training)
    ours = adapters.parameters("slot")
    spread(ours)
    batch = base.collate(base.examples(clips[:4]))
    with adapters.rows.owned_by([AdapterUse("slot")]):
        (loss,) = base.loss_sums(base.model, [batch], adapters.rows.share)
    loss.backward()
    model, theirs = by_peft(tied)
    assert ours.keys() == theirs.keys()
    theirs = {key: theirs[key] for key in ours}
    spread(theirs)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        batch["labels"][:, 1:].flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for key, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, theirs[key].grad, rtol=1e-3, atol=1e-4)


def test_a_written_adapter_is_what_peft_loads(clips: list[PreparedClip], tied: bool, tmp_path):
    base = new_base(tied)
    adapters = Adapters(base)
    adapters.add("slot", TrainingSpec(rank=4, **ROWS))
    parameters = adapters.parameters("slot")
    spread(parameters)
    weights = {key: p.detach() for key, p in parameters.items()}
    adapters.saved("slot", weights, None).write(tmp_path)
    ids = torch.tensor([base.examples(clips)[0].input_ids])
    with torch.no_grad(), adapters.rows.owned_by([AdapterUse("slot")]), adapters.rows.share([1]):
        ours = base.model(input_ids=ids).logits
    theirs = PeftModel.from_pretrained(new_base(tied).model, str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=ids).logits, atol=1e-4, rtol=0)
        merged = theirs.merge_and_unload()(input_ids=ids).logits
        torch.testing.assert_close(ours, merged, atol=1e-4, rtol=0)


def test_at_a_strength_the_rows_are_between_the_bases_and_the_trained(tied: bool):
    base = new_base(tied)
    adapters = Adapters(base)
    adapters.add("slot", TrainingSpec(rank=4, targets=("q_proj",), **ROWS))  # whose B is 0
    changed = new_base(tied)
    layers = [changed.model.get_input_embeddings(), changed.model.get_output_embeddings()]
    rows = sorted(base.speech_ids)
    originals = [layer.weight.detach()[rows].clone() for layer in layers]
    values = list(rows_of(adapters.parameters("slot")).values())
    for parameter in values:
        parameter.data += 0.3
    ids = torch.arange(30)[None]
    told = []
    for scale in (0.0, 0.5, 1.0, 1.3):
        for layer, original, own in zip(layers, originals, values * 2, strict=False):
            layer.weight.data[rows] = torch.lerp(original, own.detach(), scale)
        owners = [AdapterUse("slot", scale), AdapterUse(None)]
        with torch.no_grad(), adapters.rows.owned_by(owners), adapters.rows.share([1, 1]):
            own, plain = base.model(input_ids=ids.repeat(2, 1)).logits
        expected, _ = changed.model(input_ids=ids.repeat(2, 1)).logits
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)
        told.append(torch.equal(own, plain))
    assert told == [True, False, False, False]


@torch.no_grad()
def test_what_is_trained_is_what_is_spoken(clips: list[PreparedClip], tied: bool):
    """Teacher forcing and one token at a time, with rows of the slot's own."""
    base = new_base(tied)
    adapters = Adapters(base)
    adapters.add("slot", TrainingSpec(rank=4, **ROWS))
    spread(adapters.parameters("slot"))
    example = base.examples(clips)[0]
    speech = [label for label in example.labels if label != IGNORED_LABEL]
    prompt = example.input_ids[: -len(speech)]
    with adapters.rows.owned_by([AdapterUse("slot")]):
        (forced,) = base.loss_sums(base.model, [base.collate([example])], adapters.rows.share)
        with adapters.rows.share([1]):
            output = base.model(input_ids=torch.tensor([prompt]), use_cache=True)
            stepwise = 0.0
            for token in speech:
                stepwise -= output.logits[0, -1].log_softmax(-1)[token].item()
                cache = output.past_key_values
                output = base.model(
                    input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True
                )
    assert forced.item() == pytest.approx(stepwise, abs=1e-5 * len(speech))


def test_resumed_equals_uninterrupted(clips: list[PreparedClip], tmp_path):
    host = Host(new_base(), clips, EngineSpec())
    host.attach("whole", trials()["rows"])
    host.advance("whole")
    storage = LocalStorage(tmp_path)
    with storage.commit("kept") as directory:
        host.snapshot("whole").write(directory, None)
    host.advance("whole")
    again = Host(new_base(), clips, EngineSpec(), storage)
    again.attach("resumed", trials()["rows"], "kept")
    again.advance("resumed")
    assert difference(again.weights("resumed"), host.weights("whole")) == 0.0


def test_rows_do_not_decay():
    """A decay would pull them to 0, while it pulls an adapter to the base."""
    clips = toy_clips(count=4, validation=1)
    moved = []
    for decay in (0.0, 0.5):
        host = Host(new_base(), clips, EngineSpec())
        host.attach("slot", toy_trial(**ROWS, weight_decay=decay, batch_size=3, dropout=0.0))
        host.step(["slot"])
        moved.append(host.weights("slot"))
    assert difference(rows_of(moved[0]), rows_of(moved[1])) == 0.0
    assert difference(moved[0], moved[1]) > 0.0


def test_speech_is_that_of_the_trained_rows_in_a_batch_of_voices(clips: list[PreparedClip]):
    host = Host(new_base(), clips, EngineSpec())
    for name in ("rows", "plain"):
        host.attach(name, trials()[name])
    for parameter in rows_of(host._adapters.parameters("rows")).values():
        parameter.data += 0.3
    prompts = [PromptSpec(id="p", text="two five")]
    voices = [AdapterUse("rows"), AdapterUse("plain"), AdapterUse("rows", 0.0), AdapterUse(None)]
    together = host.speak(voices, prompts, DecodingSpec())
    for voice, (clip,) in zip(voices, together, strict=True):
        ((alone,),) = host.speak([voice], prompts, DecodingSpec())
        np.testing.assert_array_equal(clip.audio, alone.audio)
    (own,), _, (at_0,), (plain,) = together
    assert own.audio.tolist() != plain.audio.tolist()
    np.testing.assert_array_equal(at_0.audio, plain.audio)


@pytest.mark.parametrize(
    "stage", [pytest.param(1, marks=pytest.mark.full), pytest.param(2, marks=pytest.mark.full), 3]
)
def test_every_zero_stage_trains_and_speaks_the_same(clips: list[PreparedClip], stage: int):
    trial = toy_trial(**ROWS, batch_size=3, dropout=0.0)
    told = []
    for engine in (EngineSpec(), EngineSpec(zero_stage=stage)):
        host = Host(new_base(), clips[:6], engine)
        host.attach("slot", trial)
        for _ in range(2):
            host.step(["slot"])
        ((half,),) = host.speak(
            [AdapterUse("slot", 0.5)], [PromptSpec(id="p", text="six")], DecodingSpec(max_tokens=4)
        )
        told.append((host.weights("slot"), half.audio.tolist()))
        host.detach("slot")
    assert difference(told[0][0], told[1][0]) <= ROUNDING
    assert told[0][1] == told[1][1]
