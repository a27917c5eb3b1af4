"""Checkpoints: whole or not there, exact, and never silently wrong."""

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
from thalweg.objectives.base import Batch, Loss
from thalweg.objectives.supervised import Supervised

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def state(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(4, 3, generator=generator), "a.steps": torch.tensor(step)}
    return {"step": step, "weights": weights, "optimizers": [{"state": {0: {"mean": torch.ones(4)}}, "lr": 0.1}]}


def same(one: dict, other: dict) -> bool:
    a, b = {}, {}
    plain = checkpoint.flatten_state(one, "", a) == checkpoint.flatten_state(other, "", b)
    return plain and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def sums(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def unexpected(message: str) -> None:
    pytest.fail(f"there should have been no notice: {message}")


# --- exact -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(tmp_path):
    checkpoint.save_checkpoint(tmp_path / "state", 7, state(7))
    step, loaded = checkpoint.load_latest(tmp_path / "state", unexpected)
    assert step == 7 and same(loaded, state(7))
    assert checkpoint.load_latest(tmp_path / "nothing", unexpected) is None


KEYS = st.text(max_size=5) | st.integers()
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
SHAPES = st.lists(st.integers(0, 3), max_size=3)
KINDS = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])
TENSORS = st.builds(lambda shape, kind: torch.ones(shape, dtype=kind), SHAPES, KINDS)
STATES = st.recursive(PLAIN | TENSORS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(KEYS, STATES))
def test_any_state_comes_back(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("any")
    assert same(checkpoint.load_checkpoint(checkpoint.save_checkpoint(folder, 1, value)), value)


def filters(optimizer: str) -> Trainer:
    """Convolutions whose weights lie in memory channels last, as a session keeps them."""
    torch.manual_seed(1)
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    net = nn.Sequential(*body).to(memory_format=torch.channels_last)

    def criterion(net: nn.Module, b: Batch) -> Loss:
        return Loss(F.cross_entropy(net(b["image"]), b["label"]), len(b["label"]))

    data = {"image": torch.randn(32, 3, 6, 6), "label": torch.randint(4, (32,))}
    recipe = TrainConfig(steps=12, lr=DEFAULT_LR[optimizer], optimizer=optimizer, report=3, ema=0.9)
    return Trainer(Supervised(net, criterion), InMemoryBatches(data, 8, 3), recipe)


@pytest.mark.parametrize("optimizer", DEFAULT_LR)
def test_resuming_filters_changes_nothing_for_any_optimiser(optimizer, tmp_path):
    whole, first, second = (filters(optimizer) for _ in range(3))
    rows = list(whole)
    before = list(islice(first, 2))
    saved = checkpoint.save_checkpoint(tmp_path, first.step, first.state_dict())
    second.load_state_dict(checkpoint.load_checkpoint(saved))
    assert before + list(second) == rows
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name]), name


# --- which ones are kept ---------------------------------------------------------------------------------------------


def test_the_last_two_are_kept_and_the_highest_step_is_newest_whatever_the_clock_says(tmp_path):
    for step in (5, 10, 99, 100):
        saved = checkpoint.save_checkpoint(tmp_path, step, state(step))
        os.utime(saved, (0, 2_000_000_000 - step))
    assert names(tmp_path) == ["00000099", "00000100"]
    assert checkpoint.load_latest(tmp_path, unexpected)[0] == 100


def test_saving_again_replaces_what_was_damaged_at_this_step_and_later(tmp_path):
    for step in (5, 10):
        checkpoint.save_checkpoint(tmp_path, step, state(step))
    (tmp_path / "00000010" / "state.json").write_bytes(b"")
    notices = []
    assert checkpoint.load_latest(tmp_path, notices.append)[0] == 5 and len(notices) == 1
    checkpoint.save_checkpoint(tmp_path, 8, state(8))
    assert names(tmp_path) == ["00000005", "00000008"]
    (tmp_path / "00000008" / "state.json").write_bytes(b"")
    checkpoint.save_checkpoint(tmp_path, 8, state(8))
    assert same(checkpoint.load_latest(tmp_path, unexpected)[1], state(8))


# --- killed, or out of power -----------------------------------------------------------------------------------------


def die_in(action, lines: int) -> bool:
    """Does `action` in a child that kills itself after so many lines of checkpoint.py and shutil.py; whether it did."""
    pid = os.fork()
    if pid == 0:
        left = lines

        def line(frame, event, argument):
            nonlocal left
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return line

        files = (checkpoint.__file__, shutil.__file__)
        sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename in files else None)
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
        checkpoint.save_checkpoint(before, step, state(step))
    found = set()
    for lines in count(0, 4 if present == [5, 10] else 11):
        folder = Path(shutil.copytree(before, tmp_path / str(lines)))
        killed = die_in(lambda folder=folder: checkpoint.save_checkpoint(folder, 15, state(15)), lines)
        loaded = checkpoint.load_latest(folder, unexpected)
        found.add(loaded and loaded[0])
        assert loaded is None or same(loaded[1], state(loaded[0]))
        assert all(name.isdigit() for name in names(folder)), "drafts are removed"
        checkpoint.save_checkpoint(folder, 20, state(20))
        assert same(checkpoint.load_latest(folder, unexpected)[1], state(20))
        if not killed:
            break
    assert lines > 40 and found == {present[-1] if present else None, 15}


@posix
def test_a_kill_at_any_line_of_replacing_a_file_leaves_the_old_content_or_the_new(tmp_path):
    file, found = tmp_path / "run.json", set()
    for lines in count():
        file.write_bytes(b"old")
        killed = die_in(lambda: checkpoint.atomic_write(file, b"new"), lines)
        found.add(file.read_bytes())
        if not killed:
            break
    assert lines > 8 and found == {b"old", b"new"}


