"""Where a model is, what identifies it, and what is said when it is not there."""

import hashlib
import json
import shutil

import pytest

from jobs.metrics.models import PICKLED, find_model

SETTINGS = ["preprocessor_config.json"]


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors", "README.md"):
        (tmp_path / "model" / name).write_bytes(name.encode())
    return tmp_path / "model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, elsewhere; what it must not do is ask the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_in_cache(cache, directory, model):
    revision = "0" * 40
    repository = cache / f"models--{model.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    shutil.copytree(directory, repository / "snapshots" / revision)
    return repository / "snapshots" / revision


def test_a_directory_is_a_model(directory):
    found = find_model(str(directory), SETTINGS)
    assert found.directory == directory
    assert found.is_safetensors
    digest = hashlib.sha256(b"model.safetensors").hexdigest()
    assert found.fingerprint().startswith(f"model.safetensors:{digest[:12]} settings:")


def test_what_was_downloaded_is_found_in_the_cache(directory, cache):
    snapshot = put_in_cache(cache, directory, "some/model")
    found = find_model("some/model", SETTINGS)
    assert found.directory == snapshot
    assert found.fingerprint() == find_model(str(directory), SETTINGS).fingerprint()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_each_file_that_matters_changes_the_fingerprint(directory, tmp_path, name):
    other = shutil.copytree(directory, tmp_path / "other")
    (other / name).write_bytes(b"another")
    ours, theirs = (find_model(str(d), SETTINGS).fingerprint() for d in (directory, other))
    assert ours != theirs


def test_what_does_not_matter_does_not(directory, tmp_path):
    other = shutil.copytree(directory, tmp_path / "other")
    (other / "README.md").unlink()
    ours, theirs = (find_model(str(d), SETTINGS).fingerprint() for d in (directory, other))
    assert ours == theirs


def test_shards_are_all_there_or_named(directory):
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / shards[0]).write_bytes(b"one")
    with pytest.raises(FileNotFoundError, match=f"and {shards[1]} of .* are not"):
        find_model(str(directory), SETTINGS)
    (directory / shards[1]).write_bytes(b"two")
    found = find_model(str(directory), SETTINGS)
    assert [path.name for path in found.weights] == shards
    assert all(f"{name}:" in found.fingerprint() for name in shards)


def test_a_pickle_will_do_only_where_it_is_meant_to(directory):
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"and model\.safetensors of .* complete the dir"):
        find_model(str(directory), SETTINGS)
    found = find_model(str(directory), SETTINGS, PICKLED)
    assert not found.is_safetensors


@pytest.mark.parametrize(
    ("model", "other", "files"),
    [
        ("some/model", None, "'model.safetensors*' 'model-*.safetensors' config.json"),
        (
            "some/model",
            PICKLED,
            "'model.safetensors*' 'model-*.safetensors' pytorch_model.bin config.json",
        ),
        ("no such/name/at all", None, "'model.safetensors*' 'model-*.safetensors' config.json"),
    ],
)
def test_what_is_not_there_comes_with_the_command_that_gets_it(cache, model, other, files):
    with pytest.raises(FileNotFoundError) as caught:
        find_model(model, SETTINGS, other)
    command = f"`hf download {model} --include {files} preprocessor_config.json`"
    assert f"{model!r} is neither; run {command}, or name a directory" in str(caught.value)


def test_a_directory_that_is_not_there_is_nothing_to_download(cache, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/no is not; correct the path, or name a model"):
        find_model(str(tmp_path / "no"), SETTINGS)


def test_a_download_that_was_cut_off_is_told(directory, cache):
    (directory / "config.json").unlink()
    put_in_cache(cache, directory, "some/model")
    with pytest.raises(FileNotFoundError, match=r"has none \(searched .*run `hf download some/m"):
        find_model("some/model", SETTINGS)
