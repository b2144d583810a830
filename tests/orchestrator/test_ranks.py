"""Two ranks of a sweep's trial train one adapter together, in Ray and with ZeRO."""

import pytest

from cluster.storage.base import LocalStorage
from jobs.data.prepared.files import read_prepared
from jobs.data.prepared.keys import data_key
from jobs.families.registry import load_base
from jobs.spec.trial import EngineSpec
from jobs.training.host import Host
from orchestrator.ledger import Ledger
from orchestrator.spec.reading import read_spec
from tests.small_sweep import Run, write_manifest

pytestmark = pytest.mark.full

_SPEC = """\
name: ranks
family: codec_lm
data: {synthetic: true, manifest: manifest.jsonl}
training: {epochs: 1, batch_size: 8, dropout: 0.0}
engine: {zero_stage: 2, ranks: 2}
search: {sampler: grid, space: {rank: [4]}}
variants: {lora_scales: [0, 1.0], prompts: prompts.jsonl, confirmation_prompts: fresh.jsonl}
scoring: {metrics: [dnsmos_p808], primary: dnsmos_p808, min_effect: 0.05,
  finalists: 1, bootstrap_resamples: 1000}
resources: {hosts: 1, scorers: 1}
"""


@pytest.mark.usefixtures("process_group")
def test_two_ranks_train_what_one_would(tmp_path):
    path = tmp_path / "ranks.yaml"
    path.write_text(_SPEC)
    write_manifest(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"id": "p0", "text": "nine two"}\n')
    words = ("one", "two", "six", "four", "nine")
    fresh = [f'{{"id": "f{i}", "text": "{word}"}}\n' for i, word in enumerate(words)]
    (tmp_path / "fresh.jsonl").write_text("".join(fresh))
    run = Run(path, tmp_path / "st").start()
    try:
        assert run.finish() == 0, run.stderr
        assert run.left_behind() == []
    finally:
        run.end()

    storage = LocalStorage(tmp_path / "st")
    ledger = Ledger(storage, "ranks")
    (record,) = ledger.trials()
    (together,) = ledger.epochs(record.id)
    assert record.spec.engine.ranks == 2

    clips = read_prepared(storage.fetch(data_key(record.spec.data_digest)))
    host = Host(load_base(read_spec(path).host()), clips, EngineSpec())
    host.attach("alone", record.spec)
    alone = host.advance("alone")
    # The ranks add up their gradients in another order than one process does.
    assert together.step_losses == pytest.approx(alone.step_losses, rel=1e-4)
    assert together.validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)
