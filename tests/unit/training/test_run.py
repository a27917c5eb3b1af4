"""The story around the loop: stopped, starved, damaged, prolonged and gone on with, in one process and on toy data."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from tests.helpers.run_dirs import comparable_state, read_all_files, read_run_json
from thalweg import api
from thalweg.engine import checkpoint
from thalweg.errors import (
    DataError,
    InterruptedTrainingError,
    ModelFileError,
    NonFiniteError,
    OptionError,
    ResourceError,
    RunLockedError,
)
from thalweg.runs import artifacts as leave
from thalweg.tasks.classify import Classify
from thalweg.training.build import TrainingRun, check_same_data, resume_options

BARS = Classify().toy()
#: ten steps per epoch, a report every other step; everything random that a resume could lose
SETTINGS = {"model": "mlp", "arguments": {"widths": 16, "dropout": 0.2}, "batch": 16, "augment": "shift", "ema": 0.9}
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def begin(out: Path, *, resume: bool = False, data=BARS, **given) -> TrainingRun:
    settings = {} if resume else {"epochs": 2, **SETTINGS}
    return api.plan_training("classify", data, out=out, resume=resume, **{"report": False, **settings, **given})


def finish(out: Path, **given) -> Path:
    for _ in begin(out, **given):
        pass
    return out


def at_step(training: TrainingRun, step: int, action) -> TrainingRun:
    """The same training, in which `action` happens within the update that ends with `step`."""
    trainer = training.session.trainer
    honest = trainer.run_phase

    def update(*arguments):
        if trainer.step + 1 == step:
            action()
        return honest(*arguments)

    trainer.run_phase = update
    return training


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stopped(training: TrainingRun) -> InterruptedTrainingError:
    with pytest.raises(InterruptedTrainingError) as raised:
        for _ in training:
            pass
    return raised.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    return finish(tmp_path_factory.mktemp("runs") / "whole")


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_equal_runs_leave_equal_files(whole, tmp_path):
    assert comparable_state(finish(tmp_path / "again")) == comparable_state(whole)
    assert comparable_state(finish(tmp_path / "other", seed=1)) != comparable_state(whole)


def test_run_json_holds_all_that_repeats_the_run(whole):
    told = read_run_json(whole)
    assert told["status"] == "finished" and told["seed"] == 0
    assert told["options"]["arguments"] == {"widths": 16, "dropout": 0.2} and told["options"]["batch"] == 16
    assert told["plan"]["recipe"]["steps"] == 20 and told["plan"]["steps_per_epoch"] == 10
    assert told["versions"].keys() >= {"thalweg", "torch", "python"}
    assert told["results"]["test"]["examples"] == len(BARS.test) and told["results"]["epochs"] == 2
    assert told["weights_sha256"] == hashlib.sha256((whole / "weights.safetensors").read_bytes()).hexdigest()
    left = sorted(p.name for p in whole.iterdir())
    assert left == ["metrics.jsonl", "run.json", "state", "trail", "weights.safetensors"]


def test_the_rows_of_metrics_have_no_clock(whole):
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    training = [row for row in rows if row["split"] == "train"]
    assert [row["step"] for row in training] == list(range(2, 21, 2))
    assert all(row.keys() == {"step", "epoch", "split", "loss", "accuracy", "lr"} for row in training)
    valid = [row for row in rows if row["split"] == "valid"]
    assert [(row["step"], row["epoch"]) for row in valid] == [(10, 1.0), (20, 2.0)]
    assert not any("second" in key or "time" in key for row in valid for key in row)


def test_the_weights_are_those_of_the_average(whole):
    state = checkpoint.load_checkpoint(whole / "state" / "00000020")
    written = safetensors.torch.load_file(whole / "weights.safetensors")
    assert all(torch.equal(written[name], value) for name, value in state["trainer"]["average"].items())


def test_checkpoints_inside_an_epoch_come_at_their_time(tmp_path):
    for progress in begin(tmp_path / "a", epochs=1, save_every=0):
        if progress.step == 8:
            assert sorted(p.name for p in (tmp_path / "a" / "state").iterdir()) == ["00000006", "00000008"]


# --- stopped ---------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("step", [1, 2, 9, 10, 11, 19, 20])
def test_a_run_that_is_stopped_at_any_step_goes_on_as_if_nothing_had_been(step, whole, tmp_path):
    out = tmp_path / "a"
    error = stopped(at_step(begin(out), step, terminate))
    assert error.exit_code == 143 and f"{step} updates" in error.message and str(out) in error.cure
    assert read_run_json(out)["status"] == "stopped" and not (out / ".lock").exists()
    finish(out, resume=True)
    assert comparable_state(out) == comparable_state(whole)


@posix
def test_signals_are_handled_as_before_when_a_run_has_ended(tmp_path, whole):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped(at_step(begin(tmp_path / "a"), 3, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    finish(tmp_path / "a", resume=True)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


@posix
def test_a_second_signal_of_any_kind_does_not_wait(tmp_path, whole):
    def twice():
        terminate()
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was not obeyed at once")

    with pytest.raises(KeyboardInterrupt):
        list(at_step(begin(tmp_path / "a"), 13, twice))
    assert not (tmp_path / "a" / ".lock").exists()
    finish(tmp_path / "a", resume=True)
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


@posix
@pytest.mark.parametrize("call", [2, 3, 4])
def test_a_signal_while_scores_are_taken_stops_and_loses_nothing(call, whole, tmp_path):
    """Two validations are scored while training (the second ends it), then validation and test set once more."""
    training, calls = begin(tmp_path / "a"), 0
    honest = training.session.task.score

    def score(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            terminate()
        return honest(*arguments)

    training.session.task.score = score
    stopped(training)
    assert calls == call and read_run_json(tmp_path / "a")["status"] == "stopped"
    finish(tmp_path / "a", resume=True)
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


@posix
def test_a_signal_after_the_last_step_is_not_lost(tmp_path, whole):
    with pytest.raises(InterruptedTrainingError):
        for progress in begin(tmp_path / "a"):
            if progress.step == progress.steps and progress.valid:
                terminate()
    assert read_run_json(tmp_path / "a")["status"] == "stopped"
    finish(tmp_path / "a", resume=True)
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


def test_a_training_outside_the_main_thread_leaves_signals_alone(tmp_path, whole):
    worker = threading.Thread(target=finish, args=(tmp_path / "a",))
    worker.start()
    worker.join()
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


def test_leaving_the_loop_gives_the_folder_free(tmp_path, whole):
    for progress in begin(tmp_path / "a"):
        if progress.step == 14:
            break
    del progress
    finish(tmp_path / "a", resume=True)
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


def test_a_run_that_failed_over_its_report_makes_it_when_it_goes_on(tmp_path, whole, monkeypatch):
    out = tmp_path / "a"

    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(Classify, "pictures", lambda *_: {})
    with monkeypatch.context() as patch:
        patch.setattr(leave, "write_report", fail)
        with pytest.raises(RuntimeError, match="no fonts"):
            finish(out, report=True)
    assert read_run_json(out)["status"] != "finished" and read_run_json(out)["results"]
    drawn = []
    monkeypatch.setattr(leave, "write_report", lambda *_: drawn.append(read_run_json(out)["status"]))
    finish(out, resume=True, report=True)
    assert drawn == ["running"] and read_run_json(out)["status"] == "finished"
    assert comparable_state(out) == comparable_state(whole)


# --- gone on with ----------------------------------------------------------------------------------------------------


def test_going_on_with_a_finished_run_says_so_and_touches_nothing(whole):
    before = read_all_files(whole)
    training = begin(whole, resume=True)
    assert list(training) == [] and "finished already" in training.lines()[0]
    assert training.plan == read_run_json(whole)["plan"] and training.run.results == read_run_json(whole)["results"]
    assert read_all_files(whole) == before


def test_training_into_a_finished_run_without_resume_is_refused(whole):
    before = read_all_files(whole)
    with pytest.raises(RunLockedError, match="already holds a run"):
        begin(whole)
    assert read_all_files(whole) == before


def test_two_trainings_cannot_share_a_folder(tmp_path):
    first = begin(tmp_path / "a")
    with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
        begin(tmp_path / "a")
    assert sum(1 for _ in first) == 11


@pytest.mark.parametrize(
    "changed",
    [{"lr": 0.5}, {"batch": 8}, {"model": "lenet"}, {"seed": 3}, {"augment": "none"}, {"arguments": {"widths": 8}}],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_options_that_would_make_it_another_run_are_refused_by_name(tmp_path, whole, changed, state):
    out = whole
    if state == "stopped":
        out = tmp_path / "a"
        stopped(at_step(begin(out), 3, terminate))
    with pytest.raises(OptionError) as refused:
        begin(out, resume=True, **changed)
    assert "--" + next(iter(changed)) in refused.value.message and "begun with" in refused.value.message


def test_options_that_change_nothing_may_be_given_again(tmp_path, whole):
    stopped(at_step(begin(tmp_path / "a"), 3, terminate))
    finish(tmp_path / "a", resume=True, epochs=2, save_every=0, **SETTINGS)
    assert comparable_state(tmp_path / "a") == comparable_state(whole)


def test_fewer_epochs_than_were_trained_are_refused_and_nothing_is_touched(whole):
    """Else run.json said that it had been trained for fewer, and +1 trained it for one of those."""
    before = read_all_files(whole)
    with pytest.raises(OptionError, match="1 updates in all were asked for, and .* has made [0-9]+ already"):
        list(begin(whole, resume=True, steps=1, epochs=None))
    assert read_all_files(whole) == before


def test_the_model_and_the_folder_of_a_run_may_be_named_again_in_other_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"options": {"data": "photos/"}, "model": "convnet", "plan": {"epochs": 1}}
    for given in ({"model": "convnet"}, {"data": "photos"}, {"data": str(tmp_path / "photos")}):
        options = resume_options(content, given.get("data"), {k: v for k, v in given.items() if k != "data"})
        assert options.data == "photos/"
    with pytest.raises(OptionError, match=r"--model lenet .* \(convnet\)"):
        resume_options(content, None, {"model": "lenet"})
    with pytest.raises(OptionError, match=r"--lr 0.5 .* \(not given\)"):
        resume_options(content, None, {"lr": 0.5})


def test_data_that_has_changed_is_refused(tmp_path):
    random, photos = np.random.default_rng(0), tmp_path / "photos"
    for number in range(40):
        file = photos / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(file)
    out, settings = tmp_path / "a", {"model": "perceptron", "arguments": {}, "augment": "none", "batch": 4}
    stopped(at_step(begin(out, data=photos, **settings), 3, terminate))
    pixels = np.array(Image.open(file))
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(file)
    for data in (None, photos):
        with pytest.raises(DataError, match="photos is not what this run was trained on"):
            begin(out, resume=True, data=data)
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(file)
    finish(out, resume=True, data=None)
    with pytest.raises(DataError, match="bars is not what"):
        begin(out, resume=True, epochs="+1")


def test_more_epochs_go_on_and_are_remembered(tmp_path, whole):
    out = tmp_path / "a"
    finish(out)
    before = (out / "metrics.jsonl").read_bytes()
    stopped(at_step(begin(out, resume=True, epochs="+2"), 33, terminate))
    assert read_run_json(out)["options"]["epochs"] == 4
    finish(out, resume=True)
    assert read_run_json(out)["results"]["steps"] == 40 and read_run_json(out)["plan"]["epochs"] == 4
    assert (out / "metrics.jsonl").read_bytes().startswith(before)
    straight = finish(tmp_path / "b")
    finish(straight, resume=True, epochs="+2")
    assert comparable_state(straight) == comparable_state(out)


def test_plus_epochs_of_a_new_run_are_refused(tmp_path):
    with pytest.raises(OptionError, match="this run is new"):
        begin(tmp_path / "a", epochs="+2")


def test_other_torch_device_and_ranks_are_told(tmp_path, monkeypatch):
    out = tmp_path / "a"
    stopped(at_step(begin(out), 3, terminate))
    told = read_run_json(out)
    told["versions"]["torch"] = "1.0"
    told["plan"] |= {"device": "cuda", "ranks": 2}
    (out / "run.json").write_text(json.dumps(told), encoding="utf-8")
    training = begin(out, resume=True)
    lines = "\n".join(training.lines())
    assert "torch 1.0" in lines and "device cuda, this is cpu" in lines and "ranks 2, this is 1" in lines
    assert training.plan["device"] == "cpu" and training.plan["ranks"] == 1
    list(training)


def test_threads_are_kept_when_a_run_goes_on(tmp_path):
    before = torch.get_num_threads()
    try:
        stopped(at_step(begin(tmp_path / "a", threads=1), 3, terminate))
        torch.set_num_threads(2)
        list(begin(tmp_path / "a", resume=True))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_time_is_planned_once_and_then_kept(tmp_path):
    out = tmp_path / "a"
    training = begin(out, epochs=None, time="0.5s")
    steps = training.plan["recipe"]["steps"]
    assert steps > 1
    stopped(at_step(training, 2, terminate))
    training = begin(out, resume=True)
    assert training.plan["recipe"]["steps"] == steps
    for progress in training:
        assert progress.steps == steps
    assert read_run_json(out)["results"]["steps"] == steps


# --- early stopping --------------------------------------------------------------------------------------------------


def judged(training: TrainingRun, figures: list[float]) -> TrainingRun:
    """The same training, whose n-th epoch has the n-th figure on the validation set."""
    inner = training.session
    honest = inner.task.score

    def score(network, split, *arguments):
        results, outcome = honest(network, split, *arguments)
        if split is inner.data.valid and not inner.finishing:
            results["accuracy"] = figures[inner.trainer.step // 10 - 1]
        return results, outcome

    inner.task.score = score
    return training


def weights_after(epoch: int, tmp_path: Path) -> dict:
    """The averaged weights after so many of six epochs."""
    training = begin(tmp_path / f"until-{epoch}", epochs=6, save_every=0)
    for progress in training:
        if progress.step == 10 * epoch:
            return copy.deepcopy(training.session.trainer.model.state_dict())
    raise AssertionError


FIGURES = [0.2, 0.9, 0.3, 0.9, 0.4, 0.95, 0.5]


@pytest.mark.parametrize("interrupted", [None, 15, 20, 21, 39, 40])
def test_early_stopping_keeps_the_best_weights_also_across_a_stop(tmp_path, interrupted):
    out = tmp_path / "a"
    training = judged(begin(out, epochs=6, patience=2), FIGURES)
    if interrupted:
        stopped(at_step(training, interrupted, terminate))
        training = judged(begin(out, resume=True), FIGURES)
    list(training)
    results = read_run_json(out)["results"]
    assert (results["steps"], results["best_epoch"]) == (40, 2)
    written, best = safetensors.torch.load_file(out / "weights.safetensors"), weights_after(2, tmp_path)
    assert written.keys() == best.keys() and all(torch.equal(written[name], best[name]) for name in best)
    assert begin(out, resume=True).session is None


def test_patience_begins_anew_where_more_is_asked_for(tmp_path):
    out = tmp_path / "a"
    list(judged(begin(out, epochs=6, patience=2), FIGURES))
    stopped(at_step(judged(begin(out, resume=True, epochs="+1"), FIGURES), 45, terminate))
    list(judged(begin(out, resume=True), FIGURES))
    results = read_run_json(out)["results"]
    assert (results["steps"], results["best_epoch"]) == (70, 6)


def test_without_patience_the_last_weights_are_kept(tmp_path):
    out = tmp_path / "a"
    list(judged(begin(out, epochs=3), [0.2, 0.9, 0.3]))
    written, last = safetensors.torch.load_file(out / "weights.safetensors"), weights_after(2, tmp_path)
    assert read_run_json(out)["results"]["steps"] == 30 and read_run_json(out)["results"]["best_epoch"] == 2
    assert not all(torch.equal(written[name], last[name]) for name in last)


# --- not finite ------------------------------------------------------------------------------------------------------


def assert_finite(out: Path) -> None:
    for file in out.rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in safetensors.torch.load_file(file).values()), file
    for file in out.rglob("*.json"):
        json.loads(file.read_bytes(), parse_constant=pytest.fail)
    for line in (out / "metrics.jsonl").read_bytes().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_rate_beyond_reason_ends_with_6_names_step_and_samples_and_leaves_finite_files(tmp_path):
    out = tmp_path / "a"
    told = []
    for resume in (False, True):
        with pytest.raises(NonFiniteError) as raised:
            finish(out, resume=resume, **({} if resume else {"optimizer": "sgd", "lr": 1e20}))
        told.append(raised.value)
    assert told[0].exit_code == 6 and str(told[0]) == str(told[1])
    names = {BARS.train.sources[row] for row in told[0].indices}
    assert len(names) == 16 and f"step {told[0].step}" in told[0].message and "8 more" in told[0].message
    assert sum(f"{name}," in told[0].message or f"{name} and" in told[0].message for name in names) == 8
    assert read_run_json(out)["status"] == "non-finite" and not (out / ".lock").exists()
    assert_finite(out)
    assert (out / "weights.safetensors").is_file() and f"after {told[0].step} updates" in told[0].message


@pytest.mark.parametrize("step", [15, 20])
def test_weights_that_became_no_numbers_never_reach_the_disk(tmp_path, step):
    """As after an infinite gradient of a finite loss, before a report and before the end of an epoch."""
    out = tmp_path / "a"
    training = begin(out, ema=0.0)
    network, honest = training.session.trainer.model, training.session.trainer.run_phase

    def update(*arguments):
        done = honest(*arguments)
        if training.session.trainer.step + 1 == step:
            with torch.no_grad():
                network.head.weight[0] = float("inf")
        return done

    training.session.trainer.run_phase = update
    with pytest.raises(NonFiniteError) as raised:
        list(training)
    assert "weights.safetensors holds those after 10 updates" in raised.value.message
    assert_finite(out)
    written = safetensors.torch.load_file(out / "weights.safetensors")
    saved = checkpoint.load_checkpoint(out / "state" / "00000010")["trainer"]["objective"]
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in written.items())
    assert api.load(out).evaluate(BARS)["metrics"]["examples"] == len(BARS.test)
    finish(out, resume=True)
    assert comparable_state(out) == comparable_state(finish(tmp_path / "b", ema=0.0))


def test_where_nothing_finite_is_left_the_first_weights_are_written(tmp_path):
    training = begin(tmp_path / "a", ema=0.0)
    network = training.session.trainer.model

    def spoil():
        with torch.no_grad():
            network.head.weight.fill_(float("nan"))

    with pytest.raises(NonFiniteError) as raised:
        list(at_step(training, 3, spoil))
    assert "weights.safetensors holds those after 0 updates" in raised.value.message
    assert_finite(tmp_path / "a")


def test_one_pixel_of_one_picture_is_nothing_to_normalise_over(tmp_path):
    with pytest.raises(OptionError, match="normalises over the batch") as raised:
        finish(tmp_path / "a", model="resnet18", arguments={"stem": "imagenet"}, batch=1)
    assert "--batch" in raised.value.cure


def test_a_plan_made_for_a_graph_goes_on_without_one(tmp_path):
    whole = finish(tmp_path / "whole", optimizer="adam")
    out = tmp_path / "a"
    training = begin(out, optimizer="adam")
    stopped(at_step(training, 6, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    known = read_run_json(out)
    known["plan"]["recipe"]["cuda_graph"] = True  # as begun on a GPU
    (out / "run.json").write_text(json.dumps(known), encoding="utf-8")
    finish(out, resume=True)
    assert comparable_state(out) == comparable_state(whole)


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_disk_that_is_full_ends_with_5_and_what_was_saved_goes_on(tmp_path, whole, monkeypatch, call):
    out, honest = tmp_path / "a", getattr(os, call)
    training = begin(out)

    def full(path, *arguments, **given):
        if training.session.trainer.step == 20:
            raise OSError(28, "No space left on device")
        return honest(path, *arguments, **given)

    monkeypatch.setattr(os, call, full)
    before = None
    with pytest.raises(ResourceError) as raised:
        for progress in training:
            if progress.step == 18:
                before = read_all_files(out / "state")
    monkeypatch.undo()
    assert raised.value.exit_code == 5 and str(out) in raised.value.message and "free" in raised.value.message
    assert before and read_all_files(out / "state") == before
    assert not [p for p in out.rglob(".*") if p.exists()], "no drafts and no lock"
    finish(out, resume=True)
    assert comparable_state(out) == comparable_state(whole)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_leads_to_the_same_end(tmp_path, whole):
    out = tmp_path / "a"
    stopped(at_step(begin(out), 15, terminate))
    tensors = out / "state" / "00000015" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    notes = [note for progress in begin(out, resume=True) for note in progress.notes]
    assert len(notes) == 1 and str(tensors) in notes[0]
    assert comparable_state(out) == comparable_state(whole)


def test_where_every_checkpoint_is_damaged_the_run_is_refused_and_kept(tmp_path):
    out = tmp_path / "a"
    stopped(at_step(begin(out), 15, terminate))
    for tensors in out.rglob("tensors.safetensors"):
        tensors.write_bytes(b"")
    before = read_all_files(out)
    with pytest.raises(ModelFileError, match="all 2 checkpoints are damaged"):
        finish(out, resume=True)
    assert read_all_files(out) == before


def test_lost_rows_of_metrics_are_told(tmp_path, whole):
    out = tmp_path / "a"
    stopped(at_step(begin(out), 15, terminate))
    (out / "metrics.jsonl").unlink()
    notes = [note for progress in begin(out, resume=True) for note in progress.notes]
    assert len(notes) == 1 and "metrics.jsonl has lost rows" in notes[0]
    assert comparable_state(out)["weights.safetensors"] == comparable_state(whole)["weights.safetensors"]
    assert [row["step"] for row in api.load(out).folder.metrics()] == [16, 18, 20, 20]


@pytest.mark.parametrize("plan", [{}, {"device": "cpu"}, {"recipe": 3}, []], ids=str)
def test_a_plan_that_cannot_be_read_is_refused(tmp_path, plan):
    out = tmp_path / "a"
    stopped(at_step(begin(out), 3, terminate))
    (out / "run.json").write_text(json.dumps(read_run_json(out) | {"plan": plan}), encoding="utf-8")
    with pytest.raises(ModelFileError, match="'plan'"):
        begin(out, resume=True)
    assert not (out / ".lock").exists()


def test_a_run_without_its_plan_is_planned_again(tmp_path, whole):
    """As after a kill before the plan was made; the same is planned."""
    out = tmp_path / "a"
    stopped(at_step(begin(out), 3, terminate))
    (out / "run.json").write_text(
        json.dumps({k: v for k, v in read_run_json(out).items() if k != "plan"}), encoding="utf-8"
    )
    finish(out, resume=True)
    assert comparable_state(out) == comparable_state(whole)


def test_same_data_compares_fingerprints():
    check_same_data({}, BARS)
    check_same_data({"data": {"fingerprint": BARS.fingerprint}}, BARS)
    with pytest.raises(DataError, match="has changed"):
        check_same_data({"data": {"fingerprint": "other"}}, replace(BARS, name="new"))
