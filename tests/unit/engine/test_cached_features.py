"""Cached features: training with them equals training without, and the cache is used only where it is valid."""

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
from thalweg.engine import feature_cache
from thalweg.errors import InterruptedTrainingError, ResourceError
from thalweg.layers import fuse
from thalweg.tasks.classify import Classify
from thalweg.training.build import TrainingRun

BARS = make_bars(count=96)
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Use an empty cache; return its folder of features."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def extracted(monkeypatch) -> list[int]:
    """Return the sizes of the splits whose features are computed."""
    sizes: list[int] = []
    extract_split = feature_cache._extract_split

    def record_size(extractor, split, augment):
        sizes.append(len(split))
        return extract_split(extractor, split, augment)

    monkeypatch.setattr(feature_cache, "_extract_split", record_size)
    return sizes


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """Return the run of a LeNet that gives the initial weights."""
    settings = {"model": "lenet", "arguments": {"filters": [4, 6], "hidden": 16}, "epochs": 15, "batch": 16}
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return api.train("classify", BARS, out=out, report=False, **settings).path


def plan(out: Path, weights: Path | None = None, data: ImageDataset = BARS, **options) -> TrainingRun:
    defaults = {}
    if not options.get("resume"):
        defaults = {"freeze": True, "epochs": 3, "batch": 16, "weights": str(weights)}
    return api.plan_training("classify", data, out=out, report=False, **{**defaults, **options})


def finish(training: TrainingRun) -> Path:
    for _ in training:
        pass
    return training.path


def load_weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


def list_inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in sorted(folder.glob("*"))}


def assert_same_result(a: Path, b: Path) -> None:
    weights_a = load_weights(a)
    weights_b = load_weights(b)
    assert weights_a.keys() == weights_b.keys()
    for name in weights_a:
        torch.testing.assert_close(weights_a[name], weights_b[name], atol=1e-4, rtol=1e-4)
    scores = [read_run_json(run)["results"]["test"] for run in (a, b)]
    assert scores[0]["accuracy"] == scores[1]["accuracy"]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], abs=1e-4)


# --- the same result -------------------------------------------------------------------------------------------------


def test_training_on_cached_features_equals_training_on_images(pretrained, tmp_path, extracted):
    cached = finish(plan(tmp_path / "cached", pretrained))
    assert extracted == [64, 16, 16]
    plain = finish(plan(tmp_path / "plain", pretrained, cache=False))
    assert len(extracted) == 3
    assert_same_result(cached, plain)
    before = load_weights(pretrained)
    after = load_weights(cached)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_run_on_cached_features_does_not_resume_without_them(pretrained, tmp_path, monkeypatch):
    training = plan(tmp_path / "a", pretrained, epochs=3, save_every=0)
    for progress in training:
        if progress.step >= 5:
            break
    monkeypatch.setattr(feature_cache, "get_free_memory", lambda: 1000)
    with pytest.raises(ResourceError):
        plan(tmp_path / "a", resume=True)
    monkeypatch.undo()
    resumed = finish(plan(tmp_path / "a", resume=True))
    assert_same_result(resumed, finish(plan(tmp_path / "b", pretrained, epochs=3)))


@pytest.mark.parametrize(
    "settings",
    [
        {"balance": True, "smoothing": 0.1, "optimizer": "sgd", "lr": 0.05},
        {"loss": "squared-error", "ema": 0.9},
        {"patience": 1, "accumulate": 2},
    ],
    ids=str,
)
def test_every_setting_of_the_head_works_with_features(pretrained, tmp_path, extracted, settings):
    cached = finish(plan(tmp_path / "cached", pretrained, **settings))
    plain = finish(plan(tmp_path / "plain", pretrained, cache=False, **settings))
    assert len(extracted) == 3
    assert_same_result(cached, plain)


