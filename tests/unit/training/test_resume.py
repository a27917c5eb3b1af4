"""Stopped at any moment and resumed, a run ends with the same bits; what would make it another run is refused."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.run_dirs import comparable_state, read_all_files, read_run_json, write_run_json
from tests.helpers.toy_runs import (
    BARS,
    SETTINGS,
    at_step,
    break_at,
    finish,
    parts_of,
    plan_toy,
    release,
    send_to_self,
    stop_at,
)
from thalweg import api
from thalweg.errors import (
    DataError,
    InterruptedTrainingError,
    ModelFileError,
    NotFoundError,
    OptionError,
    RunLockedError,
)
from thalweg.runs.run_dir import RunDir
from thalweg.runs.run_record import DataRecord
from thalweg.tasks.classify import Classify
from thalweg.training import run as run_module
from thalweg.training.resume import check_same_data, resume_options

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):
    SIGNALS.append(signal.SIGHUP)


# --- stopped ---------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("step", [1, 2, 9, 10, 11, 19, 20])
def test_a_run_that_is_stopped_at_any_step_resumes_to_the_same_bits(step, reference, tmp_path):
    out = tmp_path / "a"
    error = stop_at(plan_toy(out), step)
    assert (error.exit_code, error.path, error.value) == (143, out, step)
    assert read_run_json(out)["status"] == "stopped" and not (out / ".lock").exists()
    finish(plan_toy(out, resume=True))
    assert comparable_state(out) == comparable_state(reference)
    assert RunDir(out).verify() == []


@posix
@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_saves_and_is_handled_as_before_afterwards(number, reference, tmp_path):
    before = [signal.getsignal(item) for item in SIGNALS]
    stop_at(plan_toy(tmp_path / "a"), 3, number)
    assert [signal.getsignal(item) for item in SIGNALS] == before
    finish(plan_toy(tmp_path / "a", resume=True))
    assert [signal.getsignal(item) for item in SIGNALS] == before
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


@posix
def test_a_second_signal_ends_at_once(tmp_path, reference):
    def send_two():
        send_to_self(signal.SIGTERM)()
        send_to_self(signal.SIGINT)()
        pytest.fail("the second signal did not end the training at once")

    with pytest.raises(KeyboardInterrupt):
        finish(at_step(plan_toy(tmp_path / "a"), 13, send_two))
    assert not (tmp_path / "a" / ".lock").exists()
    finish(plan_toy(tmp_path / "a", resume=True))
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


@posix
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_signal_during_evaluation_stops_and_loses_nothing(call, reference, tmp_path):
    """Two validations end the two epochs; then the validation and the test split are evaluated once more."""
    training = plan_toy(tmp_path / "a")
    task = parts_of(training).task
    evaluate = task.evaluate
    calls = 0

    def evaluate_with_signal(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            send_to_self(signal.SIGTERM)()
        return evaluate(*arguments)

    task.evaluate = evaluate_with_signal
    with pytest.raises(InterruptedTrainingError):
        finish(training)
    assert calls == call and read_run_json(tmp_path / "a")["status"] == "stopped"
    finish(plan_toy(tmp_path / "a", resume=True))
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


@posix
def test_a_signal_after_the_last_step_is_not_lost(tmp_path, reference):
    with pytest.raises(InterruptedTrainingError):
        for progress in plan_toy(tmp_path / "a"):
            if progress.step == progress.steps and progress.val:
                send_to_self(signal.SIGTERM)()
    assert read_run_json(tmp_path / "a")["status"] == "stopped"
    finish(plan_toy(tmp_path / "a", resume=True))
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


def test_training_outside_the_main_thread_leaves_signals_alone(tmp_path, reference):
    worker = threading.Thread(target=lambda: finish(plan_toy(tmp_path / "a")))
    worker.start()
    worker.join()
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


def test_leaving_the_loop_releases_the_folder(tmp_path, reference):
    break_at(plan_toy(tmp_path / "a"), 14)
    finish(plan_toy(tmp_path / "a", resume=True))
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


def test_a_run_that_failed_at_its_report_writes_it_when_resumed(tmp_path, reference, monkeypatch):
    out = tmp_path / "a"

    def fail(*arguments):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(Classify, "plots", lambda *arguments: [])
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_report", fail)
        with pytest.raises(RuntimeError):
            finish(plan_toy(out, report=True))
    assert read_run_json(out)["status"] != "finished" and read_run_json(out)["results"]
    statuses = []
    monkeypatch.setattr(run_module, "write_report", lambda *arguments: statuses.append(read_run_json(out)["status"]))
    finish(plan_toy(out, resume=True, report=True))
    assert statuses == ["running"] and read_run_json(out)["status"] == "finished"
    assert comparable_state(out) == comparable_state(reference)


# --- finished, locked, foreign ---------------------------------------------------------------------------------------


def test_resuming_a_finished_run_touches_nothing(reference):
    before = read_all_files(reference)
    training = plan_toy(reference, resume=True)
    assert training.parts is None and list(training) == [] and len(training.describe()) == 1
    values = read_run_json(reference)
    assert training.plan == values["plan"] and training.record.json() == values
    assert read_all_files(reference) == before


def test_training_into_a_finished_run_without_resume_is_refused(reference):
    before = read_all_files(reference)
    with pytest.raises(RunLockedError) as error:
        plan_toy(reference)
    assert error.value.path == reference and read_all_files(reference) == before


def test_two_runs_cannot_share_a_folder(tmp_path):
    first = plan_toy(tmp_path / "a")
    with pytest.raises(RunLockedError) as error:
        plan_toy(tmp_path / "a")
    assert f"process {os.getpid()}" in error.value.value
    assert len(list(first)) == 11


def test_resuming_needs_a_run_or_something_to_train(tmp_path):
    with pytest.raises(NotFoundError):
        api.plan_training(out=tmp_path / "a", resume=True)
    with pytest.raises(OptionError) as error:
        api.plan_training("classify", BARS, resume=True)
    assert error.value.option == "out"
    with pytest.raises(OptionError) as error:
        api.plan_training("classify", BARS, out=tmp_path / "a", epochs="+2")
    assert (error.value.option, error.value.value) == ("epochs", "+2")
    release(plan_toy(tmp_path / "b", resume=True, model="mlp"))  # begun, because it says what to train


# --- options of a resumed run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 0.5},
        {"batch_size": 8},
        {"model": "lenet"},
        {"seed": 3},
        {"augment": "none"},
        {"model_kwargs": {"widths": 8}},
        {"recipe": "mnist-lenet"},
    ],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("status", ["stopped", "finished"])
def test_options_that_would_make_it_another_run_are_refused_by_name(tmp_path, reference, changed, status):
    out = reference
    if status == "stopped":
        out = tmp_path / "a"
        stop_at(plan_toy(out), 3)
    before = read_all_files(out)
    with pytest.raises(OptionError) as error:
        plan_toy(out, resume=True, **changed)
    assert [error.value.option] == list(changed) and [error.value.value] == list(changed.values())
    assert read_all_files(out) == before


def test_options_that_change_nothing_may_be_repeated(tmp_path, reference):
    stop_at(plan_toy(tmp_path / "a"), 3)
    finish(plan_toy(tmp_path / "a", resume=True, epochs=2, checkpoint_every=0, **SETTINGS))
    assert comparable_state(tmp_path / "a") == comparable_state(reference)


def test_fewer_steps_than_were_trained_are_refused_and_nothing_is_touched(reference):
    before = read_all_files(reference)
    with pytest.raises(OptionError) as error:
        finish(plan_toy(reference, resume=True, steps=1))
    assert (error.value.option, error.value.value) == ("epochs", 1)
    assert read_all_files(reference) == before


def test_model_and_data_of_a_run_may_be_named_again_in_other_words(tmp_path, monkeypatch, reference):
    monkeypatch.chdir(tmp_path)
    record = RunDir(reference).read_record()
    record = replace(record, model="convnet", options={"data": "photos/"}, task_options={})
    path = reference / "run.json"
    for data, overrides in ((None, {"model": "convnet"}), ("photos", {}), (str(tmp_path / "photos"), {})):
        options, _ = resume_options(record, Classify(), data, overrides, path)
        assert options.data == "photos/"
    for overrides, old in (({"model": "lenet"}, "convnet"), ({"lr": 0.5}, None)):
        with pytest.raises(OptionError) as error:
            resume_options(record, Classify(), None, overrides, path)
        assert [error.value.option] == list(overrides) and error.value.allowed == [old]


def test_more_epochs_continue_the_run_and_are_remembered(tmp_path):
    out = finish(plan_toy(tmp_path / "a"))
    before = (out / "metrics.jsonl").read_bytes()
    stop_at(plan_toy(out, resume=True, epochs="+2"), 33)
    assert read_run_json(out)["options"]["epochs"] == 4
    finish(plan_toy(out, resume=True))
    values = read_run_json(out)
    assert values["results"]["steps"] == 40 and values["plan"]["epochs"] == 4
    assert (out / "metrics.jsonl").read_bytes().startswith(before)
    straight = finish(plan_toy(tmp_path / "b"))
    finish(plan_toy(straight, resume=True, epochs="+2"))
    assert comparable_state(straight) == comparable_state(out)
    assert RunDir(out).verify() == []


def test_a_finished_run_can_be_read_while_it_is_trained_further(tmp_path):
    out = finish(plan_toy(tmp_path / "a"))
    for _ in plan_toy(out, resume=True, epochs="+1"):
        assert RunDir(out).read_record().task == "classify"


# --- data of a resumed run -------------------------------------------------------------------------------------------


def test_data_in_memory_must_be_given_again(tmp_path):
    stop_at(plan_toy(tmp_path / "a"), 3)
    with pytest.raises(DataError) as error:
        plan_toy(tmp_path / "a", resume=True, data=None)
    assert error.value.path == tmp_path / "a"


def change_pixel(file: Path) -> None:
    pixels = np.array(Image.open(file))
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(file)


def test_changed_data_is_refused(tmp_path):
    random = np.random.default_rng(0)
    photos = tmp_path / "photos"
    file = photos
    for number in range(40):
        file = photos / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(file)
    out = tmp_path / "a"
    settings = {"model": "perceptron", "model_kwargs": {}, "augment": "none", "batch_size": 4}
    stop_at(plan_toy(out, data=photos, **settings), 3)
    change_pixel(file)
    for data in (None, photos):
        with pytest.raises(DataError) as error:
            plan_toy(out, resume=True, data=data)
        assert error.value.path == str(photos)
    change_pixel(file)
    finish(plan_toy(out, resume=True, data=None))
    with pytest.raises(DataError):
        plan_toy(out, resume=True, epochs="+1")


def test_the_same_data_has_the_same_fingerprint(reference):
    record = RunDir(reference).read_record()
    check_same_data(record, BARS)
    other = replace(BARS, name="other", fingerprint="changed")
    with pytest.raises(DataError) as error:
        check_same_data(record, other)
    assert error.value.value == "changed"
    assert DataRecord.from_dataset(BARS, in_memory=True) == record.data


# --- other machines --------------------------------------------------------------------------------------------------


def resume_with(out: Path, change: Callable[[dict], None]) -> tuple[list[str], dict]:
    """Resume a run whose run.json was changed; return what was logged and the plan."""
    values = read_run_json(out)
    change(values)
    write_run_json(out, values)
    lines: list[str] = []
    training = api.plan_training("classify", BARS, out=out, resume=True, notify=api.Notify(lines.append))
    finish(training)
    return lines, training.plan


def test_another_torch_device_and_number_of_ranks_are_logged(tmp_path):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 3)

    def change(values: dict) -> None:
        values["versions"]["torch"] = "1.0"
        values["plan"] |= {"device": "cuda", "world_size": 2}

    lines, plan = resume_with(out, change)
    text = "\n".join(lines)
    assert "torch 1.0" in text and "device cuda" in text and "world_size 2" in text
    assert (plan["device"], plan["world_size"]) == ("cpu", 1)


def test_a_plan_with_a_cuda_graph_continues_without_one_on_a_cpu(tmp_path):
    reference = finish(plan_toy(tmp_path / "reference", optimizer="adam"))
    out = tmp_path / "a"
    stop_at(plan_toy(out, optimizer="adam"), 6)
    resume_with(out, lambda values: values["plan"]["config"].update(cuda_graph=True))
    assert comparable_state(out) == comparable_state(reference)


def test_the_number_of_threads_is_kept(tmp_path):
    before = torch.get_num_threads()
    try:
        stop_at(plan_toy(tmp_path / "a", cpu_threads=1), 3)
        torch.set_num_threads(2)
        finish(plan_toy(tmp_path / "a", resume=True))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# --- a damaged run.json ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [{}, {"device": "cpu"}, {"config": 3}, []], ids=str)
def test_a_damaged_plan_is_refused(tmp_path, plan):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 3)
    write_run_json(out, read_run_json(out) | {"plan": plan})
    with pytest.raises(ModelFileError) as error:
        plan_toy(out, resume=True)
    assert str(error.value.option).startswith("plan") and error.value.path == out / "run.json"
    assert not (out / ".lock").exists()


def test_a_run_without_a_plan_is_planned_again(tmp_path, reference):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 3)
    values = read_run_json(out)
    del values["plan"]
    write_run_json(out, values)
    finish(plan_toy(out, resume=True))
    assert comparable_state(out) == comparable_state(reference)


@pytest.mark.parametrize("part", ["options", "task_options"])
def test_unknown_options_in_run_json_are_refused_by_name(tmp_path, part):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 3)
    values = read_run_json(out)
    values[part]["warp"] = 9
    write_run_json(out, values)
    with pytest.raises(ModelFileError) as error:
        plan_toy(out, resume=True)
    assert error.value.option == "warp" and error.value.path == out / "run.json"
