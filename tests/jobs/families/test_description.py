"""Where a base lies."""

from pathlib import Path

import pytest

from jobs.embedded import BASE_DIR
from jobs.families.description import directory_of, is_path


def test_shipped_bases_and_directories_need_no_hub(tmp_path: Path):
    assert directory_of("embedded") == BASE_DIR
    assert directory_of(str(tmp_path)) == tmp_path


def test_a_base_of_the_hub_is_taken_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The cache as ``hf download`` leaves it."""
    snapshot = tmp_path / "models--some--base" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--base" / "refs").mkdir()
    (tmp_path / "models--some--base" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert directory_of("hub:some/base") == snapshot
    with pytest.raises(FileNotFoundError, match="hf download some/other"):
        directory_of("hub:some/other")


def test_only_paths_are_looked_for_on_this_machine():
    assert [is_path(source) for source in ("embedded", "hub:a/b", "bases/mine")] == [
        False,
        False,
        True,
    ]
