"""Whatever happens to the process, the folder is intact and the run resumes to the same bits.

Real processes, real signals, real digits. The run has everything that a resume could lose: convolutions, an average,
random augmentation, the sums of an open report, a best metric.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.helpers.run_dirs import FINISHED_FILES, comparable_state, read_all_files, read_run_json, write_run_json
from tests.helpers.subprocesses import CompletedProcess, ThalwegProcess, run_thalweg
from thalweg.runs.run_dir import RunDir

TRAIN = ["train", "classify", "digits", "--no-report"]
SETTINGS = ["--model", "lenet", "--epochs", "3", "--ema-decay", "0.9", "--augment", "shift,rotate", "--patience", "5"]
UNFINISHED_FILES = ["metrics.jsonl", "run.json", "snapshots", "state"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[Path, int]:
    """Return a run that nothing happened to, and how many lines of the package it took."""
    folder = tmp_path_factory.mktemp("reference")
    completed = run_thalweg(folder / "output", *TRAIN, *SETTINGS, "--out", folder / "run", die_after=0)
    assert completed.code == 0, completed.err
    return folder / "run", completed.lines


def resume(out: Path, **settings) -> CompletedProcess:
    """Resume the run in a folder; the rest of the command is not needed again."""
    return run_thalweg(out.parent / "output", "train", "--resume", "--out", out, **settings)


def count_rows(out: Path) -> int:
    file = out / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def list_names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def assert_same_run(out: Path, reference: Path) -> None:
    assert comparable_state(out) == comparable_state(reference)
    assert RunDir(out).verify() == []


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(reference, tmp_path):
    out = tmp_path / "run"
    generator = random.Random(1)
    kills = 0
    for attempt in range(6):
        words = [*TRAIN, *SETTINGS, "--checkpoint-every", "0", "--resume", "--out", out]
        completed = run_thalweg(
            tmp_path / "output", *words, die_after=generator.randrange(reference[1] // 2, reference[1] * 3 // 5)
        )
        assert completed.code in (-signal.SIGKILL, 0), (attempt, completed.err)
        kills += completed.code != 0
    assert kills >= 4
    assert resume(out).code == 0
    assert_same_run(out, reference[0])
    assert list_names(out) == FINISHED_FILES, "nothing of the kills is left"


def test_a_kill_anywhere_between_training_and_the_end_loses_nothing(reference, tmp_path):
    trained = Path(shutil.copytree(reference[0], tmp_path / "trained"))
    for name in ("weights.safetensors", "checksums.sha256", "train_keys.npy"):
        (trained / name).unlink()
    values = {**read_run_json(trained), "status": "running"}
    del values["results"], values["weights_sha256"]
    write_run_json(trained, values)
    lines = resume(Path(shutil.copytree(trained, tmp_path / "counted")), die_after=0).lines
    generator = random.Random(2)
    for number in range(5):
        out = Path(shutil.copytree(trained, tmp_path / str(number)))
        assert resume(out, die_after=generator.randrange(lines)).code == -signal.SIGKILL
        assert resume(out).code == 0
        assert_same_run(out, reference[0])
        assert [
            name for name in list_names(out) if name != ".lock"
        ] == FINISHED_FILES  # a kill after the end leaves its lock


def die_at_the_report() -> None:
    """Kill the process when its report is to be written."""
    from thalweg.training import run

    run.write_report = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)


def test_a_resumed_run_writes_the_report_that_a_kill_prevented(tmp_path):
    out = tmp_path / "run"
    words = ["train", "classify", "digits", "--model", "perceptron", "--steps", "50", "--out", out]
    assert run_thalweg(tmp_path / "output", *words, before=die_at_the_report).code == -signal.SIGKILL
    assert read_run_json(out)["results"] and not (out / "report.html").exists()
    assert resume(out).code == 0
    assert (out / "report.html").is_file() and (out / "MODEL_CARD.md").is_file()
    before = read_all_files(out)
    assert resume(out).code == 0 and read_all_files(out) == before, "a finished run is left as it is"


# --- stopped ---------------------------------------------------------------------------------------------------------


def test_sigterm_saves_ends_with_143_and_leaves_no_process(reference, tmp_path):
    out = tmp_path / "run"
    words = [sys.executable, "-m", "thalweg", *TRAIN, *SETTINGS, "--out", str(out)]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    ) as process:
        end = time.monotonic() + 120
        while count_rows(out) < 3:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.005)
        process.terminate()
        text = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "--resume" in text and "Traceback" not in text
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert read_run_json(out)["status"] == "stopped" and list_names(out) == UNFINISHED_FILES
    assert resume(out).code == 0
    assert_same_run(out, reference[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_save(reference, tmp_path, number):
    out = tmp_path / "run"
    child = ThalwegProcess(tmp_path / "output", *TRAIN, *SETTINGS, "--out", out)
    child.wait_for(lambda: count_rows(out) >= 5)
    child.send(number)
    assert child.wait().code == 143
    assert resume(out).code == 0
    assert_same_run(out, reference[0])


def make_steps_endless(folder: Path) -> None:
    """Let the first step last for minutes; leave files when it has begun, and when it was asked to stop."""
    from thalweg.engine.trainer import Trainer

    def run_phase(trainer, *arguments):
        (folder / "begun").touch()
        while not trainer.pause_requested:
            time.sleep(0.005)
        (folder / "asked").touch()
        time.sleep(300)

    Trainer.run_phase = run_phase


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(tmp_path, second, code):
    words = [*TRAIN, *SETTINGS, "--out", tmp_path / "run"]
    child = ThalwegProcess(tmp_path / "output", *words, before=partial(make_steps_endless, tmp_path))
    child.wait_for((tmp_path / "begun").exists)
    child.send(signal.SIGTERM)
    child.wait_for((tmp_path / "asked").exists)
    child.send(second)
    assert child.wait(30).code == code


# --- two runs, one folder --------------------------------------------------------------------------------------------


def test_of_eight_that_start_in_one_folder_one_trains_and_seven_are_refused(tmp_path):
    out = tmp_path / "run"
    words = [*TRAIN, "--model", "perceptron", "--steps", "200", "--out", out]
    children = [ThalwegProcess(tmp_path / str(number), *words) for number in range(8)]
    results = {child.process.pid: child.wait() for child in children}
    (winner,) = [pid for pid, result in results.items() if result.code == 0]
    for pid, result in results.items():
        if pid != winner:
            assert result.code == 2 and result.out == ""
            assert f"process {winner} on" in result.err or "--resume" in result.err
    values = read_run_json(out)
    assert values["status"] == "finished" and values["results"]["steps"] == 200


def test_without_out_every_run_has_a_folder_of_its_own(tmp_path):
    words = [*TRAIN, "--model", "perceptron", "--steps", "1"]
    children = []
    for number in range(4):
        children.append(ThalwegProcess(tmp_path / str(number), *words, before=partial(os.chdir, tmp_path)))
    folders = {child.wait().out.splitlines()[-1] for child in children}
    assert len(folders) == 4
    assert all((tmp_path / folder / "weights.safetensors").is_file() for folder in folders)


@pytest.mark.parametrize("flags", [[], ["--resume"]], ids=str)
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path, flags):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"\xff\xd8")
    before = read_all_files(out)
    words = [*TRAIN, "--model", "perceptron", "--steps", "1", "--out", out, *flags]
    completed = run_thalweg(tmp_path / "output", *words)
    assert completed.code == 2 and "holiday.jpg" in completed.err
    assert read_all_files(out) == before


# --- a full disk, divergence -----------------------------------------------------------------------------------------


def limit_file_size(size: int) -> None:
    """Let no file grow beyond so many bytes, as on a disk that is nearly full."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [1500, 100_000])
