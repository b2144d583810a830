"""Timing some of a sweep's work where no earlier sweep tells."""

from collections import Counter
from dataclasses import replace

import pytest

from jobs.data.clips import ManifestRow, TargetClip
from jobs.problems import InputError
from orchestrator.spec.inputs import read_inputs
from orchestrator.workers.pilot import measure, some_clips

DEMO = {
    "data": "data: {manifest: embedded}",
    "training": "training: {epochs: 2, batch_size: 4}",
    "search": "search: {trials: 2, space: {rank: [2, 4]}}",
    "variants": "variants: {lora_scales: [0, 0.5, 1.0]}",
}


def clip(seconds: float, split: str = "train", speaker: str | None = None) -> TargetClip:
    row = ManifestRow(where="m:1", audio="a.wav", text="one", split=split, speaker=speaker)
    return TargetClip(row, "", 16_000, seconds)


def test_the_clips_are_as_long_as_all_and_held_out_ones_are_of_one_speaker(make_spec):
    spec = make_spec(training="training: {batch_size: 10}")
    held_out = [clip(1.0, "validation", who) for who in ("ann", "bob", "bob")]
    chosen = some_clips(spec, [*(clip(float(i)) for i in range(200)), *held_out])
    assert Counter((c.row.split, c.row.speaker) for c in chosen) == {
        ("train", None): 20,
        ("validation", "bob"): 2,
    }
    assert [c.seconds for c in chosen[:20]] == [5.0 + 10 * at for at in range(20)]
    assert len(some_clips(spec, [clip(1.0), clip(2.0), *held_out])) == 4


def test_ranks_that_train_together_are_refused_before_anything_is_loaded(make_spec):
    spec = make_spec(engine="engine: {ranks: 2}")
    with pytest.raises(InputError, match=r"--measure times one rank, got 2.*plan uses its seconds"):
        measure(spec, None, print)


@pytest.mark.full
def test_a_sweep_of_the_embedded_base_is_timed(make_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec, told = make_spec(**DEMO), []
    measured = measure(spec, read_inputs(spec), told.append)
    assert [line.partition(":")[2][:12] for line in told] == [" loading the", *[" training wi"] * 2]
    for seconds in (measured.train, measured.speak, measured.rest):
        assert 0 < seconds.low < seconds.high
    slowest = measured.slowest_train, measured.slowest_speak
    assert slowest == (measured.train.high, measured.speak.high)
    assert measured.slots_per_host == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]  # which make_spec wrote


def test_behind_a_reference_the_clips_are_one_speakers_and_name_none(make_spec):
    spec = make_spec(data="data: {manifest: embedded, reference_prefix: true}")
    clips = [clip(1.0, split, who) for split in ("train", "validation") for who in ("ann", "bob")]
    named = [replace(c, row=replace(c.row, ref_audio="/elsewhere.wav")) for c in clips]
    chosen = some_clips(spec, [*named, clip(2.0, "validation", "bob")])
    assert {c.row.speaker for c in chosen} == {"bob"}
    assert {c.row.ref_audio for c in chosen} == {None}
