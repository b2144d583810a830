"""What is trained is what is spoken: teacher forcing and generation are one distribution."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.clips import PreparedClip
from jobs.codecs.codec import load_codec
from jobs.families import codec_lm, layout
from jobs.families.base import AdapterExtras, Batch
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import IGNORED_LABEL, Example
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.jobs.codecs.tiny_neucodec import write_neucodec
from tests.toy import (
    ToneCodec,
    toy_base,
    toy_clips,
    toy_clips_behind_a_reference,
    toy_trial,
)

NATS_PER_TARGET = 1e-5
GREEDY = DecodingSpec()
SAMPLED = DecodingSpec(temperature=1.0, top_k=20, seed=3)
PROMPTS = [
    PromptSpec(id="p1", text="one"),
    PromptSpec(id="p2", text="nine eight seven six"),
    PromptSpec(id="p3", text="four two"),
    PromptSpec(id="p4", text="three three"),
]


@pytest.fixture(scope="module")
def base() -> CodecLM:
    return toy_base()


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    clips = toy_clips(count=6)
    assert len({len(clip.codes) for clip in clips}) > 1
    return clips


def speech_of(example: Example) -> list[int]:
    return [label for label in example.labels if label != IGNORED_LABEL]


@torch.inference_mode()
def stepwise_nll(base: CodecLM, clip: PreparedClip) -> float:
    """What generating the clip's tokens costs: one token at a time, through the KV cache."""
    example = base.examples([clip])[0]
    prompt, _ = base.request(PromptSpec(id="p", text=clip.text, speaker=clip.speaker), GREEDY)
    output = base.model(input_ids=torch.tensor([prompt]), use_cache=True)
    total = 0.0
    for token in speech_of(example):
        total -= output.logits[0, -1].double().log_softmax(-1)[token].item()
        output = base.model(
            input_ids=torch.tensor([[token]]),
            past_key_values=output.past_key_values,
            use_cache=True,
        )
    return total


Edit = Callable[[Batch, CodecLM], Tensor]
"""The labels that a wrong objective would use."""


@torch.inference_mode()
def disagreement(base: CodecLM, clips: list[PreparedClip], edit: Edit | None = None) -> float:
    """Teacher-forced minus stepwise NLL of a padded batch, in nats per target."""
    examples = base.examples(clips)
    batch = base.collate(examples)
    if edit is not None:
        batch = {**batch, "labels": edit(batch, base)}
    stepwise = sum(stepwise_nll(base, clip) for clip in clips)
    (teacher_forced,) = base.loss_sums(base.model, [batch])
    difference = teacher_forced.item() - stepwise
    return abs(difference) / base.targets(examples)


def shifted(labels: Tensor, by: int) -> Tensor:
    ignored = torch.full_like(labels, IGNORED_LABEL)
    if by > 0:
        ignored[:, :-by] = labels[:, by:]
    else:
        ignored[:, -by:] = labels[:, :by]
    return ignored


MUTANTS: dict[str, Edit] = {
    # Labels that are shifted already, given to a loss that shifts: two codes ahead.
    "double shift": lambda batch, base: shifted(batch["labels"], 1),
    # Every position learns to repeat its own token.
    "no shift": lambda batch, base: shifted(batch["labels"], -1),
    "prompt not masked": lambda batch, base: torch.where(
        batch["attention_mask"] == 1, batch["input_ids"], IGNORED_LABEL
    ),
    # As NeuTTS's script has it: what is always given is learned as well.
    "START is a target": lambda batch, base: torch.where(
        batch["input_ids"] == base.stream.prompt_ids("one")[-1],
        batch["input_ids"],
        batch["labels"],
    ),
    # What a clip that is cut to a limit teaches: never to stop.
    "a clip is cut, END and all": lambda batch, base: batch["labels"].index_fill(
        1, torch.arange(batch["labels"].shape[1] - 4, batch["labels"].shape[1]), IGNORED_LABEL
    ),
    "END is no target": lambda batch, base: batch["labels"].masked_fill(
        batch["labels"] == base.stream.end_id, IGNORED_LABEL
    ),
    "padding not masked": lambda batch, base: torch.where(
        batch["attention_mask"] == 1, batch["labels"], base.stream.pad_id
    ),
}


