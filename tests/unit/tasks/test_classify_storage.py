"""A classifier learns the same from images on disk as from memory, cut and resumed with any number of threads."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.toy_tasks import TASKS, interrupt_after, read_weights
from thalweg import api
from thalweg.data.base import DataRequest
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.data.images.duplicates import leaked_rows
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.stored_images import StoredImages
from thalweg.errors import DataError, OptionError
from thalweg.tasks.base import Context
from thalweg.tasks.classify_batches import choose_storage, sample_images

SIZE = (16, 16)
COUNTS = {"train": 40, "val": 12, "test": 20}
OPTIONS = {"steps": 12, "batch_size": 8, "cpu_threads": 1, "seed": 5, "report": False, "model": "mlp"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def on_disk(tmp_path) -> ImageDataset:
    """Photos of two kinds, bright at the left or at the right, as files."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in COUNTS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        paths = [folder / f"{row}.png" for row in range(count)]
        labels = np.arange(count) % 2
        for path, label in zip(paths, labels.tolist(), strict=True):
            pixels = rng.integers(0, 120, (48, 64, 3), np.uint8)
            pixels[:, 32 * label : 32 * label + 32] += 100
            Image.fromarray(pixels).save(path)
        splits[name] = ImageSplit(store(paths), labels, list(map(str, paths)))
    return ImageDataset("photos", "image folder", "photos", splits, "f" * 64, "", classes=("left", "right"))


def store(paths: list[Path]) -> StoredImages:
    digests = [np.frombuffer(hashlib.sha256(path.read_bytes()).digest(), np.uint8) for path in paths]
    sizes = np.full((len(paths), 2), (48, 64), np.int32)
    return StoredImages(ImageFiles(paths), np.stack(digests), sizes, SIZE, 3)


def in_memory(dataset: ImageDataset) -> ImageDataset:
    splits = {name: replace(split, images=split.images[:]) for name, split in dataset.splits.items()}
    return replace(dataset, splits=splits)


def plan(dataset: ImageDataset, out: Path, **options: Any):
    return api.plan_training("classify", dataset, out=out, **{**OPTIONS, **options})


def train(dataset: ImageDataset, out: Path, **options: Any):
    run = plan(dataset, out, **options)
    warnings = [warning for progress in run for warning in progress.warnings]
    return run, warnings


def assert_same_weights(first: Path, second: Path) -> None:
    expected = read_weights(first)
    for name, values in read_weights(second).items():
        assert torch.equal(values, expected[name]), name


@pytest.mark.parametrize("options", [{"augment": "crop,flip"}, {"augment": "none"}, {"cache_images": True}])
def test_cut_and_resumed_with_other_threads_a_run_from_disk_has_equal_bits(on_disk, tmp_path, options):
    train(on_disk, tmp_path / "full", decode_threads=1, **options)
    cut = plan(on_disk, tmp_path / "cut", decode_threads=2, **options)
    assert cut.record.setup["storage"] == "disk"
    assert any("decoded from disk by 2 threads" in line for line in cut.describe())
    assert any("levels" in line for line in cut.describe()) == ("cache_images" in options)
    interrupt_after(cut, 7)
    resumed = api.plan_training("classify", on_disk, out=tmp_path / "cut", resume=True, decode_threads=4)
    assert any("decoded from disk by 4 threads" in line for line in resumed.describe())
    for _ in resumed:
        pass
    assert resumed.record.task_options["decode_threads"] == 4
    assert_same_weights(tmp_path / "full", tmp_path / "cut")


def test_an_option_that_changes_bits_cannot_change_when_a_run_is_resumed(on_disk, tmp_path):
    train(on_disk, tmp_path / "run", steps=2)
    with pytest.raises(OptionError) as error:
        plan(on_disk, tmp_path / "run", resume=True, steps=4, cache_images=True)
    assert error.value.option == "cache_images"


