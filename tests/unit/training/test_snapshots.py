"""Weight snapshots: which steps, what is in them, and that training is the same without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.toy_runs import BARS, assert_equal_tensors, finish, load_weights, parts_of, plan_toy
from thalweg.errors import ModelFileError, OptionError
from thalweg.models.classify.mlp import mlp
from thalweg.training import snapshots

PLAIN = {"model_kwargs": {"widths": 16}, "augment": "none", "ema_decay": 0.0, "schedule": "constant"}


def train(out: Path, **options) -> Path:
    return finish(plan_toy(out, **{**PLAIN, **options}))


def load_files(out: Path) -> dict[int, dict[str, Tensor]]:
    files = sorted((out / "snapshots").glob("*.safetensors"))
    return {int(file.stem): safetensors.torch.load_file(file) for file in files}


@given(st.integers(1, 10**7), st.integers(0, 1000))
def test_steps_begin_at_0_and_never_reach_the_last(total, count):
    steps = snapshots.snapshot_steps(total, count)
    assert len(steps) <= count and steps == sorted(set(steps))
    assert not count or (steps[0] == 0 and steps[-1] < total)


def test_snapshots_are_the_initial_weights_and_those_of_shorter_runs(tmp_path):
    training = plan_toy(tmp_path / "a", **PLAIN, snapshots=4)
    model = parts_of(training).model
    initial = {name: param.detach().clone() for name, param in model.named_parameters()}
    saved = parts_of(training).snapshots
    assert saved.bytes == 4 * sum(4 * param.numel() for param in model.parameters())
    saved_files = load_files(finish(training))
    assert list(saved_files) == [0, 1, 5, 11] == sorted(saved.steps)
    assert_equal_tensors(saved_files[0], initial)
    shorter = train(tmp_path / "b", epochs=None, steps=5)
    assert_equal_tensors(saved_files[5], load_weights(shorter))


@pytest.mark.parametrize("options", [{}, {"grad_accum": 2}, {"ema_decay": 0.9}], ids=str)
def test_saving_snapshots_changes_nothing(options, tmp_path):
    with_them = train(tmp_path / "a", snapshots=20, **options)
    without = train(tmp_path / "b", snapshots=0, **options)
    assert not (without / "snapshots").exists()
    for name in ("weights.safetensors", "metrics.jsonl"):
        assert (with_them / name).read_bytes() == (without / name).read_bytes()


def test_frozen_weights_are_not_saved(tmp_path):
    out = train(tmp_path / "a", freeze=True)
    names = {name for tensors in load_files(out).values() for name in tensors}
    assert names == {"head.weight", "head.bias"}


def test_large_models_save_the_initial_weights_and_what_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(snapshots, "MAX_BYTES", 1)
    assert list(load_files(train(tmp_path / "a"))) == [0]


def test_snapshots_are_loaded_in_order(tmp_path):
    training = plan_toy(tmp_path / "a", **PLAIN)
    model = parts_of(training).model
    loaded = snapshots.load_snapshots(finish(training) / "snapshots", model)
    assert [step for step, _ in loaded] == sorted(load_files(tmp_path / "a"))


def test_missing_damaged_and_foreign_snapshots_are_refused(tmp_path):
    other = mlp(in_channels=1, num_classes=2, image_size=4, widths=[3])
    folder = tmp_path / "a" / "snapshots"
    training = plan_toy(tmp_path / "a", **PLAIN)
    model = parts_of(training).model
    with pytest.raises(ModelFileError) as error:
        snapshots.load_snapshots(folder, model)
    assert error.value.path == folder
    finish(training)
    first = folder / "00000000.safetensors"
    with pytest.raises(ModelFileError) as error:
        snapshots.load_snapshots(folder, other)
    assert error.value.path == first and error.value.value in dict(model.named_parameters())
    first.write_bytes(b"broken")
    with pytest.raises(ModelFileError) as error:
        snapshots.load_snapshots(folder, model)
    assert error.value.path == first
    first.unlink()
    with pytest.raises(ModelFileError) as error:
        snapshots.load_snapshots(folder, model)
    assert error.value.path == folder


def test_the_number_of_snapshots_has_a_range(tmp_path):
    with pytest.raises(OptionError) as error:
        plan_toy(tmp_path / "a", snapshots=5000, data=BARS)
    assert (error.value.option, error.value.value, error.value.allowed) == ("snapshots", 5000, [0, 1000])
