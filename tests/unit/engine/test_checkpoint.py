"""Checkpoints are complete or absent, exact, and never silently wrong."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
from itertools import count, islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.data.batches import InMemoryBatches
from thalweg.engine import checkpoint
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import ModelFileError, NonFiniteError, ResourceError
from thalweg.io import atomic_write
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def make_state(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    model = {"a.weight": torch.randn(4, 3, generator=generator), "a.steps": torch.tensor(step)}
    return {"step": step, "model": model, "optimizers": [{"state": {0: {"mean": torch.ones(4)}}, "lr": 0.1}]}


def are_equal(a: dict, b: dict) -> bool:
    tensors_a = {}
    tensors_b = {}
    if checkpoint.flatten_state(a, "", tensors_a) != checkpoint.flatten_state(b, "", tensors_b):
        return False
    for name, value in tensors_a.items():
        if value.dtype != tensors_b[name].dtype or not torch.equal(value, tensors_b[name]):
            return False
    return tensors_a.keys() == tensors_b.keys()


def list_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def checksums(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def fail_on_message(message: str) -> None:
    pytest.fail(f"fail_on_message message: {message}")


# --- exact -----------------------------------------------------------------------------------------------------------


def test_a_saved_state_is_restored(tmp_path):
    checkpoint.save_checkpoint(tmp_path / "state", 7, make_state(7))
    step, loaded = checkpoint.load_latest(tmp_path / "state", fail_on_message)
    assert step == 7 and are_equal(loaded, make_state(7))
    assert checkpoint.load_latest(tmp_path / "nothing", fail_on_message) is None


KEYS = st.text(max_size=5) | st.integers()
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
SHAPES = st.lists(st.integers(0, 3), max_size=3)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])
TENSORS = st.builds(lambda shape, dtype: torch.ones(shape, dtype=dtype), SHAPES, DTYPES)
STATES = st.recursive(PLAIN | TENSORS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(KEYS, STATES))
def test_any_state_is_restored(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("any")
    assert are_equal(checkpoint.load_checkpoint(checkpoint.save_checkpoint(folder, 1, value)), value)


def make_conv_trainer(optimizer: str) -> Trainer:
    """Return a trainer of convolutions in channels-last memory format, as a training run has them."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        return Loss(F.cross_entropy(model(batch["image"]), batch["label"]), len(batch["label"]))

    tensors = {"image": torch.randn(32, 3, 6, 6), "label": torch.randint(4, (32,))}
    config = TrainConfig(steps=12, lr=DEFAULT_LR[optimizer], optimizer=optimizer, report_every=3, ema_decay=0.9)
    return Trainer(Supervised(model, criterion), InMemoryBatches(tensors, 8, 3), config)


@pytest.mark.parametrize("optimizer", DEFAULT_LR)
def test_resuming_convolutions_changes_nothing_for_any_optimizer(optimizer, tmp_path):
    full, first, second = (make_conv_trainer(optimizer) for _ in range(3))
    expected = list(full)
    before = list(islice(first, 2))
    saved = checkpoint.save_checkpoint(tmp_path, first.step, first.state_dict())
    second.load_state_dict(checkpoint.load_checkpoint(saved))
    assert before + list(second) == expected
    for name, value in full.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name]), name


# --- which ones remain ----------------------------------------------------------------------------------------------


def test_the_last_two_remain_and_the_highest_step_is_newest_whatever_the_clock_says(tmp_path):
    for step in (5, 10, 99, 100):
        saved = checkpoint.save_checkpoint(tmp_path, step, make_state(step))
        os.utime(saved, (0, 2_000_000_000 - step))
    assert list_names(tmp_path) == ["00000099", "00000100"]
    assert checkpoint.load_latest(tmp_path, fail_on_message)[0] == 100


def test_saving_again_replaces_damaged_checkpoints_of_this_step_and_later(tmp_path):
    for step in (5, 10):
        checkpoint.save_checkpoint(tmp_path, step, make_state(step))
    (tmp_path / "00000010" / "state.json").write_bytes(b"")
    messages = []
    assert checkpoint.load_latest(tmp_path, messages.append)[0] == 5 and len(messages) == 1
    checkpoint.save_checkpoint(tmp_path, 8, make_state(8))
    assert list_names(tmp_path) == ["00000005", "00000008"]
    (tmp_path / "00000008" / "state.json").write_bytes(b"")
    checkpoint.save_checkpoint(tmp_path, 8, make_state(8))
    assert are_equal(checkpoint.load_latest(tmp_path, fail_on_message)[1], make_state(8))


