"""Named datasets are found on this machine, verified by checksum, and reported with their folder when offline."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.unit.data.images import corpus
from thalweg.data.images import named_datasets as named
from thalweg.data.images.catalog import NAMED_DATASETS, NamedDataset, RemoteFile
from thalweg.data.images.named_datasets import ensure_downloaded, find_local, list_named_images
from thalweg.errors import DataError, NotFoundError, ResourceError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty THALWEG_DATA and an empty cache."""
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    return tmp_path


def as_file(name: str, content: bytes) -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())


def small_mnist() -> tuple[NamedDataset, dict[str, bytes]]:
    """A dataset in the format of MNIST with 40 + 10 images."""
    numbers = np.random.default_rng(0)
    contents = {}
    for stem, count in (("train", 40), ("t10k", 10)):
        images = numbers.integers(0, 256, (count, 28, 28), np.uint8)
        contents[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(corpus.idx(images))
        contents[f"{stem}-labels-idx1-ubyte.gz"] = gzip.compress(corpus.idx(np.arange(count) % 10))
    files = tuple(as_file(n, c) for n, c in contents.items())
    dataset = NamedDataset(
        "small",
        "x",
        "x",
        tuple("0123456789"),
        "x",
        files,
        "http://localhost/",
        folders=("small", "SMALL/raw"),
        is_handwriting=True,
    )
    return dataset, contents


def put(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_digits_are_those_of_scikit_learn(places):
    data = corpus.load("digits")
    images, labels = load_digits(return_X_y=True)
    expected = np.round(images.reshape(-1, 8, 8, 1) / 16 * 255).astype(np.uint8)
    for split in data.splits.values():
        rows = [int(s[len("digits[") : -1]) for s in split.sources]
        assert np.array_equal(split.images, expected[rows]) and np.array_equal(split.labels, labels[rows])
    assert sum(len(s) for s in data.splits.values()) == 1797
    assert (
        data.is_handwriting
        and data.name == "digits"
        and data.classes == tuple("0123456789")
        and data.shape == (8, 8, 1)
    )
    assert ensure_downloaded("digits") is None


def test_a_folder_with_the_name_of_a_dataset_is_reported_and_can_be_read(places, monkeypatch):
    monkeypatch.chdir(places)
    corpus.folder(places / "digits", {"a": 3, "b": 3})
    notices = []
    assert len(corpus.load("digits", log=notices.append).classes) == 10
    assert len(notices) == 1 and f".{os.sep}digits" in notices[0]
    assert corpus.load(f".{os.sep}digits").classes == ("a", "b")


def test_digits_without_scikit_learn_name_the_package(monkeypatch):
    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="scikit-learn") as error:
        named.read_digits()
    assert error.value.cure == "pip install scikit-learn"


@pytest.mark.parametrize("folder", ["data/small", "data/SMALL/raw", "cache/data/small"])
def test_a_dataset_is_found_in_every_folder(places, monkeypatch, folder):
    dataset, contents = small_mnist()
    monkeypatch.setitem(NAMED_DATASETS, "small", dataset)
    assert find_local(dataset) is None
    put(places / folder, contents)
    data = corpus.load("small", offline=True)
    assert (len(data.test), len(data.train) + len(data.val), data.is_handwriting) == (10, 40, True)
    assert ensure_downloaded("small", offline=True) == places / folder
    assert next(item for item in list_named_images() if item.name == "small").where == str(places / folder)


def test_a_file_with_a_wrong_checksum_is_rejected(places, monkeypatch):
    dataset, contents = small_mnist()
    monkeypatch.setitem(NAMED_DATASETS, "small", dataset)
    put(places / "data" / "small", contents | {"t10k-labels-idx1-ubyte.gz": gzip.compress(corpus.idx(np.zeros(10)))})
    with pytest.raises(DataError) as error:
        corpus.load("small")
    assert error.value.path == places / "data" / "small" / "t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_offline_names_the_missing_files_and_their_folder(places, monkeypatch, name, how):
    monkeypatch.setattr(named, "fetch", lambda *a, **k: pytest.fail("the model was used"))
    if how == "environment":
        monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError) as error:
        corpus.load(name, offline=how == "argument")
    assert name in error.value.message
    assert error.value.value == [file.name for file in NAMED_DATASETS[name].files]
    assert all(file.name in error.value.cure for file in NAMED_DATASETS[name].files)
    assert str(places / "cache" / "data" / NAMED_DATASETS[name].folders[0]) in error.value.cure


def test_missing_files_are_downloaded_with_their_checksums(places, monkeypatch):
    dataset, contents = small_mnist()
    monkeypatch.setitem(NAMED_DATASETS, "small", dataset)
    put(places / "cache" / "data" / "small", dict([next(iter(contents.items()))]))
    fetched = []

    def fetch(url, to, *, sha256, notice, progress, options):
        fetched.append(url)
        assert sha256 == hashlib.sha256(contents[to.name]).hexdigest()
        put(to.parent, {to.name: contents[to.name]})
        for percent in range(0, 101, 2):
            progress(percent, 100)

    monkeypatch.setattr(named, "fetch", fetch)
    notices = []
    assert len(corpus.load("small", log=notices.append).test) == 10
    assert fetched == [f"http://localhost/{name}" for name in list(contents)[1:]]
    assert sum("train-labels" in line for line in notices) == 11


