"""One trial without Ray, through the command."""

import pytest

from cluster.storage import LocalStorage
from jobs.__main__ import main
from jobs.data.keys import JOB_FOLDER
from jobs.training.epochs import checkpoint_key, read_losses

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


def test_a_mix_that_the_job_does_not_have_is_named(tmp_path, caplog):
    job = tmp_path / "job.yaml"
    mixes = "data: {mixes: {mixed: {by: speaker, temperature: 2}}}\n"
    job.write_text((JOB % (1, 1)).replace("rank: 2", "rank: 2, mix: other") + mixes)
    assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
    assert "a mix must be one of data.mixes, 'mixed', got 'other'" in caplog.text
    assert not (tmp_path / "st").exists()


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