# --- kills and power cuts --------------------------------------------------------------------------------------------


def die_in(action, lines: int) -> bool:
    """Run `action` in a child that kills itself after `lines` lines of checkpoint.py, atomic_write.py and shutil.py.

    Return True if it was killed, False if `action` ended before.
    """
    pid = os.fork()
    if pid == 0:
        remaining = lines

        def trace_line(frame, event, argument):
            nonlocal remaining
            if event == "line":
                remaining -= 1
                if remaining < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace_line

        files = (checkpoint.__file__, atomic_write.__file__, shutil.__file__)
        sys.settrace(lambda frame, event, argument: trace_line if frame.f_code.co_filename in files else None)
        try:
            action()
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@posix
@pytest.mark.parametrize("present", [[], [5], [5, 10]], ids=str)
def test_a_kill_at_any_line_of_save_leaves_the_old_checkpoint_or_the_new_one(tmp_path, present):
    before = tmp_path / "before"
    before.mkdir()
    for step in present:
        checkpoint.save_checkpoint(before, step, make_state(step))
    loaded_steps = set()
    for lines in count(0, 4 if present == [5, 10] else 11):
        folder = Path(shutil.copytree(before, tmp_path / str(lines)))
        killed = die_in(lambda folder=folder: checkpoint.save_checkpoint(folder, 15, make_state(15)), lines)
        loaded = checkpoint.load_latest(folder, fail_on_message)
        loaded_steps.add(loaded and loaded[0])
        assert loaded is None or are_equal(loaded[1], make_state(loaded[0]))
        assert all(name.isdigit() for name in list_names(folder)), "drafts are removed"
        checkpoint.save_checkpoint(folder, 20, make_state(20))
        assert are_equal(checkpoint.load_latest(folder, fail_on_message)[1], make_state(20))
        if not killed:
            break
    assert lines > 40 and loaded_steps == {present[-1] if present else None, 15}


@posix
def test_a_kill_at_any_line_of_atomic_write_leaves_the_old_content_or_the_new(tmp_path):
    file = tmp_path / "run.json"
    contents = set()
    for lines in count():
        file.write_bytes(b"old")
        killed = die_in(lambda: atomic_write.atomic_write(file, b"new"), lines)
        contents.add(file.read_bytes())
        if not killed:
            break
    assert lines > 8 and contents == {b"old", b"new"}


@posix
def test_files_are_flushed_before_the_rename(tmp_path, monkeypatch):
    """After a power cut: files and their folder are flushed before the rename, the parent folder after it."""
    events = []
    fsync = os.fsync
    replace = os.replace

    def flush(handle):
        events.append(("flush", os.fstat(handle).st_ino))
        fsync(handle)

    def rename(source, target):
        paths = [*Path(source).rglob("*"), Path(source)]
        events.append(("rename", {path.stat().st_ino for path in paths}))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    for action in (
        lambda: checkpoint.save_checkpoint(tmp_path / "state", 1, make_state(1)),
        lambda: atomic_write.atomic_write(tmp_path / "state" / "run.json", b"new"),
    ):
        events.clear()
        action()
        ((index, renamed),) = [(i, inodes) for i, (kind, inodes) in enumerate(events) if kind == "rename"]
        flushed = {inode for _, inode in events[:index]}
        assert renamed <= flushed
        assert events[index + 1] == ("flush", (tmp_path / "state").stat().st_ino)


# --- damage ----------------------------------------------------------------------------------------------------------