def test_teacher_forced_likelihood_is_that_of_generating(base: CodecLM, clips: list[PreparedClip]):
    assert disagreement(base, clips) < NATS_PER_TARGET


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_it_is_so_for_every_architecture(clips: list[PreparedClip], architecture: str):
    base = toy_base(architecture=architecture, tied=False)
    assert base.model.config.model_type == architecture
    assert disagreement(base, clips) < NATS_PER_TARGET
    assert disagreement(base, clips, MUTANTS["no shift"]) > 1000 * NATS_PER_TARGET


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_it_is_so_behind_a_reference(architecture: str):
    base = toy_base(architecture=architecture, tied=False, reference_prefix=True)
    clips = toy_clips_behind_a_reference()
    base.fit_speakers(clips)
    others = [clip for clip in clips if not clip.is_reference]
    assert disagreement(base, others) < NATS_PER_TARGET
    assert disagreement(base, others, learn_the_reference) > 1000 * NATS_PER_TARGET


def learn_the_reference(batch: Batch, base: CodecLM) -> Tensor:
    """Its codes are targets, as if they were the clip's."""
    codes = torch.isin(batch["input_ids"], torch.from_numpy(base.stream.code_ids))
    return torch.where(codes, batch["input_ids"], batch["labels"])


def test_a_reference_is_read_and_never_learned():
    base = toy_base(reference_prefix=True)
    clips = toy_clips_behind_a_reference()
    chosen = clips[1]
    base.fit_speakers(clips)
    plain = toy_base(reference_prefix=True)
    for clip, example in zip(clips, base.examples(clips), strict=True):
        speech = speech_of(example)
        assert base.stream.codes(speech).tolist() == clip.codes.tolist()
        assert speech[-1] == base.stream.end_id
        prompt = example.input_ids[: -len(speech)]
        assert example.labels == [IGNORED_LABEL] * len(prompt) + speech
        before = base.stream.codes(prompt).tolist()
        if clip.is_reference:
            assert before in [c.codes.tolist() for c in clips if c.split == "train"]
            assert before != chosen.codes.tolist()
            continue
        assert before == chosen.codes.tolist()
        # As NeuTTS has it: both texts, START, the reference's codes, and the clip's.
        of_both = plain.stream.prompt_ids(f"{chosen.text} {clip.text}")
        codes = base.stream.code_ids[chosen.codes].tolist()
        assert prompt == of_both + codes
        assert heard_by(base, PromptSpec(id="p", text=clip.text)) == prompt


def test_a_reference_is_not_spoken_and_comes_with_the_adapter():
    clips = toy_clips_behind_a_reference()
    base, other = (toy_base(reference_prefix=True) for _ in range(2))
    base.fit_speakers(clips)
    extras = base.adapter_extras()
    assert extras is not None
    told = json.loads(json.dumps(extras.facts))
    other.load_extras(AdapterExtras({}, told))
    for prompt in PROMPTS:
        (ids,) = base.generate(base.model, [prompt], SAMPLED)
        (clip,) = other.speak(other.model, [prompt], SAMPLED)
        codes = base.stream.codes(ids).tolist()
        assert 0 < len(codes) <= len(ids)
        np.testing.assert_array_equal(clip.audio, ToneCodec().decode(codes))
    changed = [
        replace(clip, codes=clip.codes[::-1]) if clip.is_reference else clip for clip in clips
    ]
    other = toy_base(reference_prefix=True)
    other.fit_speakers(changed)
    said = [one.generate(one.model, PROMPTS, GREEDY) for one in (base, other)]
    assert said[0] != said[1]


