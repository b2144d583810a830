"""Jobs on a real cluster: what is sent is what runs, once, and nothing is left of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.raylets import Raylets, wait_until

_PROGRAM = """
import hashlib, json, os, pathlib, sys
import ray
import cluster
ray.init(address="auto", log_to_driver=False)
print("a leak:", open(os.environ["RAY_AUTH_TOKEN_PATH"]).read())

@ray.remote(num_cpus=0)
def look():
    import cluster
    return cluster.WHERE

files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
         for path in sorted(pathlib.Path().rglob("*")) if path.is_file() and path.suffix != ".pyc"}
print(json.dumps({
    "files": files, "arguments": sys.argv[1:], "code": [cluster.WHERE, ray.get(look.remote())],
    "greeting": os.environ["GREETING"], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
}), flush=True)
"""
_WAITING = """
import ray
ray.init(address="auto", log_to_driver=False)
group = ray.util.placement_group([{"CPU": 2}])
ray.get(group.ready())

@ray.remote(num_cpus=1)
class Holder:
    def ping(self): return True

holder = Holder.remote()
assert ray.get(holder.ping.remote())
print("holding", flush=True)
import threading
threading.Event().wait()
"""

_CLIENT = """
import json, pathlib, sys
from cluster.ray.package import Package
from cluster.ray.spec import ClusterSpec
from cluster.ray.jobs import Jobs, Submission

url, order = sys.argv[1], json.loads(sys.argv[2])
files = {name: text.encode() for name, text in order["files"].items()}
spec = ClusterSpec(environment={"env_vars": {"GREETING": "hello"}})
submission = Submission(order["id"], order["command"], {"sweep": order["id"]}, spec, Package(files))
jobs = Jobs(url)
said = []
job, is_new = jobs.submit(submission)
again, is_new_again = jobs.submit(submission)
if order["stop"]:
    while "holding" not in jobs.logs(job.id):
        assert not jobs.job(job.id).has_ended, jobs.logs(job.id)
    ended = jobs.stop(job.id)
else:
    ended = jobs.follow(job.id, said.append)
    assert "".join(said) == jobs.logs(job.id)
print(json.dumps({
    "sent": submission.to_dict(url), "id": job.id, "new": [is_new, is_new_again],
    "same": again.id == job.id, "status": ended.status, "logs": jobs.logs(job.id),
    "next": jobs.submit(submission)[0].id, "named": [each.id for each in jobs.named(order["id"])],
}))
"""


def client(cluster: Raylets, **order: object) -> subprocess.CompletedProcess[str]:
    """Somebody in a process of their own, since Ray reads its token once a process."""
    return subprocess.run(
        [sys.executable, "-c", _CLIENT, cluster.dashboard_url, json.dumps(order)],
        # Two variables by which Ray would go elsewhere.
        env={
            **cluster.environment,
            "RAY_ADDRESS": "http://192.0.2.1:8265",
            "RAY_API_SERVER_ADDRESS": "http://192.0.2.1:8265",
        },
        capture_output=True,
        text=True,
        timeout=400,
    )


def ask(cluster: Raylets, path: str) -> dict:
    """What the dashboard answers."""
    answer = requests.get(
        cluster.dashboard_url + path,
        headers={"Authorization": f"Bearer {cluster.token}"},
        timeout=60,
    )
    answer.raise_for_status()
    return answer.json()


@pytest.fixture(scope="module")
def looked(job_cluster):
    """A job that says what it was given."""
    hostile = "a; echo $(id) > /tmp/`x` && 'b' | \"c\""
    ended = client(
        job_cluster,
        id="looks-0123",
        files={"look.py": _PROGRAM, "cluster/__init__.py": "WHERE = 'sent'\n", "in/a.txt": "one"},
        command=["python", "look.py", hostile],
        stop=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert job_cluster.token not in ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), hostile


def test_what_is_sent_is_what_the_dry_run_says(looked, job_cluster):
    answer, hostile = looked
    assert answer["status"] == "SUCCEEDED", answer["logs"]
    said = json.loads(answer["logs"].splitlines()[-1])
    sent = answer["sent"]
    assert said["files"] == {each["name"]: each["sha256"] for each in sent["working_dir"]["files"]}
    assert said["greeting"] == "hello"
    held = ask(job_cluster, f"/api/jobs/{answer['id']}")
    assert held["entrypoint"] == sent["entrypoint"]
    assert held["metadata"].items() >= sent["metadata"].items()
    assert held["runtime_env"]["env_vars"].items() >= sent["runtime_env"]["env_vars"].items()
    assert said["arguments"] == [hostile]


def test_a_token_that_a_job_prints_is_not_passed_on(looked):
    answer, _ = looked  # in which the fixture found none
    assert "a leak: [token]" in answer["logs"]


def test_the_driver_has_no_gpu_and_code_that_is_sent_wins(looked):
    answer, _ = looked
    said = json.loads(answer["logs"].splitlines()[-1])
    assert said["gpus"] == ""
    assert said["code"] == ["sent", "sent"], "another package of that name is on every node's path"


def test_twice_is_one_job_and_one_that_succeeded_stays(looked):
    answer, _ = looked
    assert answer["new"] == [True, False]
    assert answer["same"]
    assert answer["next"] == answer["id"]
    assert answer["named"] == [answer["id"]]


@pytest.mark.full
def test_a_job_that_is_stopped_holds_nothing_and_is_followed_by_another(job_cluster):
    ended = client(
        job_cluster,
        id="waits-0123",
        files={"wait.py": _WAITING},
        command=["python", "wait.py"],
        stop=True,
    )
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["status"] == "STOPPED"
    assert answer["next"] == "waits-0123-r2"
    # The second holds as much as the first did, so none of the first's can be left.
    wait_until(lambda: "holding" in ask(job_cluster, "/api/jobs/waits-0123-r2/logs")["logs"])
    requests.post(
        f"{job_cluster.dashboard_url}/api/jobs/waits-0123-r2/stop",
        headers={"Authorization": f"Bearer {job_cluster.token}"},
        timeout=60,
    )

    def held() -> list[str]:
        actors = ask(job_cluster, "/api/v0/actors?detail=1")["data"]["result"]["result"]
        groups = ask(job_cluster, "/api/v0/placement_groups?detail=1")["data"]["result"]["result"]
        waiting = [p for p in job_cluster.processes() if "wait.py" in p.cmdline()]
        return [
            *(each["class_name"] for each in actors if each["state"] != "DEAD"),
            *(each["placement_group_id"] for each in groups if each["state"] != "REMOVED"),
            *(str(process.pid) for process in waiting),
        ]

    wait_until(lambda: not held())


def test_nobody_at_the_address(job_cluster):
    port = 1  # of the ports below 1024, one that nothing listens on
    program = "import sys; from cluster.ray.jobs import Jobs; Jobs(sys.argv[1])"
    ended = subprocess.run(
        [sys.executable, "-c", program, f"http://127.0.0.1:{port}"],
        env=job_cluster.environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode == 1
    assert "ConnectionError" in ended.stderr.splitlines()[-1]
    assert "127.0.0.1:1" in ended.stderr.splitlines()[-1]
