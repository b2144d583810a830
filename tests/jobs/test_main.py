"""One trial without Ray, through the command."""

import json

import pytest

from cluster.storage.base import LocalStorage
from jobs.__main__ import main
from jobs.data.prepared.files import read_prepared
from jobs.data.prepared.keys import JOB_FOLDER
from jobs.embedded import VOICE_DIR
from jobs.training.epochs import checkpoint_key
from tests.losses import read_losses

pytestmark = pytest.mark.usefixtures("process_group")

JOB = """\
host: {family: codec_lm, source: embedded, codec: embedded, voice: null, precision: fp32}
training: {rank: 2, batch_size: 32, epochs: %d}
engine: {ranks: %d}
"""


def test_the_same_command_goes_on_after_the_last_epoch(tmp_path):
    job, storage = tmp_path / "job.yaml", LocalStorage(tmp_path / "st")
    job.write_text(JOB % (1, 1))
    assert main([str(job), "--storage", storage.url]) == 0
    (trial,) = storage.children(f"{JOB_FOLDER}/trials")
    first = read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 1)))
    # Under a constant schedule two epochs are the same trial, one epoch further.
    job.write_text(JOB % (2, 1))
    assert main([str(job), "--storage", storage.url]) == 0
    assert storage.children(f"{JOB_FOLDER}/trials") == [trial]
    assert read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 1))) == first
    assert read_losses(storage.fetch(checkpoint_key(JOB_FOLDER, trial, 2))).epoch == 2


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
            JOB.replace("rank: 2,", "rank: 2, mix: evn,")
            + "data: {mixes: {even: {by: language, temperature: 5}}}",
            "a mix must be one of data.mixes, got 'evn'. Did you mean even?",
        ),
    ],
    ids=["tag", "mix"],
)
def test_a_job_that_says_two_things_is_refused(tmp_path, caplog, lines, told):
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
    assert "a clip must fit into training.batch_tokens, 9, but 64 of 64" in caplog.text
    assert not storage.children(f"{JOB_FOLDER}/trials")


def test_another_number_of_ranks_than_processes_is_refused(tmp_path, caplog):
    job = tmp_path / "job.yaml"
    job.write_text(JOB % (1, 2))
    assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
    assert "must be the number of processes, 1, got 2" in caplog.text
    assert not (tmp_path / "st").exists()
