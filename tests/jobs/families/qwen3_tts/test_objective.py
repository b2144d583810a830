"""The objective against the official package's own generation, step by step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.audio.files import read_audio
from jobs.clips import PreparedClip
from jobs.families.base import LossTerms
from jobs.families.qwen3_tts.base import Qwen3TTS, load
from jobs.vendor import qwen_tts
from tests.jobs.families.qwen3_tts import oracle
from tests.jobs.families.qwen3_tts.mutants import MUTANTS
from tests.tiny_qwen3_tts import HIDDEN, recording, write_tiny_qwen3_tts

OTHERS = 15
"""Codebooks after the first."""


def expected(base: Qwen3TTS, package: Any, clip: PreparedClip, weight: float = 0.3) -> float:
    """A clip's loss, as the issue writes it, times its targets; by the package's own steps."""
    language = None if clip.language is None else "english"
    vector = base.speakers.vector(clip.speaker)
    first, others = oracle.losses(package, clip, vector, language)
    frames = len(clip.codes)
    return first + weight * (frames + 1) * others / (frames * OTHERS)


def loss(base: Qwen3TTS, clips: list[PreparedClip], terms: LossTerms | None = None) -> float:
    read = base.collate(base.examples(clips), terms or LossTerms())
    with torch.no_grad():
        return base.loss_sums(base.model, [read])[0].item()


@pytest.mark.parametrize("language", [None, "en"])
def test_the_loss_of_a_padded_batch_is_what_generation_would_pay(
    tiny: Qwen3TTS, package: Any, clips: list[PreparedClip], language: str | None
):
    spoken = [replace(clip, language=language) for clip in clips]
    read = tiny.collate(tiny.examples(spoken))
    assert not read["attention_mask"].all()
    whole = sum(expected(tiny, package, clip) for clip in spoken)
    assert loss(tiny, spoken) == pytest.approx(whole, rel=1e-5)


def test_each_loss_by_itself_is_what_generation_would_pay(
    tiny: Qwen3TTS, package: Any, clips: list[PreparedClip]
):
    for clip in clips:
        first, others = oracle.losses(package, clip, tiny.speakers.vector("Ann"))
        alone = loss(tiny, [clip], LossTerms(acoustic_weight=0))
        assert alone == pytest.approx(first, rel=1e-5)
        frames = len(clip.codes)
        rest = (loss(tiny, [clip], LossTerms(acoustic_weight=1)) - alone) / (frames + 1)
        assert rest == pytest.approx(others / (frames * OTHERS), rel=1e-5)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> tuple[Qwen3TTS, Any]:
    """A base whose text and talker are as wide as each other, as in 1.7B, and its twin."""
    source = write_tiny_qwen3_tts(tmp_path_factory.mktemp("square"), text_hidden_size=HIDDEN)
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(source))
    return load(source, source, None, "fp32"), package


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_defect_of_upstream_costs_something_else(
    square: tuple[Qwen3TTS, Any],
    clips: list[PreparedClip],
    mutant: str,
    monkeypatch: pytest.MonkeyPatch,
):
    base, package = square
    base.examples(clips)
    whole = sum(expected(base, package, clip) for clip in clips)
    assert loss(base, clips) == pytest.approx(whole, rel=1e-5)
    MUTANTS[mutant](monkeypatch)
    assert loss(base, clips) != pytest.approx(whole, rel=1e-4)


def test_text_that_is_not_projected_does_not_fit_the_small_model(
    tiny: Qwen3TTS, clips: list[PreparedClip], monkeypatch: pytest.MonkeyPatch
):
    MUTANTS["forget_the_projection"](monkeypatch)
    with pytest.raises(RuntimeError):
        loss(tiny, clips)


def with_codes(clip: PreparedClip, frame: int, books: slice) -> PreparedClip:
    codes = clip.codes.copy()
    codes[frame, books] = (codes[frame, books] + 1) % 2048
    return replace(clip, codes=codes)


def test_a_frame_is_predicted_without_having_been_read(tiny: Qwen3TTS, clips: list[PreparedClip]):
    """Changing the last frame's later codes changes neither what precedes nor predicts it."""
    clip = clips[0]
    terms = LossTerms(acoustic_weight=0)
    last = len(clip.codes) - 1
    # Only the end of speech comes after the last frame.
    changed = with_codes(clip, last, slice(1, None))
    examples = tiny.examples([clip, changed])
    with torch.no_grad():
        pairs = []
        for example in examples:
            read = dict(tiny.collate([example], terms))
            read["target_at"], read["target"] = read["target_at"][:-1], read["target"][:-1]
            pairs.append(tiny.loss_sums(tiny.model, [read])[0])
    assert torch.equal(*pairs)
    assert loss(tiny, [clip], terms) != loss(tiny, [changed], terms)


