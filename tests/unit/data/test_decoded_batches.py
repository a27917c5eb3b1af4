"""Batches decoded by threads: the same bits with any number of threads and from any position, and no thread is left."""

from __future__ import annotations

import copy
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thalweg.data import decoded_batches
from thalweg.data.batches import BatchOrder
from thalweg.data.decoded_batches import DecodedBatches
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.stored_images import StoredImages, iter_image_batches
from thalweg.data.images.training_decoder import TrainingDecoder
from thalweg.errors import DataError

NUM = 23


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> StoredImages:
    """Images whose pixels say which row they are."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for row in range(NUM):
        pixels = np.random.default_rng(row).integers(0, 256, (20 + row, 30, 3), np.uint8)
        pixels[..., 0] = 10 * row
        paths.append(folder / f"{row}.png")
        Image.fromarray(pixels).save(paths[-1])
    return store(paths)


def store(paths: list[Path]) -> StoredImages:
    digests = np.arange(32 * len(paths), dtype=np.uint8).reshape(-1, 32)
    return StoredImages(ImageFiles(paths), digests, np.full((len(paths), 2), 30, np.int32), (8, 8), 3)


def make_batches(photos: StoredImages, threads: int = 2, rank: int = 0, world_size: int = 1, **settings):
    decoder = TrainingDecoder(photos, seed=7, **{"min_area": 0.2, **settings})
    order = BatchOrder(len(photos), 4, 7, rank, world_size)
    return DecodedBatches(decoder, photos.shape[1:], {"label": torch.arange(len(photos))}, order, threads)


def take(batches: DecodedBatches, count: int) -> list[dict[str, torch.Tensor]]:
    with closing(iter(batches)) as iterator:
        return list(islice(iterator, count))


def bits(batches: list[dict[str, torch.Tensor]]) -> list[list]:
    return [[batch["image"].tolist(), batch["label"].tolist()] for batch in batches]


def test_bits_depend_on_the_step_alone(photos):
    full = take(make_batches(photos, threads=1), 12)
    for step, batch in enumerate(full):
        assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == torch.uint8
        assert batch["image"][:, 4, 4, 0].tolist() == [10 * row for row in batch["label"].tolist()]
        assert batch["label"].tolist() == make_batches(photos).batch_indices(step)
    expected = bits(full)
    assert bits(take(make_batches(photos, threads=4), 12)) == expected
    for stop in (1, 4, 5, 11):
        first = make_batches(photos, threads=2)
        before = bits(take(first, stop))
        assert first.state_dict() == {"step": stop}
        second = make_batches(photos, threads=3)
        second.load_state_dict(first.state_dict())
        assert before + bits(take(second, 12 - stop)) == expected


def test_a_position_loaded_between_two_batches_counts(photos):
    batches = make_batches(photos)
    expected = bits(take(make_batches(photos), 6))
    with closing(iter(batches)) as iterator:
        first = bits(islice(iterator, 3))
        trial = copy.copy(batches)
        trial.load_state_dict({"step": 0})
        assert bits(take(trial, 2)) == expected[:2]  # a copy changes nothing
        assert first + bits(islice(iterator, 1)) == expected[:4]
        batches.load_state_dict({"step": 1})
        assert bits(islice(iterator, 2)) == expected[1:3]


def test_ranks_split_the_batch_of_one_rank(photos):
    full = take(make_batches(photos), 6)
    parts = [take(make_batches(photos, rank=rank, world_size=2), 6) for rank in range(2)]
    for step, batch in enumerate(full):
        for name, values in batch.items():
            assert torch.equal(torch.cat([part[step][name] for part in parts]), values)


def test_each_epoch_draws_new_boxes_and_the_center_stays(photos):
    def by_label(batches: list[dict[str, torch.Tensor]]) -> dict[int, list]:
        images: dict[int, list] = {}
        for batch in batches:
            images |= dict(zip(batch["label"].tolist(), batch["image"].tolist(), strict=True))
        return images

    random = take(make_batches(photos), 10)
    first = by_label(random[:5])
    second = by_label(random[5:])
    common = sorted(set(first) & set(second))
    assert len(common) > 15 and all(first[row] != second[row] for row in common)
    center = by_label(take(make_batches(photos, min_area=None), 5))
    for row, image in center.items():
        assert image == photos.decode(row).tolist()


# --- how far ahead ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "ahead"), [(10**9, 2), (1000, 1), (4 * 8 * 8 * 3, 1), (2 * 4 * 8 * 8 * 3, 2)])
def test_what_is_decoded_ahead_is_bounded(photos, monkeypatch, limit, ahead):
    monkeypatch.setattr(decoded_batches, "MAX_BYTES_AHEAD", limit)
    batches = make_batches(photos, threads=4)
    decoded = []
    decode = batches.decode
    batches.decode = lambda row, epoch: decoded.append(row) or decode(row, epoch)
    with closing(iter(batches)) as iterator:
        next(iterator)
        wait_until(lambda: len(decoded) >= 4 * (1 + ahead))
        time.sleep(0.02)
        assert len(decoded) == 4 * (1 + ahead)


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_no_thread_is_left_and_none_is_a_daemon(photos):
    iterator = iter(make_batches(photos))
    next(iterator)
    assert decode_threads() and not any(thread.daemon for thread in decode_threads())
    iterator.close()
    assert not decode_threads()
    batches = make_batches(photos, threads=3)
    decode = batches.decode

    def fail_late(row: int, epoch: int):
        if epoch == 1:
            raise KeyboardInterrupt
        return decode(row, epoch)

    batches.decode = fail_late
    iterator = iter(batches)
    assert len(list(islice(iterator, 5))) == 5
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert not decode_threads()
    assert batches.step == 5  # an error appears at its own step


# --- files that vanish -----------------------------------------------------------------------------------------------


@pytest.fixture
def fading(photos, tmp_path) -> StoredImages:
    """Copies of the photos, of which some are damaged or gone."""
    paths = []
    for path in photos.encoded.paths:
        paths.append(tmp_path / path.name)
        paths[-1].write_bytes(path.read_bytes())
    paths[3].unlink()
    paths[5].write_bytes(paths[5].read_bytes()[:100])
    paths[9].write_bytes(b"")
    return store(paths)


def test_another_image_with_its_label_takes_the_place_of_one_that_vanished(photos, fading):
    lines: list[str] = []
    expected = bits(take(make_batches(fading, threads=1, log=lines.append), 15))
    assert bits(take(make_batches(fading, threads=4), 15)) == expected
    whole = bits(take(make_batches(photos), 15))
    batches = make_batches(photos)
    num_replaced = 0
    for step, (images, labels) in enumerate(expected):
        for slot, row in enumerate(batches.batch_indices(step)):
            if row in (3, 5, 9):
                num_replaced += 1
                assert labels[slot] not in (3, 5, 9) and images[slot][4][4][0] == 10 * labels[slot]
            else:
                assert labels[slot] == row and images[slot] == whole[step][0][slot]
    assert num_replaced > 5
    assert len(lines) == 3 and all(any(f"{row}.png" in line for line in lines) for row in (3, 5, 9))


def test_strict_names_the_file(fading):
    with pytest.raises(DataError) as error:
        take(make_batches(fading, strict=True), 10)
    assert Path(error.value.path).name in ("3.png", "5.png", "9.png")
    assert not decode_threads()


def test_a_folder_that_vanished_ends_the_stream(photos):
    gone = store([Path("gone") / path.name for path in photos.encoded.paths])
    with pytest.raises(DataError) as error:
        take(make_batches(gone), 1)
    assert Path(error.value.path).parent.name == "gone"


def test_evaluation_leaves_out_what_vanished_and_indexing_names_it(fading):
    batches = list(iter_image_batches(fading, 4))
    rows = np.concatenate([batch.rows for batch in batches]).tolist()
    assert rows == [row for row in range(NUM) if row not in (3, 5, 9)] and len(batches) == 6
    assert [Path(file.path).name for batch in batches for file in batch.unreadable] == ["3.png", "5.png", "9.png"]
    images = np.concatenate([batch.images for batch in batches])
    assert np.array_equal(images, fading[rows])
    in_memory = list(iter_image_batches(images, 4))
    assert np.array_equal(np.concatenate([batch.images for batch in in_memory]), images)
    with pytest.raises(DataError) as error:
        fading[2:6]
    assert Path(error.value.path).name == "3.png"
