"""What the data check finds in clips that were damaged, against the same clips as they are.

Command: python benchmarks/damage.py [--quick] [--json]

Claim: silence, offset, noise, shifted texts and cut last words are each told, and whole clips are
not spoken of.
Baseline: the shipped voice as it is.
Where it loses: noise of 15 dB and less is told of few clips; in noise of 5 dB a recogniser mistakes
texts too.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from jobs.audio.files import decode, resample
from jobs.codecs.recogniser import WordRecogniser
from jobs.data.checks.listening import DigitTranscriber, listen_to
from jobs.data.checks.sound import SoundsOfClips, sound_facts, told_by_distribution
from jobs.data.checks.target import checked_clips
from jobs.data.clips import TargetClip
from jobs.embedded import RECOGNISER_DIR
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec

Audio = NDArray[np.float64]
Damage = Callable[[Audio, int, str], Audio]
EMBEDDED = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)
FACTS = ("leading", "trailing", "offset", "contrast")


def coloured(rng: np.random.Generator, exponent: float) -> Callable[[int, int], Audio]:
    """Noise whose power falls with the frequency to this exponent."""

    def noise(samples: int, rate: int) -> Audio:
        spectrum = np.fft.rfft(rng.normal(size=samples))
        falls = np.arange(len(spectrum)).clip(1) ** (exponent / 2)
        return np.fft.irfft(spectrum / falls, samples)

    return noise


def mixed(noise: Callable[[int, int], Audio], decibels: float) -> Damage:
    """Clips with noise at this SNR."""

    def damage(audio: Audio, rate: int, text: str) -> Audio:
        added = noise(len(audio), rate)
        gain = np.sqrt(np.mean(audio**2) / np.mean(added**2)) * 10 ** (-decibels / 20)
        return audio + gain * added

    return damage


def damages(clips: list[TargetClip]) -> dict[str, Damage]:
    """Every kind by name."""
    rng = np.random.default_rng(0)
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    voices = np.concatenate([decode(clip.row.audio).samples for clip in clips])

    def cut(audio: Audio, rate: int, text: str) -> Audio:
        heard = resample(audio.astype(np.float32), rate, 16_000)
        return audio[: int(recogniser.align(heard, 16_000, text.split())[-1] * rate)]

    def hum(samples: int, rate: int) -> Audio:
        at = 2 * np.pi * 50 * np.arange(samples) / rate
        return np.sin(at) + 0.5 * np.sin(3 * at)

    def babble(samples: int, rate: int) -> Audio:
        starts = rng.integers(len(voices) - samples, size=6)
        return sum((voices[start : start + samples] for start in starts), np.zeros(samples))

    return {
        "as they are": lambda audio, rate, text: audio,
        "5 s of silence after": lambda audio, rate, text: np.append(audio, np.zeros(5 * rate)),
        "2 s of silence before": lambda audio, rate, text: np.append(np.zeros(2 * rate), audio),
        "offset of 2 %": lambda audio, rate, text: audio + 0.02,
        "last word cut": cut,
        **{f"white, {snr} dB": mixed(coloured(rng, 0), snr) for snr in (5, 10, 15, 20)},
        "pink, 5 dB": mixed(coloured(rng, 1), 5),
        "brown, 5 dB": mixed(coloured(rng, 2), 5),
        "hum, 5 dB": mixed(hum, 5),
        "six voices, 5 dB": mixed(babble, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every fifth clip")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = checked_clips(DataSpec(), EMBEDDED)[:: 5 if options.quick else 1]
    transcriber, rows = DigitTranscriber(), []

    def tell(name: str, damaged: list[TargetClip]) -> None:
        sounds = SoundsOfClips()
        for clip in damaged:
            recording = decode(clip.row.audio)
            sounds.add(clip.row.where, sound_facts(recording.samples, recording.rate))
        heard = listen_to(damaged, transcriber, "voice", len(damaged))
        findings = [*told_by_distribution(sounds, "voice"), *heard.findings]
        spread = {
            fact: np.percentile(sounds.values(fact), (0, 5, 50, 95, 100)).round(4).tolist()
            for fact in FACTS
        }
        told = [finding.rule for finding in findings]
        rows.append({"clips": name, "told": told, "other texts": heard.others, **spread})
        if not options.json:
            print(json.dumps(rows[-1]), flush=True)

    for name, damage in damages(clips).items():
        with tempfile.TemporaryDirectory() as folder:
            damaged = []
            for number, clip in enumerate(clips):
                recording = decode(clip.row.audio)
                samples = recording.samples.astype(np.float64)
                path = Path(folder, f"{number}.wav")
                changed = damage(samples, recording.rate, clip.row.text)
                soundfile.write(path, changed, recording.rate, subtype="FLOAT")
                damaged.append(replace(clip, row=replace(clip.row, audio=str(path))))
            tell(name, damaged)
    texts = [clip.row.text for clip in clips]
    for name, changed in (
        ("texts shifted by a row", [*texts[1:], texts[0]]),
        ("last word cut from the text", [text.rpartition(" ")[0] for text in texts]),
    ):
        pairs = zip(clips, changed, strict=True)
        tell(name, [replace(clip, row=replace(clip.row, text=text)) for clip, text in pairs])
    told_kinds = sum(bool(row["told"]) for row in rows[1:])
    result = {
        "name": "damage",
        "ratios": {"kinds told, of all": round(told_kinds / (len(rows) - 1), 2)},
        "baseline": "the shipped voice as it is",
        "conditions": {"rows": rows, "clips": len(clips), "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