@pytest.mark.parametrize(
    ("model", "arguments"), [("resnet18", {"stem": "small"}), ("mobilenet_v3_small", {}), ("squeezenet1_1", {})]
)
def test_models_with_batch_statistics_and_dropout_train_equally_on_features(tmp_path, extracted, model, arguments):
    """Batch statistics of the file do not change; dropout in the head uses the same random numbers."""
    data = make_bars(count=24, size=32)
    torch.manual_seed(3)
    state = registry.find_model(model)(channels=1, classes=7, size=32, **arguments).state_dict()
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, file)
    settings = {"model": model, "arguments": arguments, "steps": 3, "batch": 8, "epochs": None, "precision": "float32"}
    runs = [finish(plan(tmp_path / f"{cache}", file, data, cache=cache, **settings)) for cache in (True, False)]
    assert extracted == [16, 4, 4]
    assert_same_result(*runs)
    after = load_weights(runs[0])
    new = read_run_json(runs[0])["start"]["new"]
    assert len(new) == 2 and all(len(after[name]) == 4 for name in new)
    changed = {name for name in state if name not in new and not torch.equal(after[name], state[name])}
    assert not changed, "including batch statistics"


# --- the cache ------------------------------------------------------------------------------------------------------


def test_features_are_used_again(pretrained, tmp_path, cache, extracted):
    first = finish(plan(tmp_path / "a", pretrained))
    before = list_inodes(cache)
    assert len(before) == 3 and len(extracted) == 3
    training = plan(tmp_path / "b", pretrained)
    assert not any("computing" in line for line in training.lines())
    second = finish(training)
    assert len(extracted) == 3 and list_inodes(cache) == before
    assert comparable_state(first) == comparable_state(second)
    finish(plan(tmp_path / "c", pretrained, epochs=1, lr=0.1, batch=8, seed=9, smoothing=0.2))
    assert len(extracted) == 3, "the settings of the head change no feature"


def test_other_weights_or_images_compute_new_features(pretrained, tmp_path, cache, extracted):
    finish(plan(tmp_path / "a", pretrained))
    changed = dict(load_weights(pretrained))
    changed["features.0.bias"] = changed["features.0.bias"].clone()
    changed["features.0.bias"][0] += 1e-6
    safetensors.torch.save_file(changed, tmp_path / "other.safetensors")
    model = {"model": "lenet", "arguments": {"filters": [4, 6], "hidden": 16}}
    finish(plan(tmp_path / "b", tmp_path / "other.safetensors", **model))
    assert len(extracted) == 6
    brighter = Split(BARS.train.images + 1, BARS.train.labels, BARS.train.sources)
    finish(plan(tmp_path / "c", pretrained, replace(BARS, train=brighter)))
    assert len(extracted) == 7, "only the training images differ"
    fewer = [split.take(np.flatnonzero(split.labels < 3)) for split in BARS.splits.values()]
    finish(plan(tmp_path / "d", pretrained, ImageDataset("three", "made", "", BARS.classes[:3], *fewer)))
    assert len(extracted) == 10
    assert len(list_inodes(cache)) == 10


@pytest.mark.parametrize(
    "other", [{"mean": [0.4]}, {"std": [0.2]}, {"size": [16, 17]}, {"resize": 20}, {"channels": 3}], ids=str
)
def test_the_cache_key_depends_on_preprocessing_and_weights_without_the_head(other):
    model = registry.find_model("lenet")(channels=1, classes=4, size=16, hidden=8)
    facts = {"channels": 1, "size": [16, 16], "mean": [0.5], "std": [0.1], "classes": list("abcd")}
    key = feature_cache.cache_key(model, facts, Options())
    assert feature_cache.cache_key(model, facts | other, Options()) != key
    with torch.no_grad():
        model.head.weight += 1
    assert feature_cache.cache_key(model, facts | {"classes": ["x"], "counts": [3]}, Options(seed=4)) == key
    with torch.no_grad():
        model.features[0].weight[0, 0, 0, 0] += 1e-6
    assert feature_cache.cache_key(model, facts, Options()) != key


@pytest.mark.parametrize(
    ("name", "settings"),
    [("lenet", {"activation": "tanh"}), ("inception_v3", {"transform_input": True})],
    ids=str,
)
def test_the_cache_key_depends_on_the_settings_of_layers(name, settings):
    facts = {"channels": 3, "size": [75, 75], "mean": [0.5] * 3, "std": [0.1] * 3}
    default = registry.find_model(name)(channels=3, classes=4, size=75).eval()
    other = registry.find_model(name)(channels=3, classes=4, size=75, **settings).eval()
    other.load_state_dict(default.state_dict())
    key = feature_cache.cache_key(default, facts, Options())
    assert feature_cache.cache_key(other, facts, Options()) != key
    assert feature_cache.cache_key(default.train(), facts, Options()) == key


