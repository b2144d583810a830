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


def test_another_number_of_ranks_than_processes_is_refused(tmp_path, caplog):
    job = tmp_path / "job.yaml"
    job.write_text(JOB % (1, 2))
    assert main([str(job), "--storage", str(tmp_path / "st")]) == 2
    assert "must be the number of processes, 1, got 2" in caplog.text
    assert not (tmp_path / "st").exists()
