"""What many rooms' tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.families.base import FrozenBase
from jobs.families.registry import load_base
from jobs.speech.voice_files import VoiceFiles
from tests.embedded_voice import EMBEDDED_HOST
from tests.postgres import MISSING, Postgres, binaries, running_postgres
from tests.raylets import Raylets, raylets

if TYPE_CHECKING:
    from tests.faulty_s3 import FaultyS3

# A test that starts Ray in this process imports it before ``ray_cluster`` sets the stage, and Ray
# reads these when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def embedded_base() -> FrozenBase:
    """The shipped base, loaded once; a test must leave it as it is."""
    return load_base(EMBEDDED_HOST)


@pytest.fixture(scope="session")
def tiny_qwen3_tts_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3-TTS base on disk."""
    from tests.tiny_qwen3_tts import write_tiny_qwen3_tts  # seconds to import

    return write_tiny_qwen3_tts(tmp_path_factory.mktemp("qwen3_tts"))


@pytest.fixture(scope="session")
def tiny_qwen3_tts(tiny_qwen3_tts_source: Path) -> FrozenBase:
    """It, loaded once; a test must leave it as it is but for the speakers that it knows."""
    return load_base(
        EMBEDDED_HOST.model_copy(
            update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
        )
    )


@pytest.fixture(scope="session")
def tiny_voxcpm2_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random VoxCPM2 base on disk."""
    from tests.tiny_voxcpm2 import write_tiny_voxcpm2  # seconds to import

    return write_tiny_voxcpm2(tmp_path_factory.mktemp("voxcpm2"))


@pytest.fixture(scope="session")
def tiny_voxcpm2(tiny_voxcpm2_source: Path) -> FrozenBase:
    """It, loaded once; a test must leave it as it is."""
    return load_base(
        EMBEDDED_HOST.model_copy(update={"family": "voxcpm2", "source": str(tiny_voxcpm2_source)})
    )


@pytest.fixture(scope="session")
def process_group() -> None:
    """What training needs of its process: here, a group of one."""
    from jobs.training.engine.start import start_distributed  # seconds to import

    start_distributed()


@pytest.fixture(scope="session")
def job_cluster() -> Iterator[Raylets]:
    """A Ray cluster of processes of its own, that jobs can be submitted to."""
    with raylets(cpus=6, dashboard=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def embedded_voice(
    embedded_base: FrozenBase, process_group: None, tmp_path_factory: pytest.TempPathFactory
) -> VoiceFiles:
    """A voice of the shipped base, with its checkpoint and what its host said beside it."""
    from tests.trained_voice import PROMPTS, WARM, few_clips, train_voice  # seconds to import

    clips = few_clips(embedded_base)
    directory = tmp_path_factory.mktemp("embedded")
    return train_voice(directory, embedded_base, EMBEDDED_HOST, clips, PROMPTS, WARM)


@pytest.fixture(scope="session")
def faulty_s3() -> Iterator["FaultyS3"]:
    """An S3 that lives in this process, and fails as it is told to."""
    from tests.faulty_s3 import serving  # a second to import

    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(faulty_s3: "FaultyS3") -> str:
    """Its URL."""
    return faulty_s3.url


@pytest.fixture
def s3_login(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment with which a process uses that S3, and keeps what it reads to itself."""
    from cluster.storage import s3_writing

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("VOXSWEEP_CACHE", str(tmp_path / "cache"))
    s3_writing.check_conditions.cache_clear()


@pytest.fixture
def fresh_client(s3_login: None) -> Iterator[None]:
    """For a test that changes that environment: no client of another one, before or after."""
    from cluster.storage import s3

    s3.client.cache_clear()
    yield
    s3.client.cache_clear()


@pytest.fixture
def bucket(s3_login: None) -> Iterator[Any]:
    """An empty bucket named ``voices``, as boto3 has it."""
    import boto3

    made = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket="voices")
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, started once; a test that asks for it is marked ``postgres``.

    The password is in the environment of this process and of those that it starts.
    """
    programs = binaries()
    if programs is None:
        pytest.skip(MISSING)
    with running_postgres(programs) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("PGPASSWORD", server.password)
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The address of an empty database of it."""
    return postgres.create_database()
