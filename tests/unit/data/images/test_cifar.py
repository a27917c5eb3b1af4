"""CIFAR batches are pickles: their pixels are read, and nothing of them is ever run."""

import codecs
import hashlib
import os
import pickle

import numpy as np
import pytest

from tests.unit.data.images import corpus
from thalweg.data.images.catalog import NAMED_DATASETS
from thalweg.data.images.cifar import read_cifar, safe_unpickle
from thalweg.errors import DataError

NAMES = [b"cat", b"dog"]


def rows(seed: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def write_batches(root, protocol=2, batches=2, labels=(0, 1, 0, 1, 0, 1), names=NAMES, test=True):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number in range(1, batches + 1):
        content = pickle.dumps({b"data": rows(number), b"labels": list(labels)}, protocol=protocol)
        (folder / f"data_batch_{number}").write_bytes(content)
    if test:
        content = pickle.dumps({b"data": rows(99), b"labels": list(labels)}, protocol=protocol)
        (folder / "test_batch").write_bytes(content)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=protocol))
    return folder


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pixels_and_labels_survive_every_pickle_protocol(tmp_path, protocol):
    folder = write_batches(tmp_path, protocol)
    for source in (folder, tmp_path):
        raw = read_cifar(source)
        assert raw.classes == ("cat", "dog")
        expected = np.concatenate([rows(1), rows(2)]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        assert np.array_equal(raw.splits["train"].images, expected)
        assert raw.splits["train"].labels.tolist() == [0, 1, 0, 1, 0, 1] * 2
        assert len(raw.splits["test"]) == 6
    assert corpus.load(tmp_path).format == "CIFAR python batches"


CANARY: list[str] = []


def trip(*arguments):
    CANARY.append("run")


class Evil:
    """Calls a function when it is unpickled; `function` may be any that can be found by name."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks() -> list[bytes]:
    evil = [
        Evil(os.system, "exit 1"),
        Evil(trip, 1),
        Evil(eval, "CANARY"),
        Evil(getattr, 1, "real"),
        Evil(np.load, "x"),
    ]
    made = [pickle.dumps({b"data": e, b"labels": [0]}, protocol=p) for e in evil for p in range(5)]
    made += [pickle.dumps(Evil(codecs.decode, b"x", "zip")), pickle.dumps(Evil(codecs.encode, "x", "rot13"))]
    # written out by hand: a state that would change the reader's own words, a name with dots, a class made to order
    made += [
        b"cnumpy\nndarray\n(dVx\nI1\nsb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(N(dV_answer\nI1\nstb.",
        b"\x80\x04\x8c\x05numpy\x8c\x14ndarray.__class__.mro\x93.",
        b"cbuiltins\nobject\n)\x81.",
        b"(cos\nsystem\nVtrue\no.",
        b"(Vtrue\nios\nsystem\n.",
        b"Vperson\nP0\n.",
        b"\x82\x01.",
    ]
    return made


@pytest.mark.parametrize("number", range(len(attacks())))
def test_a_malicious_pickle_runs_nothing(tmp_path, monkeypatch, number):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    content = attacks()[number]
    with pytest.raises(DataError, match="Nothing of it was run"):
        safe_unpickle(content, "data_batch_1")
    folder = write_batches(tmp_path)
    (folder / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_2"):
        read_cifar(folder)
    assert not called and not CANARY


def test_a_malicious_pickle_would_run_elsewhere():
    pickle.loads(attacks()[9])  # one of those with `trip`, given to Python's own reader
    assert CANARY.pop() == "run"


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_a_truncated_batch_is_rejected(cut):
    with pytest.raises(DataError, match="damaged"):
        safe_unpickle(pickle.dumps({b"data": rows(1), b"labels": [0]}, protocol=2)[:cut], "data_batch_1")


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_give_data_or_an_error_with_the_file_name(seed):
    content = bytearray(pickle.dumps({b"data": rows(1, 2), b"labels": [0, 1]}, protocol=2))
    for place in np.random.default_rng(seed).integers(0, 300, 3):
        content[place] ^= 255
    try:
        assert isinstance(safe_unpickle(bytes(content), "data_batch_1"), dict)
    except DataError as error:
        assert "data_batch_1" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        rows(1).astype(np.int16),
        rows(1)[:, :100],
        rows(1).reshape(6, 3, 32, 32),
        np.asfortranarray(rows(1)),
        np.array([object()] * 6),
        [[1, 2, 3]],
        None,
    ],
)
def test_arrays_that_are_not_images_are_rejected(tmp_path, data):
    folder = write_batches(tmp_path)
    content = pickle.dumps({b"data": data, b"labels": [0, 1, 0, 1, 0, 1]}, protocol=2)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1"):
        read_cifar(folder)


@pytest.mark.parametrize("labels", [(0, 1), ("a",) * 6])
def test_labels_that_do_not_match_the_images_are_rejected(tmp_path, labels):
    with pytest.raises(DataError) as error:
        read_cifar(write_batches(tmp_path, labels=labels))
    assert error.value.path == "data_batch_1"


def test_a_label_without_a_class_is_rejected(tmp_path):
    with pytest.raises(DataError) as error:
        read_cifar(write_batches(tmp_path, labels=(0, 1, 2, 0, 0, 0)))
    assert error.value.value == 2


def test_missing_class_names_are_reported(tmp_path):
    folder = write_batches(tmp_path)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"other": 1}, protocol=2))
    with pytest.raises(DataError) as error:
        read_cifar(folder)
    assert error.value.path == "batches.meta"
    (folder / "batches.meta").unlink()
    with pytest.raises(DataError) as error:
        read_cifar(folder)
    assert error.value.value == "batches.meta"


def test_a_batch_that_is_not_a_dictionary_is_rejected():
    with pytest.raises(DataError, match="dictionary"):
        safe_unpickle(pickle.dumps([1, 2], protocol=2), "data_batch_1")


def test_the_official_class_names_are_read():
    root = corpus.real_data("cifar10")
    if root is None:
        pytest.skip("CIFAR-10 is not on this machine (THALWEG_DATA)")
    content = (root / "cifar-10-batches-py" / "batches.meta").read_bytes()
    official = next(f for f in NAMED_DATASETS["cifar10"].files if f.name == "batches.meta")
    assert hashlib.sha256(content).hexdigest() == official.sha256
    assert (
        tuple(n.decode() for n in safe_unpickle(content, "batches.meta")["label_names"])
        == NAMED_DATASETS["cifar10"].classes
    )
