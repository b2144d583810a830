"""The demo, `voxsweep run configs/demo.yaml`, by stage; before a change, after it, and by hand.

Command: python benchmarks/demo.py [--before REVISION] [--plain] [--quick] [--json]

Claim: CPU seconds of each stage and wall time of the whole sweep, Ray's start and the report
included; with --plain, that and the verdict against the same trials by hand.
Baseline: --before takes code and configs/demo.yaml of another revision of this repository;
--plain trains the trials of the demo's own search one after another in one process with PEFT and
torch's AdamW, all to their last epoch, says the prompts with Hugging Face's `generate`, a batch a
variant, and takes voxsweep's scorers and rule, so that scores and verdict compare.
Where it loses: what starts Ray, hosts and scorers costs the same for a search of one trial; a
sweep of a few trials is faster by hand. --quick is such a sweep: two trials of one epoch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from jobs.spec.trial import TrainingSpec
    from jobs.training.epochs import EpochLosses
    from orchestrator.verdict.outcome import Verdict
    from orchestrator.verdict.protocol import Protocol

    Weights = dict[str, Tensor]

ROOT = Path(__file__).parent.parent
SPEC = Path("configs", "demo.yaml")
OTHER = "Ray, Tune, Optuna, MLflow, imports, loading"
"""CPU time of the processes that is in no stage."""
_LOOK = 0.5
"""Seconds between two looks at the processes; the CPU time after a process's last is not seen."""
QUICK = {"training": {"epochs": 1}, "search": {"trials": 2}, "rungs": {"grace_epochs": 1}}


def run_sweep(code: Path, folder: Path, *, quick: bool) -> dict[str, Any]:
    """``voxsweep run`` of the demo of the code at ``code``: seconds, verdict and stages."""
    spec = yaml.safe_load((code / SPEC).read_text())
    for section, keys in QUICK.items() if quick else ():
        spec[section].update(keys)
    folder.mkdir()
    (folder / "demo.yaml").write_text(yaml.safe_dump(spec))
    stages = folder / "stages"
    stages.mkdir()
    path = os.pathsep.join([str(ROOT / "benchmarks" / "_stages"), str(code)])
    environment = {**os.environ, "PYTHONPATH": path, "VOXSWEEP_STAGES": str(stages)}
    command = [sys.executable, "-m", "orchestrator", "run", "demo.yaml", "--json"]
    started = time.monotonic()
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        cpu = cpu_seconds(process)
    seconds = time.monotonic() - started
    if process.returncode:
        raise RuntimeError((folder / "log").read_text()[-2000:])
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    spent: Counter[str] = Counter()
    for line in (line for file in stages.iterdir() for line in file.read_text().splitlines()):
        spent.update(json.loads(line))
    spent[OTHER] = cpu - sum(spent.values())
    verdict = json.loads((folder / "sweeps" / "demo" / "verdict.json").read_text())
    return {
        "seconds": seconds,
        "cpu seconds": cpu,
        "stages": dict(spent),
        "trials": told["trials"],
        "epochs": told["epochs_trained"],
        **summary(verdict),
    }


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    """CPU seconds of a process and all below it, until it ends."""
    import psutil

    root, seen, spent = psutil.Process(process.pid), set(), {}
    while process.poll() is None:
        with _gone():
            seen |= {root, *root.children(recursive=True)}
        for each in seen:
            with _gone():
                times = each.cpu_times()
                spent[each] = times.user + times.system
        time.sleep(_LOOK)
    return sum(spent.values())


@contextmanager
def _gone() -> Iterator[None]:
    """A process may end while it is looked at."""
    import psutil

    try:
        yield
    except psutil.NoSuchProcess:
        return


