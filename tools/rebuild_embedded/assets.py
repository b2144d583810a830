"""Put what a rebuild made where the package ships it: voice, prompts, models and their digests."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import soundfile

from jobs.codecs.codec import Codec
from jobs.codecs.recogniser import WordRecogniser
from jobs.codecs.world import WorldCodec
from tools.rebuild_embedded.corpus import SAMPLE_RATE, SHIPPED_SPLITS, Clip, read_audio
from tools.rebuild_embedded.texts import Texts

MODELS = ("base", "codec", "recogniser")
TRAINING_CLIPS = 450  # of the target that are shipped, without those that the codec spoils


def install_assets(work: Path, clips: Sequence[Clip], texts: Texts, assets: Path) -> None:
    """Replace the shipped assets by those of a finished rebuild in `work`."""
    for name in MODELS:
        shutil.rmtree(assets / name, ignore_errors=True)
        shutil.copytree(work / name, assets / name)
    codec = WorldCodec.load(work / "codec")
    recogniser = WordRecogniser.load(work / "recogniser")
    shipped = choose_clips(work / "corpus", clips, codec, recogniser)
    _write_voice(work / "corpus", shipped, assets / "voice")
    _write_prompts(assets / "prompts", {"a": texts.prompts_a, "b": texts.prompts_b})
    write_digests(assets)


def write_digests(assets: Path) -> None:
    """Write `digests.json`: SHA-256 of every asset by relative path."""
    digests = digest_assets(assets)
    (assets / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")


def digest_assets(assets: Path) -> dict[str, str]:
    """SHA-256 (hex) of every shipped model, clip and prompt file by path relative to `assets`."""
    folders = [assets / name for name in (*MODELS, "voice", "prompts")]
    files = (path for folder in folders for path in folder.rglob("*"))
    return {
        path.relative_to(assets).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
        if path.is_file()
    }


def choose_clips(
    corpus: Path, clips: Sequence[Clip], codec: Codec, recogniser: WordRecogniser
) -> list[Clip]:
    """The target's validation clips, and its first training clips that are right when coded.

    An adapter learns from codes, and one clip in six says other words after coding ("four" becomes
    "five"): what it is taught, it says.
    """
    training = (
        clip
        for clip in clips
        if clip.role == "voice" and _is_right_coded(corpus, clip, codec, recogniser)
    )
    validation = [clip for clip in clips if clip.role == "validation"]
    return [*islice(training, TRAINING_CLIPS), *validation]


def _is_right_coded(corpus: Path, clip: Clip, codec: Codec, recogniser: WordRecogniser) -> bool:
    coded = codec.decode(codec.encode(read_audio(corpus / clip.path), SAMPLE_RATE))
    return recogniser.transcribe(coded, SAMPLE_RATE) == clip.text.split()


def _write_voice(corpus: Path, clips: Sequence[Clip], directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    rows = []
    for clip in clips:
        name = Path(clip.path).with_suffix(".flac").name
        soundfile.write(directory / name, read_audio(corpus / clip.path), SAMPLE_RATE)
        row = {"audio": name, "text": clip.text, "speaker": clip.voice}
        rows.append(row | {"duration": clip.duration, "split": SHIPPED_SPLITS[clip.role]})
    (directory / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_prompts(directory: Path, sets: dict[str, list[str]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, prompts in sets.items():
        rows = ({"id": f"{name}-{i:03d}", "text": text} for i, text in enumerate(prompts, start=1))
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
