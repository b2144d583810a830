"""One trial without Ray, through the command."""

import json
from hashlib import sha256
from os import truncate
from shutil import copytree, rmtree

import pytest
import torch

from cluster.storage.base import LocalStorage
from cluster.storage.committed import COMMITTED
from jobs.__main__ import _advance, main
from jobs.data.prepared.files import read_prepared
from jobs.data.prepared.keys import JOB_FOLDER
from jobs.embedded import VOICE_DIR
from jobs.spec.trial import EngineSpec
from jobs.training.epochs import checkpoint_key
from jobs.training.host import Host
from tests.losses import read_losses
from tests.small_sweep import write_manifest
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

JOB = """\
host: {family: codec_lm, source: embedded, codec: embedded, voice: null, precision: fp32}
training: {rank: 2, batch_size: 32, epochs: %d}
engine: {ranks: %d}
"""


def test_the_same_command_goes_on_after_the_last_epoch(tmp_path, caplog):
    job, storage = tmp_path / "job.yaml", LocalStorage(tmp_path / "st")
    write_manifest(tmp_path)
    data = f"data: {{synthetic: true, manifest: {tmp_path}/manifest.jsonl}}\n"
    job.write_text(JOB % (1, 1) + data)
    assert main([str(job), "--storage", storage.url]) == 0
    (trial,) = storage.children(f"{JOB_FOLDER}/trials")
    first = read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 1)))
    # Under a constant schedule two epochs are the same trial, one epoch further.
    job.write_text(JOB % (2, 1) + data)
    assert main([str(job), "--storage", storage.url]) == 0
    assert storage.children(f"{JOB_FOLDER}/trials") == [trial]
    assert read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 1))) == first
    assert read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 2))).epoch == 2
    # What is damaged is trained again, from the epoch before it.
    before = digests(storage, trial, 2)
    flip(checkpoint_dir(storage, trial, 2) / "adapter_model.safetensors")
    assert main([str(job), "--storage", storage.url]) == 0
    assert digests(storage, trial, 2) == before
    assert "adapter_model.safetensors has other bytes than were committed" in caplog.text


def test_its_data_is_all_that_the_spec_says(tmp_path, caplog):
    """Two manifests, as one target; what is done to clips; and the tag, in one key."""
    lines = (VOICE_DIR / "manifest.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "language": "en"} for line in lines]
    splits = [
        [row for row in rows if row["split"] == split][:2] for split in ("train", "validation")
    ]
    for name, pair in zip(("one", "two"), zip(*splits, strict=True), strict=True):
        told = [json.dumps({**row, "audio": str(VOICE_DIR / row["audio"])}) for row in pair]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(told))
    job, storage = tmp_path / "job.yaml", LocalStorage(tmp_path / "st")
    manifests = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
    data = {
        "manifest": manifests,
        "root": str(VOICE_DIR),
        "language_tag": True,
        "trailing_silence": 0.2,
    }
    job.write_text(JOB % (1, 1) + f"data: {json.dumps(data)}\n")
    assert main([str(job), "--storage", storage.url]) == 0
    (recipe,) = storage.children("data")
    (name,) = storage.children(f"data/{recipe}")
    clips = read_prepared(storage.fetch(f"data/{recipe}/{name}"))
    assert [clip.text for clip in clips] == [
        row["text"] for pair in zip(*splits, strict=True) for row in pair
    ]
    # Without the tag it is another data set of the same recipe, and nothing is encoded again.
    caplog.set_level("INFO")
    caplog.clear()
    job.write_text(JOB % (1, 1) + f"data: {json.dumps({**data, 'language_tag': False})}\n")
    assert main([str(job), "--storage", storage.url]) == 0
    assert "4 clips, 0 of them encoded now" in caplog.text
    assert len(storage.children(f"data/{recipe}")) == 2
    assert len(storage.children(f"{JOB_FOLDER}/trials")) == 2


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            JOB.replace("fp32}", "fp32, language_tag: true}"),
            "host.language_tag follows data.language_tag",
        ),
        (
            JOB.replace("fp32}", "fp32, reference_prefix: true}"),
            "host.reference_prefix follows data.reference_prefix",
        ),
        (
            JOB.replace("rank: 2,", "rank: 2, mix: evn,")
            + "data: {mixes: {even: {by: language, temperature: 5}}}",
            "a mix must be one of data.mixes, got 'evn'. Did you mean even?",
        ),
        (
            JOB.replace("rank: 2,", "rank: 2, targets: [q_proj, lm_head, v_prooj],"),
            "training: lm_head is no layer that can be adapted (embeddings and heads stay frozen). "
            "Valid names: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj. v_prooj",
        ),
        (
            JOB.replace("rank: 2,", "rank: 2, layers_to_transform: [4],"),
            "training: the targets are in blocks 0 to 3, not in 4",
        ),
    ],
    ids=["tag", "reference", "mix", "targets", "blocks"],
)
def test_a_job_that_cannot_be_is_refused(tmp_path, caplog, lines, told):
    job = tmp_path / "job.yaml"
    job.write_text(lines % (1, 1))
    assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
    assert told in caplog.text
    assert not (tmp_path / "st").exists()


