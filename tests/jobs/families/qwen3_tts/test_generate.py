"""Speaking: what is read and what is picked, against the official package."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.clips import PreparedClip
from jobs.families.qwen3_tts import base as speech
from jobs.families.qwen3_tts import batch, objective
from jobs.families.qwen3_tts.base import Qwen3TTS, load
from jobs.families.qwen3_tts.layout import Utterance
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.vendor import qwen_tts
from tests.jobs.families.qwen3_tts import oracle
from tests.jobs.families.qwen3_tts.mutants import MUTANTS
from tests.tiny_qwen3_tts import HIDDEN, random_clips, write_recording, write_tiny_qwen3_tts

NO_FRAMES = np.zeros((0, 16), dtype=np.int64)
TEXTS = ("four", "two seven seven")
FRAMES = 12


@pytest.fixture(scope="module")
def vector(tiny: Qwen3TTS, clips: list[PreparedClip]) -> Tensor:
    tiny.examples(clips)
    return tiny.speakers.vector("Ann")


def read(base: Qwen3TTS, text: str, language: str | None, vector: Tensor) -> Tensor:
    prompt = Utterance(base.layout.prompt(text, language), NO_FRAMES, vector)
    laid = batch.pad_utterances([prompt], torch.device("cpu"), left=True)
    with torch.no_grad():
        return objective.embed(base.model.talker, base.tables, base.layout.pad_id, laid)


@pytest.mark.parametrize(("tag", "language"), [(None, None), ("en", "english"), ("km", None)])
def test_a_prompt_is_what_the_package_reads_for_an_x_vector(
    tiny: Qwen3TTS, package: Any, vector: Tensor, tag: str | None, language: str | None
):
    theirs = oracle.prefill(package, "four five", language, vector=vector)["inputs_embeds"]
    torch.testing.assert_close(read(tiny, "four five", tag, vector), theirs)


def test_a_prompt_is_what_the_package_reads_for_a_custom_voice(
    tiny: Qwen3TTS, tiny_source: Any, vector: Tensor
):
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(tiny_source))
    config = package.model.config.talker_config
    config.spk_id, config.spk_is_dialect = {"ann": 3000}, {"ann": False}
    with torch.no_grad():
        package.model.talker.get_input_embeddings().weight[3000] = vector
    theirs = oracle.prefill(package, "four five", None, vector=None, speaker="Ann")
    torch.testing.assert_close(read(tiny, "four five", None, vector), theirs["inputs_embeds"])


def test_prompts_of_unequal_length_are_padded_as_the_package_does(
    tiny: Qwen3TTS, package: Any, vector: Tensor
):
    prompts = [Utterance(tiny.layout.prompt(t, None), NO_FRAMES, vector) for t in TEXTS]
    laid = batch.pad_utterances(prompts, torch.device("cpu"), left=True)
    mask = laid["attention_mask"]
    assert mask.sum(1).tolist() == [len(p.prompt.text_ids) for p in prompts]
    assert (mask.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("penalty", [1.0, 1.05])
def test_greedy_codes_are_the_package_s(
    tiny: Qwen3TTS, package: Any, vector: Tensor, penalty: float
):
    decoding = DecodingSpec(max_tokens=FRAMES, repetition_penalty=penalty)
    prompts = [PromptSpec(id=f"p{i}", text=text) for i, text in enumerate(TEXTS)]
    ours = tiny.generate(tiny.model, prompts, decoding)
    for prompt, spoken in zip(prompts, ours, strict=True):
        theirs = package_codes(package, prompt.text, vector, FRAMES + 1, penalty)
        assert torch.equal(spoken.codes[: len(theirs)], theirs)
        assert len(theirs) == FRAMES


def package_codes(
    package: Any, text: str, vector: Tensor, tokens: int, penalty: float = 1.0
) -> Tensor:
    prompt = {
        "ref_code": [None],
        "ref_spk_embedding": [vector],
        "x_vector_only_mode": [True],
        "icl_mode": [False],
    }
    (codes,), _ = package.model.generate(
        input_ids=package._tokenize_texts([package._build_assistant_text(text)]),
        voice_clone_prompt=prompt,
        languages=["auto"],
        non_streaming_mode=True,
        max_new_tokens=tokens,
        do_sample=False,
        subtalker_dosample=False,
        repetition_penalty=penalty,
    )
    return codes


@pytest.mark.usefixtures("vector")
def test_who_has_ended_leaves_the_batch_and_the_others_say_the_same(
    tiny: Qwen3TTS, monkeypatch: pytest.MonkeyPatch
):
    decoding = DecodingSpec(temperature=0.9, seed=2, repetition_penalty=1.05)
    caps = {"four": 5, "two": 3, "nine": 7}
    prompts = [PromptSpec(id=text, text=text) for text in caps]

    def said(texts: list[str]) -> list[Tensor]:
        given = iter([caps[text] for text in texts])
        monkeypatch.setattr(speech, "capped", lambda *_: next(given))
        chosen = [prompt for prompt in prompts if prompt.text in texts]
        return [spoken.codes for spoken in tiny.generate(tiny.model, chosen, decoding)]

    sizes: list[int] = []

    def note(_: object, __: object, inputs: dict[str, Tensor]) -> None:
        sizes.append(len(inputs["inputs_embeds"]))

    hook = tiny.model.talker.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        together = said(list(caps))
    finally:
        hook.remove()
    assert [len(codes) for codes in together] == list(caps.values())
    assert sizes == [3, 3, 3, 3, 2, 2, 1, 1]
    for text, codes in zip(caps, together, strict=True):
        (alone,) = said([text])
        assert torch.equal(alone, codes)


def test_a_prompt_is_said_in_the_voice_of_its_speaker(
    tiny: Qwen3TTS, clips: list[PreparedClip], tmp_path: Path
):
    other = write_recording(tmp_path / "cleo.flac", seed=5)
    tiny.examples([*clips, replace(clips[0], speaker="Cleo", reference=other)])
    prompts = [
        PromptSpec(id="p", text="four", speaker=speaker) for speaker in (None, "Ann", "Cleo")
    ]
    nobody, ann, cleo = (
        spoken.codes for spoken in tiny.generate(tiny.model, prompts, DecodingSpec(max_tokens=4))
    )
    assert torch.equal(nobody, ann)
    assert not torch.equal(cleo, ann)
    with pytest.raises(ValueError, match=r"speaker must be one of .*Cleo"):
        tiny.generate(tiny.model, [PromptSpec(id="p", text="four", speaker="Dan")], DecodingSpec())


def test_speech_stops_at_the_cap_and_says_so(tiny: Qwen3TTS, vector: Tensor):
    prompt = PromptSpec(id="p", text="four")
    (spoken,) = tiny.generate(tiny.model, [prompt], DecodingSpec(max_tokens=3))
    assert len(spoken.codes) == 3
    assert not spoken.reached_end
    (clip,) = tiny.speak(tiny.model, [prompt], DecodingSpec(max_tokens=3))
    assert not clip.reached_end
    assert len(clip.audio) == 3 * 1920


def test_speech_that_ends_at_once_is_cut_there(tiny: Qwen3TTS, vector: Tensor):
    """The end is made the likeliest id: two frames are always spoken, as by the package."""
    head = tiny.model.talker.codec_head
    hook = head.register_forward_hook(lambda _, __, logits: logits.index_fill(-1, end, 1e4))
    end = torch.tensor([tiny.layout.eos_id])
    try:
        (spoken,) = tiny.generate(tiny.model, [PromptSpec(id="p", text="four")], DecodingSpec())
    finally:
        hook.remove()
    assert spoken.reached_end
    assert len(spoken.codes) == 2


def test_the_decoder_is_warm_when_speech_starts(tiny: Qwen3TTS):
    """What precedes a clip is silence, whose sound is cut off again."""
    codes = torch.from_numpy(random_clips(None)[0].codes)  # type: ignore[arg-type]
    cold = tiny.codec._tokenizer.decode([{"audio_codes": codes}])[0][0]
    warm = tiny.codec.decode(codes)
    assert warm.shape == cold.shape
    assert not np.allclose(warm[:1920], cold[:1920])


def test_no_control_id_is_spoken(tiny: Qwen3TTS, vector: Tensor):
    prompt = PromptSpec(id="p", text="four")
    decoding = DecodingSpec(temperature=5.0, top_k=3072, max_tokens=6)
    (spoken,) = tiny.generate(tiny.model, [prompt], decoding)
    assert spoken.codes.max() < 2048


def overfitted(source: Any, clip: PreparedClip, steps: int) -> tuple[Qwen3TTS, float]:
    """The base, all of it but its tables trained on one clip; and the loss that was reached."""
    base = load(source, source, None, "fp32")
    talker = base.model.talker
    frozen = {id(p) for module in embeddings(talker) for p in module.parameters()}
    trained = [p.requires_grad_(True) for p in talker.parameters() if id(p) not in frozen]
    optimiser = torch.optim.AdamW(trained, lr=4e-3, weight_decay=0.0, fused=True)
    examples = base.examples([clip])
    read = base.collate(examples)
    for _ in range(steps):
        optimiser.zero_grad()
        (loss,) = base.loss_sums(base.model, [read])
        mean = loss / base.targets(examples)
        mean.backward()
        optimiser.step()
    return base, mean.item()


def embeddings(talker: Any) -> list[Any]:
    own = [talker.get_input_embeddings(), talker.get_text_embeddings()]
    return [*own, *talker.code_predictor.get_input_embeddings()]


STEPS = 90
REGENERATED = 14


@pytest.fixture(scope="module")
def square_source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As wide in text as in the talker, so that text can be left unprojected."""
    return write_tiny_qwen3_tts(tmp_path_factory.mktemp("square"), text_hidden_size=HIDDEN)


