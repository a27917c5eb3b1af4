"""Features computed once: the same training as without them, kept and used again, and never used for anything else."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.helpers.run_dirs import comparable_state, read_run_json
from thalweg import api, registry
from thalweg.config.options import Options
from thalweg.data.images.dataset import ImageDataset, Split
from thalweg.data.images.synthetic import make_bars
from thalweg.engine import feature_cache as features
from thalweg.errors import InterruptedTrainingError, ResourceError
from thalweg.layers import fuse as inference
from thalweg.tasks.classify import Classify
from thalweg.training.build import TrainingRun

BARS = make_bars(count=96)
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def answered(monkeypatch) -> list[int]:
    """The sizes of the batches that networks were asked about to compute features."""
    asked: list[int] = []
    honest = features._extract_split

    def whole(quick, task, split, *rest):
        asked.append(len(split))
        return honest(quick, task, split, *rest)

    monkeypatch.setattr(features, "_extract_split", whole)
    return asked


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    """A run of a LeNet to begin from."""
    settings = {"model": "lenet", "arguments": {"filters": [4, 6], "hidden": 16}, "epochs": 15, "batch": 16}
    out = tmp_path_factory.mktemp("runs") / "learned"
    return api.train("classify", BARS, out=out, report=False, **settings).path


def begin(out: Path, weights: Path | None = None, data: ImageDataset = BARS, **given) -> TrainingRun:
    settings = {} if given.get("resume") else {"freeze": True, "epochs": 3, "batch": 16, "weights": str(weights)}
    return api.plan_training("classify", data, out=out, report=False, **{**settings, **given})


def finish(training: TrainingRun) -> Path:
    for _ in training:
        pass
    return training.path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


def times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in sorted(folder.glob("*"))}


def assert_same_result(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-4, rtol=1e-4)
    scores = [read_run_json(run)["results"]["test"] for run in (one, other)]
    assert scores[0]["accuracy"] == scores[1]["accuracy"]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], abs=1e-4)


# --- the same result -------------------------------------------------------------------------------------------------


def test_cached_features_give_what_asking_the_network_anew_gives(learned, tmp_path, answered):
    cached = finish(begin(tmp_path / "cached", learned))
    assert answered == [64, 16, 16]
    plain = finish(begin(tmp_path / "plain", learned, cache=False))
    assert len(answered) == 3
    assert_same_result(cached, plain)
    before, after = weights(learned), weights(cached)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}, "only the last layer learned, and it did"


def test_where_features_no_longer_fit_a_run_that_has_them_does_not_go_on_without(learned, tmp_path, monkeypatch):
    training = begin(tmp_path / "a", learned, epochs=3, save_every=0)
    for progress in training:
        if progress.step >= 5:
            break
    monkeypatch.setattr(features, "get_free_memory", lambda: 1000)
    with pytest.raises(ResourceError, match="too small now"):
        begin(tmp_path / "a", resume=True)
    monkeypatch.undo()
    again = finish(begin(tmp_path / "a", resume=True))
    assert_same_result(again, finish(begin(tmp_path / "b", learned, epochs=3)))


@pytest.mark.parametrize(
    "settings",
    [
        {"balance": True, "smoothing": 0.1, "optimizer": "sgd", "lr": 0.05},
        {"loss": "squared-error", "ema": 0.9},
        {"patience": 1, "accumulate": 2},
    ],
    ids=str,
)
def test_every_way_of_training_a_head_reads_features_too(learned, tmp_path, answered, settings):
    one, other = (finish(begin(tmp_path / str(cache), learned, cache=cache, **settings)) for cache in (True, False))
    assert len(answered) == 3
    assert_same_result(one, other)


@pytest.mark.parametrize(
    ("model", "arguments"), [("resnet18", {"stem": "small"}), ("mobilenet_v3_small", {}), ("squeezenet1_1", {})]
)
def test_networks_from_a_file_with_statistics_and_dropout_learn_the_same_from_features(
    tmp_path, answered, model, arguments
):
    """Batch statistics of the file stay as they are; the dropout of a head is drawn alike."""
    data = make_bars(count=24, size=32)
    torch.manual_seed(3)
    state = registry.find_model(model)(in_channels=1, num_classes=7, image_size=32, **arguments).state_dict()
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, file)
    settings = {"model": model, "arguments": arguments, "steps": 3, "batch": 8, "epochs": None, "precision": "float32"}
    runs = [finish(begin(tmp_path / f"{cache}", file, data, cache=cache, **settings)) for cache in (True, False)]
    assert answered == [16, 4, 4]
    assert_same_result(*runs)
    after, new = weights(runs[0]), read_run_json(runs[0])["start"]["new"]
    assert len(new) == 2 and all(len(after[name]) == 4 for name in new)
    changed = {name for name in state if name not in new and not torch.equal(after[name], state[name])}
    assert not changed, "statistics included"


# --- kept and used again ---------------------------------------------------------------------------------------------


def test_features_are_kept_and_used_the_second_time(learned, tmp_path, cache, answered):
    first = finish(begin(tmp_path / "a", learned))
    before = times(cache)
    assert len(before) == 3 and len(answered) == 3
    training = begin(tmp_path / "b", learned)
    assert not any("computing" in line for line in training.lines())
    second = finish(training)
    assert len(answered) == 3 and times(cache) == before
    assert comparable_state(first) == comparable_state(second)
    finish(begin(tmp_path / "c", learned, epochs=1, lr=0.1, batch=8, seed=9, smoothing=0.2))
    assert len(answered) == 3, "how the head is trained changes no feature"


def test_other_weights_form_or_pictures_are_answered_anew(learned, tmp_path, cache, answered):
    finish(begin(tmp_path / "a", learned))
    changed = dict(weights(learned))
    changed["features.0.bias"] = changed["features.0.bias"].clone()
    changed["features.0.bias"][0] += 1e-6
    safetensors.torch.save_file(changed, tmp_path / "other.safetensors")
    model = {"model": "lenet", "arguments": {"filters": [4, 6], "hidden": 16}}
    finish(begin(tmp_path / "b", tmp_path / "other.safetensors", **model))
    assert len(answered) == 6
    brighter = Split(BARS.train.images + 1, BARS.train.labels, BARS.train.sources)
    finish(begin(tmp_path / "c", learned, replace(BARS, train=brighter)))
    assert len(answered) == 7, "the training pictures, and only they, are others"
    fewer = [split.take(np.flatnonzero(split.labels < 3)) for split in BARS.splits.values()]
    finish(begin(tmp_path / "d", learned, ImageDataset("three", "made", "", BARS.classes[:3], *fewer)))
    assert len(answered) == 10
    assert len(times(cache)) == 10


@pytest.mark.parametrize(
    "other", [{"mean": [0.4]}, {"std": [0.2]}, {"size": [16, 17]}, {"resize": 20}, {"channels": 3}], ids=str
)
def test_what_features_are_named_by_sees_the_form_of_pictures(other):
    network = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8)
    facts = {"channels": 1, "size": [16, 16], "mean": [0.5], "std": [0.1], "classes": list("abcd")}
    known = features.cache_key(network, facts, Options())
    assert features.cache_key(network, facts | other, Options()) != known
    with torch.no_grad():
        network.head.weight += 1
    assert features.cache_key(network, facts | {"classes": ["x"], "counts": [3]}, Options(seed=4)) == known
    with torch.no_grad():
        network.features[0].weight[0, 0, 0, 0] += 1e-6
    assert features.cache_key(network, facts, Options()) != known


@pytest.mark.parametrize(
    ("model", "more"),
    [("lenet", {"activation": "tanh"}), ("inception_v3", {"transform_input": True})],
    ids=str,
)
def test_networks_of_the_same_weights_that_compute_otherwise_have_other_features(model, more):
    facts = {"channels": 3, "size": [75, 75], "mean": [0.5] * 3, "std": [0.1] * 3}
    usual, other = (
        registry.find_model(model)(in_channels=3, num_classes=4, image_size=75, **given).eval() for given in ({}, more)
    )
    other.load_state_dict(usual.state_dict())
    known = features.cache_key(usual, facts, Options())
    assert features.cache_key(other, facts, Options()) != known
    assert features.cache_key(usual.train(), facts, Options()) == known


def test_features_are_those_of_evaluation_even_where_nothing_is_made_quick(monkeypatch):
    monkeypatch.setattr(inference, "optimize_for_inference", lambda network, shape: network)
    task = Classify()
    facts, network = task.facts(BARS), nn.Sequential()
    network.features, network.head = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout()), nn.Linear(4, 4)
    cpu = torch.device("cpu")
    found = features.load_or_compute(task, network.train(), BARS, facts, Options(), cpu, lambda _: None)
    expected = features.extract(network, task.prepared(BARS.test.images, facts, cpu))
    torch.testing.assert_close(found.test, expected)
    assert torch.equal(network.features[1].running_mean, torch.zeros(4))


def test_features_are_those_of_any_number_of_classes():
    facts = {"channels": 1, "size": [16, 16], "mean": [0.5], "std": [0.1]}
    few, many = (registry.find_model("lenet")(in_channels=1, num_classes=classes, image_size=16) for classes in (4, 9))
    heads = {f"head.{name}": value for name, value in many.head.state_dict().items()}
    many.load_state_dict(few.state_dict() | heads)
    assert features.cache_key(few, facts, Options()) == features.cache_key(many, facts, Options())


def test_data_without_a_fingerprint_is_told_apart_by_its_pictures(learned, tmp_path, answered):
    nameless = replace(BARS, fingerprint="")
    inverted = [Split(255 - s.images, s.labels, s.sources) for s in BARS.splits.values()]
    finish(begin(tmp_path / "a", learned, nameless))
    one = finish(begin(tmp_path / "b", learned, ImageDataset("dark", "made", "", BARS.classes, *inverted)))
    assert len(answered) == 6
    assert_same_result(
        one, finish(begin(tmp_path / "c", learned, ImageDataset("d", "m", "", BARS.classes, *inverted), cache=False))
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "another shape", "another kind", "pickled", "a folder"])
def test_a_damaged_file_is_computed_anew_and_replaced(learned, tmp_path, cache, answered, damage):
    whole = finish(begin(tmp_path / "a", learned))
    for file in cache.glob("*.npy"):
        data = file.read_bytes()
        if damage == "a folder":
            file.unlink()
            (file / "inside").mkdir(parents=True)
            continue
        array = {
            "another shape": np.zeros((2, 3), np.float32),
            "another kind": np.load(file).astype(np.float64),
            "pickled": np.array([{}], object),
        }.get(damage)
        if array is not None:
            np.save(file, array, allow_pickle=True)
        else:
            file.write_bytes({"cut": data[:-4], "empty": b"", "noise": b"\x93NUMPY" + bytes(range(200))}[damage])
    again = finish(begin(tmp_path / "b", learned))
    assert len(answered) == 6 and comparable_state(again) == comparable_state(whole)
    finish(begin(tmp_path / "c", learned))
    assert len(answered) == (9 if damage == "a folder" else 6)


def test_a_folder_that_cannot_be_written_to_costs_the_cache_and_nothing_else(learned, tmp_path, cache, monkeypatch):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be", encoding="utf-8")
    one = finish(begin(tmp_path / "a", learned))
    cache.unlink()
    assert comparable_state(finish(begin(tmp_path / "b", learned))) == comparable_state(one)


def test_the_oldest_are_removed_beyond_the_limit(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(features, "MAX_BYTES", 3000)
    paths = [cache / f"{name}.npy" for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        features._store(path, torch.ones(1, 200))
        os.utime(path, (1000 + age, 1000 + age))
    assert features._load(paths[0], (1, 200)) is not None  # used now, so the youngest
    features._store(paths[3], torch.ones(1, 200))
    assert [path.exists() for path in paths] == [True, False, True, True]
    features._store(paths[1], torch.ones(1, 2000))
    assert [path.exists() for path in paths] == [False, True, False, False], "one that is too large is kept alone"
    assert sorted(p.name for p in cache.iterdir()) == ["b.npy"], "no drafts"


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_differ_and_are_drawn_among_in_every_epoch(learned, tmp_path, cache, answered):
    settings = {"augment": "shift=3", "cached_views": 3}
    training = begin(tmp_path / "a", learned, **settings)
    assert answered == [64, 64, 64, 16, 16]
    train = training.session.features.train
    assert train.shape == (3, 64, 16) and all((train[a] != train[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    stream, drawn = training.session.trainer.stream, []
    batches = iter(stream)
    for epoch in range(4):
        seen = torch.full((64,), -1)
        for step in range(stream.steps_per_epoch):
            rows, batch = stream.rows(epoch * stream.steps_per_epoch + step), next(batches)
            assert torch.equal(batch["label"], torch.from_numpy(BARS.train.labels[rows]))
            for row, feature in zip(rows, batch["features"], strict=True):
                seen[row] = next(view for view in range(3) if torch.equal(train[view, row], feature))
        drawn.append(seen)
    assert all(len(seen.unique()) == 3 for seen in drawn) and all((drawn[0] != seen).any() for seen in drawn[1:])
    training.session.folder.release()
    one, other = (finish(begin(tmp_path / name, learned, **settings)) for name in "bc")
    assert len(answered) == 5 and comparable_state(one) == comparable_state(other)
    finish(begin(tmp_path / "d", learned, **settings, seed=1))
    assert len(answered) == 10, "other views for another seed"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"freeze": True}, True),
        ({"freeze": True, "unfreeze": 0}, True),
        ({"freeze": True, "augment": ""}, True),
        ({"freeze": True, "augment": "flip", "cached_views": 2}, True),
        ({}, False),
        ({"freeze": True, "cache": False}, False),
        ({"freeze": True, "augment": "flip"}, False),
        ({"freeze": True, "unfreeze": 1}, False),
        ({"freeze": True, "gradual": 1.0}, False),
        ({"freeze": True, "views": "mirrored"}, False),
        ({"freeze": True, "views": "mirrored", "cached_views": 3, "augment": "flip"}, False),
    ],
    ids=str,
)
def test_features_are_used_only_where_training_sees_nothing_else(options, expected):
    assert features.can_cache_features(Options(**options)) is expected


# --- too little memory, and stops ------------------------------------------------------------------------------------


def test_where_memory_is_too_small_every_epoch_asks_the_network(learned, tmp_path, cache, answered, monkeypatch):
    cached = finish(begin(tmp_path / "a", learned))
    needed = 96 * 16 * 4
    monkeypatch.setattr(features, "get_free_memory", lambda: 2 * needed - 1)
    training = begin(tmp_path / "b", learned)
    assert training.session.features is None
    assert any("computed anew in every epoch" in line and "6.1 kB" in line for line in training.lines())
    assert_same_result(cached, finish(training))
    for enough in (2 * needed, None):
        monkeypatch.setattr(features, "get_free_memory", lambda enough=enough: enough)
        training = begin(tmp_path / f"c{enough}", learned)
        assert training.session.features is not None
        training.session.folder.release()


def stop_at(training: TrainingRun, step: int) -> Path:
    """Runs the training until a signal that comes within that update."""
    trainer = training.session.trainer
    honest = trainer.update

    def update(*arguments):
        if trainer.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(*arguments)

    trainer.update = update
    with pytest.raises(InterruptedTrainingError):
        finish(training)
    return training.path


@posix
@pytest.mark.parametrize("settings", [{}, {"augment": "shift", "cached_views": 2}], ids=["one view", "two views"])
@pytest.mark.parametrize("forgotten", [False, True], ids=["kept", "cache emptied"])
def test_a_run_that_is_stopped_goes_on_with_the_same_features(learned, tmp_path, cache, answered, settings, forgotten):
    """Which are those of the network that was begun from, and not of one whose checkpoint is still to be read."""
    whole = finish(begin(tmp_path / "whole", learned, **settings))
    count = len(answered)
    out = stop_at(begin(tmp_path / "a", learned, **settings), 6)
    assert len(answered) == count
    if forgotten:
        for file in cache.iterdir():
            file.unlink()
    finish(begin(out, resume=True))
    assert comparable_state(out) == comparable_state(whole)
    assert len(answered) == (2 * count if forgotten else count)
    finish(begin(out, resume=True, epochs="+1"))
    finish(begin(tmp_path / "whole", resume=True, epochs="+1"))
    assert comparable_state(out) == comparable_state(tmp_path / "whole")


def test_the_mode_of_a_network_is_left_as_it_was():
    network = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8)
    x_BCHW = Classify().prepared(BARS.test.images, {"mean": [0.5], "std": [0.2]}, torch.device("cpu"))
    for mode in (True, False):
        found = features.extract(network.train(mode), x_BCHW)
        assert network.training is mode and not found.requires_grad
        torch.testing.assert_close(found, network.features(x_BCHW))