def test_features_are_those_of_evaluation_mode_even_without_fusion(monkeypatch):
    monkeypatch.setattr(fuse, "optimize_for_inference", lambda model, shape: model)
    task = Classify()
    facts = task.facts(BARS)
    model = nn.Sequential()
    model.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model.head = nn.Linear(4, 4)
    cpu = torch.device("cpu")
    cached = feature_cache.load_or_compute(task, model.train(), BARS, facts, Options(), lambda _: None)
    expected = feature_cache.extract(model, task.prepared(BARS.test.images, facts, cpu))
    torch.testing.assert_close(cached.test, expected)
    assert torch.equal(model.features[1].running_mean, torch.zeros(4))


def test_the_cache_key_does_not_depend_on_the_number_of_classes():
    facts = {"channels": 1, "size": [16, 16], "mean": [0.5], "std": [0.1]}
    few, many = (registry.find_model("lenet")(channels=1, classes=classes, size=16) for classes in (4, 9))
    heads = {f"head.{name}": value for name, value in many.head.state_dict().items()}
    many.load_state_dict(few.state_dict() | heads)
    assert feature_cache.cache_key(few, facts, Options()) == feature_cache.cache_key(many, facts, Options())


def test_data_without_a_fingerprint_is_identified_by_its_images(pretrained, tmp_path, extracted):
    nameless = replace(BARS, fingerprint="")
    inverted = [Split(255 - s.images, s.labels, s.sources) for s in BARS.splits.values()]
    finish(plan(tmp_path / "a", pretrained, nameless))
    one = finish(plan(tmp_path / "b", pretrained, ImageDataset("dark", "made", "", BARS.classes, *inverted)))
    assert len(extracted) == 6
    assert_same_result(
        one, finish(plan(tmp_path / "c", pretrained, ImageDataset("d", "m", "", BARS.classes, *inverted), cache=False))
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "shape", "dtype", "pickle", "folder"])
def test_a_damaged_file_is_computed_again_and_replaced(pretrained, tmp_path, cache, extracted, damage):
    expected = finish(plan(tmp_path / "a", pretrained))
    for file in cache.glob("*.npy"):
        data = file.read_bytes()
        if damage == "folder":
            file.unlink()
            (file / "inside").mkdir(parents=True)
            continue
        array = {
            "shape": np.zeros((2, 3), np.float32),
            "dtype": np.load(file).astype(np.float64),
            "pickle": np.array([{}], object),
        }.get(damage)
        if array is not None:
            np.save(file, array, allow_pickle=True)
        else:
            file.write_bytes({"cut": data[:-4], "empty": b"", "noise": b"\x93NUMPY" + bytes(range(200))}[damage])
    second = finish(plan(tmp_path / "b", pretrained))
    assert len(extracted) == 6 and comparable_state(second) == comparable_state(expected)
    finish(plan(tmp_path / "c", pretrained))
    assert len(extracted) == (9 if damage == "folder" else 6)


def test_an_unwritable_cache_changes_no_result(pretrained, tmp_path, cache):
    cache.parent.mkdir()
    cache.write_text("a file in the place of the folder", encoding="utf-8")
    uncached = finish(plan(tmp_path / "a", pretrained))
    cache.unlink()
    assert comparable_state(finish(plan(tmp_path / "b", pretrained))) == comparable_state(uncached)


