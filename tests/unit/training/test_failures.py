"""Divergence, a full disk, damaged checkpoints: what was saved is finite and intact, and can be resumed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.helpers.run_dirs import comparable_state, read_all_files, read_run_json
from tests.helpers.toy_runs import BARS, at_step, finish, load_weights, parts_of, plan_toy, stop_at
from thalweg import api
from thalweg.engine import checkpoint
from thalweg.errors import ModelFileError, NonFiniteError, ResourceError
from thalweg.runs.run_dir import RunDir

# --- not finite ------------------------------------------------------------------------------------------------------


def assert_finite(out: Path) -> None:
    for file in out.rglob("*.safetensors"):
        for value in safetensors.torch.load_file(file).values():
            assert value.isfinite().all(), file
    for file in out.rglob("*.json"):
        json.loads(file.read_bytes(), parse_constant=pytest.fail)
    for line in (out / "metrics.jsonl").read_bytes().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_divergence_names_step_and_examples_and_leaves_finite_files(tmp_path):
    out = tmp_path / "a"
    errors = []
    for training in (lambda: plan_toy(out, optimizer="sgd", lr=1e20), lambda: plan_toy(out, resume=True)):
        with pytest.raises(NonFiniteError) as error:
            finish(training())
        errors.append(error.value)
    first, second = errors
    assert first.exit_code == 6 and str(first) == str(second)
    names = set(BARS.train.names(list(first.indices)))
    mentioned = set(re.findall(r"bar \d+", first.message))
    assert len(names) == 16 and len(mentioned) == 8 and mentioned < names
    assert str(first.step) in first.message
    assert read_run_json(out)["status"] == "non-finite" and not (out / ".lock").exists()
    assert_finite(out)
    assert (out / "weights.safetensors").is_file()


@pytest.mark.parametrize("step", [15, 20])
def test_weights_that_are_not_finite_never_reach_the_disk(tmp_path, step):
    """As after an infinite gradient of a finite loss, before a report and before the end of an epoch."""
    out = tmp_path / "a"
    training = plan_toy(out, ema_decay=0.0)
    trainer = parts_of(training).trainer
    run_phase = trainer.run_phase

    def run_phase_and_break(*arguments):
        result = run_phase(*arguments)
        if trainer.step + 1 == step:
            with torch.no_grad():
                trainer.model.head.weight[0] = float("inf")
        return result

    trainer.run_phase = run_phase_and_break
    with pytest.raises(NonFiniteError):
        finish(training)
    assert_finite(out)
    saved = checkpoint.load_checkpoint(out / "state" / "00000010")["trainer"]["objective"]
    for name, value in load_weights(out).items():
        assert torch.equal(value, saved[f"model.{name}"])
    assert api.load(out).evaluate(BARS)["metrics"]["examples"] == len(BARS.test)
    finish(plan_toy(out, resume=True))
    assert comparable_state(out) == comparable_state(finish(plan_toy(tmp_path / "b", ema_decay=0.0)))


def test_without_any_finite_step_the_initial_weights_are_saved(tmp_path):
    training = plan_toy(tmp_path / "a", ema_decay=0.0)
    model = parts_of(training).trainer.model

    def fill_with_nan():
        with torch.no_grad():
            model.head.weight.fill_(float("nan"))

    with pytest.raises(NonFiniteError):
        finish(at_step(training, 3, fill_with_nan))
    assert_finite(tmp_path / "a")
    initial = safetensors.torch.load_file(tmp_path / "a" / "snapshots" / "00000000.safetensors")
    weights = load_weights(tmp_path / "a")
    for name, value in initial.items():
        assert torch.equal(weights[name], value)


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_full_disk_ends_with_5_and_what_was_saved_can_be_resumed(tmp_path, reference, monkeypatch, call):
    out = tmp_path / "a"
    function = getattr(os, call)
    training = plan_toy(out)
    trainer = parts_of(training).trainer

    def fail_at_the_end(path, *arguments, **options):
        if trainer.step == 20:
            raise OSError(28, "No space left on device")
        return function(path, *arguments, **options)

    monkeypatch.setattr(os, call, fail_at_the_end)
    before = None
    with pytest.raises(ResourceError) as error:
        for progress in training:
            if progress.step == 18:
                before = read_all_files(out / "state")
    monkeypatch.undo()
    assert error.value.exit_code == 5 and str(out) in error.value.message
    assert before and read_all_files(out / "state") == before
    assert list(out.rglob(".*")) == [], "no drafts and no lock"
    finish(plan_toy(out, resume=True))
    assert comparable_state(out) == comparable_state(reference)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_leads_to_the_same_end(tmp_path, reference):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 15)
    tensors = out / "state" / "00000015" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    warnings = [warning for progress in plan_toy(out, resume=True) for warning in progress.warnings]
    assert len(warnings) == 1 and str(tensors) in warnings[0]
    assert comparable_state(out) == comparable_state(reference)


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_left_as_it_is(tmp_path):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 15)
    for tensors in out.rglob("tensors.safetensors"):
        tensors.write_bytes(b"")
    before = read_all_files(out)
    with pytest.raises(ModelFileError) as error:
        finish(plan_toy(out, resume=True))
    assert error.value.path == out / "state" and read_all_files(out) == before


def test_lost_rows_of_metrics_are_reported(tmp_path, reference):
    out = tmp_path / "a"
    stop_at(plan_toy(out), 15)
    (out / "metrics.jsonl").unlink()
    warnings = [warning for progress in plan_toy(out, resume=True) for warning in progress.warnings]
    assert len(warnings) == 1 and str(out / "metrics.jsonl") in warnings[0]
    assert comparable_state(out)["weights.safetensors"] == comparable_state(reference)["weights.safetensors"]
    assert [row["step"] for row in RunDir(out).read_metrics()] == [16, 18, 20, 20]
