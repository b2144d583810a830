"""Rebuild the embedded model from Debian's flite and espeak-ng, on a CPU; from the project's root:

    python -m tools.rebuild_embedded --work DIR                every stage that is not done yet
    python -m tools.rebuild_embedded --work DIR --stage base   one stage again
    python -m tools.rebuild_embedded evaluate --work DIR       measure what assets/README.md claims
    python -m tools.rebuild_embedded install --work DIR        replace the shipped assets

Needs the Debian packages flite and espeak-ng.
"""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoTokenizer

from jobs.codecs.recogniser import WordRecogniser
from jobs.codecs.world import WorldCodec
from jobs.embedded import BASE_DIR
from jobs.families.layout import Layout, TokenStream
from jobs.spec.trial import PromptSpec
from tools.rebuild_embedded.assets import install_assets
from tools.rebuild_embedded.codec import analyse_corpus, fit_codec, read_features
from tools.rebuild_embedded.corpus import BASE_VOICES, Clip, build_corpus, read_corpus
from tools.rebuild_embedded.evaluate import (
    Judge,
    Report,
    evaluate_adaptation,
    evaluate_base,
    evaluate_codec,
    evaluate_recogniser,
)
from tools.rebuild_embedded.lm import EPOCHS, make_examples, train_base
from tools.rebuild_embedded.recogniser import train_recogniser
from tools.rebuild_embedded.texts import CLIPS_PER_VOICE, TEXT_SEED, Texts, plan_texts
from tools.rebuild_embedded.tokens import write_tokenizer


@dataclass(frozen=True)
class Rebuild:
    """One work directory; each stage reads what the ones before it wrote."""

    work: Path
    seed: int
    workers: int
    epochs: float

    @property
    def texts(self) -> Texts:
        """What is said; it does not depend on `seed`, so that prompts stay comparable."""
        return plan_texts(TEXT_SEED, BASE_VOICES, CLIPS_PER_VOICE)

    @cached_property
    def clips(self) -> list[Clip]:
        """The corpus that was built."""
        return read_corpus(self.work / "corpus")

    @property
    def codec(self) -> WorldCodec:
        """The codec that was fitted."""
        return WorldCodec.load(self.work / "codec")

    @property
    def recogniser(self) -> WordRecogniser:
        """The recogniser that was trained."""
        return WordRecogniser.load(self.work / "recogniser")

    def build_corpus(self) -> None:
        """Speak the corpus."""
        build_corpus(self.work / "corpus", self.texts, self.workers)

    def build_features(self) -> None:
        """Analyse every clip with WORLD."""
        path = self.work / "features.safetensors"
        analyse_corpus(self.work / "corpus", self.clips, path, self.workers)

    def build_codec(self) -> None:
        """Fit the codebook."""
        features = read_features(self.work / "features.safetensors")
        fit_codec(self.clips, features, self.work / "codec", self.seed)

    def build_recogniser(self) -> None:
        """Train the recogniser."""
        train_recogniser(self.work / "corpus", self.clips, self.work / "recogniser", self.seed)

    def build_base(self) -> None:
        """Train the language model."""
        directory = self.work / "base"
        write_tokenizer(directory)
        stream = TokenStream(Layout.read(directory), AutoTokenizer.from_pretrained(directory))
        examples = make_examples(
            [clip for clip in self.clips if clip.role == "training"],
            self.work / "corpus",
            read_features(self.work / "features.safetensors"),
            self.codec,
            self.recogniser,
            stream,
        )
        train_base(examples, self.codec, stream, directory, self.seed, self.epochs)

    def evaluate(self) -> dict[str, Report]:
        """Every number of assets/README.md."""
        base, codec, texts = self.work / "base", self.work / "codec", self.texts
        judge = Judge.of(self.work / "corpus", self.clips, self.recogniser)
        prompts_a = [PromptSpec(id=text, text=text) for text in texts.prompts_a]
        prompts_b = [PromptSpec(id=text, text=text) for text in texts.prompts_b]
        return {
            "recogniser": evaluate_recogniser(judge),
            "codec": evaluate_codec(self.codec, judge),
            "base": evaluate_base(base, codec, judge, prompts_a + prompts_b),
            "adaptation": evaluate_adaptation(base, codec, judge, prompts_a),
        }


# Stage -> (how to build it, what exists once it is done)
STAGES: dict[str, tuple[Callable[[Rebuild], None], str]] = {
    "corpus": (Rebuild.build_corpus, "corpus/manifest.jsonl"),
    "features": (Rebuild.build_features, "features.safetensors"),
    "codec": (Rebuild.build_codec, "codec/config.json"),
    "recogniser": (Rebuild.build_recogniser, "recogniser/config.json"),
    "base": (Rebuild.build_base, "base/model.safetensors"),
}


def main() -> None:
    """Parse the command line and run it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.rebuild_embedded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = ["build", "evaluate", "install"]
    parser.add_argument("verb", nargs="?", default=verbs[0], choices=verbs)
    parser.add_argument("--work", type=Path, required=True, help="for about 400 MB of files")
    parser.add_argument("--stage", choices=list(STAGES), help="build this one again, and only it")
    parser.add_argument("--seed", type=int, default=1, help="of codec, recogniser and base")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="of the base")
    parser.add_argument("--workers", type=int, default=1, help="processes for corpus and features")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # the results depend on it, in the last bits
    rebuild = Rebuild(arguments.work, arguments.seed, arguments.workers, arguments.epochs)
    if arguments.verb == "evaluate":
        print(json.dumps(rebuild.evaluate(), indent=2))  # noqa: T201 (a command's output)
    elif arguments.verb == "install":
        install_assets(rebuild.work, rebuild.clips, rebuild.texts, BASE_DIR.parent)
    else:
        build(rebuild, arguments.stage)


def build(rebuild: Rebuild, only: str | None) -> None:
    """Build the stages that are missing, or `only` this one whether it is missing or not."""
    for name, (run, product) in STAGES.items():
        wanted = name == only if only else not (rebuild.work / product).exists()
        if wanted:
            logging.info("building %s", name)
            run(rebuild)


if __name__ == "__main__":
    main()
