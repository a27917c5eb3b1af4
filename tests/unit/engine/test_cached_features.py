"""Cached features: training with them equals training without, and the cache is used only where it is valid."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.helpers.run_dirs import comparable_state, read_run_json
from tests.helpers.toy_runs import break_at, finish, load_weights, parts_of, release, stop_at
from thalweg import api, registry
from thalweg.config.options import TrainOptions, parse_train_options, split_options
from thalweg.config.parsing import parse_options
from thalweg.data.images.dataset import ImageDataset
from thalweg.data.images.synthetic import make_bars
from thalweg.engine import cached_features
from thalweg.engine.cached_features import FeatureRequest
from thalweg.errors import OptionError, ResourceError
from thalweg.tasks.base import Context
from thalweg.tasks.classify import Classify, ClassifyOptions
from thalweg.tasks.classify_support import cached_features as cached_features_of
from thalweg.tasks.classify_support import can_cache_features
from thalweg.training.run import TrainingRun

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
    extract_all = cached_features._extract_all

    def record_size(extractor, images, augment, request):
        sizes.append(len(images))
        return extract_all(extractor, images, augment, request)

    monkeypatch.setattr(cached_features, "_extract_all", record_size)
    return sizes


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """Return the run of a LeNet that gives the initial weights."""
    settings = {"model": "lenet", "model_kwargs": {"filters": [4, 6], "hidden": 16}, "epochs": 15, "batch_size": 16}
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return api.train("classify", BARS, out=out, report=False, **settings).path


def plan(out: Path, weights: Path | None = None, data: ImageDataset = BARS, **options) -> TrainingRun:
    defaults = {}
    if not options.get("resume"):
        defaults = {"freeze": True, "epochs": 3, "batch_size": 16, "weights": str(weights)}
    return api.plan_training("classify", data, out=out, report=False, **{**defaults, **options})


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
    plain = finish(plan(tmp_path / "plain", pretrained, cache_features=False))
    assert len(extracted) == 3
    assert_same_result(cached, plain)
    before = load_weights(pretrained)
    after = load_weights(cached)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_run_on_cached_features_does_not_resume_without_them(pretrained, tmp_path, monkeypatch):
    training = plan(tmp_path / "a", pretrained, epochs=3, checkpoint_every=0)
    break_at(training, 5)
    monkeypatch.setattr(cached_features, "get_free_memory", lambda: 1000)
    with pytest.raises(ResourceError):
        plan(tmp_path / "a", resume=True)
    monkeypatch.undo()
    resumed = finish(plan(tmp_path / "a", resume=True))
    assert_same_result(resumed, finish(plan(tmp_path / "b", pretrained, epochs=3)))


@pytest.mark.parametrize(
    "settings",
    [
        {"balance_classes": True, "label_smoothing": 0.1, "optimizer": "sgd", "lr": 0.05},
        {"loss": "squared-error", "ema_decay": 0.9},
        {"patience": 1, "grad_accum": 2},
    ],
    ids=str,
)
def test_every_setting_of_the_head_works_with_features(pretrained, tmp_path, extracted, settings):
    cached = finish(plan(tmp_path / "cached", pretrained, **settings))
    plain = finish(plan(tmp_path / "plain", pretrained, cache_features=False, **settings))
    assert len(extracted) == 3
    assert_same_result(cached, plain)


@pytest.mark.parametrize(
    ("model", "kwargs"), [("resnet18", {"stem": "small"}), ("mobilenet_v3_small", {}), ("squeezenet1_1", {})]
)
def test_models_with_batch_statistics_and_dropout_train_equally_on_features(tmp_path, extracted, model, kwargs):
    """Batch statistics of the file do not change; dropout in the head uses the same random numbers."""
    data = make_bars(count=24, size=32)
    torch.manual_seed(3)
    state = registry.find_model(model)(in_channels=1, num_classes=7, image_size=32, **kwargs).state_dict()
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, file)
    settings = {
        "model": model,
        "model_kwargs": kwargs,
        "steps": 3,
        "batch_size": 8,
        "epochs": None,
        "precision": "float32",
    }
    runs = [
        finish(plan(tmp_path / f"{cache}", file, data, cache_features=cache, **settings)) for cache in (True, False)
    ]
    assert extracted == [16, 4, 4]
    assert_same_result(*runs)
    after = load_weights(runs[0])
    new = read_run_json(runs[0])["initial_weights"]["reset"]
    assert len(new) == 2 and all(len(after[name]) == 4 for name in new)
    changed = {name for name in state if name not in new and not torch.equal(after[name], state[name])}
    assert not changed, "including batch statistics"


# --- the cache ------------------------------------------------------------------------------------------------------


def test_features_are_used_again(pretrained, tmp_path, cache, extracted):
    first = finish(plan(tmp_path / "a", pretrained))
    before = list_inodes(cache)
    assert len(before) == 3 and len(extracted) == 3
    second = finish(plan(tmp_path / "b", pretrained))
    assert len(extracted) == 3 and list_inodes(cache) == before
    assert comparable_state(first) == comparable_state(second)
    finish(plan(tmp_path / "c", pretrained, epochs=1, lr=0.1, batch_size=8, seed=9, label_smoothing=0.2))
    assert len(extracted) == 3, "the settings of the head change no feature"


def test_other_weights_or_images_compute_new_features(pretrained, tmp_path, cache, extracted):
    finish(plan(tmp_path / "a", pretrained))
    changed = dict(load_weights(pretrained))
    changed["features.0.bias"] = changed["features.0.bias"].clone()
    changed["features.0.bias"][0] += 1e-6
    safetensors.torch.save_file(changed, tmp_path / "other.safetensors")
    model = {"model": "lenet", "model_kwargs": {"filters": [4, 6], "hidden": 16}}
    finish(plan(tmp_path / "b", tmp_path / "other.safetensors", **model))
    assert len(extracted) == 6
    brighter = replace(BARS.train, images=BARS.train.images + 1)
    finish(plan(tmp_path / "c", pretrained, replace(BARS, splits={**BARS.splits, "train": brighter})))
    assert len(extracted) == 7, "only the training images differ"
    fewer = {name: split.take(np.flatnonzero(split.labels < 3)) for name, split in BARS.splits.items()}
    finish(plan(tmp_path / "d", pretrained, replace(BARS, classes=BARS.classes[:3], splits=fewer)))
    assert len(extracted) == 10
    assert len(list_inodes(cache)) == 10


def test_the_cache_key_depends_on_weights_and_settings_but_not_on_the_head():
    model = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8)
    key = cached_features.cache_key(model, [{"mean": [0.5]}])
    assert cached_features.cache_key(model, [{"mean": [0.4]}]) != key
    with torch.no_grad():
        model.head.weight += 1
    assert cached_features.cache_key(model, [{"mean": [0.5]}]) == key
    with torch.no_grad():
        model.features[0].weight[0, 0, 0, 0] += 1e-6
    assert cached_features.cache_key(model, [{"mean": [0.5]}]) != key


@pytest.mark.parametrize(
    ("name", "kwargs"), [("lenet", {"activation": "tanh"}), ("inception_v3", {"transform_input": True})], ids=str
)
def test_the_cache_key_depends_on_the_settings_of_layers(name, kwargs):
    default = registry.find_model(name)(in_channels=3, num_classes=4, image_size=75).eval()
    other = registry.find_model(name)(in_channels=3, num_classes=4, image_size=75, **kwargs).eval()
    other.load_state_dict(default.state_dict())
    key = cached_features.cache_key(default, [])
    assert cached_features.cache_key(other, []) != key
    assert cached_features.cache_key(default.train(), []) == key


@pytest.mark.parametrize("other", [{"mean": [0.4]}, {"std": [0.2]}], ids=str)
def test_other_preprocessing_computes_new_features(pretrained, extracted, other):
    """Two images that the models read differently must not share features."""
    model = api.load(pretrained).model
    spec = api.load(pretrained).spec
    context = Context(torch.device("cpu"), options=TrainOptions(freeze=True))
    for chosen in (spec, replace(spec, **other), spec):
        assert cached_features_of(model, BARS, chosen, ClassifyOptions(augment="none"), context) is not None
    assert len(extracted) == 6


def test_features_are_those_of_evaluation_mode_even_without_fusion(monkeypatch):
    monkeypatch.setattr(cached_features, "optimize_for_inference", lambda model, shape: model)
    task = Classify()
    spec = task.data_spec(BARS, ClassifyOptions())
    model = nn.Sequential()
    model.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model.head = nn.Linear(4, 4)
    images = {name: split.images for name, split in BARS.splits.items()}
    request = FeatureRequest(images, to_input=lambda images: task.to_input(images, spec))
    cached = cached_features.load_or_compute(model.train(), request)
    expected = cached_features.extract(model, task.to_input(BARS.test.images, spec))
    assert cached is not None
    torch.testing.assert_close(cached["test"][0], expected)
    assert torch.equal(model.features[1].running_mean, torch.zeros(4))


def test_the_cache_key_does_not_depend_on_the_number_of_classes():
    few, many = (registry.find_model("lenet")(in_channels=1, num_classes=count, image_size=16) for count in (4, 9))
    heads = {f"head.{name}": value for name, value in many.head.state_dict().items()}
    many.load_state_dict(few.state_dict() | heads)
    assert cached_features.cache_key(few, []) == cached_features.cache_key(many, [])


def test_images_are_told_apart_by_their_content(pretrained, tmp_path, extracted):
    nameless = replace(BARS, fingerprint="")
    splits = {name: replace(split, images=255 - split.images) for name, split in BARS.splits.items()}
    inverted = replace(nameless, splits=splits)
    finish(plan(tmp_path / "a", pretrained, nameless))
    cached = finish(plan(tmp_path / "b", pretrained, inverted))
    assert len(extracted) == 6
    assert_same_result(cached, finish(plan(tmp_path / "c", pretrained, inverted, cache_features=False)))


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
    monkeypatch.setattr(cached_features, "MAX_BYTES", 3000)
    paths = [cache / f"{name}.npy" for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        cached_features._store(path, torch.ones(1, 200))
        os.utime(path, (1000 + age, 1000 + age))
    assert cached_features._load(paths[0], (1, 200)) is not None  # now the most recently used
    cached_features._store(paths[3], torch.ones(1, 200))
    assert [path.exists() for path in paths] == [True, False, True, True]
    cached_features._store(paths[1], torch.ones(1, 2000))
    assert [path.exists() for path in paths] == [False, True, False, False], "a file beyond the limit remains alone"
    assert sorted(p.name for p in cache.iterdir()) == ["b.npy"], "no drafts"


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_differ_and_are_sampled_in_every_epoch(pretrained, tmp_path, cache, extracted):
    settings = {"augment": "shift=3", "feature_views": 3}
    training = plan(tmp_path / "a", pretrained, **settings)
    assert extracted == [64, 64, 64, 16, 16]
    train = parts_of(training).setup.batches.features
    assert train.shape == (3, 64, 16) and all((train[a] != train[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    stream = parts_of(training).trainer.batches
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
    release(training)
    one, other = (finish(plan(tmp_path / name, pretrained, **settings)) for name in "bc")
    assert len(extracted) == 5 and comparable_state(one) == comparable_state(other)
    finish(plan(tmp_path / "d", pretrained, **settings, seed=1))
    assert len(extracted) == 10, "another seed gives other views"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"freeze": True}, True),
        ({"freeze": True, "unfreeze_groups": 0}, True),
        ({"freeze": True, "augment": ""}, True),
        ({"freeze": True, "augment": "flip", "feature_views": 2}, True),
        ({}, False),
        ({"freeze": True, "cache_features": False}, False),
        ({"freeze": True, "augment": "flip"}, False),
        ({"freeze": True, "unfreeze_groups": 1}, False),
        ({"freeze": True, "unfreeze_every": 1.0}, False),
        ({"freeze": True, "tta": "flip"}, False),
        ({"freeze": True, "tta": "flip", "feature_views": 3, "augment": "flip"}, False),
    ],
    ids=str,
)
def test_features_are_cached_only_if_training_needs_nothing_else(options, expected):
    common, own = split_options(options, ClassifyOptions)
    assert can_cache_features(parse_options(own, ClassifyOptions), parse_train_options(common)) is expected


@pytest.mark.parametrize("options", [{"freeze": True}, {"augment": "flip"}], ids=str)
def test_views_need_a_frozen_backbone_and_augmentation(pretrained, tmp_path, options):
    with pytest.raises(OptionError) as error:
        api.plan_training("classify", BARS, out=tmp_path / "a", weights=str(pretrained), feature_views=2, **options)
    assert (error.value.option, error.value.value) == ("feature_views", 2)


def test_photo_sets_are_not_augmented_by_default_where_features_are_cached(tmp_path, extracted):
    """Else the features of a small photo set could not be cached, and fine-tuning it would take many times as long."""
    random = np.random.default_rng(0)
    splits = {}
    for name, split in BARS.splits.items():
        images = random.integers(0, 255, (len(split), 32, 32, 3), np.uint8)
        splits[name] = replace(split, images=images)
    photos = replace(BARS, splits=splits, sizes={(32, 32): 96})
    settings = {"model": "lenet", "freeze": True, "epochs": 1, "report": False, "batch_size": 16}
    finish(api.plan_training("classify", photos, out=tmp_path / "a", **settings))
    assert extracted == [64, 16, 16]


# --- memory and interruption -----------------------------------------------------------------------------------------


def test_too_little_memory_computes_features_in_every_epoch(pretrained, tmp_path, cache, extracted, monkeypatch):
    cached = finish(plan(tmp_path / "a", pretrained))
    needed = 96 * 16 * 4
    monkeypatch.setattr(cached_features, "get_free_memory", lambda: 2 * needed - 1)
    training = plan(tmp_path / "b", pretrained)
    assert parts_of(training).setup.validate is None
    assert_same_result(cached, finish(training))
    for enough in (2 * needed, None):
        monkeypatch.setattr(cached_features, "get_free_memory", lambda enough=enough: enough)
        training = plan(tmp_path / f"c{enough}", pretrained)
        assert parts_of(training).setup.validate is not None
        release(training)


@posix
@pytest.mark.parametrize("settings", [{}, {"augment": "shift", "feature_views": 2}], ids=["one view", "two views"])
@pytest.mark.parametrize("clear_cache", [False, True], ids=["cached", "cleared"])
def test_an_interrupted_run_resumes_with_the_same_features(
    pretrained, tmp_path, cache, extracted, settings, clear_cache
):
    """They are computed with the weights of the checkpoint, not with those of a new model."""
    full = finish(plan(tmp_path / "full", pretrained, **settings))
    count = len(extracted)
    out = tmp_path / "a"
    stop_at(plan(out, pretrained, **settings), 6)
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
    model = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8)
    x_BCHW = Classify().to_input(BARS.test.images, Classify().data_spec(BARS, ClassifyOptions()))
    for mode in (True, False):
        extracted_features = cached_features.extract(model.train(mode), x_BCHW)
        assert model.training is mode and not extracted_features.requires_grad
        torch.testing.assert_close(extracted_features, model.features(x_BCHW))