def test_each_speaker_has_a_reference_and_others_are_refused():
    base = toy_base(reference_prefix=True)
    clips = toy_clips_behind_a_reference(count=8, validation=0)
    of_both = [replace(c, speaker=("amy", "bea")[at > 3]) for at, c in enumerate(clips)]
    of_both[6] = replace(of_both[6], is_reference=True)
    base.fit_speakers(of_both)
    first, second = (
        base.stream.codes(base.examples([of_both[at]])[0].input_ids).tolist() for at in (0, 7)
    )
    assert first[: len(clips[1].codes)] == clips[1].codes.tolist()
    assert second[: len(clips[6].codes)] == clips[6].codes.tolist()
    prompts = [PromptSpec(id="p", text="six", speaker=name) for name in ("amy", None, "bea")]
    amy, nobody, bea = (heard_by(base, prompt) for prompt in prompts)
    assert amy == nobody != bea
    with pytest.raises(ValueError, match="none of zoe; it must be one of: amy, bea"):
        heard_by(base, PromptSpec(id="p", text="six", speaker="zoe"))
    with pytest.raises(ValueError, match="it must be one of: none"):
        heard_by(toy_base(reference_prefix=True), PromptSpec(id="p", text="six"))


def test_a_clip_without_a_reference_or_behind_one_too_long_is_refused():
    clips = toy_clips_behind_a_reference()
    base = toy_base(reference_prefix=True)
    with pytest.raises(ValueError, match="has 4 training clips and no reference"):
        base.fit_speakers([replace(clip, is_reference=False) for clip in clips])
    with pytest.raises(ValueError, match="has 1 training clips and a reference"):
        base.fit_speakers(clips[1:2])
    base.fit_speakers(clips)
    longest = max(map(len, base.examples(clips)))
    base.model.config.max_position_embeddings = longest
    base.fit_speakers(clips)
    base.model.config.max_position_embeddings = longest - 1
    with pytest.raises(ValueError, match=f"at most the {longest - 1} tokens .* is {longest}, of"):
        base.fit_speakers(clips)


def test_a_layout_with_markers_takes_no_reference():
    toy = toy_base()
    with pytest.raises(ValueError, match="must be false with a layout that has markers"):
        CodecLM(toy.model, toy.stream, toy.codec, None, None, "toy", reference_prefix=True)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_known_mistake_makes_the_parity_fail(
    base: CodecLM, clips: list[PreparedClip], mutant: str
):
    assert disagreement(base, clips, MUTANTS[mutant]) > 1000 * NATS_PER_TARGET


def test_loss_of_a_padded_batch_is_the_sum_of_its_clips(base: CodecLM, clips: list[PreparedClip]):
    examples = base.examples(clips)
    with torch.inference_mode():
        (together,) = base.loss_sums(base.model, [base.collate(examples)])
        alone = [base.loss_sums(base.model, [base.collate([e])])[0].item() for e in examples]
    assert abs(together.item() - sum(alone)) / base.targets(examples) < NATS_PER_TARGET


def test_targets_are_codes_markers_and_end(base: CodecLM, clips: list[PreparedClip]):
    # A marker is two tokens: an ordinal and the word.
    expected = [len(clip.codes) + 2 * len(clip.text.split()) + 1 for clip in clips]
    assert base.targets(base.examples(clips)) == sum(expected)


def heard_by(base: CodecLM, prompt: PromptSpec) -> list[int]:
    """The ids that the model is given to go on from."""
    seen: list[Tensor] = []
    hook = base.model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    try:
        base.generate(base.model, [prompt], GREEDY)
    finally:
        hook.remove()
    return seen[0][0].tolist()


def learned_by(base: CodecLM, clip: PreparedClip) -> list[int]:
    """The ids that stand before what a clip teaches."""
    (example,) = base.examples([clip])
    return example.input_ids[: example.labels.count(IGNORED_LABEL)]


@pytest.mark.parametrize("tag", [False, True], ids=["plain", "tagged"])
@pytest.mark.parametrize("speaker", [None, "bob", "a stranger"])
def test_a_prompt_is_read_as_a_clip_is(clips: list[PreparedClip], tag: bool, speaker: str | None):
    base = toy_base(language_tag=tag)
    clip = replace(clips[0], speaker=speaker, language="km")
    prompt = PromptSpec(id="p", text=clip.text, speaker=speaker, language="km")
    voice = "bob" if speaker == "bob" else "ann"
    expected = base.stream.prompt_ids(clip.text, voice, "km" if tag else None)
    assert heard_by(base, prompt) == learned_by(base, clip) == expected
    assert [said.text for said in base.speak(base.model, [prompt], GREEDY)] == [clip.text]