def archive(members: dict[str, bytes], extra: list[tarfile.TarInfo] = ()) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in extra:
            packed.addfile(info)
    return file.getvalue()


def small_cifar() -> dict[str, bytes]:
    batch = {b"data": np.arange(6 * 3072).reshape(6, -1).astype(np.uint8), b"labels": [0, 1, 0, 1, 0, 1]}
    contents = {"batches.meta": pickle.dumps({b"label_names": [b"a", b"b"]}, protocol=2)}
    for number, name in enumerate(("data_batch_1", "test_batch")):
        batch[b"data"] = np.random.default_rng(number).integers(0, 256, (6, 3072), np.uint8)
        contents[name] = pickle.dumps(batch, protocol=2)
    return contents


def test_only_official_files_are_extracted_from_an_archive(places, monkeypatch):
    contents = small_cifar()
    link = tarfile.TarInfo("cifar-10-batches-py/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    evil = {
        "../../outside": b"x",
        "/outside": b"x",
        "cifar-10-batches-py/readme.html": b"x",
        "a/data_batch_1": b"lie",
    }
    packed = archive({f"cifar-10-batches-py/{n}": c for n, c in contents.items()} | evil, [link])
    files = tuple(as_file(n, c) for n, c in contents.items())
    dataset = NamedDataset(
        "small", "x", "x", ("a", "b"), "x", files, "http://x/", as_file("all.tar.gz", packed), ("small",)
    )
    monkeypatch.setitem(NAMED_DATASETS, "small", dataset)
    monkeypatch.setattr(named, "fetch", lambda url, to, **k: put(to.parent, {to.name: packed}))
    data = corpus.load("small")
    assert data.classes == ("a", "b") and len(data.test) == 6 and not data.is_handwriting
    assert sorted(p.name for p in places.rglob("*") if p.is_file()) == sorted(contents)


def test_an_archive_with_a_wrong_file_is_rejected(places, monkeypatch):
    contents = small_cifar()
    files = tuple(as_file(n, c) for n, c in contents.items())
    packed = archive(contents | {"test_batch": contents["test_batch"][::-1]})
    dataset = NamedDataset(
        "small", "x", "x", ("a", "b"), "x", files, "http://x/", as_file("all.tar.gz", packed), ("small",)
    )
    monkeypatch.setitem(NAMED_DATASETS, "small", dataset)
    monkeypatch.setattr(named, "fetch", lambda url, to, **k: put(to.parent, {to.name: packed}))
    with pytest.raises(DataError) as error:
        corpus.load("small")
    assert error.value.path.name == "test_batch"


def test_an_unknown_name_suggests_a_similar_one():
    with pytest.raises(NotFoundError) as error:
        ensure_downloaded("fasion-mnist")
    assert error.value.value == "fasion-mnist" and "'fashion-mnist'" in error.value.cure


def test_the_catalog_lists_every_dataset_with_its_size(places):
    listed = {item.name: item.row("classify") for item in list_named_images()}
    assert set(listed) == {"digits", "mnist", "fashion-mnist", "cifar10"}
    assert listed["digits"]["where"] == "installed" and listed["mnist"]["where"] is None
    assert listed["mnist"]["bytes"] == 11_594_722 and all(
        row["license"] and row["classes"] == 10 for row in listed.values()
    )


def test_mnist_has_the_published_statistics(monkeypatch):
    root = corpus.real_data("mnist")
    if root is None:
        pytest.skip("MNIST is not on this machine (THALWEG_DATA)")
    monkeypatch.setenv("THALWEG_DATA", str(root.parent))
    data = corpus.load("mnist", offline=True)
    assert (len(data.test), len(data.train) + len(data.val), data.shape, data.is_handwriting) == (
        10_000,
        60_000,
        (28, 28, 1),
        True,
    )
    assert 5_800 < len(data.val) < 6_200
    counts = np.bincount(data.train.labels) + np.bincount(data.val.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    levels = sum(np.bincount(split.images.ravel(), minlength=256) for split in (data.train, data.val)) / (60_000 * 784)
    mean = levels @ np.arange(256) / 255
    std = (levels @ (np.arange(256) / 255 - mean) ** 2) ** 0.5
    assert abs(mean - 0.1307) < 5e-5 and abs(std - 0.3081) < 5e-5  # as published
    again = corpus.load(root, offline=True)
    # val is drawn otherwise from a folder than by name, where it stays as published runs had it
    assert again.classes == data.classes and np.array_equal(again.test.images, data.test.images)
