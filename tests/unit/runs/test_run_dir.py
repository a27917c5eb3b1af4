"""The folder of a run: one owner, files that are complete, damage that is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.run_dirs import read_all_files
from tests.helpers.subprocesses import FORKSERVER
from tests.helpers.toy_records import make_record
from thalweg.cli import doctor
from thalweg.errors import ModelFileError, NotFoundError, ResourceError, RunLockedError
from thalweg.runs import run_dir as run_dir_module
from thalweg.runs.run_dir import CHECKED_FILES, WRITTEN_NAMES, MetricsFile, RunDir, create_run_dir


def make_run(path: Path) -> RunDir:
    run_dir = RunDir(path)
    run_dir.write_record(make_record())
    return run_dir


# --- one owner -------------------------------------------------------------------------------------------------------


def test_a_folder_has_one_owner_at_a_time_who_is_named(tmp_path):
    first, second = RunDir(tmp_path / "a"), RunDir(tmp_path / "a")
    first.lock(resume=False)
    for resume in (False, True):
        with pytest.raises(RunLockedError) as error:
            second.lock(resume)
        assert error.value.value == f"process {os.getpid()} on {socket.gethostname()}"
        assert error.value.path == tmp_path / "a"
    first.write_record(make_record())
    first.unlock()
    second.lock(resume=True)
    second.unlock()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["run.json"]


def _compete(path: str, ready, done, results) -> None:
    run_dir = RunDir(path)
    ready.wait()
    try:
        run_dir.lock(resume=False)
        results.put((os.getpid(), None))
    except RunLockedError as error:
        results.put((os.getpid(), error.value))
    done.wait()
    run_dir.unlock()


def test_of_eight_processes_that_lock_at_once_one_wins_and_the_others_name_it(tmp_path):
    for number in range(3):
        ready, done, results = FORKSERVER.Barrier(8), FORKSERVER.Barrier(8), FORKSERVER.Queue()
        arguments = (str(tmp_path / str(number)), ready, done, results)
        processes = [FORKSERVER.Process(target=_compete, args=arguments) for _ in range(8)]
        for process in processes:
            process.start()
        owners = dict(results.get(timeout=60) for _ in processes)
        for process in processes:
            process.join(60)
        (winner,) = [pid for pid, owner in owners.items() if owner is None]
        assert all(f"process {winner} on" in owner for owner in owners.values() if owner)


def _create(path: str, ready, results) -> None:
    os.chdir(path)
    ready.wait()
    results.put(str(create_run_dir("classify-digits-mlp").path))


def test_eight_new_folders_created_at_once_are_eight(tmp_path):
    ready, results = FORKSERVER.Barrier(8), FORKSERVER.Queue()
    processes = [FORKSERVER.Process(target=_create, args=(str(tmp_path), ready, results)) for _ in range(8)]
    for process in processes:
        process.start()
    names = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert names == {str(Path("runs") / f"classify-digits-mlp-{number}") for number in range(1, 9)}


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path):
    program = (
        "import os, signal, sys; from thalweg.runs.run_dir import RunDir; run = RunDir(sys.argv[1]); run.lock(False);"
        "open(run.path / 'run.json', 'w').write('{}'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")])
    assert killed.returncode == -9 and (tmp_path / "a" / ".lock").exists()
    run_dir = RunDir(tmp_path / "a")
    run_dir.lock(resume=True)
    run_dir.unlock()
    assert not (tmp_path / "a" / ".lock").exists()


def test_a_lock_that_is_removed_while_another_process_waits_for_it_is_not_shared(tmp_path, monkeypatch):
    """The owner removes the file after the other has opened it: the other must not own a file without a name."""
    first, second, third = (RunDir(tmp_path / "a") for _ in range(3))
    first.lock(resume=False)
    lock_file = run_dir_module.lock_file

    def lock_late(handle):
        monkeypatch.setattr(run_dir_module, "lock_file", lock_file)
        first.unlock()
        return lock_file(handle)

    monkeypatch.setattr(run_dir_module, "lock_file", lock_late)
    second.lock(resume=True)
    with pytest.raises(RunLockedError):
        third.lock(resume=True)


def test_a_disk_without_locks_can_be_used(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunDir(tmp_path / "a").lock(resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    (tmp_path / "zebras").mkdir()
    before = read_all_files(tmp_path)
    with pytest.raises(RunLockedError) as error:
        RunDir(tmp_path).lock(resume)
    assert (error.value.path, error.value.value) == (tmp_path, "thesis.tex")
    assert read_all_files(tmp_path) == before


def test_a_run_is_refused_without_resume_and_left_as_it_is(tmp_path):
    make_run(tmp_path)
    before = read_all_files(tmp_path)
    with pytest.raises(RunLockedError) as error:
        RunDir(tmp_path).lock(resume=False)
    assert error.value.path == tmp_path and "2026-01-01" in error.value.message
    assert read_all_files(tmp_path) == before


def test_folders_that_cannot_be_made_are_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(RunLockedError) as error:
        RunDir(tmp_path / "a").lock(resume=False)
    assert error.value.path == tmp_path / "a"
    with pytest.raises(ResourceError) as error:
        RunDir(tmp_path / "a" / "b").lock(resume=False)
    assert error.value.path == tmp_path / "a" / "b"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError) as error:
        create_run_dir("one")
    assert error.value.path == Path("runs/one-1")


def test_unlocking_removes_a_folder_that_nothing_was_written_to(tmp_path):
    run_dir = RunDir(tmp_path / "a" / "b")
    run_dir.lock(resume=False)
    run_dir.unlock()
    run_dir.unlock()
    assert not (tmp_path / "a" / "b").exists()


def test_locking_removes_the_drafts_of_a_killed_process(tmp_path):
    run_dir = make_run(tmp_path)
    (tmp_path / "plots").mkdir()
    drafts = [tmp_path / ".weights.safetensors.123.draft", tmp_path / "plots" / ".curves.png.9.draft"]
    for draft in drafts:
        draft.write_bytes(b"half")
    run_dir.lock(resume=True)
    assert not any(draft.exists() for draft in drafts)


@pytest.mark.parametrize("name", [*CHECKED_FILES, *WRITTEN_NAMES])
def test_symbolic_links_in_a_run_are_refused_and_their_targets_left_alone(tmp_path, name):
    out = tmp_path / "run"
    make_run(out)
    target = tmp_path / "precious"
    target.write_text("years of work", encoding="utf-8")
    (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(target)
    with pytest.raises(ModelFileError) as error:
        RunDir(out).lock(resume=True)
    assert error.value.path == out / name
    assert target.read_text(encoding="utf-8") == "years of work" and not (out / ".lock").is_file() or name == ".lock"


def test_a_link_that_replaces_the_lock_at_the_last_moment_is_not_followed(tmp_path, monkeypatch):
    target = tmp_path / "precious"
    target.write_text("years of work", encoding="utf-8")
    out = tmp_path / "run"
    out.mkdir()
    monkeypatch.setattr(RunDir, "_reject_links", lambda self: (out / ".lock").symlink_to(target))
    with pytest.raises(ResourceError) as error:
        RunDir(out).lock(resume=False)
    assert error.value.path == out and target.read_text(encoding="utf-8") == "years of work"


def test_names_that_no_disk_can_have_are_not_runs():
    assert not RunDir("x" * 5000).exists


# --- checksums -------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path) -> RunDir:
    """Return a finished run with metrics and weights."""
    run_dir = RunDir(tmp_path / "run")
    digest = run_dir.write_weights({"a": torch.arange(5)})
    metrics = MetricsFile(run_dir.path / "metrics.jsonl")
    metrics.append({"step": 1, "loss": 0.5})
    metrics.close()
    run_dir.write_record(make_record(status="finished", weights_sha256=digest))
    return run_dir


def flip(path: Path, index: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_finished_runs_have_checksums_as_sha256sum_writes_them(finished):
    lines = (finished.path / "checksums.sha256").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(CHECKED_FILES) and finished.verify() == []
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((finished.path / name).read_bytes()).hexdigest() == digest
    assert doctor.check_run(str(finished.path)).status == "ok"


def test_every_flipped_bit_of_run_json_is_found(finished):
    path = finished.path / "run.json"
    size = len(path.read_bytes())
    for index in range(0, size, 3):
        flip(path, index, index % 7)
        with pytest.raises(ModelFileError) as error:
            finished.read_record()
        assert error.value.path == path
        flip(path, index, index % 7)
    assert finished.read_record().is_finished


def test_flipped_bits_of_any_file_are_found_by_the_doctor(finished):
    for name in CHECKED_FILES:
        path = finished.path / name
        flip(path, len(path.read_bytes()) // 2, 0)
        assert finished.verify() == [name]
        check = doctor.check_run(str(finished.path))
        assert check.status == "problem" and name in check.message
        flip(path, len(path.read_bytes()) // 2, 0)
    (finished.path / "metrics.jsonl").unlink()
    assert finished.verify() == ["metrics.jsonl"]


def test_only_finished_runs_have_checksums(finished):
    finished.write_record(make_record(status="running"))
    assert finished.read_checksums() == {} and finished.verify() == []
    assert finished.read_record().status == "running"
    assert doctor.check_run(str(finished.path)).status == "warning"


def test_a_kill_between_checksums_and_run_json_leaves_a_run_that_can_be_read(finished, monkeypatch):
    finished.write_record(make_record(status="running"))
    write_file = RunDir.write_file

    def fail_at_run_json(self, name, data):
        if name == "run.json":
            raise KeyboardInterrupt
        write_file(self, name, data)

    monkeypatch.setattr(RunDir, "write_file", fail_at_run_json)
    with pytest.raises(KeyboardInterrupt):
        finished.write_record(make_record(status="finished"))
    assert finished.read_record().status == "running"


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_come_back(tmp_path):
    tensors = {"a.weight": torch.randn(8, 3, 2, 2).to(memory_format=torch.channels_last), "b": torch.arange(5)}
    run_dir = RunDir(tmp_path)
    loaded = run_dir.load_weights(make_record(weights_sha256=run_dir.write_weights(tensors)))
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_flipped_bits_and_cuts_anywhere_in_the_weights_are_found(finished):
    path = finished.path / "weights.safetensors"
    record = finished.read_record()
    data = path.read_bytes()
    damaged = [data[:length] for length in range(0, len(data), 7)] + [data + b"\0"]
    for index in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[index] ^= 1 << index % 8
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ModelFileError) as error:
            finished.load_weights(record)
        assert error.value.path == path


def test_missing_and_foreign_weights_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ModelFileError) as error:
        RunDir(tmp_path).load_weights(make_record())
    assert error.value.path == path
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelFileError) as error:
        RunDir(tmp_path).load_weights(make_record(weights_sha256=hashlib.sha256(b"\x80\x04pickle").hexdigest()))
    assert error.value.path == path


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_rows_after_the_offset_belong_to_lost_work(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1, "loss": float("nan")})
    offset = file.sync()
    file.append({"step": 2})
    file.close()
    resumed = MetricsFile(tmp_path / "metrics.jsonl", offset)
    assert resumed.is_complete
    resumed.append({"step": 3})
    resumed.close()
    assert RunDir(tmp_path).read_metrics() == [{"step": 1, "loss": None}, {"step": 3}]


def test_a_file_shorter_than_the_offset_is_incomplete_and_not_padded(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n', encoding="utf-8")
    file = MetricsFile(path, offset=100)
    file.append({"step": 2})
    file.close()
    assert not file.is_complete
    assert RunDir(tmp_path).read_metrics() == [{"step": 1}, {"step": 2}]


def test_a_row_that_is_being_written_is_not_read(tmp_path):
    assert RunDir(tmp_path).read_metrics() == []
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"ste')
    assert RunDir(tmp_path).read_metrics() == [{"step": 1}]


@pytest.mark.parametrize("row", [b"\0\0\0", b"[]", b"\xff", b"3"])
def test_a_damaged_row_is_named_by_its_line(tmp_path, row):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + row + b'\n{"step": 3}\n')
    with pytest.raises(ModelFileError) as error:
        RunDir(tmp_path).read_metrics()
    assert (error.value.path, error.value.line) == (path, 2)


def test_a_row_without_room_is_an_error_with_its_path(tmp_path):
    resource = pytest.importorskip("resource")
    file = MetricsFile(tmp_path / "metrics.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        with pytest.raises(ResourceError) as error:
            file.append({"step": 1, "loss": 0.123456789})
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path / "metrics.jsonl") in error.value.message


def test_rows_that_the_disk_refuses_are_an_error_with_their_path(tmp_path, monkeypatch):
    file = MetricsFile(tmp_path / "metrics.jsonl")

    def refuse(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResourceError) as error:
        file.sync()
    assert str(tmp_path / "metrics.jsonl") in error.value.message


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_without_room_leaves_the_old_one_and_no_draft(tmp_path, monkeypatch, call):
    run_dir = RunDir(tmp_path)
    run_dir.write_file("plots/a.png", b"old")
    before = read_all_files(tmp_path)

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(ResourceError) as error:
            run_dir.write_file("plots/a.png", b"new" * 1_000_000)
    assert "a.png" in error.value.message and "3.0 MB" in error.value.message
    assert read_all_files(tmp_path) == before


def test_a_folder_without_a_run_is_not_found(tmp_path):
    with pytest.raises(NotFoundError) as error:
        RunDir(tmp_path).read_record()
    assert error.value.path == tmp_path


def test_run_json_is_strict_json(tmp_path):
    RunDir(tmp_path).write_record(make_record(setup={"a": float("nan"), "b": torch.tensor([1.0, float("inf")])}))
    values = json.loads((tmp_path / "run.json").read_bytes(), parse_constant=pytest.fail)
    assert values["setup"] == {"a": None, "b": [1.0, None]}