def test_the_code_predictor_reads_the_state_before_the_frame(
    tiny: Qwen3TTS, clips: list[PreparedClip], monkeypatch: pytest.MonkeyPatch
):
    """That state does not change with the frame; the leaking one does."""
    clip = clips[0]
    last = len(clip.codes) - 1

    def before(of: PreparedClip) -> torch.Tensor:
        from jobs.families.qwen3_tts import objective

        seen: list[torch.Tensor] = []
        right = objective.acoustic_losses

        def spy(talker: Any, tables: Any, states: torch.Tensor, codes: torch.Tensor) -> Any:
            seen.append(states)
            return right(talker, tables, states, codes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objective, "acoustic_losses", spy)
            loss(tiny, [of])
        return seen[0][last]

    changed = with_codes(clip, last, slice(None))
    assert torch.equal(before(clip), before(changed))
    MUTANTS["leak_the_frame"](monkeypatch)
    assert not torch.equal(before(clip), before(changed))


def test_the_last_codebook_is_trained(tiny: Qwen3TTS, clips: list[PreparedClip]):
    head = tiny.model.talker.code_predictor.lm_head[OTHERS - 1].weight
    head.requires_grad_(True)
    try:
        (total,) = tiny.loss_sums(tiny.model, [tiny.collate(tiny.examples(clips))])
        (gradient,) = torch.autograd.grad(total, [head])
    finally:
        head.requires_grad_(False)
    assert gradient.abs().sum() > 0
    shuffled = clips[0].codes.copy()
    shuffled[:, OTHERS] = np.roll(shuffled[:, OTHERS], 1)
    assert loss(tiny, [clips[0]]) != loss(tiny, [replace(clips[0], codes=shuffled)])


def test_the_projection_of_the_text_matters(tiny: Qwen3TTS, clips: list[PreparedClip]):
    weight = tiny.model.talker.text_projection.linear_fc2.weight
    whole, kept = loss(tiny, clips), weight.clone()
    try:
        weight.mul_(1.1)
        assert loss(tiny, clips) != pytest.approx(whole, rel=1e-4)
    finally:
        weight.copy_(kept)
    assert loss(tiny, clips) == whole


def test_a_share_of_the_frames_estimates_the_whole(tiny: Qwen3TTS, clips: list[PreparedClip]):
    whole = loss(tiny, clips)
    draw = torch.Generator().manual_seed(3)
    terms = LossTerms(acoustic_share=0.4, draw=draw)
    drawn = np.array([loss(tiny, clips, terms) for _ in range(60)])
    assert drawn.std() > 0
    assert abs(drawn.mean() - whole) < 4 * drawn.std() / len(drawn) ** 0.5


def test_a_share_scores_fewer_frames(tiny: Qwen3TTS, clips: list[PreparedClip]):
    examples = tiny.examples(clips)
    frames = sum(len(clip.codes) for clip in clips)
    counts = {
        share: len(tiny.collate(examples, LossTerms(acoustic_share=share))["scored"])
        for share in (1.0, 0.4)
    }
    assert counts == {1.0: frames, 0.4: sum(round(0.4 * len(clip.codes)) for clip in clips)}
    assert len(tiny.collate(examples, LossTerms(acoustic_weight=0))["scored"]) == 0


def test_a_base_that_was_never_trained_is_refused(tiny: Qwen3TTS, clips: list[PreparedClip]):
    with pytest.raises(ValueError, match="at most 80%"):
        tiny.fit_speakers(clips)


def test_a_vector_is_made_once_for_each_speaker(
    tiny_source: Path, clips: list[PreparedClip], package: Any, recording_path: Path
):
    base = load(tiny_source, tiny_source, None, "fp32")
    base.examples(clips)
    gone = replace(clips[0], reference=recording_path.with_name("gone.flac"))
    base.examples([gone])
    (item,) = package.create_voice_clone_prompt(read_audio(recording_path), x_vector_only_mode=True)
    torch.testing.assert_close(base.speakers.vector("Ann"), item.ref_spk_embedding)
    with pytest.raises(ValueError, match="none of Bob"):
        base.examples([replace(clips[0], speaker="Bob", reference=None)])
    with pytest.raises(ValueError, match="'Ann' and 'ann'"):
        base.examples([replace(clips[0], speaker="ann")])


def test_half_precision_changes_neither_codes_nor_objective(
    tiny_source: Path, tiny: Qwen3TTS, clips: list[PreparedClip]
):
    half = load(tiny_source, tiny_source, None, "bf16")
    sound = recording(3)
    np.testing.assert_array_equal(half.encode(sound, "")[0], tiny.encode(sound, "")[0])
    assert loss(half, clips) == pytest.approx(loss(tiny, clips), rel=0.02)
    assert half.digest == tiny.digest


def test_a_directory_that_is_no_base_is_told_what_it_lacks(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"config\.json, generation_config\.json"):
        load(tmp_path, tmp_path, None, "fp32")