def test_flipped_bits_and_truncation_anywhere_are_detected(tmp_path):
    saved = checkpoint.save_checkpoint(tmp_path, 5, make_state(5))
    rng = random.Random(0)
    for file in sorted(saved.iterdir()):
        content = file.read_bytes()
        for _ in range(64):
            flipped = bytearray(content)
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(bytes(flipped))
            with pytest.raises(ModelFileError) as error:
                checkpoint.load_checkpoint(saved)
            assert saved in (error.value.path, error.value.path.parent)
        for _ in range(32):
            file.write_bytes(content[: rng.randrange(len(content))])
            with pytest.raises(ModelFileError) as error:
                checkpoint.load_checkpoint(saved)
            assert saved in (error.value.path, error.value.path.parent)
        file.unlink()
        with pytest.raises(ModelFileError) as error:
            checkpoint.load_checkpoint(saved)
        assert error.value.path == saved
        file.write_bytes(content)
    assert are_equal(checkpoint.load_checkpoint(saved), make_state(5))


def test_a_checkpoint_with_the_name_of_another_step_is_refused(tmp_path):
    saved = checkpoint.save_checkpoint(tmp_path, 5, make_state(5))
    with pytest.raises(ModelFileError) as error:
        checkpoint.load_checkpoint(saved.rename(tmp_path / "00000006"))
    assert error.value.value == "00000005" and error.value.path == tmp_path / "00000006" / "manifest.json"


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(tmp_path):
    for step in (5, 10):
        saved = checkpoint.save_checkpoint(tmp_path, step, make_state(step))
    tensors = saved / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    messages = []
    step, loaded = checkpoint.load_latest(tmp_path, messages.append)
    assert step == 5 and are_equal(loaded, make_state(5))
    assert len(messages) == 1 and str(tensors) in messages[0]


def test_nothing_is_loaded_if_all_are_damaged(tmp_path):
    for step in (5, 10):
        (checkpoint.save_checkpoint(tmp_path, step, make_state(step)) / "manifest.json").write_bytes(b"[]")
    with pytest.raises(ModelFileError) as error:
        checkpoint.load_latest(tmp_path, lambda message: None)
    assert error.value.path == tmp_path and error.value.cure


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_inf_are_never_saved(tmp_path, bad):
    checkpoint.save_checkpoint(tmp_path, 5, make_state(5))
    diverged = make_state(10)
    diverged["model"]["a.weight"][1, 2] = bad
    before = checksums(tmp_path)
    with pytest.raises(NonFiniteError) as error:
        checkpoint.save_checkpoint(tmp_path, 10, diverged)
    assert error.value.step == 10 and "weight" not in error.value.message
    assert checksums(tmp_path) == before


# --- full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["open", "fsync", "replace", "mkdir"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch, failing, nth):
    checkpoint.save_checkpoint(tmp_path, 5, make_state(5))
    before = checksums(tmp_path)
    calls = 0
    original = open if failing == "open" else getattr(os, failing)

    def fail_at_nth_call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    if failing == "open":
        monkeypatch.setattr(checkpoint, "open", fail_at_nth_call, raising=False)
    else:
        monkeypatch.setattr(os, failing, fail_at_nth_call)
    try:
        checkpoint.save_checkpoint(tmp_path, 10, make_state(10))
    except ResourceError as error:
        raised = error
    else:
        monkeypatch.undo()
        assert calls < nth, "the error must not be swallowed"
        return
    monkeypatch.undo()
    assert raised.path == tmp_path / "00000010" and "No space left" in raised.message and "--resume" in raised.cure
    after = checksums(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.isdigit() for name in list_names(tmp_path))
    assert checkpoint.load_latest(tmp_path, fail_on_message)[0] in (5, 10)


@posix
@pytest.mark.parametrize("limit", [0, 1, 100, 250])
def test_a_file_size_limit_leaves_the_old_checkpoint(tmp_path, limit):
    resource = pytest.importorskip("resource")
    checkpoint.save_checkpoint(tmp_path, 5, make_state(5))
    before = checksums(tmp_path)
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, previous[1]))
        with pytest.raises(ResourceError) as error:
            checkpoint.save_checkpoint(tmp_path, 10, make_state(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
    assert error.value.path == tmp_path / "00000010"
    assert checksums(tmp_path) == before


def test_unknown_free_space_is_no_second_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    error = checkpoint.disk_full_error(OSError(28, "No space left on device"), tmp_path / "a", 5)
    assert error.path == tmp_path / "a" and "No space left" in error.message
