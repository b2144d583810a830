"""A registered voice, served by MLflow on loopback, says over HTTP what it says here."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs.speech.say import say
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VoiceFiles
from orchestrator.records.runs import SWEEP_TAG, TRIAL_TAG
from orchestrator.records.tracking import MlflowStore
from orchestrator.release.registry import PROTOCOL_TAG, VARIANT_TAG, NewVersion, Registry

pytestmark = pytest.mark.full

TEXT = "one two. three four five six seven"
PATIENCE = 3000
"""Looks at a server that may take minutes to start on a busy machine; its end ends them."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(PATIENCE):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("the server never answered")


def test_a_request_gets_the_sound(embedded_voice: VoiceFiles, tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'models.db'}"
    registry = Registry(MlflowStore(uri, (tmp_path / "files").as_uri()))
    facts = embedded_voice.facts
    version = registry.add(
        NewVersion(
            model="voice",
            tags={
                SWEEP_TAG: "small",
                TRIAL_TAG: facts.trial,
                VARIANT_TAG: facts.variant.id,
                PROTOCOL_TAG: facts.protocol,
            },
            description="card",
            artifacts={"voice": embedded_voice.directory},
            example={"text": "one two"},
            optional=("language",),
        )
    )
    registry.set_candidate(version, "to be heard")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/voice@candidate"]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(root)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(url, server)
            # The first names no language, the second does.
            texts = [{"text": TEXT}, {"text": "hello", "language": "en"}]
            body = json.dumps({"dataframe_records": texts}).encode()
            request = urllib.request.Request(
                f"{url}/invocations", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=300) as response:
                heard, unread = json.load(response)["predictions"]
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # it leads its own group
            server.wait()
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(heard["audio"])), dtype="float32")
    said = say(LoadedVoice(embedded_voice), TEXT)
    assert (rate, heard["sample_rate"]) == (said.rate, said.rate)
    np.testing.assert_allclose(audio, said.audio, atol=2**-15)
    assert heard["problem"] == said.problem
    assert (unread["audio"], "hello" in unread["problem"]) == ("", True)
