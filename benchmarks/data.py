"""What preparing once saves: an epoch that reads codes, against one that encodes at every step.

Command: python benchmarks/data.py [--quick] [--json]

Claim: an epoch from prepared data takes a fraction of one that decodes, resamples and encodes its
clips step by step; the same data asked for again encodes nothing; with 5 % of new clips, 5 % are
encoded.
Baseline: the same adapter on the same host and the same clips in the same order, but each step
first decodes, resamples and encodes the clips of its batch, as training scripts do that keep no
codes. Medians of interleaved epochs, validation included, in CPU time; both must have the same
losses.
Ours: jobs/data/prepared/prepare.py and a Host on what read_prepared maps.
Where it loses: a trial of one epoch on data that nobody uses again pays for writing the codes and
earns nothing; and the larger the model is beside its codec, the less encoding weighs.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.storage.base import LocalStorage
from jobs.audio.files import read_audio, resample
from jobs.data.checks.target import checked_clips
from jobs.data.prepared.files import read_prepared
from jobs.data.prepared.keys import data_key
from jobs.data.prepared.prepare import prepare
from jobs.families.registry import load_base
from jobs.spec import EMBEDDED
from jobs.spec.data import DataSpec
from jobs.spec.trial import EngineSpec, HostSpec, TrainingSpec, TrialSpec
from jobs.training.engine.start import start_distributed
from jobs.training.host import Host

NEW = 0.05
"""Share of clips that the grown data set has and the first one has not."""


class EncodesEachStep:
    """A base that lays out what it has just heard, in place of what was prepared."""

    def __init__(self, base: Any, recordings: dict[str, str]) -> None:  # noqa: ANN401 (a FrozenBase)
        self._base = base
        self._recordings = recordings

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the base has)
        return getattr(self._base, name)

    def examples(self, clips: Any) -> list[Any]:  # noqa: ANN401 (PreparedClips)
        """The clips themselves: they become examples when a batch is made of them."""
        return list(clips)

    def _heard(self, clip: Any) -> Any:  # noqa: ANN401 (a PreparedClip)
        audio = resample(*read_audio(self._recordings[clip.id]), self._base.sample_rate)
        codes, starts = self._base.encode(audio, clip.text)
        return replace(clip, codes=codes, word_starts=starts)

    def collate(self, clips: Any) -> Any:  # noqa: ANN401 (a Batch)
        """Decode, resample and encode, and only then pad."""
        return self._base.collate(self._base.examples([self._heard(clip) for clip in clips]))

    def targets(self, clips: Any) -> int:  # noqa: ANN401 (PreparedClips)
        """Counted on what was prepared, so that nothing is encoded twice."""
        return int(self._base.targets(self._base.examples(clips)))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """This process's CPU time of ``work``, which others' work changes least; what it gives."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 clips and one epoch")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    start_distributed()
    data = DataSpec()
    host_spec = HostSpec(
        family="codec_lm", source=EMBEDDED, codec=EMBEDDED, voice=None, precision="fp32"
    )
    clips = checked_clips(data, host_spec)
    if options.quick:
        few = {"train": 16, "validation": 4}
        clips = [
            clip
            for split, count in few.items()
            for clip in [clip for clip in clips if clip.row.split == split][:count]
        ]
    epochs = 1 if options.quick else 5
    base = load_base(host_spec)
    known = clips[round(NEW * len(clips)) :]
    with tempfile.TemporaryDirectory() as folder:
        storage = LocalStorage(Path(folder))
        first_time, first = seconds(lambda: prepare(known, base, storage, data))
        again_time, again = seconds(lambda: prepare(known, base, storage, data))
        grown_time, grown = seconds(lambda: prepare(clips, base, storage, data))
        prepared = read_prepared(storage.fetch(data_key(grown.digest)))
        recordings = {clip.id: c.row.audio for clip, c in zip(prepared, clips, strict=True)}
        trial = TrialSpec(
            family="codec_lm",
            base_digest=base.digest,
            data_digest=grown.digest,
            training=TrainingSpec(epochs=epochs, batch_size=4),
            engine=EngineSpec(),
        )
        from_codes, from_sound = [], []
        losses = set()
        for _ in range(epochs):
            for times, each in (
                (from_codes, base),
                (from_sound, EncodesEachStep(base, recordings)),
            ):
                host = Host(each, prepared, EngineSpec())
                host.attach("slot", trial)
                taken, epoch = seconds(lambda host=host: host.advance("slot"))
                host.detach("slot")
                times.append(taken)
                losses.add((epoch.training_loss, epoch.validation_loss))
                if not options.json:
                    kind = "codes" if times is from_codes else "sound"
                    print(f"epoch from {kind}: {taken:.2f} s", flush=True)
    assert len(losses) == 1, f"both train the same, but their losses are {losses}"
    codes, sound = statistics.median(from_codes), statistics.median(from_sound)
    print(
        json.dumps(
            {
                "name": "data",
                "ratios": {
                    "epoch that encodes over epoch from codes": round(sound / codes, 2),
                    "second preparation's time over the first's": round(again_time / first_time, 4),
                    "encoded of the second": again.encoded,
                    "encoded of 5 % more clips": round(grown.encoded / grown.clips, 4),
                    "their time over the first's": round(grown_time / first_time, 4),
                },
                "baseline": "the same host, decoding, resampling and encoding at each step",
                "conditions": {
                    "clips": len(clips),
                    "epochs of each": epochs,
                    "encoded at first": first.encoded,
                    "load before": load,
                    "quick": options.quick,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