def test_a_full_disk_ends_with_5_and_the_run_resumes_when_there_is_room(reference, tmp_path, size):
    """No room for run.json, and none for a checkpoint. It resumes a stopped run, so that there is an old one."""
    out = tmp_path / "run"
    child = ThalwegProcess(tmp_path / "output", *TRAIN, *SETTINGS, "--out", out)
    child.wait_for(lambda: count_rows(out) >= 2)
    child.send(signal.SIGTERM)
    assert child.wait().code == 143
    before = read_all_files(out / "state")
    completed = resume(out, before=partial(limit_file_size, size))
    assert completed.code == 5, completed.err
    assert str(out) in completed.err and "--resume" in completed.err
    assert read_all_files(out / "state") == before
    assert not [name for name in read_all_files(out) if "draft" in name or "lock" in name]
    assert resume(out).code == 0
    assert_same_run(out, reference[0])


def test_divergence_ends_with_6_and_leaves_finite_files(tmp_path):
    out = tmp_path / "run"
    words = [*TRAIN, "--model", "mlp", "--optimizer", "sgd", "--lr", "1e20", "--out", out]
    completed = run_thalweg(tmp_path / "output", *words)
    assert completed.code == 6 and "digit" in completed.err, completed.err
    weights = safetensors.torch.load_file(out / "weights.safetensors")
    assert weights and all(value.isfinite().all() for value in weights.values())
    again = resume(out)
    assert again.code == 6 and again.err.splitlines()[-2:] == completed.err.splitlines()[-2:]


# --- several processes -----------------------------------------------------------------------------------------------


def start_pair(folder: Path, *words) -> list[ThalwegProcess]:
    """Start two processes that train together, as torchrun would."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    children = []
    for rank in range(2):
        variables = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(ThalwegProcess(folder / f"output-{rank}", *words, variables=variables))
    return children


def test_two_processes_equal_one_and_stop_and_resume_together(tmp_path):
    words = [*TRAIN, "--model", "mlp", "--epochs", "2", "--batch-size", "32"]
    alone = run_thalweg(tmp_path / "output", *words, "--out", tmp_path / "alone")
    together = [child.wait() for child in start_pair(tmp_path, *words, "--out", tmp_path / "together")]
    assert [result.code for result in (alone, *together)] == [0, 0, 0], together[0].err
    assert together[0].out.splitlines()[-1] == str(tmp_path / "together") and together[1].out == ""
    expected = safetensors.torch.load_file(tmp_path / "alone" / "weights.safetensors")
    weights = safetensors.torch.load_file(tmp_path / "together" / "weights.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-4, rtol=1e-3)

    out = tmp_path / "stopped"
    children = start_pair(tmp_path, *words, "--out", out)
    children[0].wait_for(lambda: count_rows(out) >= 2)
    children[1].send(signal.SIGTERM)  # one gets the signal, both stop
    assert [child.wait().code for child in children] == [143, 143]
    assert [child.wait().code for child in start_pair(tmp_path, "train", "--resume", "--out", out)] == [0, 0]
    assert comparable_state(out) == comparable_state(tmp_path / "together")
