"""Tasks that read recordings, on a real cluster whose head lends out no CPU and has no GPU."""

import json
import subprocess
import sys

import pytest

from tests.raylets import raylets

_DRIVER = """
import json, sys
import ray
from jobs.data.clips import TargetClip
from jobs.data.clips import ManifestRow
from orchestrator.sweep import data_locality

ray.init(address=sys.argv[1], log_to_driver=False)
where = {}
for audio in ("/data/a.flac", "s3://data/a.flac"):
    clip = TargetClip(ManifestRow(where="list:1", audio=audio, text="a"), "digest", 16_000, 1.0)
    asked = data_locality([clip], cpus=1, gpus=1)
    look = ray.remote(**asked)(lambda: ray.get_runtime_context().get_node_id())
    where[audio] = (asked["num_cpus"], asked["num_gpus"], ray.get(look.remote()))
print(json.dumps(where))
"""


@pytest.mark.full
def test_a_recording_is_read_where_it_lies():
    """Files on the driver's node, though it has neither; what is in S3 where there is room."""
    with raylets(cpus=0) as cluster:
        worker = cluster.add(cpus=1, gpus=1)
        ended = subprocess.run(
            [sys.executable, "-c", _DRIVER, cluster.address],
            env=cluster.environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout.splitlines()[-1]) == {
            "/data/a.flac": [0, 0, cluster.head.id],
            "s3://data/a.flac": [1, 1, worker.id],
        }