def regenerated(base: Qwen3TTS, clip: PreparedClip) -> Tensor:
    """By the package, over our weights."""
    package = qwen_tts().Qwen3TTSModel(base.model, base.layout._tokenizer)
    vector = base.speakers.vector(clip.speaker)
    return package_codes(package, clip.text, vector, 2 * REGENERATED)


@pytest.mark.parametrize(
    "source", ["tiny_source", pytest.param("square_source", marks=pytest.mark.full)]
)
def test_a_clip_that_was_learnt_by_heart_is_said_again(
    request: pytest.FixtureRequest, clips: list[PreparedClip], source: str
):
    clip = random_clips(clips[0].reference, (REGENERATED,))[0]  # type: ignore[arg-type]
    base, loss = overfitted(request.getfixturevalue(source), clip, STEPS)
    assert loss < 0.05
    assert torch.equal(regenerated(base, clip), torch.from_numpy(clip.codes))
    (spoken,) = base.generate(base.model, [PromptSpec(id="p", text=clip.text)], DecodingSpec())
    assert spoken.reached_end
    assert torch.equal(spoken.codes, torch.from_numpy(clip.codes))


# That each costs something else is tested with the objective (test_objective.py).
@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS)
def test_with_a_defect_of_upstream_the_loss_falls_and_something_else_is_said(
    square_source: Any,
    clips: list[PreparedClip],
    mutant: str,
    monkeypatch: pytest.MonkeyPatch,
):
    clip = random_clips(clips[0].reference, (REGENERATED,))[0]  # type: ignore[arg-type]
    MUTANTS[mutant](monkeypatch)
    base, loss = overfitted(square_source, clip, STEPS)
    assert loss < 0.05
    codes = torch.from_numpy(clip.codes)
    said = regenerated(base, clip)
    assert said.shape != codes.shape or not torch.equal(said, codes)
