"""Files are replaced in one step, or not at all."""

import errno
import os
import shutil

import pytest

from thalweg.errors import ResourceError
from thalweg.io import atomic_write as module
from thalweg.io.atomic_write import atomic_write, disk_full_error


def test_a_file_and_its_missing_folders_are_written(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    atomic_write(path, b"first")
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("function", ["write_fsync", "fsync_dir"])
def test_a_full_disk_leaves_no_draft(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, function, fail)
    with pytest.raises(ResourceError) as error:
        atomic_write(path, b"new", cure="Free some space.")
    assert (error.value.path, error.value.value, error.value.cure) == (path, 3, "Free some space.")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    if function == "write_fsync":
        assert path.read_bytes() == b"old"


def test_a_file_in_place_of_a_folder_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError) as error:
        atomic_write(tmp_path / "file" / "inner", b"new")
    assert error.value.path == tmp_path / "file" / "inner" and "folder" in error.value.cure


def test_unknown_free_space_is_not_a_second_error(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    error = disk_full_error(OSError(28, "No space left on device"), tmp_path / "a", 5)
    assert "an unknown amount is free" in error.message