@pytest.mark.full
def test_clips_that_do_not_fit_the_training_end_it_before_its_first_step(tmp_path, caplog):
    job, storage = tmp_path / "job.yaml", LocalStorage(tmp_path / "st")
    job.write_text((JOB % (1, 1)).replace("rank: 2", "rank: 2, batch_tokens: 9"))
    assert main([str(job), "--storage", storage.url]) == 2
    assert "a clip must fit into training.batch_tokens, 9, but 450 of 450" in caplog.text
    assert not storage.children(f"{JOB_FOLDER}/trials")


def test_another_number_of_ranks_than_processes_is_refused(tmp_path, caplog):
    job = tmp_path / "job.yaml"
    job.write_text(JOB % (1, 2))
    assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
    assert "must be the number of processes, 1, got 2" in caplog.text
    assert not (tmp_path / "st").exists()


def checkpoint_dir(storage, trial, epoch):
    return storage.root.joinpath(*checkpoint_key(JOB_FOLDER, trial, epoch).split("/"))


def digests(storage, trial, epoch):
    """Of all that the state after an epoch consists of; its times are not of it."""
    with storage.borrow(checkpoint_key(JOB_FOLDER, trial, epoch)) as directory:
        names = ("adapter_model.safetensors", "optimizer.safetensors")
        return [sha256((directory / name).read_bytes()).hexdigest() for name in names]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


TRIAL = toy_trial(epochs=3, batch_size=2, dropout=0.1)


def train_toy(storage):
    """As the command does once base and data are there; the epochs that it trained."""
    trained = []

    class Noting(Host):
        def advance(self, slot):
            trained.append(super().advance(slot))
            return trained[-1]

    _advance(Noting(toy_base(), toy_clips(), EngineSpec(), storage), TRIAL, storage, is_writer=True)
    return [losses.epoch for losses in trained]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, process_group):
    """A storage with three epochs, and the digests of each."""
    storage = LocalStorage(tmp_path_factory.mktemp("trained"))
    assert train_toy(storage) == [1, 2, 3]
    return storage.root, [digests(storage, TRIAL.id, epoch) for epoch in (1, 2, 3)]


@pytest.mark.parametrize(
    ("do", "epochs", "told"),
    [
        (lambda at: rmtree(at(1)), [], "goes on after epoch 3 of 3"),
        (lambda at: (at(2) / COMMITTED).unlink(), [], "goes on after epoch 3 of 3"),
        (lambda at: (at(3) / COMMITTED).unlink(), [3], "has files and no COMMITTED"),
        (
            lambda at: flip(at(3) / "adapter_model.safetensors"),
            [3],
            "adapter_model.safetensors has other bytes than were committed",
        ),
        (
            lambda at: truncate(at(3) / "optimizer.safetensors", 100),
            [3],
            "optimizer.safetensors has 100 bytes",
        ),
        (lambda at: (at(3) / "state.json").unlink(), [3], "state.json is missing"),
        (
            lambda at: (flip(at(3) / "losses.json"), flip(at(2) / "adapter_config.json")),
            [2, 3],
            "goes on after epoch 1 of 3",
        ),
        (
            # An earlier version wrote no digests.
            lambda at: (
                (at(3) / COMMITTED).write_bytes(b""),
                truncate(at(3) / "optimizer.safetensors", 100),
            ),
            [3],
            "it cannot be read: ",
        ),
        (lambda at: (at(3) / COMMITTED).write_bytes(b""), [], "goes on after epoch 3 of 3"),
    ],
    ids=[
        "no epoch 1",
        "no marker of 2",
        "no marker of 3",
        "flipped",
        "truncated",
        "missing",
        "two",
        "truncated, no digests",
        "no digests",
    ],
)
def test_it_goes_on_from_the_newest_whole_epoch(trained, tmp_path, caplog, do, epochs, told):
    """To the bits of the undisturbed training; what is damaged is told, and kept."""
    caplog.set_level("INFO")
    root, expected = trained
    storage = LocalStorage(copytree(root, tmp_path / "copy"))
    do(lambda epoch: checkpoint_dir(storage, TRIAL.id, epoch))
    assert train_toy(storage) == epochs
    for epoch in epochs:
        assert digests(storage, TRIAL.id, epoch) == expected[epoch - 1]
    assert told in caplog.text
    if "is damaged" in caplog.text:
        aside = list(checkpoint_dir(storage, TRIAL.id, 1).parent.glob(".*.damaged-*"))
        assert all(str(path) in caplog.text for path in aside)
        assert len(aside) == len(epochs)


def test_it_pins_its_threads_as_hosts_do(tmp_path, monkeypatch):
    """Unless the user did."""
    job = tmp_path / "job.yaml"
    job.write_text(JOB % (1, 2))  # refused, but not before
    before = torch.get_num_threads()
    try:
        for value, threads in ((None, 1), ("2", 2)):
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            if value:
                monkeypatch.setenv("OMP_NUM_THREADS", value)
            torch.set_num_threads(2)
            assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