def summary(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What of a ``verdict.json`` is compared."""
    winner = verdict["variant"]
    means = {row["id"]: row["means"] for row in verdict["rows"]}
    for confirmed in verdict["confirmed"]:
        means[confirmed["row"]["id"]] = confirmed["row"]["means"]
    return {
        "verdict": verdict["verdict"],
        "winner": winner,
        "effect": verdict["effect"] and verdict["effect"]["mean"],
        "word error": means[winner]["word_error"] if winner else None,
        "variants": len(verdict["rows"]) - 1,
    }


class PlainLoop:
    """A search as one would write it by hand: a loop over trials, epochs and LoRA scales.

    Hugging Face's model, PEFT, torch's AdamW and `generate`; of voxsweep the prepared data and
    their order, the codec, the scorers and the rule of the verdict.
    """

    def __init__(self, storage: Path) -> None:
        from transformers import AutoTokenizer

        from cluster.storage.base import open_storage
        from jobs.audio.files import read_audio
        from jobs.codecs.recogniser import WordRecogniser
        from jobs.codecs.world import WorldCodec
        from jobs.data.prepared.files import read_prepared, reference_recordings
        from jobs.data.prepared.keys import data_key
        from jobs.embedded import BASE_DIR, CODEC_DIR, RECOGNISER_DIR
        from jobs.families.layout import Layout, TokenStream
        from jobs.metrics.catalogue import build_scorers
        from orchestrator.ledger import Ledger
        from orchestrator.spec.stored import stored_protocol, stored_spec

        self.ledger = Ledger(open_storage(str(storage)), "demo")
        spec, protocol = stored_spec(self.ledger), stored_protocol(self.ledger)
        assert spec is not None
        assert protocol is not None
        self.spec, self.protocol = spec, protocol
        self.trials = self.ledger.trials()
        self.epochs = 0
        self.spent: Counter[str] = Counter()
        self.stream = TokenStream(Layout.read(BASE_DIR), AutoTokenizer.from_pretrained(BASE_DIR))
        self.codec = WorldCodec.load(CODEC_DIR)
        data = self.ledger.storage.fetch(data_key(self.trials[0].spec.data_digest))
        self.examples: dict[str, list[Any]] = {"train": [], "validation": []}
        for clip in read_prepared(data):
            example = self.stream.example(
                clip.text, clip.codes.tolist(), clip.word_starts, spec.base.voice
            )
            self.examples[clip.split].append(example)
        references = {
            None: [
                read_audio(path) for paths in reference_recordings(data).values() for path in paths
            ]
        }
        recogniser = WordRecogniser.load(RECOGNISER_DIR)
        self.scorers = {
            names: build_scorers(spec.scoring.metric_specs(names), references, recogniser)
            for names in (spec.scoring.measured, spec.scoring.confirmed_by)
        }

    def run(self) -> "Verdict":
        """The verdict."""
        from jobs.spec.trial import BASE_VARIANT, Variant
        from orchestrator.scores.from_ledger import variant_info
        from orchestrator.verdict.comparison import Comparison
        from orchestrator.verdict.judge import judge
        from orchestrator.verdict.screen import choose_finalists, choose_shortlist
        from orchestrator.verdict.table import ScoreTable, VariantInfo

        protocol, scales = self.protocol, self.spec.variants.adapted_scales
        first, rest = protocol.screening().prompts, protocol.rest
        infos = {BASE_VARIANT: VariantInfo.unlisted(BASE_VARIANT)}
        adapters: dict[str, Any] = {}
        rows: list[Any] = []

        def say(names: Sequence[str], prompts: Sequence[Any], *, confirm: bool = False) -> None:
            for name in names:
                model = self._adapted(adapters.get(name), infos[name].lora_scale)
                rows.extend(self._said(name, model, prompts, confirm=confirm))

        def table(names: Sequence[str], prompts: Sequence[Any], rule: "Protocol") -> ScoreTable:
            ids = {prompt.id for prompt in prompts}
            kept = [row for row in rows if row.prompt in ids and row.variant in names]
            return ScoreTable.build([infos[name] for name in names], kept, rule)

        say([BASE_VARIANT], [*first, *rest])
        say([BASE_VARIANT], protocol.confirmation, confirm=True)
        for record in self.trials:
            for losses, adapter in self._train(record.training):
                variants = [
                    Variant(trial=record.id, epoch=losses.epoch, lora_scale=scale)
                    for scale in scales
                ]
                for variant in variants:
                    infos[variant.id] = variant_info(variant, record, losses)
                    adapters[variant.id] = (record.training, adapter)
                say([variant.id for variant in variants], first)
        screen = table([*infos], first, protocol.screening())
        listed = choose_shortlist(Comparison(screen, protocol.screening()), protocol)
        say(listed, rest)
        whole = table([BASE_VARIANT, *listed], [*first, *rest], protocol)
        finalists = choose_finalists(Comparison(whole, protocol)).all
        say(finalists, protocol.confirmation, confirm=True)
        confirming = protocol.confirming()
        fresh = table([BASE_VARIANT, *finalists], protocol.confirmation, confirming)
        with self._stage("judge"):
            return judge(screen, fresh, protocol, whole)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.spent[name] += time.process_time() - began

    def _base(self) -> "PreTrainedModel":
        import torch
        from transformers import Qwen2ForCausalLM

        from jobs.embedded import BASE_DIR

        return Qwen2ForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32)

    def _peft(self, training: "TrainingSpec") -> "PeftModel":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=training.rank,
            lora_alpha=training.scaling_alpha,
            lora_dropout=training.dropout,
            target_modules=list(training.targets),
        )
        return get_peft_model(self._base(), config)

    def _adapted(
        self, adapter: "tuple[TrainingSpec, Weights] | None", scale: float
    ) -> "PreTrainedModel | PeftModel":
        from peft import set_peft_model_state_dict
        from peft.tuners.lora import LoraLayer

        if adapter is None:
            return self._base().eval()
        training, weights = adapter
        model = self._peft(training)
        set_peft_model_state_dict(model, weights)
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                layer.scaling["default"] = scale * training.scaling_alpha / training.rank
        return model.eval()

    def _train(self, training: "TrainingSpec") -> "Iterator[tuple[EpochLosses, Weights]]":
        """The losses and the adapter's weights of each epoch."""
        import torch
        from peft import get_peft_model_state_dict

        from jobs.data.order.batches import BatchPlan
        from jobs.training.epochs import EpochLosses
        from jobs.training.slot import learning_rate, stream_seed

        with self._stage("train"):
            torch.manual_seed(stream_seed(training.seed, "adapter"))
            model = self._peft(training)
        adapter = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            adapter, betas=training.betas, weight_decay=training.weight_decay, fused=True
        )
        clips = self.examples["train"]
        plan = BatchPlan(len(clips), training.batch_size, training.accumulation, training.seed)
        step, steps = 0, plan.steps(training.epochs)
        for epoch in range(1, training.epochs + 1):
            with self._stage("train"):
                model.train()
                for batches in plan.epoch(epoch):
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate(training, step, steps)
                    losses = [self._loss(model, [clips[i] for i in batch]) for batch in batches]
                    targets = sum(count for _, count in losses)
                    (torch.stack([loss for loss, _ in losses]).sum() / targets).backward()
                    if training.clip:
                        torch.nn.utils.clip_grad_norm_(adapter, training.clip)
                    optimiser.step()
                    optimiser.zero_grad()
                    step += 1
            with self._stage("validate"), torch.no_grad():
                model.eval()
                sums = [self._loss(model, [example]) for example in self.examples["validation"]]
            self.epochs += 1
            loss = sum(float(each) for each, _ in sums) / sum(count for _, count in sums)
            weights = {k: v.clone() for k, v in get_peft_model_state_dict(model).items()}
            yield EpochLosses(epoch, loss, loss, (), (), 0.0, 0.0, {}), weights

    def _loss(self, model: "PeftModel", examples: Sequence[Any]) -> "tuple[Tensor, int]":
        """Summed over the targets, and their number."""
        import torch
        from torch.nn.functional import cross_entropy
        from torch.nn.utils.rnn import pad_sequence

        from jobs.families.layout import IGNORED_LABEL

        ids, labels, mask = (
            pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
            for rows, pad in (
                ([e.input_ids for e in examples], self.stream.pad_id),
                ([e.labels for e in examples], IGNORED_LABEL),
                ([[1] * len(e.labels) for e in examples], 0),
            )
        )
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        wanted = labels[:, 1:].flatten()
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), wanted, reduction="sum")
        return loss, int((wanted != IGNORED_LABEL).sum())

    def _said(
        self,
        name: str,
        model: "PreTrainedModel | PeftModel",
        prompts: Sequence[Any],
        *,
        confirm: bool,
    ) -> list[Any]:
        """Scores of the prompts, said in one batch."""
        import numpy as np
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from jobs.clips import SpokenClip
        from jobs.metrics.base import score_clip

        voice, scoring = self.spec.base.voice, self.spec.scoring
        with self._stage("speak"), torch.no_grad():
            rows = [torch.tensor(self.stream.prompt_ids(p.text, voice)) for p in prompts]
            padded = [
                pad_sequence(each, batch_first=True, padding_value=pad, padding_side="left")
                for each, pad in (
                    (rows, self.stream.pad_id),
                    ([torch.ones_like(row) for row in rows], 0),
                )
            ]
            written = model.generate(
                input_ids=padded[0],
                attention_mask=padded[1],
                do_sample=False,
                max_new_tokens=max(self.stream.max_new_tokens(p.text) for p in prompts),
                eos_token_id=self.stream.end_id,
                pad_token_id=self.stream.pad_id,
            )[:, padded[0].shape[1] :].tolist()
        clips = []
        for prompt, ids in zip(prompts, written, strict=True):
            codes = self.stream.codes(ids)
            with self._stage("decode"):
                sound = self.codec.decode(codes) if len(codes) else np.zeros(0, np.float32)
            ended = self.stream.end_id in ids
            clips.append(SpokenClip(sound, self.codec.sample_rate, prompt.text, ended))
        names = scoring.confirmed_by if confirm else scoring.measured
        seed = self.protocol.confirmation_seed if confirm else self.protocol.seed
        with self._stage("score"):
            return [
                score_clip(
                    self.scorers[names], clip, variant=name, prompt=prompt.id, seed=seed
                ).only(names)
                for prompt, clip in zip(prompts, clips, strict=True)
            ]