def test_memory_and_disk_train_and_score_the_same(on_disk, tmp_path):
    disk, _ = train(on_disk, tmp_path / "disk", augment="flip,shift", check_leakage=True)
    memory, _ = train(in_memory(on_disk), tmp_path / "memory", augment="flip,shift", check_leakage=True)
    assert memory.record.setup["storage"] == "memory"
    assert_same_weights(tmp_path / "disk", tmp_path / "memory")
    assert disk.record.results.test == memory.record.results.test
    assert disk.record.results.details == memory.record.results.details
    run = api.load(tmp_path / "disk")
    assert run.context.setup_record["storage"] == "disk"
    assert run.evaluate(on_disk, split="test")["metrics"] == run.evaluate(in_memory(on_disk), split="test")["metrics"]


def test_features_are_cached_by_the_content_of_the_files(on_disk, tmp_path):
    options = {"model": "lenet", "freeze": True, "steps": 3}
    train(on_disk, tmp_path / "disk", **options)
    train(in_memory(on_disk), tmp_path / "memory", **options)
    assert_same_weights(tmp_path / "disk", tmp_path / "memory")
    features = tmp_path / "cache" / "features"
    count = len(list(features.iterdir()))
    train(on_disk, tmp_path / "again", **options)
    assert len(list(features.iterdir())) == count
    path = on_disk.train.images.encoded.paths[0]
    Image.open(path).save(path, compress_level=1)  # other bytes, equal pixels
    changed = replace(on_disk.train, images=store(on_disk.train.images.encoded.paths))
    train(replace(on_disk, splits={**on_disk.splits, "train": changed}), tmp_path / "changed", **options)
    assert len(list(features.iterdir())) == count + 1


@pytest.mark.parametrize("strict", [False, True])
def test_files_that_vanish_while_training(on_disk, tmp_path, strict):
    run = plan(on_disk, tmp_path / "run", steps=20, augment="crop", strict=strict, report=True)
    progress = iter(run)
    warnings = list(next(progress).warnings)
    for name in ("train", "val", "test"):
        on_disk.splits[name].images.encoded.paths[3].unlink()
    if strict:
        with pytest.raises(DataError) as error:
            list(progress)
        assert Path(error.value.path).name == "3.png"
        return
    for step in progress:
        warnings += step.warnings
    text = "\n".join(warnings)
    train_file = str(on_disk.train.images.encoded.paths[3])
    assert text.count(train_file) == 1
    assert str(on_disk.val.images.encoded.paths[3]) in text and str(on_disk.test.images.encoded.paths[3]) in text
    assert run.record.results.test["examples"] == COUNTS["test"] - 1
    assert (tmp_path / "run" / "report.html").is_file()


def test_near_duplicates_are_found_among_files(on_disk, tmp_path):
    copy = tmp_path / "brighter.png"
    Image.open(on_disk.train.images.encoded.paths[7]).point(lambda level: min(255, level + 20)).save(copy)
    paths = [*on_disk.test.images.encoded.paths[:4], copy, on_disk.train.images.encoded.paths[2]]
    test = ImageSplit(store(paths), np.zeros(6, np.int64), list(map(str, paths)))
    assert leaked_rows(on_disk.train, test).tolist() == [4, 5]


def test_the_storage_of_a_run_is_used_for_its_own_data_only():
    options = TASKS["classify"].TrainOptions(storage="auto")
    recorded = Context(torch.device("cpu"), setup_record={"storage": "disk"})
    assert choose_storage(DataRequest("photos", for_training=True), options, recorded) == "disk"
    assert choose_storage(DataRequest("photos"), options, recorded) == "auto"
    forced = replace(options, storage="memory")
    assert choose_storage(DataRequest("photos", for_training=True), forced, Context(torch.device("cpu"))) == "memory"


def test_a_sample_of_stored_images_is_small_and_leaves_out_what_cannot_be_read(on_disk):
    images = on_disk.train.images
    assert np.array_equal(sample_images(images, 10), images[::4])
    assert np.array_equal(sample_images(images[:], 10), images[::4])
    images.encoded.paths[4].unlink()
    assert len(sample_images(images, 10)) == 9


def test_a_set_in_memory_is_not_stored_elsewhere(on_disk, tmp_path):
    with pytest.raises(OptionError) as error:
        plan(in_memory(on_disk), tmp_path / "run", storage="disk")
    assert error.value.option == "storage"