def test_phonemes_are_learned_and_spoken_alike(clips: list[PreparedClip], monkeypatch):
    toy = toy_base(language_tag=True)
    changed = {"front_end": "phonemes", "markers": None}
    stream = copy.copy(toy.stream)
    stream.layout = toy.stream.layout.model_copy(update=changed)
    base = CodecLM(toy.model, stream, toy.codec, None, None, "toy", language_tag=True)
    monkeypatch.setattr(layout, "phonemes", lambda text, language: f"{language} {text.upper()}")
    clip = replace(clips[0], language="de", word_starts=None)
    prompt = PromptSpec(id="p", text=clip.text, language="de")
    expected = stream.prompt_ids(f"de {clip.text.upper()}", "ann", "de")
    assert heard_by(base, prompt) == learned_by(base, clip) == expected
    assert [said.text for said in base.speak(base.model, [prompt], GREEDY)] == [clip.text]
    digest = base.encoder_digest
    assert digest != toy.encoder_digest
    monkeypatch.setattr(codec_lm, "ESPEAK_VERSION", "0.2.5")
    assert base.encoder_digest != digest


def test_a_tag_is_read_and_another_voice_is_another(clips: list[PreparedClip]):
    tagged, plain = toy_base(language_tag=True), toy_base()
    clip = replace(clips[0], language="km")
    assert len(learned_by(tagged, clip)) > len(learned_by(plain, clip))
    assert learned_by(plain, replace(clip, speaker="bob")) != learned_by(plain, clip)
    (with_tag,), (without,) = tagged.examples([clip]), plain.examples([clip])
    assert speech_of(with_tag) == speech_of(without)


def test_a_tag_of_no_language_is_refused(clips: list[PreparedClip]):
    base = toy_base(language_tag=True)
    with pytest.raises(ValueError, match="needs a language, but clip-000 has none"):
        base.examples(clips[:1])
    with pytest.raises(ValueError, match="needs a language, but p1 has none"):
        base.speak(base.model, PROMPTS[:1], GREEDY)


@pytest.mark.filterwarnings("ignore:.*generation flags:UserWarning")
def test_greedy_generation_is_that_of_hugging_face(base: CodecLM):
    written = base.generate(base.model, PROMPTS, GREEDY)
    for prompt, ours in zip(PROMPTS, written, strict=True):
        ids = torch.tensor([base.stream.prompt_ids(prompt.text)])
        theirs = base.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=base.stream.max_new_tokens(prompt.text),
            do_sample=False,
            eos_token_id=base.stream.end_id,
            pad_token_id=base.stream.pad_id,
        )
        assert ours == theirs[0, ids.shape[1] :].tolist()
    assert len({tuple(ids) for ids in written}) == len(PROMPTS)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_prompt_says_the_same_alone_and_in_company(base: CodecLM, decoding: DecodingSpec):
    together = base.generate(base.model, PROMPTS, decoding)
    alone = [base.generate(base.model, [prompt], decoding)[0] for prompt in PROMPTS]
    others = base.generate(base.model, [PROMPTS[2], PROMPTS[0]], decoding)
    assert together == alone
    assert others == [together[2], together[0]]


