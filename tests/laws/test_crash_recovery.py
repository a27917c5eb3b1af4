"""Whatever happens to the process, the folder is whole and the run can go on to the same bits.

Real processes, real signals, real digits. The run has all that a resume could lose: filters, an average, random
pictures, the sums of an open report, a best score.
"""

from __future__ import annotations

import json
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

from tests.helpers.run_dirs import comparable_state, read_all_files, read_run_json
from tests.helpers.subprocesses import ThalwegProcess, run_thalweg

TRAIN = ["train", "classify", "digits", "--no-report"]
SETTINGS = ["--model", "lenet", "--epochs", "3", "--ema", "0.9", "--augment", "shift,rotate", "--patience", "5"]
FILES = ["metrics.jsonl", "run.json", "state", "trail", "weights.safetensors"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, int]:
    """A run that nothing happened to, and how many lines of the package it took."""
    folder = tmp_path_factory.mktemp("whole")
    ended = run_thalweg(folder / "notes", *TRAIN, *SETTINGS, "--out", folder / "run", die_after=0)
    assert ended.code == 0, ended.err
    return folder / "run", ended.lines


def go_on(folder: Path, **settings):
    """Goes on with the run in a folder; the rest of the command is not needed again."""
    return run_thalweg(folder.parent / "notes", "train", "--resume", "--out", folder, **settings)


def rows(out: Path) -> int:
    file = out / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(whole, tmp_path):
    out, draw, killed = tmp_path / "run", random.Random(1), 0
    for attempt in range(6):
        words = [*TRAIN, *SETTINGS, "--save-every", "0", "--resume", "--out", out]
        ended = run_thalweg(tmp_path / "notes", *words, die_after=draw.randrange(whole[1] // 2))
        assert ended.code in (-signal.SIGKILL, 0), (attempt, ended.err)
        killed += ended.code != 0
    assert killed >= 4
    assert go_on(out).code == 0
    assert comparable_state(out) == comparable_state(whole[0])
    assert sorted(p.name for p in out.iterdir()) == FILES, "nothing of the kills is left"


def test_a_kill_anywhere_between_training_and_the_end_loses_nothing(whole, tmp_path):
    trained = Path(shutil.copytree(whole[0], tmp_path / "trained"))
    (trained / "weights.safetensors").unlink()
    told = {k: v for k, v in read_run_json(trained).items() if k not in ("results", "weights_sha256")}
    (trained / "run.json").write_text(json.dumps(told | {"status": "running"}), encoding="utf-8")
    lines = go_on(Path(shutil.copytree(trained, tmp_path / "counted")), die_after=0).lines
    draw = random.Random(2)
    for number in range(5):
        out = Path(shutil.copytree(trained, tmp_path / str(number)))
        assert go_on(out, die_after=draw.randrange(lines)).code == -signal.SIGKILL
        assert go_on(out).code == 0
        assert comparable_state(out) == comparable_state(whole[0])
        # a kill after the end leaves its lock
        assert sorted(p.name for p in out.iterdir() if p.name != ".lock") == FILES


def die_in_the_report() -> None:
    """Kills the process when its pictures are drawn and its report is to be written."""
    from thalweg.runs import artifacts as leave

    leave.write_report = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_before_the_report_is_made_good(tmp_path):
    out = tmp_path / "run"
    words = ["train", "classify", "digits", "--model", "perceptron", "--steps", "50", "--out", out]
    assert run_thalweg(tmp_path / "notes", *words, before=die_in_the_report).code == -signal.SIGKILL
    assert read_run_json(out)["results"] and not (out / "report.html").exists()
    assert go_on(out).code == 0
    assert (out / "report.html").is_file() and (out / "MODEL_CARD.md").is_file()
    assert "finished already" in go_on(out).err


# --- asked to stop ---------------------------------------------------------------------------------------------------


def test_sigterm_saves_ends_with_143_and_leaves_no_process(whole, tmp_path):
    out = tmp_path / "run"
    words = [sys.executable, "-m", "thalweg", *TRAIN, *SETTINGS, "--out", str(out)]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    ) as process:
        end = time.monotonic() + 120
        while rows(out) < 3:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.005)
        process.terminate()
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "--resume" in told and "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert read_run_json(out)["status"] == "stopped" and sorted(p.name for p in out.iterdir()) == FILES[:-1]
    assert go_on(out).code == 0
    assert comparable_state(out) == comparable_state(whole[0])


def test_ctrl_c_saves_and_the_run_goes_on_to_the_same_bits(whole, tmp_path):
    out = tmp_path / "run"
    child = ThalwegProcess(tmp_path / "notes", *TRAIN, *SETTINGS, "--out", out)
    child.wait_for(lambda: rows(out) >= 5)
    child.send(signal.SIGINT)
    assert child.ended().code == 143
    assert go_on(out).code == 0
    assert comparable_state(out) == comparable_state(whole[0])


