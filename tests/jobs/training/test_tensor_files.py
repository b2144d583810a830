"""Tensors into files: what keeps them from being written is an error of the system."""

import errno
import resource

import pytest
import torch
from safetensors.torch import load_file

from jobs.training.adapter import save_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3)}


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(TENSORS, path, {"format": "pt"})
    assert torch.equal(load_file(path)["a"], TENSORS["a"])


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    """Here, a file that may have 16 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_tensors(TENSORS, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG


def test_so_is_a_folder_that_is_missing(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        save_tensors(TENSORS, tmp_path / "missing" / "a.safetensors")
    assert caught.value.errno == errno.ENOENT
