"""Weights along the way of a training: which steps, what is in them, and that nothing about the training changes."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.cli import main as cli
from thalweg.errors import ModelFileError, OptionError
from thalweg.models.classify.mlp import mlp
from thalweg.tasks.classify import Classify
from thalweg.training import snapshots as trail
from thalweg.training.build import TrainingRun

BARS = Classify().toy()

QUICK = {"model": "mlp", "epochs": 2, "batch": 16, "report": False, "device": "cpu", "arguments": {"widths": 16}}


def trained(out, **more):
    training = TrainingRun("classify", BARS, out=out, notice=lambda told: None, **{**QUICK, **more})
    lines = training.lines()
    for _ in training:
        pass
    return lines


def weights(folder):
    return {p.name: safetensors.torch.load_file(p) for p in sorted(folder.glob("*.safetensors"))}


@given(st.integers(1, 10**7), st.integers(0, 1000))
def test_steps_begin_at_the_first_and_never_reach_the_last(total, count):
    found = trail.snapshot_steps(total, count)
    assert len(found) <= count and found == sorted(set(found))
    assert not count or found[0] == 0 and found[-1] < total


def test_the_first_weights_are_those_before_any_update_and_the_others_are_those_of_shorter_runs(tmp_path):
    lines = trained(tmp_path / "a", trail=4)
    kept = weights(tmp_path / "a" / "trail")
    assert list(kept) == [f"{step:08d}.safetensors" for step in (0, 1, 5, 11)]
    size = sum(tensor.numel() for tensor in kept["00000000.safetensors"].values())
    assert f"keeps the weights of 4 steps along the way: {16 * size / 1e6:.3g} MB (--trail)" in lines
    trained(tmp_path / "b", epochs=None, steps=5, schedule="constant")
    trained(tmp_path / "c", schedule="constant", trail=4)
    ended = safetensors.torch.load_file(tmp_path / "b" / "weights.safetensors")
    for name, tensor in weights(tmp_path / "c" / "trail")["00000005.safetensors"].items():
        assert torch.equal(tensor, ended[name])


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"ema": 0.9}])
def test_keeping_weights_changes_nothing(more, tmp_path):
    trained(tmp_path / "a", trail=20, **more)
    trained(tmp_path / "b", trail=0, **more)
    assert not (tmp_path / "b" / "trail").exists()
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()


def test_of_a_frozen_network_only_what_is_trained_is_kept(tmp_path):
    trained(tmp_path / "a", freeze=True)
    names = {name for kept in weights(tmp_path / "a" / "trail").values() for name in kept}
    assert names and all("head" in name or name.startswith(max(names)[:2]) for name in names) and len(names) == 2


def test_large_networks_keep_the_first_weights_and_what_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(trail, "MAX_BYTES", 1)
    trained(tmp_path / "a")
    assert list(weights(tmp_path / "a" / "trail")) == ["00000000.safetensors"]


def test_a_way_that_is_not_there_or_of_another_network_is_refused(tmp_path, capsys):
    network = mlp(in_channels=1, num_classes=2, image_size=4, widths=[3])
    with pytest.raises(ModelFileError, match="does not have its initial weights"):
        trail.load_snapshots(tmp_path / "trail", network)
    trained(tmp_path / "a")
    with pytest.raises(ModelFileError, match="is not of this run's network"):
        trail.load_snapshots(tmp_path / "a" / "trail", network)
    (tmp_path / "a" / "trail" / "00000000.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelFileError, match="00000000.safetensors is damaged"):
        trail.load_snapshots(tmp_path / "a" / "trail", network)
    assert cli.invoke(["train", "classify", "--trail", "-1", "--out", str(tmp_path / "b")]) == 2
    assert "--trail -1 is out of range" in capsys.readouterr().err
    with pytest.raises(OptionError):
        trained(tmp_path / "c", trail=5000)
