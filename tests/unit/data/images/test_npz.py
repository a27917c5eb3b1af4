"""NumPy files in every common layout give the same images."""

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images.npz import read_npz, to_grayscale
from thalweg.errors import DataError, ResourceError

GRAY = np.stack([np.asarray(corpus.random_image(n, (12, 12), 1)) for n in range(30)])
COLOR = np.stack([np.asarray(corpus.random_image(n, (12, 12))) for n in range(30)])
LABELS = np.arange(30) % 3


def save(root, **arrays):
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")]
)
def test_common_array_names_are_accepted(tmp_path, keys):
    raw = read_npz(save(tmp_path, **{keys[0]: GRAY, keys[1]: LABELS}))
    train = raw.splits["train"]
    assert np.array_equal(train.images[..., 0], GRAY) and np.array_equal(train.labels, LABELS)
    assert raw.classes == ("0", "1", "2") and train.sources[2] == f"set.npz:{keys[0]}[2]"


def test_official_splits_are_used(tmp_path):
    path = save(
        tmp_path, x_train=GRAY, y_train=LABELS, x_test=GRAY[:4], y_test=LABELS[:4], x_val=GRAY[4:9], y_val=LABELS[4:9]
    )
    assert {k: len(v) for k, v in corpus.load(path).splits.items()} == {"train": 30, "val": 5, "test": 4}


@pytest.mark.parametrize(
    "values, expected",
    [
        (GRAY[..., None], GRAY[..., None]),
        (GRAY.reshape(30, -1), GRAY[..., None]),
        (COLOR, COLOR),
        (COLOR.transpose(0, 3, 1, 2), COLOR),
        (GRAY[:, None], GRAY[..., None]),
        (GRAY / 255, GRAY[..., None]),
        ((GRAY / np.float32(255)).astype(np.float32), GRAY[..., None]),
        (GRAY.astype(np.float64), GRAY[..., None]),
        (GRAY.astype(np.int64), GRAY[..., None]),
        (GRAY.astype(np.uint16) * 257, GRAY[..., None]),
        (GRAY > 127, (GRAY > 127)[..., None] * np.uint8(255)),
    ],
)
def test_every_layout_and_number_type_gives_the_same_images(tmp_path, values, expected):
    images = read_npz(save(tmp_path, x=values, y=LABELS)).splits["train"].images
    assert images.dtype == np.uint8 and np.array_equal(images, expected)


@pytest.mark.parametrize(
    "labels, classes",
    [
        (LABELS[:, None], ("0", "1", "2")),
        (LABELS.astype(np.float32), ("0", "1", "2")),
        (np.eye(3)[LABELS], ("0", "1", "2")),
        (np.array(["a", "NA", "z"])[LABELS], ("NA", "a", "z")),
        (np.array([b"a", b"b", b"c"])[LABELS], ("a", "b", "c")),
        (LABELS + 4, ("4", "5", "6")),
    ],
)
def test_every_form_of_labels_gives_the_same_classes(tmp_path, labels, classes):
    raw = read_npz(save(tmp_path, x=GRAY, y=labels))
    assert raw.classes == classes
    got = [raw.classes[k] for k in raw.splits["train"].labels[:6]]
    assert got == [got[0], got[1], got[2]] * 2 and len(set(got)) == 3


def test_class_names_in_the_file_are_used(tmp_path):
    raw = read_npz(save(tmp_path, x=GRAY, y=LABELS, classes=np.array(["x", "y", "z"])))
    assert raw.classes == ("x", "y", "z")
    raw = read_npz(save(tmp_path, x=GRAY, y=np.array(["z", "x", "y"])[LABELS], classes=np.array(["x", "y", "z"])))
    assert raw.splits["train"].labels[:3].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "value"),
    [
        ({"a": GRAY}, ["a"]),
        ({"x": GRAY, "y": LABELS[:9]}, [30, 9]),
        ({"x": GRAY[0], "y": LABELS[:12]}, (12, 12)),
        ({"x": np.zeros((30, 5, 5, 4), np.uint8), "y": LABELS}, (30, 5, 5, 4)),
        ({"x": np.zeros((30, 0, 5), np.uint8), "y": LABELS}, (30, 0, 5)),
        ({"x": np.full((30, 4, 4), np.nan), "y": LABELS}, "x"),
        ({"x": np.full((30, 4, 4), "a"), "y": LABELS}, "<U1"),
        ({"x": GRAY, "y": LABELS + 0.5}, (30,)),
        ({"x": GRAY, "y": np.zeros((30, 2, 2))}, (30, 2, 2)),
        ({"x": GRAY, "y": LABELS, "classes": np.array(["a", "b"])}, 2),
        ({"x": GRAY, "y": LABELS - 1, "classes": np.array(["a", "b"])}, -1),
        ({"x": GRAY, "y": np.array(["a", "q", "b"])[LABELS], "classes": np.array(["a", "b"])}, "q"),
        ({"x": GRAY, "y": np.array([object()] * 30)}, None),
    ],
)
def test_every_mistake_is_reported(tmp_path, arrays, value):
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError) as error:
        corpus.load(path)
    assert (error.value.path, error.value.value) == (path, value)
    assert "set.npz" in str(error.value) and error.value.cure


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"no archive at all"])
def test_files_that_are_not_archives_are_rejected(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match="not readable as an .npz"):
        corpus.load(tmp_path / "set.npz")


def test_a_truncated_archive_is_rejected(tmp_path):
    path = save(tmp_path, x=GRAY, y=LABELS)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not readable"):
        corpus.load(path)


def test_an_archive_larger_than_memory_is_rejected_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "set.npz", x=np.zeros((30, 400, 400), np.uint8), y=LABELS)
    monkeypatch.setattr("thalweg.io.free_memory.get_free_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match="needs 4.8 MB"):
        corpus.load(tmp_path / "set.npz")


def test_image_size_and_channels_are_as_requested(tmp_path):
    path = save(tmp_path, x=COLOR, y=LABELS)
    data = corpus.load(path, image_size=6, channels=1)
    assert data.shape == (6, 6, 1)
    assert corpus.load(save(tmp_path, x=GRAY, y=LABELS), channels=3, image_size=20).shape == (20, 20, 3)


def test_images_that_are_not_square_are_cropped_to_the_center(tmp_path):
    wide = np.zeros((30, 8, 16), np.uint8)
    wide[:, :, 4:12] = np.arange(30, dtype=np.uint8)[:, None, None] + 1
    data = corpus.load(save(tmp_path, x=wide, y=LABELS))
    assert data.shape == (8, 8, 1) and (data.train.images == data.train.images[:, :1, :1]).all()
    assert any("center" in note for note in data.warnings)


def test_splits_of_different_sizes_need_a_requested_size(tmp_path):
    path = save(tmp_path, x_train=GRAY, y_train=LABELS, x_test=GRAY[:5, :8, :8], y_test=LABELS[:5])
    with pytest.raises(DataError) as error:
        corpus.load(path)
    assert error.value.value == [(8, 8), (12, 12)]
    assert corpus.load(path, image_size=8).shape == (8, 8, 1)


def test_grayscale_is_computed_as_in_pillow():
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in COLOR])
    assert np.array_equal(to_grayscale(COLOR)[..., 0], expected)
