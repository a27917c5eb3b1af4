"""The folder of a run: one owner, files that are whole, errors that say what is wrong with them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.subprocesses import FORKSERVER
from thalweg.errors import ModelFileError, NotFoundError, ResourceError, RunLockedError
from thalweg.runs.run_dir import FORMAT_VERSION, MetricsFile, RunDir, create_run_dir, to_json

CONTENT = {
    "task": "classify",
    "options": {"epochs": 2.0},
    "facts": {"classes": ["a"], "channels": 3, "size": [8, 8], "mean": [0, 0.5, 1], "std": [1, 1, 1], "ink": False},
    "started": "2026-01-01T00:00:00",
}


def made(path: Path) -> RunDir:
    folder = RunDir(path)
    folder.write(CONTENT)
    return folder


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


# --- one owner -------------------------------------------------------------------------------------------------------


def test_a_folder_has_one_owner_at_a_time_who_is_named(tmp_path):
    first, second = RunDir(tmp_path / "a"), RunDir(tmp_path / "a")
    first.claim(resume=False)
    with pytest.raises(RunLockedError) as refused:
        second.claim(resume=False)
    assert f"process {os.getpid()} on {socket.gethostname()}" in refused.value.message
    with pytest.raises(RunLockedError, match="going on"):
        second.claim(resume=True)
    first.write(CONTENT)
    first.release()
    second.claim(resume=True)
    second.release()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["run.json"]


def _compete(path: str, ready, answered, told) -> None:
    folder = RunDir(path)
    ready.wait()
    try:
        folder.claim(resume=False)
        told.put((os.getpid(), None))
    except RunLockedError as error:
        told.put((os.getpid(), error.message))
    answered.wait()
    folder.release()


def test_of_eight_that_claim_at_once_one_wins_and_the_others_name_it(tmp_path):
    for number in range(3):
        ready, answered, told = FORKSERVER.Barrier(8), FORKSERVER.Barrier(8), FORKSERVER.Queue()
        arguments = (str(tmp_path / str(number)), ready, answered, told)
        processes = [FORKSERVER.Process(target=_compete, args=arguments) for _ in range(8)]
        for process in processes:
            process.start()
        answers = dict(told.get(timeout=60) for _ in processes)
        for process in processes:
            process.join(60)
        winners = [pid for pid, refused in answers.items() if refused is None]
        assert len(winners) == 1
        assert all(f"process {winners[0]} on" in refused for refused in answers.values() if refused)


def _make(path: str, ready, told) -> None:
    os.chdir(path)
    ready.wait()
    told.put(str(create_run_dir("classify-digits-mlp").path))


def test_eight_new_folders_made_at_once_are_eight(tmp_path):
    ready, told = FORKSERVER.Barrier(8), FORKSERVER.Queue()
    processes = [FORKSERVER.Process(target=_make, args=(str(tmp_path), ready, told)) for _ in range(8)]
    for process in processes:
        process.start()
    names = {told.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert names == {str(Path("runs") / f"classify-digits-mlp-{n}") for n in range(1, 9)}


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path):
    program = (
        "import os, signal, sys; from thalweg.runs.run_dir import RunDir; f = RunDir(sys.argv[1]); f.claim(False);"
        f"f.write({CONTENT!r}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")])
    assert killed.returncode == -9 and (tmp_path / "a" / ".lock").exists()
    folder = RunDir(tmp_path / "a")
    folder.claim(resume=True)
    folder.release()
    assert not (tmp_path / "a" / ".lock").exists()


def test_a_lock_that_is_removed_while_another_waits_for_it_is_not_shared(tmp_path, monkeypatch):
    """The owner removes the file after the other has opened it: the other must not own a file without a name."""
    from thalweg.runs import run_dir as run

    first, second, third = (RunDir(tmp_path / "a") for _ in range(3))
    first.claim(resume=False)
    first.write(CONTENT)
    honest = run.lock_file

    def late(handle):
        monkeypatch.setattr(run, "lock_file", honest)
        first.release()
        return honest(handle)

    monkeypatch.setattr(run, "lock_file", late)
    second.claim(resume=True)
    with pytest.raises(RunLockedError):
        third.claim(resume=True)


def test_a_disk_without_locks_can_be_used(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunDir(tmp_path / "a").claim(resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    (tmp_path / "state").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(RunLockedError, match="not a run"):
        RunDir(tmp_path).claim(resume)
    assert snapshot(tmp_path) == before


def test_a_run_is_refused_without_resume_and_left_as_it_was(tmp_path):
    made(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(RunLockedError) as refused:
        RunDir(tmp_path).claim(resume=False)
    assert "2026-01-01" in refused.value.message and "--resume" in refused.value.cure
    assert snapshot(tmp_path) == before


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(RunLockedError, match="is a file"):
        RunDir(tmp_path / "a").claim(resume=False)


def test_a_place_where_nothing_can_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="Cannot write"):
        RunDir(tmp_path / "a" / "b").claim(resume=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="Cannot make"):
        create_run_dir("one")


def test_releasing_removes_a_folder_that_nothing_was_written_to(tmp_path):
    folder = RunDir(tmp_path / "a" / "b")
    folder.claim(resume=False)
    folder.release()
    folder.release()
    assert not (tmp_path / "a" / "b").exists()


def test_claiming_removes_the_drafts_of_a_kill(tmp_path):
    folder = made(tmp_path)
    (tmp_path / "pictures").mkdir()
    drafts = [tmp_path / ".weights.safetensors.123.draft", tmp_path / "pictures" / ".curves.png.9.draft"]
    for draft in drafts:
        draft.write_bytes(b"half")
    folder.claim(resume=True)
    assert not any(draft.exists() for draft in drafts)


# --- run.json --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    assert made(tmp_path).read() == {"format": FORMAT_VERSION, **CONTENT}


def strict(text: str):
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_run_json_never_holds_what_is_no_number(tmp_path):
    folder = RunDir(tmp_path)
    odd = {"a": float("nan"), "b": [float("inf"), 1.5], "c": torch.tensor([float("-inf"), 2.0]), 3: (1, 2)}
    folder.write({**CONTENT, "results": odd})
    told = strict((tmp_path / "run.json").read_text(encoding="utf-8"))["results"]
    assert told == {"a": None, "b": [None, 1.5], "c": [None, 2.0], "3": [1, 2]}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(ANY)
def test_anything_becomes_strict_json(value):
    strict(json.dumps(to_json(value), allow_nan=False))


def test_names_that_are_not_utf_8_come_back_as_they_were(tmp_path):
    name = os.fsdecode(b"caf\xe9.png") if os.name == "posix" else "caf\udce9.png"
    folder = RunDir(tmp_path)
    folder.write({**CONTENT, "bad": [name, "数据"]})
    assert folder.read()["bad"] == [name, "数据"]
    assert "数据" in (tmp_path / "run.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "'format'"),
        (b'{"format": "new"}', "'format'"),
        (b'{"format": 1}', "'task'"),
        (b'{"format": 1, "task": "classify"}', "'options'"),
        (b'{"format": 1, "task": "classify", "options": []}', "'options'"),
        (b'{"format": 1, "task": "classify", "options": {}}', "'facts'"),
        (b'{"format": 1, "task": "classify", "facts": {}, "options": {"warp": 9}}', "'warp'"),
        (b'{"format": 1, "task": "classify", "facts": {}, "options": {"epochs": "many"}}', "--epochs"),
        (b'{"format": 1, "task": "classify", "facts": {}, "options": {}, "plan": []}', "'plan'"),
        (b'{"format": 2}', "format 2"),
    ],
)
def test_a_broken_or_newer_run_json_is_refused_by_name(tmp_path, text, said):
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(ModelFileError) as refused:
        RunDir(tmp_path).read()
    assert said in refused.value.message and str(tmp_path / "run.json") in refused.value.message
    assert refused.value.cure and refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("classes", [[], "ab", [1], None]),
        ("channels", [4, 0, True, "3", None]),
        ("size", [[8], [8, 0], [8, -1], [8.0, 8.0], [10**12, 8], 8, None]),
        ("mean", [[0.5], [0.5, 0.5, None], [0.5, 0.5, 10**400], "0.5", None]),
        ("std", [[1, 1, 0], [1, 1, -1], [1, 1], None]),
        ("ink", [0, "no", None]),
        ("resize", [0, "256", 1.5]),
        ("views", [1, None]),
    ],
)
def test_facts_that_no_picture_can_be_looked_at_with_are_refused_by_name(tmp_path, key, wrong):
    for value in wrong:
        RunDir(tmp_path).write({**CONTENT, "facts": {**CONTENT["facts"], key: value}})
        with pytest.raises(ModelFileError, match=f"run.json: of the facts, '{key}' is missing or wrong"):
            RunDir(tmp_path).read()
    if key not in ("resize", "views"):
        RunDir(tmp_path).write({**CONTENT, "facts": {k: v for k, v in CONTENT["facts"].items() if k != key}})
        with pytest.raises(ModelFileError, match=f"'{key}' is missing or wrong"):
            RunDir(tmp_path).read()


@pytest.mark.parametrize("wrong", [{"model": 5}, {"arguments": [1]}])
def test_a_model_that_cannot_be_built_is_refused_by_name(tmp_path, wrong):
    RunDir(tmp_path).write({**CONTENT, **wrong})
    with pytest.raises(ModelFileError, match=f"'{next(iter(wrong))}' is"):
        RunDir(tmp_path).read()


def test_a_name_that_is_too_long_is_no_run():
    assert not RunDir("x" * 5000).exists


def test_a_folder_without_a_run_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="no run.json"):
        RunDir(tmp_path).read()


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    folder = RunDir(tmp_path)
    tensors = {"a.weight": torch.randn(8, 3, 2, 2).to(memory_format=torch.channels_last), "b": torch.arange(5)}
    return folder, tensors, {"weights_sha256": folder.write_weights(tensors)}


def test_weights_come_back(weights):
    folder, tensors, content = weights
    read = folder.weights(content)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def test_flipped_bits_and_cuts_anywhere_in_the_weights_are_noticed(weights):
    folder, _, content = weights
    file = folder.path / "weights.safetensors"
    whole = file.read_bytes()
    damaged = [whole[:place] for place in range(0, len(whole), 7)] + [whole + b"\0"]
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(ModelFileError, match=r"weights\.safetensors"):
            folder.weights(content)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"weights\.safetensors is missing"):
        RunDir(tmp_path).weights({})


def test_a_file_with_the_right_sum_that_is_not_safetensors_is_refused(tmp_path):
    import hashlib

    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    sum_of_it = hashlib.sha256(b"\x80\x04pickle").hexdigest()
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        RunDir(tmp_path).weights({"weights_sha256": sum_of_it})


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_rows_after_the_offset_belong_to_lost_work(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1, "loss": float("nan")})
    offset = file.sync()
    file.append({"step": 2})
    file.close()
    again = MetricsFile(tmp_path / "metrics.jsonl", offset)
    assert again.complete
    again.append({"step": 3})
    again.close()
    assert RunDir(tmp_path).metrics() == [{"step": 1, "loss": None}, {"step": 3}]


def test_a_shorter_file_than_was_saved_is_told_and_not_filled_up(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n', encoding="utf-8")
    file = MetricsFile(path, offset=100)
    file.append({"step": 2})
    file.close()
    assert not file.complete
    assert RunDir(tmp_path).metrics() == [{"step": 1}, {"step": 2}]


def test_a_row_that_is_being_written_is_not_read(tmp_path):
    assert RunDir(tmp_path).metrics() == []
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"ste')
    assert RunDir(tmp_path).metrics() == [{"step": 1}]


def test_a_damaged_row_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\0\0\0\n{"step": 3}\n')
    with pytest.raises(ModelFileError, match="line 2"):
        RunDir(tmp_path).metrics()


def test_a_row_that_finds_no_room_is_an_error_with_its_path(tmp_path):
    resource = pytest.importorskip("resource")
    file = MetricsFile(tmp_path / "metrics.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        with pytest.raises(ResourceError, match=r"metrics\.jsonl"):
            file.append({"step": 1, "loss": 0.123456789})
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_that_the_disk_refuses_are_an_error_with_their_path(tmp_path, monkeypatch):
    file = MetricsFile(tmp_path / "metrics.jsonl")

    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResourceError, match=r"metrics\.jsonl: Input/output error"):
        file.sync()


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_finds_no_room_leaves_the_old_one_and_no_draft(tmp_path, monkeypatch):
    folder = RunDir(tmp_path)
    folder.write_file("pictures/a.png", b"old")
    before = snapshot(tmp_path)
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def refuse(*_):
                raise OSError(28, "No space left on device")

            patch.setattr(os, call, refuse)
            with pytest.raises(ResourceError) as refused:
                folder.write_file("pictures/a.png", b"new" * 1_000_000)
        told = refused.value.message
        assert "a.png" in told and "3.0 MB are needed" in told and "free" in told and "No space left" in told
        assert snapshot(tmp_path) == before