def test_who_has_ended_leaves_the_batch(base: CodecLM):
    sizes: list[int] = []

    def note(_: object, __: object, inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(len(inputs["input_ids"]))

    hook = base.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        lengths = [len(ids) for ids in base.generate(base.model, PROMPTS, SAMPLED, voices=2)]
    finally:
        hook.remove()
    assert len(set(lengths)) > 1
    assert sizes == [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_sampling_follows_its_seed(base: CodecLM):
    first = base.generate(base.model, PROMPTS, SAMPLED)
    assert base.generate(base.model, PROMPTS, SAMPLED) == first
    other = base.generate(base.model, PROMPTS, SAMPLED.model_copy(update={"seed": 4}))
    assert [a != b for a, b in zip(first, other, strict=True)].count(True) >= 3


def test_generation_without_an_end_stops_at_the_cap_and_says_so(base: CodecLM):
    clip = base.speak(base.model, PROMPTS[:1], GREEDY)[0]
    written = base.generate(base.model, PROMPTS[:1], GREEDY)[0]
    assert len(written) == base.stream.max_new_tokens(PROMPTS[0].text)
    assert base.stream.end_id not in written
    assert not clip.reached_end


@pytest.mark.usefixtures("process_group")
def test_an_overfitted_adapter_says_its_clips_back_and_stops():
    base = toy_base(hidden=64)
    train = [replace(clip, split="train") for clip in toy_clips(count=3, seed=5)]
    assert len({clip.text for clip in train}) == len(train)
    host = Host(base, [*train, replace(train[0], split="validation")], EngineSpec())
    spec = toy_trial(rank=32, learning_rate=5e-3, batch_size=3, epochs=80, dropout=0.0)
    host.attach("slot", spec)
    for _ in range(80):
        losses = host.advance("slot")
    assert losses.training_loss < 0.05
    prompts = [PromptSpec(id=clip.id, text=clip.text) for clip in train]
    voices = [AdapterUse("slot"), AdapterUse("slot", 0.0), AdapterUse(None)]
    spoken, silent, plain = host.speak(voices, prompts, GREEDY)
    for clip, said, example in zip(train, spoken, base.examples(train), strict=True):
        rows = host._adapters.rows
        with rows.owned_by([AdapterUse("slot")]), rows.share([1]):
            written = base.generate(base.model, [PromptSpec(id="x", text=clip.text)], GREEDY)
        assert written == [speech_of(example)]
        assert said.reached_end
        np.testing.assert_array_equal(said.audio, ToneCodec().decode(clip.codes.tolist()))
    # Without the adapter it says something else.
    for said, without, base_said in zip(spoken, silent, plain, strict=True):
        assert not np.array_equal(said.audio, without.audio)
        np.testing.assert_array_equal(without.audio, base_said.audio)


def test_a_codec_with_another_rate_of_speech(tmp_path):
    """NeuCodec's: recordings at 16 kHz, speech at 24 kHz, 50 codes a second."""
    toy = toy_base()
    codec = load_codec(write_neucodec(tmp_path / "codec"))
    base = CodecLM(toy.model, toy.stream, codec, None, None, "toy")
    assert (base.sample_rate, base.speech_rate) == (16_000, 24_000)
    assert base.encoder_digest != toy.encoder_digest
    codes, starts = base.encode(np.full(16_000, 0.1, dtype=np.float32), "one")
    assert (len(codes), starts) == (50, None)
    (clip,) = base.speak(base.model, PROMPTS[1:2], GREEDY)
    spoken = base.stream.codes(base.generate(base.model, PROMPTS[1:2], GREEDY)[0])
    assert clip.rate == 24_000
    assert len(clip.audio) == 480 * len(spoken)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED, DecodingSpec(max_tokens=3)])
def test_a_stream_is_the_clip_in_pieces(base: CodecLM, decoding: DecodingSpec):
    clips = base.speak(base.model, PROMPTS, decoding)
    counts = []
    for prompt, clip in zip(PROMPTS, clips, strict=True):
        pieces = [*base.speak_stream(base.model, prompt, decoding)]
        assert np.array_equal(np.concatenate([piece.audio for piece in pieces]), clip.audio)
        assert pieces[-1].reached_end == clip.reached_end
        assert {(piece.rate, piece.text) for piece in pieces} == {(clip.rate, clip.text)}
        counts.append(len(pieces))
    assert max(counts) > 2 or decoding.max_tokens


def test_the_first_piece_comes_before_the_last_token(base: CodecLM, monkeypatch):
    made, tokens = [], base.tokens
    monkeypatch.setattr(base, "tokens", lambda *a: (made.append(t) or t for t in tokens(*a)))
    stream = base.speak_stream(base.model, PROMPTS[1], GREEDY)
    next(stream)
    assert len(made) == 8
    assert len([*stream]) > 1
    assert len(made) > 8