def test_the_oldest_files_are_removed_beyond_the_limit(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(feature_cache, "MAX_BYTES", 3000)
    paths = [cache / f"{name}.npy" for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        feature_cache._store(path, torch.ones(1, 200))
        os.utime(path, (1000 + age, 1000 + age))
    assert feature_cache._load(paths[0], (1, 200)) is not None  # now the most recently used
    feature_cache._store(paths[3], torch.ones(1, 200))
    assert [path.exists() for path in paths] == [True, False, True, True]
    feature_cache._store(paths[1], torch.ones(1, 2000))
    assert [path.exists() for path in paths] == [False, True, False, False], "a file beyond the limit remains alone"
    assert sorted(p.name for p in cache.iterdir()) == ["b.npy"], "no drafts"


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_differ_and_are_sampled_in_every_epoch(pretrained, tmp_path, cache, extracted):
    settings = {"augment": "shift=3", "cached_views": 3}
    training = plan(tmp_path / "a", pretrained, **settings)
    assert extracted == [64, 64, 64, 16, 16]
    train = training.session.features.train
    assert train.shape == (3, 64, 16) and all((train[a] != train[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    stream = training.session.trainer.batches
    views_by_epoch = []
    batches = iter(stream)
    for epoch in range(4):
        view_of_image = torch.full((64,), -1)
        for step in range(stream.steps_per_epoch):
            rows = stream.batch_indices(epoch * stream.steps_per_epoch + step)
            batch = next(batches)
            assert torch.equal(batch["label"], torch.from_numpy(BARS.train.labels[rows]))
            for row, feature in zip(rows, batch["features"], strict=True):
                view_of_image[row] = next(view for view in range(3) if torch.equal(train[view, row], feature))
        views_by_epoch.append(view_of_image)
    assert all(len(views.unique()) == 3 for views in views_by_epoch)
    assert all((views_by_epoch[0] != views).any() for views in views_by_epoch[1:])
    training.session.folder.release()
    one, other = (finish(plan(tmp_path / name, pretrained, **settings)) for name in "bc")
    assert len(extracted) == 5 and comparable_state(one) == comparable_state(other)
    finish(plan(tmp_path / "d", pretrained, **settings, seed=1))
    assert len(extracted) == 10, "another seed gives other views"


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
def test_features_are_cached_only_if_training_needs_nothing_else(options, expected):
    assert feature_cache.can_cache_features(Options(**options)) is expected


# --- memory and interruption -----------------------------------------------------------------------------------------


def test_too_little_memory_computes_features_in_every_epoch(pretrained, tmp_path, cache, extracted, monkeypatch):
    cached = finish(plan(tmp_path / "a", pretrained))
    needed = 96 * 16 * 4
    monkeypatch.setattr(feature_cache, "get_free_memory", lambda: 2 * needed - 1)
    training = plan(tmp_path / "b", pretrained)
    assert training.session.features is None
    assert any("6.1 kB" in line for line in training.lines())
    assert_same_result(cached, finish(training))
    for enough in (2 * needed, None):
        monkeypatch.setattr(feature_cache, "get_free_memory", lambda enough=enough: enough)
        training = plan(tmp_path / f"c{enough}", pretrained)
        assert training.session.features is not None
        training.session.folder.release()


def stop_at(training: TrainingRun, step: int) -> Path:
    """Run the training until a signal that arrives within a step."""
    trainer = training.session.trainer
    run_phase = trainer.run_phase

    def interrupt(phase, batches):
        if trainer.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return run_phase(phase, batches)

    trainer.run_phase = interrupt
    with pytest.raises(InterruptedTrainingError):
        finish(training)
    return training.path


@posix
@pytest.mark.parametrize("settings", [{}, {"augment": "shift", "cached_views": 2}], ids=["one view", "two views"])
@pytest.mark.parametrize("clear_cache", [False, True], ids=["cached", "cleared"])
def test_an_interrupted_run_resumes_with_the_same_features(
    pretrained, tmp_path, cache, extracted, settings, clear_cache
):
    """They are computed with the weights of the checkpoint, not with those of a new model."""
    full = finish(plan(tmp_path / "full", pretrained, **settings))
    count = len(extracted)
    out = stop_at(plan(tmp_path / "a", pretrained, **settings), 6)
    assert len(extracted) == count
    if clear_cache:
        for file in cache.iterdir():
            file.unlink()
    finish(plan(out, resume=True))
    assert comparable_state(out) == comparable_state(full)
    assert len(extracted) == (2 * count if clear_cache else count)
    finish(plan(out, resume=True, epochs="+1"))
    finish(plan(tmp_path / "full", resume=True, epochs="+1"))
    assert comparable_state(out) == comparable_state(tmp_path / "full")


def test_extracting_features_does_not_change_the_mode():
    model = registry.find_model("lenet")(channels=1, classes=4, size=16, hidden=8)
    x_BCHW = Classify().prepared(BARS.test.images, {"mean": [0.5], "std": [0.2]}, torch.device("cpu"))
    for mode in (True, False):
        extracted_features = feature_cache.extract(model.train(mode), x_BCHW)
        assert model.training is mode and not extracted_features.requires_grad
        torch.testing.assert_close(extracted_features, model.features(x_BCHW))