@posix
def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """What a power cut leaves: files and their folder are flushed before the rename, the folder above after it."""
    events, fsync, replace = [], os.fsync, os.replace

    def flush(handle):
        events.append(("flush", os.fstat(handle).st_ino))
        fsync(handle)

    def rename(source, target):
        inside = [*Path(source).rglob("*"), Path(source)]
        events.append(("rename", {path.stat().st_ino for path in inside}))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    for action in (
        lambda: checkpoint.save_checkpoint(tmp_path / "state", 1, state(1)),
        lambda: checkpoint.atomic_write(tmp_path / "state" / "run.json", b"new"),
    ):
        events.clear()
        action()
        ((place, renamed),) = [(n, inodes) for n, (kind, inodes) in enumerate(events) if kind == "rename"]
        flushed = {inode for _, inode in events[:place]}
        assert renamed <= flushed
        assert events[place + 1] == ("flush", (tmp_path / "state").stat().st_ino)


# --- damaged ---------------------------------------------------------------------------------------------------------


def test_flipped_bits_and_cuts_anywhere_are_noticed(tmp_path):
    saved = checkpoint.save_checkpoint(tmp_path, 5, state(5))
    draw = random.Random(0)
    for file in sorted(saved.iterdir()):
        whole = file.read_bytes()
        for _ in range(64):
            place, flipped = draw.randrange(len(whole)), bytearray(whole)
            flipped[place] ^= 1 << draw.randrange(8)
            file.write_bytes(bytes(flipped))
            with pytest.raises(ModelFileError, match=str(saved)):
                checkpoint.load_checkpoint(saved)
        for _ in range(32):
            file.write_bytes(whole[: draw.randrange(len(whole))])
            with pytest.raises(ModelFileError, match=str(saved)):
                checkpoint.load_checkpoint(saved)
        file.unlink()
        with pytest.raises(ModelFileError, match="not a whole checkpoint"):
            checkpoint.load_checkpoint(saved)
        file.write_bytes(whole)
    assert same(checkpoint.load_checkpoint(saved), state(5))


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path):
    saved = checkpoint.save_checkpoint(tmp_path, 5, state(5))
    with pytest.raises(ModelFileError, match="00000005"):
        checkpoint.load_checkpoint(saved.rename(tmp_path / "00000006"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path):
    for step in (5, 10):
        saved = checkpoint.save_checkpoint(tmp_path, step, state(step))
    tensors = saved / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    notices = []
    step, loaded = checkpoint.load_latest(tmp_path, notices.append)
    assert step == 5 and same(loaded, state(5))
    assert len(notices) == 1 and str(tensors) in notices[0] and "before it" in notices[0]


def test_where_all_are_damaged_nothing_is_used(tmp_path):
    for step in (5, 10):
        (checkpoint.save_checkpoint(tmp_path, step, state(step)) / "manifest.json").write_bytes(b"[]")
    with pytest.raises(ModelFileError, match="all 2 checkpoints are damaged") as refused:
        checkpoint.load_latest(tmp_path, lambda message: None)
    assert refused.value.exit_code == 4 and refused.value.cure


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_never_saved(tmp_path, bad):
    checkpoint.save_checkpoint(tmp_path, 5, state(5))
    spoiled = state(10)
    spoiled["weights"]["a.weight"][1, 2] = bad
    before = sums(tmp_path)
    with pytest.raises(NonFiniteError, match=r"a\.weight") as refused:
        checkpoint.save_checkpoint(tmp_path, 10, spoiled)
    assert refused.value.step == 10
    assert sums(tmp_path) == before


# --- no room ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["open", "fsync", "replace", "mkdir"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch, failing, nth):
    checkpoint.save_checkpoint(tmp_path, 5, state(5))
    before, calls = sums(tmp_path), 0
    honest = getattr(os, failing) if failing != "open" else open

    def full(*arguments, **given):
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device")
        return honest(*arguments, **given)

    if failing == "open":
        monkeypatch.setattr(checkpoint, "open", full, raising=False)
    else:
        monkeypatch.setattr(os, failing, full)
    try:
        checkpoint.save_checkpoint(tmp_path, 10, state(10))
    except ResourceError as error:
        told = error
    else:
        monkeypatch.undo()
        assert calls < nth, "the error must not be swallowed"
        return
    monkeypatch.undo()
    assert told.exit_code == 5 and str(tmp_path / "00000010") in told.message and "No space left" in told.message
    assert "MB are needed" in told.message and "is free" in told.message and "--resume" in told.cure
    left = sums(tmp_path)
    assert {name: left[name] for name in before} == before
    assert all(name.isdigit() for name in names(tmp_path))
    assert checkpoint.load_latest(tmp_path, unexpected)[0] in (5, 10)


@posix
@pytest.mark.parametrize("limit", [0, 1, 100, 300])
def test_a_file_that_may_not_grow_leaves_the_old_checkpoint(tmp_path, limit):
    resource = pytest.importorskip("resource")
    checkpoint.save_checkpoint(tmp_path, 5, state(5))
    before, allowed = sums(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, allowed[1]))
        with pytest.raises(ResourceError, match="00000010"):
            checkpoint.save_checkpoint(tmp_path, 10, state(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert sums(tmp_path) == before


def test_free_room_that_cannot_be_told_is_no_second_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    error = checkpoint.disk_full_error(OSError(28, "No space left on device"), tmp_path / "a", 5)
    assert "an unknown amount is free" in error.message
