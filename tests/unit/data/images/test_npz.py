"""NumPy files in every usual layout, and the same pictures whatever the layout."""

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images.npz import read_npz, to_grayscale
from thalweg.errors import DataError, ResourceError

GREY = np.stack([np.asarray(corpus.picture(n, (12, 12), 1)) for n in range(30)])
COLOUR = np.stack([np.asarray(corpus.picture(n, (12, 12))) for n in range(30)])
LABELS = np.arange(30) % 3


def saved(root, **arrays):
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")]
)
def test_the_usual_names_are_understood(tmp_path, keys):
    found = read_npz(saved(tmp_path, **{keys[0]: GREY, keys[1]: LABELS}))
    train = found.splits["train"]
    assert np.array_equal(train.images[..., 0], GREY) and np.array_equal(train.labels, LABELS)
    assert found.classes == ("0", "1", "2") and train.sources[2] == f"set.npz:{keys[0]}[2]"


def test_official_parts_are_kept(tmp_path):
    path = saved(
        tmp_path, x_train=GREY, y_train=LABELS, x_test=GREY[:4], y_test=LABELS[:4], x_val=GREY[4:9], y_val=LABELS[4:9]
    )
    assert {k: len(v) for k, v in corpus.load(path).splits.items()} == {"train": 30, "val": 5, "test": 4}


@pytest.mark.parametrize(
    "values, expected",
    [
        (GREY[..., None], GREY[..., None]),
        (GREY.reshape(30, -1), GREY[..., None]),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (GREY[:, None], GREY[..., None]),
        (GREY / 255, GREY[..., None]),
        ((GREY / np.float32(255)).astype(np.float32), GREY[..., None]),
        (GREY.astype(np.float64), GREY[..., None]),
        (GREY.astype(np.int64), GREY[..., None]),
        (GREY.astype(np.uint16) * 257, GREY[..., None]),
        (GREY > 127, (GREY > 127)[..., None] * np.uint8(255)),
    ],
)
def test_every_layout_and_number_gives_the_same_pictures(tmp_path, values, expected):
    images = read_npz(saved(tmp_path, x=values, y=LABELS)).splits["train"].images
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
def test_every_form_of_label_gives_the_same_classes(tmp_path, labels, classes):
    found = read_npz(saved(tmp_path, x=GREY, y=labels))
    assert found.classes == classes
    got = [found.classes[k] for k in found.splits["train"].labels[:6]]
    assert got == [got[0], got[1], got[2]] * 2 and len(set(got)) == 3


def test_names_of_classes_in_the_file_are_used(tmp_path):
    found = read_npz(saved(tmp_path, x=GREY, y=LABELS, classes=np.array(["x", "y", "z"])))
    assert found.classes == ("x", "y", "z")
    found = read_npz(saved(tmp_path, x=GREY, y=np.array(["z", "x", "y"])[LABELS], classes=np.array(["x", "y", "z"])))
    assert found.splits["train"].labels[:3].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "arrays, told",
    [
        ({"a": GREY}, "it holds a; expected x_train"),
        ({"x": GREY, "y": LABELS[:9]}, "x holds 30 pictures, y 9 labels"),
        ({"x": GREY[0], "y": LABELS[:12]}, r"shape \(12, 12\)"),
        ({"x": np.zeros((30, 5, 5, 4), np.uint8), "y": LABELS}, r"shape \(30, 5, 5, 4\)"),
        ({"x": np.zeros((30, 0, 5), np.uint8), "y": LABELS}, r"shape \(30, 0, 5\)"),
        ({"x": np.full((30, 4, 4), np.nan), "y": LABELS}, "not finite"),
        ({"x": np.full((30, 4, 4), "a"), "y": LABELS}, "not numbers"),
        ({"x": GREY, "y": LABELS + 0.5}, "one whole number or name"),
        ({"x": GREY, "y": np.zeros((30, 2, 2))}, "one whole number or name"),
        ({"x": GREY, "y": LABELS, "classes": np.array(["a", "b"])}, r"x\[2\] is 2; expected 0 to 1"),
        ({"x": GREY, "y": LABELS - 1, "classes": np.array(["a", "b"])}, r"x\[0\] is -1; expected 0 to 1"),
        (
            {"x": GREY, "y": np.array(["a", "q", "b"])[LABELS], "classes": np.array(["a", "b"])},
            "'q' is not in `classes`",
        ),
        ({"x": GREY, "y": np.array([object()] * 30)}, "plain arrays"),
    ],
)
def test_every_mistake_names_the_array(tmp_path, arrays, told):
    with pytest.raises(DataError, match=told) as error:
        corpus.load(saved(tmp_path, **arrays))
    assert "set.npz" in str(error.value) and error.value.cure


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"no archive at all"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an .npz"):
        corpus.load(tmp_path / "set.npz")


def test_a_cut_archive_is_refused(tmp_path):
    path = saved(tmp_path, x=GREY, y=LABELS)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        corpus.load(path)


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "set.npz", x=np.zeros((30, 400, 400), np.uint8), y=LABELS)
    monkeypatch.setattr("thalweg.io.free_memory.get_free_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match="needs 4.8 MB"):
        corpus.load(tmp_path / "set.npz")


def test_size_and_channels_are_as_asked(tmp_path):
    path = saved(tmp_path, x=COLOUR, y=LABELS)
    data = corpus.load(path, image_size=6, channels=1)
    assert data.shape == (6, 6, 1)
    assert corpus.load(saved(tmp_path, x=GREY, y=LABELS), channels=3, image_size=20).shape == (20, 20, 3)


def test_pictures_that_are_not_square_keep_their_middle(tmp_path):
    wide = np.zeros((30, 8, 16), np.uint8)
    wide[:, :, 4:12] = np.arange(30, dtype=np.uint8)[:, None, None] + 1
    data = corpus.load(saved(tmp_path, x=wide, y=LABELS))
    assert data.shape == (8, 8, 1) and (data.train.images == data.train.images[:, :1, :1]).all()
    assert any("center" in note for note in data.warnings)


def test_parts_of_different_size_need_a_common_one(tmp_path):
    path = saved(tmp_path, x_train=GREY, y_train=LABELS, x_test=GREY[:5, :8, :8], y_test=LABELS[:5])
    with pytest.raises(DataError, match="8 x 8 and 12 x 12"):
        corpus.load(path)
    assert corpus.load(path, image_size=8).shape == (8, 8, 1)


def test_grey_weighs_colours_as_pillow_does():
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in COLOUR])
    assert np.array_equal(to_grayscale(COLOUR)[..., 0], expected)
