"""What a mix and a token budget make of training: the objective they say, and no other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jobs.clips import PreparedClip
from jobs.spec.data import MixSpec
from jobs.spec.trial import EngineSpec, TrialSpec
from jobs.training.host import Host
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

SHARES = MixSpec(by="speaker", shares={"ann": 0.75, "bob": 0.25})
"""Five clips of bob's are seen once each, five of ann's three times."""
ANN_ALONE = MixSpec(by="speaker", shares={"ann": 1})
WHO = {"a": "ann", "b": "bob"}
WHAT = {"a": "km", "b": "ko"}
Gradient = Mapping[str, Tensor]


@pytest.fixture
def clips() -> list[PreparedClip]:
    """Ten to train on and five to validate, by ann in Khmer and by bob in Korean."""
    said = zip(toy_clips(count=15, validation=5), "abbababbaa" + "babab", strict=True)
    return [replace(clip, speaker=WHO[who], language=WHAT[who]) for clip, who in said]


def new_host(clips: Sequence[PreparedClip]) -> Host:
    return Host(toy_base(), clips, EngineSpec())


def trial_of(mix: MixSpec | None, **training: object) -> TrialSpec:
    return toy_trial(**training).model_copy(update={"mix": mix})


def whole_epoch(mix: MixSpec | None, **cut: int) -> TrialSpec:
    """One step an epoch, over all of it."""
    return trial_of(mix, dropout=0.0, clip=None, **{"batch_size": 100, "accumulation": 100, **cut})


def gradient(clips: Sequence[PreparedClip], trial: TrialSpec) -> Gradient:
    """Of the first step: AdamW's first moment after it is ``1 - beta1`` of it."""
    host = new_host(clips)
    host.attach("slot", trial)
    while not host.epoch_is_over("slot"):
        assert host.step(["slot"]) == {}
    snapshot = host.snapshot("slot")
    assert snapshot.state.steps == 1
    scale = 1 - trial.training.betas[0]
    moments = snapshot.moments
    return {name: tensor / scale for name, tensor in moments.items() if "exp_avg/" in name}


def by_hand(clips: Sequence[PreparedClip], seen: Mapping[str, int]) -> Gradient:
    """The mean over the targets of clips that are seen so often, from each clip's own gradient."""
    base, held_out = toy_base(), [clip for clip in clips if clip.split == "validation"]
    total = 0
    summed: dict[str, Tensor] = {}
    for clip in clips:
        if clip.split == "train" and seen[clip.id]:
            weight = seen[clip.id] * base.targets(base.examples([clip]))
            own = gradient([clip, *held_out], whole_epoch(None))
            for name, tensor in own.items():
                summed[name] = summed.get(name, torch.zeros(())) + weight * tensor
            total += weight
    return {name: tensor / total for name, tensor in summed.items()}


CUTS = {
    "one batch": {},
    "micro-batches": {"batch_size": 3},
    "a token budget": {"batch_size": 5, "batch_tokens": 66},
}


def test_the_gradient_of_a_mix_is_the_mixture_however_it_is_cut(clips: list[PreparedClip]):
    # ann: 0.75 / 0.25 * 5 clips of bob's; her 5 clips come three times each.
    seen = {clip.id: 3 if clip.speaker == "ann" else 1 for clip in clips}
    expected = by_hand(clips, seen)
    plain = by_hand(clips, dict.fromkeys(seen, 1))
    largest = max(tensor.abs().max().item() for tensor in expected.values())
    assert any((expected[n] - plain[n]).abs().max() > 0.01 * largest for n in expected)
    for name, cut in CUTS.items():
        found = gradient(clips, whole_epoch(SHARES, **cut))
        natural = gradient(clips, whole_epoch(None, **cut))
        for key, tensor in expected.items():
            say = f"{name}: {key}"
            torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=1e-4, msg=say)
            torch.testing.assert_close(natural[key], plain[key], atol=1e-6, rtol=1e-4, msg=say)


