"""A first spec for somebody's clips: what ``voxsweep init`` writes, and what it assumed."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from jobs.data.clips import TargetClip
from jobs.data.near_texts import distinct_texts, nearest_repeats
from jobs.data.order.split import validation_count
from jobs.embedded import VOICE_DIR
from jobs.families.description import TokenCounter
from jobs.families.registry import FAMILIES, open_text
from jobs.metrics.catalogue import ScorerUnavailable, metric_of
from jobs.metrics.references import MIN_REFERENCES
from jobs.metrics.whisper import DEFAULT_MODEL
from jobs.problems import InputError, Problem
from jobs.spec import EMBEDDED
from jobs.spec.metric import MetricSpec
from jobs.spec.trial import HostSpec
from jobs.speech.sentences import LANGUAGES, PREFIX, guess_language, sentences
from orchestrator.spec.machine import Machine

_LEAST_PROMPTS = 32
"""That two sets need together: twice as many as every variant says."""
_SAMPLING = "{temperature: 0.8, top_p: 0.85, top_k: 30, repetition_penalty: 1.05, seed: 42}"
_DIFFUSION = "{cfg_value: 2.0, inference_timesteps: 10, seed: 42}"
_TARGETS = {
    "qwen3_tts": """
    targets:                # adapted layers
      - [talker.attention]
      - [talker.attention, talker.mlp]
      - [talker.attention, talker.mlp, predictor.attention, predictor.mlp]""",
    "voxcpm2": """
    targets:                # adapted layers
      - [lm.attention]
      - [lm.attention, dit.attention]""",
}
_STEPS = 6000
"""Optimiser steps that a trial is given at most, unless four epochs take more."""
_BY_CHARACTER = {"ja", "km", "th", "zh"}
"""Languages written without spaces between words, whose errors are counted in characters."""
_WANTED = ("similarity", "dnsmos_p808", "wada_snr", "speaking_rate")
_TEMPLATE = Path(__file__).with_name("first_spec.txt")
_OF_DISK = 0.8
"""Share of what is free on the disk that checkpoints may take."""
_ASSUMED_MEMORY = 24.0
"""GiB of the GPU that a spec is written for where none is found."""


@dataclass(frozen=True)
class Wishes:
    """What the user named; None and False leave it to what is found."""

    family: str
    base: str | None = None
    language: str | None = None
    consent: str | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class SpecDraft:
    """A spec and its prompt sets, not written yet."""

    files: dict[Path, str]
    """Their texts; the spec is the last."""
    assumed: list[str] = field(default_factory=list)
    """A sentence for each thing that nobody said."""

    def write(self) -> None:
        """Write all files.

        Raises:
            InputError: one of them is there; then none is written.
        """
        there = [path for path in self.files if path.exists()]
        if there:
            step = "Delete it, or name another spec with -o."
            what = "the file must not be there, but it is"
            raise InputError([Problem(str(path), what, step) for path in there])
        for path, text in self.files.items():
            path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Places:
    """Where the clips are, and where the spec goes."""

    name: str
    """Of the sweep."""
    spec: Path
    """The file that the spec becomes."""
    manifest: str
    """As this process finds it."""
    in_spec: str
    """As the spec names it: from its folder, where the clips are below that."""

    @classmethod
    def of(cls, manifest: str, out: Path | None) -> "Places":
        """The places of ``manifest`` and of the spec ``out``; None names it by the manifest.

        Raises:
            InputError: there is no such folder, or ``out`` is there or is no YAML file.
        """
        problems = []
        if out is not None and out.suffix not in {".yaml", ".yml"}:
            what = f"a spec must be named .yaml, got {out.name!r}"
            problems.append(Problem("-o", what, "Name it so."))
        stem = out.stem if out else Path(manifest.rstrip("/")).stem
        name = re.sub("[^a-z0-9._-]+", "-", stem.lower()).strip("-._") or "sweep"
        folder = (out.parent if out else Path()).absolute()
        if not folder.is_dir():
            what = "the folder must be there, but is not"
            problems.append(Problem(str(folder), what, "Make it."))
        file = folder / (out.name if out else f"{name}.yaml")
        if file.exists():
            what = "the file must not be there, but it is"
            problems.append(Problem(str(file), what, "Delete it, or name another with -o."))
        if problems:
            raise InputError(problems)
        if manifest == EMBEDDED or "://" in manifest:
            return cls(name, file, manifest, manifest)
        path = Path(manifest).expanduser().absolute()
        if path in {VOICE_DIR, VOICE_DIR / "manifest.jsonl"}:
            return cls(name, file, EMBEDDED, EMBEDDED)
        is_below = path.is_relative_to(folder)
        return cls(name, file, str(path), str(path.relative_to(folder) if is_below else path))


def base_for(family: str, base: str | None, machine: Machine) -> str:
    """The base that is named, else the shipped one, else the largest that fits the GPU.

    Raises:
        InputError: none is named, and none is known of the family.
    """
    if base is not None:
        return base
    if FAMILIES[family].embedded:
        return EMBEDDED
    if family != "qwen3_tts":
        what = f"a base of {family} must be named, since none is shipped"
        raise InputError([Problem("--base", what, "Name its directory, or hub: and an id.")])
    size = "1.7B" if _memory(machine) >= 22 else "0.6B"
    return f"hub:Qwen/Qwen3-TTS-12Hz-{size}-Base"


def _decoding(family: str) -> str:
    return _DIFFUSION if FAMILIES[family].writes_latents else _SAMPLING


def _memory(machine: Machine) -> float:
    return min((gpu.memory for gpu in machine.gpus), default=_ASSUMED_MEMORY)


def first_spec(
    wishes: Wishes, places: Places, clips: Sequence[TargetClip], dropped: int, machine: Machine
) -> SpecDraft:
    """Write a spec that runs on these clips and this machine.

    Args:
        wishes: what the user named.
        places: of the clips and of the spec.
        clips: those that can be used, with the split of the defaults.
        dropped: how many cannot.
        machine: what it is to run on.

    Raises:
        InputError: no spec could run: too few clips, or no prompts in their language.
    """
    base, manifest = base_for(wishes.family, wishes.base, machine), places.in_spec
    host = HostSpec(family=wishes.family, source=base, codec=EMBEDDED, voice=None, precision="fp32")
    is_shipped_base = base == EMBEDDED
    assumed: list[str] = []
    if wishes.base is None and not is_shipped_base:
        assumed.append(f"base {base.removeprefix('hub:')}, by the GPU's memory")
    target, share, by_speaker = _split(manifest, clips, assumed)
    own = [clip for clip in clips if target is None or clip.row.speaker == target]
    language = wishes.language or (None if is_shipped_base else _language(own, assumed))
    files: dict[Path, str] = {}
    prompts = {"a": EMBEDDED, "b": EMBEDDED}
    if not is_shipped_base:
        chosen = _prompts(manifest, language, clips, open_text(host), assumed)
        if isinstance(chosen, str):
            prompts = dict.fromkeys("ab", f"{PREFIX}{chosen}")
        else:
            for part, texts in zip("ab", chosen, strict=True):
                prompts[part] = f"{places.name}-prompts-{part}.jsonl"
                files[places.spec.with_name(prompts[part])] = _jsonl(part, texts, language)
    training = sum(clip.row.split == "train" for clip in clips)
    gpu = bool(machine.gpus) or not is_shipped_base
    small = not is_shipped_base and _memory(machine) < 10
    batch = 2 if small else 4
    epochs = 4 if is_shipped_base else min(20, max(4, math.ceil(_STEPS * batch / max(1, training))))
    trials, ranks = _search(is_shipped_base, epochs, machine, assumed)
    if not machine.gpus and gpu:
        assumed.append(f"no GPU was found here; the spec is for one of {_ASSUMED_MEMORY:g} GiB")
    words = _word_metric(is_shipped_base, language, assumed)
    values = {
        "name": places.name,
        "file": places.spec.name,
        "family": wishes.family,
        "base": base,
        "clips": f"{len(clips)} clips, {sum(clip.seconds for clip in clips) / 60:.1f} minutes",
        "manifest": _manifest(manifest, clips, language),
        "target": json.dumps(target, ensure_ascii=False) if by_speaker else "null",
        "consent": _consent(wishes, manifest),
        "bad_clips": "drop" if dropped else "refuse",
        "dropped": f"    # {dropped} clips cannot be used" if dropped else "",
        "split": f"{share:g}, by: speaker" if by_speaker else f"{share:g}",
        "epochs": epochs,
        "batch": batch,
        "rate": "{low: 1.0e-3, high: 3.0e-3, log: true}"
        if is_shipped_base
        else "{low: 1.0e-6, high: 2.0e-4, log: true}",
        "precision": "bf16" if gpu and not is_shipped_base else "fp32",
        "checkpointing": str(small and FAMILIES[wishes.family].recomputes).lower(),
        "trials": trials,
        "ranks": ranks,
        "grace": max(1, epochs // 5) if epochs > 4 else 2,
        "scales": "[0, 0.7, 1.0]" if is_shipped_base else "[0, 0.3, 0.5, 1.0]",
        "decoding": "{temperature: 0.0}" if is_shipped_base else _decoding(wishes.family),
        "targets": _TARGETS.get(wishes.family, ""),
        "a": prompts["a"],
        "b": prompts["b"],
        "metrics": ", ".join([*_available(_WANTED, assumed), *words.names]),
        "effect": "0.05" if is_shipped_base else "0.02",
        "constraints": words.constraints,
        "hosts": max(1, len(machine.gpus)) if gpu else min(2, machine.cpus),
        "slots": "auto" if gpu else 2,
        "gpus": "1.0" if gpu else "0.0",
        "scorers": max(1, min(4, machine.cpus)),
    }
    files[places.spec] = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    return SpecDraft(files, assumed)


def _split(
    manifest: str, clips: Sequence[TargetClip], assumed: list[str]
) -> tuple[str | None, float, bool]:
    """The speaker whose voice is learned, the share to hold out, and whether it is of each."""
    speakers = Counter(clip.row.speaker for clip in clips)
    target, count = speakers.most_common(1)[0] if speakers else (None, 0)
    is_one = len(speakers) < 2
    if not is_one:
        assumed.append(f"the voice of {target}, who has most clips ({count} of {len(clips)})")
    share, held_out = 0.1, _held_out(clips, target)
    enough = held_out >= MIN_REFERENCES
    if enough and (is_one or validation_count(count, share) >= MIN_REFERENCES):
        return target, share, not is_one
    if not enough and count < 2 * MIN_REFERENCES:
        what = f"a sweep needs {2 * MIN_REFERENCES} clips that can be used, got {count}"
        raise InputError([Problem(manifest, what, "Record more, or see `voxsweep check`.")])
    while validation_count(count, share) < MIN_REFERENCES:
        share = round(share + 0.01, 2)
    assumed.append(f"{share:.0%} of the clips are held out, so that there are {MIN_REFERENCES}")
    return target, share, not is_one


def _held_out(clips: Sequence[TargetClip], target: str | None) -> int:
    return sum(c.row.split == "validation" and c.row.speaker == target for c in clips)


def _language(clips: Sequence[TargetClip], assumed: list[str]) -> str | None:
    """The language that the clips name, else that of their texts."""
    named = Counter(clip.row.language for clip in clips).most_common(1)[0][0]
    if named is not None:
        return named
    found = guess_language(clip.row.text for clip in clips)
    assumed.append(
        f"the texts are in the language {found} (name another with --language)"
        if found
        else "the language of the texts is not known: name it with --language"
    )
    return found


def _prompts(
    place: str,
    language: str | None,
    clips: Sequence[TargetClip],
    reader: TokenCounter | None,
    assumed: list[str],
) -> tuple[list[str], list[str]] | str:
    """The language whose shipped prompts will do, else texts of sets A and B that will.

    Those are the shipped sentences that the base reads and no clip says, else held-out texts.

    Raises:
        InputError: there are too few of either.
    """
    primary = (language or "").partition("-")[0]
    said = [clip.row.text for clip in clips]
    if primary in LANGUAGES:
        shipped = sentences(primary, "a"), sentences(primary, "b")
        first, second = (
            [text for text in _unsaid(texts, said) if _is_read(text, primary, reader)]
            for texts in shipped
        )
        if (first, second) == shipped:
            assumed.append(f"prompts: voxsweep's own sentences in {primary}")
            return primary
        if len(first) + len(second) >= _LEAST_PROMPTS:
            assumed.append(f"prompts: those of voxsweep's sentences in {primary} that will do")
            return first, second
    held_out = [clip.row.text for clip in clips if clip.row.split == "validation"]
    trained = [clip.row.text for clip in clips if clip.row.split == "train"]
    numbers = distinct_texts(tuple(held_out))
    different = dict(zip(reversed(numbers), reversed(held_out), strict=True))
    texts = _unsaid(list(different.values())[::-1], trained)
    if len(texts) < _LEAST_PROMPTS:
        what = (
            f"prompts need a language that voxsweep has sentences in ({', '.join(LANGUAGES)}), or "
            f"{_LEAST_PROMPTS} different held-out texts; got the language {language} and "
            f"{len(texts)} texts"
        )
        step = "Name the --language, or hold out more clips by `split` in the manifest."
        raise InputError([Problem(place, what, step)])
    assumed.append(f"prompts: {len(texts)} texts of held-out clips")
    return texts[: len(texts) // 3], texts[len(texts) // 3 :]


def _unsaid(texts: list[str], said: Sequence[str]) -> list[str]:
    """Those of ``texts`` that none of ``said`` repeats."""
    repeated = {repeat.other for repeat in nearest_repeats(said, texts)}
    return [text for at, text in enumerate(texts) if at not in repeated]


def _is_read(text: str, language: str, reader: TokenCounter | None) -> bool:
    try:
        return reader is None or reader(text, language) > 0
    except ValueError:
        return False


def _jsonl(part: str, texts: Sequence[str], language: str | None) -> str:
    rows = ({"id": f"{part}-{at:03d}", "text": text} for at, text in enumerate(texts, start=1))
    named = {"language": language} if language else {}
    return "".join(json.dumps({**row, **named}, ensure_ascii=False) + "\n" for row in rows)


def _manifest(manifest: str, clips: Sequence[TargetClip], language: str | None) -> str:
    """As YAML: with the language where the clips name none."""
    path = manifest if manifest == EMBEDDED else json.dumps(manifest, ensure_ascii=False)
    if language is None or all(clip.row.language for clip in clips):
        return path
    return f"[{{path: {path}, language: {language}}}]"


def _consent(wishes: Wishes, manifest: str) -> str:
    if manifest == EMBEDDED:
        return "# consent: consents/ann.pdf   # required for recordings of people"
    if wishes.synthetic:
        return "synthetic: true           # nobody's voice"
    if wishes.consent:
        return f"consent: {json.dumps(wishes.consent, ensure_ascii=False)}"
    return "# YOURS TO FILL IN: where the speaker's consent is recorded, or synthetic: true\n" + (
        "  # consent: consents/ann.pdf"
    )


def _search(
    is_shipped_base: bool, epochs: int, machine: Machine, assumed: list[str]
) -> tuple[int, str]:
    """The number of trials and the ranks, so that all checkpoints fit the disk."""
    if is_shipped_base:
        return 8, "[32, 64, 128]"
    # A checkpoint at rank 64 is taken for 1 GB: adapter and optimiser on all layers, fp32. At worst
    # no trial is stopped.
    ranks, trials = [8, 16, 32, 64], 16
    while sum(ranks) / len(ranks) / 64 * trials * epochs > machine.free_disk * _OF_DISK:
        if trials > 8:
            trials -= 4
        elif len(ranks) > 2:
            ranks.pop()
        else:
            break
    if trials < 16:
        assumed.append(
            f"{trials} trials up to rank {ranks[-1]}, by the {machine.free_disk:.0f} GB "
            "that are free on the disk"
        )
    return trials, str(ranks)


@dataclass(frozen=True)
class _WordMetric:
    names: tuple[str, ...]
    constraints: str


def _word_metric(is_shipped_base: bool, language: str | None, assumed: list[str]) -> _WordMetric:
    """What tells wrong words: the shipped recogniser of digits, or a Whisper that is here."""
    if is_shipped_base:
        return _WordMetric(("word_error",), "\n    - {metric: word_error, margin: 0.2}")
    primary = (language or "").partition("-")[0]
    unit = "character" if primary in _BY_CHARACTER else "word"
    name = f"whisper_{unit}_error"
    if language and _is_there(name, language):
        return _WordMetric((name,), f"\n    - {{metric: {name}, margin: 0.05}}")
    assumed.append(
        f"no Whisper is here, so nothing tells wrong words: `hf download {DEFAULT_MODEL}`, then "
        f"add {name} to metrics and constraints"
    )
    return _WordMetric((), "\n    - {metric: dnsmos_p808, margin: 0.2}")


def _is_there(name: str, language: str | None = None) -> bool:
    try:
        metric_of(MetricSpec(name=name, language=language))
    except ScorerUnavailable:
        return False
    return True


def _available(names: Sequence[str], assumed: list[str]) -> Iterator[str]:
    for name in names:
        if _is_there(name):
            yield name
        else:
            assumed.append(f"without {name}, which cannot be measured here")