def run_plain(storage: Path) -> dict[str, Any]:
    """The trials of the sweep in ``storage`` by hand, to a verdict."""
    began = time.monotonic(), time.process_time()
    loop = PlainLoop(storage)
    verdict = loop.run()
    seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
    loop.spent["imports, loading"] = cpu - sum(loop.spent.values())
    return {
        "seconds": seconds,
        "cpu seconds": cpu,
        "stages": dict(loop.spent),
        "trials": len(loop.trials),
        "epochs": loop.epochs,
        **summary(json.loads(verdict.to_json())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="REVISION", help="run this one's demo too")
    parser.add_argument("--plain", action="store_true", help="run the trials by hand too")
    parser.add_argument("--quick", action="store_true", help="two trials of one epoch")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    load, runs = os.getloadavg()[0], {}

    def done(name: str, run: dict[str, Any]) -> None:
        stages = {stage: round(spent, 1) for stage, spent in sorted(run["stages"].items())}
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in run.items()}
        runs[name] = {**rounded, "stages": stages}
        if not options.json:
            for key, value in runs[name].items():
                print(f"{name}: {key} {value}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.before:
            code = folder / "code"
            code.mkdir()
            archive = ["git", "-C", str(ROOT), "archive", options.before]
            taken = subprocess.run(archive, check=True, capture_output=True)
            subprocess.run(["tar", "-x", "-C", str(code)], check=True, input=taken.stdout)
            done("before", run_sweep(code, folder / "before", quick=options.quick))
        done("after", run_sweep(ROOT, folder / "after", quick=options.quick))
        if options.plain:
            done("by hand", run_plain(folder / "after" / "sweeps"))
    ours = runs["after"]["seconds"]
    baselines = [name for name in runs if name != "after"]
    result = {
        "name": "demo",
        "ratios": {
            f"{name} over after": round(runs[name]["seconds"] / ours, 2) for name in baselines
        },
        "baseline": "the demo of another revision; PEFT, torch's AdamW and generate in a loop",
        "conditions": {"runs": runs, "load before": load, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