@pytest.mark.parametrize("cut", [{}, {"batch_tokens": 66, "accumulation": 2}])
def test_one_speaker_alone_is_the_data_set_of_that_speaker(
    clips: list[PreparedClip], cut: dict[str, int]
):
    hers = [clip for clip in clips if clip.speaker == "ann" or clip.split == "validation"]
    settings = {"dropout": 0.3, "batch_size": 2, "epochs": 3, "schedule": "cosine", **cut}
    mixed, alone = new_host(clips), new_host(hers)
    mixed.attach("slot", trial_of(ANN_ALONE, **settings))
    alone.attach("slot", trial_of(None, **settings))
    for _ in range(3):
        one, other = mixed.advance("slot"), alone.advance("slot")
        assert one.step_losses == other.step_losses
        assert one.validation_loss == other.validation_loss
    ours, theirs = mixed.weights("slot"), alone.weights("slot")
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    whole = new_host(clips)
    whole.attach("slot", trial_of(None, **settings))
    assert whole.advance("slot").step_losses != one.step_losses


def test_validation_is_what_it_is_whatever_is_trained_on(clips: list[PreparedClip]):
    # A rate too small to move a float32 weight: only the clips that are trained on differ.
    found = []
    for mix in (None, SHARES, ANN_ALONE):
        host = new_host(clips)
        host.attach("slot", trial_of(mix, learning_rate=1e-30))
        losses = host.advance("slot")
        found.append((losses.validation_loss, losses.group_losses))
    assert found[0] == found[1] == found[2]


def test_each_group_has_the_mean_over_its_own_targets(clips: list[PreparedClip]):
    host = new_host(clips)
    host.attach("slot", trial_of(SHARES))
    losses = host.advance("slot")
    assert [*losses.group_losses] == ["language/km", "language/ko", "speaker/ann", "speaker/bob"]
    ann, bob = losses.group_losses["speaker/ann"], losses.group_losses["speaker/bob"]
    assert (losses.group_losses["language/km"], losses.group_losses["language/ko"]) == (ann, bob)
    assert ann != pytest.approx(bob, rel=1e-3)
    base, held_out = host.base, [clip for clip in clips if clip.split == "validation"]
    targets = {
        who: base.targets(base.examples([clip for clip in held_out if clip.speaker == who]))
        for who in ("ann", "bob")
    }
    mean = (ann * targets["ann"] + bob * targets["bob"]) / (targets["ann"] + targets["bob"])
    assert losses.validation_loss == pytest.approx(mean, rel=1e-12)


def test_one_voice_in_one_language_has_no_losses_by_group():
    host = new_host([replace(clip, speaker="ann") for clip in toy_clips()])
    host.attach("slot", trial_of(None))
    assert host.advance("slot").group_losses == {}


FAULTS = {
    "no such group": (
        trial_of(MixSpec(by="speaker", shares={"ann": 1, "cat": 1})),
        "no training clip has speaker 'cat', only 'ann', 'bob'",
    ),
    "a clip without the key": (
        trial_of(MixSpec(by="language", temperature=3)),
        "needs the language of every training clip, but clip 'clip-003' has none",
    ),
    "a clip beyond the budget": (
        trial_of(None, batch_tokens=20),
        "must fit into training.batch_tokens, 20, but .* raise batch_tokens to",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_clips_that_do_not_fit_are_told_before_anything_is_trained(
    clips: list[PreparedClip], fault: str
):
    trial, words = FAULTS[fault]
    host = new_host([replace(c, language=None) if c.id == "clip-003" else c for c in clips])
    names = [name for name, _ in host.base.model.named_parameters()]
    with pytest.raises(ValueError, match=words):
        host.attach("slot", trial)
    assert [name for name, _ in host.base.model.named_parameters()] == names
    host.attach("slot", trial_of(None))
    assert host.advance("slot").epoch == 1