def stuck(folder: Path) -> None:
    """Makes the first step last for minutes; tells when it has begun, and when it was asked to stop."""
    from thalweg.engine.trainer import Trainer

    def update(trainer, phase, batches):
        (folder / "stuck").touch()
        while not trainer.pause_requested:
            time.sleep(0.005)
        (folder / "asked").touch()
        time.sleep(300)

    Trainer.run_phase = update


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(tmp_path, second, code):
    words = [*TRAIN, *SETTINGS, "--out", tmp_path / "run"]
    child = ThalwegProcess(tmp_path / "notes", *words, before=partial(stuck, tmp_path))
    child.wait_for((tmp_path / "stuck").exists)
    child.send(signal.SIGTERM)
    child.wait_for((tmp_path / "asked").exists)
    child.send(second)
    assert child.ended(30).code == code


# --- two runs, one folder --------------------------------------------------------------------------------------------


def test_of_eight_that_start_in_one_folder_one_trains_and_seven_are_refused(tmp_path):
    out = tmp_path / "run"
    words = [*TRAIN, "--model", "perceptron", "--steps", "200", "--out", out]
    children = [ThalwegProcess(tmp_path / str(number), *words) for number in range(8)]
    ended = {child.process.pid: child.ended() for child in children}
    (winner,) = (pid for pid, one in ended.items() if one.code == 0)
    for pid, one in ended.items():
        if pid != winner:
            assert one.code == 2 and one.out == ""
            assert f"process {winner} on" in one.err or "already holds a run" in one.err
    assert read_run_json(out)["status"] == "finished" and read_run_json(out)["results"]["steps"] == 200


def test_without_out_every_run_has_a_folder_of_its_own(tmp_path):
    words = [*TRAIN, "--model", "perceptron", "--steps", "1"]
    children = [
        ThalwegProcess(tmp_path / str(number), *words, before=partial(os.chdir, tmp_path)) for number in range(4)
    ]
    folders = {child.ended().out.splitlines()[-1] for child in children}
    assert len(folders) == 4 and all((tmp_path / folder / "weights.safetensors").is_file() for folder in folders)


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_folder_with_other_things_in_it_is_refused_and_untouched(tmp_path, more):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"\xff\xd8")
    before = read_all_files(out)
    ended = run_thalweg(tmp_path / "notes", *TRAIN, "--model", "perceptron", "--steps", "1", "--out", out, *more)
    assert ended.code == 2 and "holiday.jpg" in ended.err
    assert read_all_files(out) == before


# --- no room, no numbers ---------------------------------------------------------------------------------------------


def limit(size: int) -> None:
    """As on a disk that is nearly full: no file can grow beyond so many bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [1500, 100_000])
def test_where_there_is_no_room_a_run_ends_with_5_and_goes_on_when_there_is(whole, tmp_path, size):
    """No room for run.json, and none for a checkpoint. It goes on from a stop, so that there is an old one."""
    out = tmp_path / "run"
    child = ThalwegProcess(tmp_path / "notes", *TRAIN, *SETTINGS, "--out", out)
    child.wait_for(lambda: rows(out) >= 2)
    child.send(signal.SIGTERM)
    assert child.ended().code == 143
    before = read_all_files(out / "state")
    ended = go_on(out, before=partial(limit, size))
    assert ended.code == 5, ended.err
    assert str(out) in ended.err and "needed" in ended.err and "is free" in ended.err and "--resume" in ended.err
    assert read_all_files(out / "state") == before
    assert not [name for name in read_all_files(out) if "draft" in name or "lock" in name]
    assert go_on(out).code == 0
    assert comparable_state(out) == comparable_state(whole[0])


def test_a_rate_beyond_reason_ends_with_6_and_leaves_finite_files(tmp_path):
    out = tmp_path / "run"
    words = [*TRAIN, "--model", "mlp", "--optimizer", "sgd", "--lr", "1e20", "--out", out]
    ended = run_thalweg(tmp_path / "notes", *words)
    assert ended.code == 6 and "step" in ended.err and "Samples of that step: digit" in ended.err, ended.err
    weights = safetensors.torch.load_file(out / "weights.safetensors")
    assert weights and all(value.isfinite().all() for value in weights.values())
    again = go_on(out)
    assert again.code == 6 and again.err.splitlines()[-2:] == ended.err.splitlines()[-2:]


# --- several processes -----------------------------------------------------------------------------------------------


def pair(folder: Path, port: int, *words) -> list[ThalwegProcess]:
    """Two processes that train together, as torchrun would start them."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        ThalwegProcess(
            folder / f"notes-{rank}", *words, variables=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]


def free() -> int:
    """A free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_processes_equal_one_and_stop_and_go_on_together(tmp_path):
    words = [*TRAIN, "--model", "mlp", "--epochs", "2", "--batch", "32"]
    alone = run_thalweg(tmp_path / "notes", *words, "--out", tmp_path / "alone")
    together = [child.ended() for child in pair(tmp_path, free(), *words, "--out", tmp_path / "together")]
    assert [one.code for one in (alone, *together)] == [0, 0, 0], together[0].err
    assert together[0].out.splitlines()[-1] == str(tmp_path / "together") and together[1].out == ""
    one, two = (safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "together"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)

    out = tmp_path / "stopped"
    children = pair(tmp_path, free(), *words, "--out", out)
    children[0].wait_for(lambda: rows(out) >= 2)
    children[1].send(signal.SIGTERM)  # one is told, both stop
    assert [child.ended().code for child in children] == [143, 143]
    assert [child.ended().code for child in pair(tmp_path, free(), "train", "--resume", "--out", out)] == [0, 0]
    assert comparable_state(out) == comparable_state(tmp_path / "together")
