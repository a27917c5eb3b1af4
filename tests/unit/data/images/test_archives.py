"""Tar shards, zip files and Parquet files of images: read in place, by threads, also when they are broken."""

import io
import json
import shutil
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.images import corpus
from thalweg.data.base import DataRequest
from thalweg.data.images import archives, parquet_files
from thalweg.data.images.image_decoding import ImageReadError, decode_image
from thalweg.data.images.load import read_raw
from thalweg.data.images.raw_dataset import RawDataset, ReadOptions
from thalweg.data.images.stored_images import StoredImages
from thalweg.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(seed: int) -> bytes:
    return corpus.encoded(corpus.random_image(seed))


def jpeg(seed: int) -> bytes:
    return corpus.encoded(corpus.random_image(seed), "JPEG")


def read(path: Path, storage: str = "disk") -> RawDataset:
    return read_raw(DataRequest(str(path), log=corpus.ignore), ReadOptions(storage=storage))


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def samples(first: int, count: int) -> dict[str, bytes]:
    """Samples of WebDataset whose labels are written in three ways."""
    members = {}
    for number in range(first, first + count):
        label = "ab"[number % 2]
        members[f"{number:04d}.jpg"] = jpeg(number)
        ways = {
            "cls": label.encode(),
            "txt": f" {label}\n".encode(),
            "json": json.dumps({"label": label, "caption": "x"}).encode(),
        }
        extension = list(ways)[number % 3]
        members[f"{number:04d}.{extension}"] = ways[extension]
    return members


def assert_images(raw: RawDataset, contents: dict[str, tuple[bytes, str]]) -> None:
    """Compare all images and labels of a dataset on disk with (content, class) by the end of the name."""
    count = 0
    for split in raw.splits.values():
        assert isinstance(split.images, StoredImages)
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(split.images.__getitem__, range(len(split))))
        for image, label, name in zip(images, split.labels, split.sources, strict=True):
            content, class_name = contents[name.rpartition(":")[2]]
            assert raw.classes[label] == class_name
            assert np.array_equal(image, decode_image(content, 3))
            count += 1
    assert count == len(contents)


def test_shards_are_read_in_place_and_their_names_say_the_split(tmp_path, cache):
    root = tmp_path / "set"
    write_tar(root / "train-000.tar", samples(0, 6))
    write_tar(root / "train-001.tar", samples(6, 6))
    write_tar(root / "validation-000.tar", samples(12, 4))
    before = corpus.tree(root)
    raw = read(root)
    assert {name: len(split) for name, split in raw.splits.items()} == {"train": 12, "val": 4}
    assert_images(raw, {f"{n:04d}.jpg": (jpeg(n), "ab"[n % 2]) for n in range(16)})
    assert raw.splits["train"].sources[6] == f"{root / 'train-001.tar'}:0006.jpg"
    again = read(root)
    assert again.classes == raw.classes == ("a", "b") and again.unreadable == []
    assert np.array_equal(again.splits["train"].digests(), raw.splits["train"].digests())
    assert corpus.tree(root) == before
    in_memory = read(root, "memory")
    assert np.array_equal(in_memory.splits["val"].images, raw.splits["val"].images[:])
    assert np.array_equal(in_memory.files, raw.files)


def test_a_changed_shard_is_read_again(tmp_path):
    write_tar(tmp_path / "x.tar", samples(0, 8))
    assert len(read(tmp_path / "x.tar").splits["train"]) == 8
    write_tar(tmp_path / "x.tar", samples(20, 9))
    raw = read(tmp_path / "x.tar")
    assert_images(raw, {f"{n:04d}.jpg": (jpeg(n), "ab"[n % 2]) for n in range(20, 29)})


@pytest.mark.parametrize("cut", ["in an image", "in a header", "before the end mark"])
def test_what_is_before_a_cut_is_used_and_the_cut_is_named(tmp_path, cut):
    path = tmp_path / "x.tar"
    write_tar(path, samples(0, 8))
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]  # the image of the last sample
    ends = {
        "in an image": last.offset_data + 10,
        "in a header": last.offset + 100,
        "before the end mark": last.offset,
    }
    path.write_bytes(path.read_bytes()[: ends[cut]])
    for _ in range(2):  # also from the cache
        raw = read(path)
        assert len(raw.splits["train"]) == 7
        assert [file.path for file in raw.unreadable] == [str(path)]
    with pytest.raises(DataError) as error:
        corpus.load(path, strict=True, storage="disk")
    assert error.value.value == [str(path)]


def test_samples_without_label_and_broken_images_are_named(tmp_path):
    members = {**samples(0, 6), "x/9.jpg": jpeg(9), "8.jpg": jpeg(8)[:300], "8.cls": b"a", "7.jpg": b"", "7.cls": b"b"}
    members |= {"6.json": b"[1]", "6.png": png(6)}
    write_tar(tmp_path / "x.tar", members)
    raw = read(tmp_path / "x.tar")
    assert len(raw.splits["train"]) == 6
    names = [file.path.rpartition(":")[2] for file in raw.unreadable]
    assert sorted(names) == ["6.png", "7.jpg", "8.jpg", "x/9.jpg"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_folders_in_a_zip_file_are_classes_and_splits(tmp_path, method):
    contents = {}
    for split in ("train", "test"):
        for number in range(6):
            name = f"set/{split}/{'cat' if number % 2 else 'dog'}/{number}.png"
            contents[name] = (png(number + 10 * (split == "test")), "cat" if number % 2 else "dog")
    members = {name: content for name, (content, _) in contents.items()}
    members |= {"set/__MACOSX/cat/1.png": b"x", "set/readme.txt": b"x", "set/train/loose.png": png(50)}
    write_zip(tmp_path / "x.zip", members, method)
    raw = read(tmp_path / "x.zip")
    assert {name: len(split) for name, split in raw.splits.items()} == {"train": 6, "test": 6}
    assert_images(raw, contents)


def test_folders_in_a_tar_file_are_classes_where_there_are_no_labels(tmp_path):
    contents = {f"set/{'ab'[n % 2]}/{n}.png": (png(n), "ab"[n % 2]) for n in range(8)}
    write_tar(tmp_path / "x.tar", {name: content for name, (content, _) in contents.items()})
    assert_images(read(tmp_path / "x.tar"), contents)


def test_a_damaged_or_encrypted_member_of_a_zip_file_is_named(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, {f"{'ab'[n % 2]}/{n}.png": png(n) for n in range(8)}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    content = bytearray(path.read_bytes())
    content[infos[2].header_offset + 60] ^= 0xFF
    start = content.find(b"PK\x01\x02", infos[-1].header_offset)
    content[start + 8] |= 1  # the flag of encryption of the first entry of the list
    path.write_bytes(content)
    raw = read(path)
    assert sorted(file.path for file in raw.unreadable) == [f"{path}:a/0.png", f"{path}:a/2.png"]
    assert len(raw.splits["train"]) == 6
    path.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.path == path


def test_a_member_is_never_inflated_beyond_its_size(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    write_zip(path, {f"{'ab'[n % 2]}/{n}.png": png(n) for n in range(4)}, zipfile.ZIP_DEFLATED)
    write_zip(tmp_path / "bomb.zip", {"a/bomb.png": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    start = content.find(b"PK\x01\x02")
    content[start + 24 : start + 28] = struct.pack("<I", 1000)  # the size that the list of members announces
    (tmp_path / "bomb.zip").write_bytes(content)
    lengths = []
    unpack = archives._unpack
    monkeypatch.setattr(archives, "_unpack", lambda *args: lengths.append(len(unpack(*args))) or b"")
    with zipfile.ZipFile(tmp_path / "bomb.zip") as archive:
        info = archive.infolist()[0]
    one = np.ones(1, np.int64)
    images = archives.ArchiveImages(
        tmp_path / "bomb.zip",
        ["a/bomb.png"],
        one * info.header_offset,
        one * info.file_size,
        packed=one * info.compress_size,
        method=one * info.compress_type,
        crc=one * info.CRC,
    )
    with pytest.raises(ImageReadError):
        images.read(0)
    assert lengths == [1001]
    with pytest.raises(ImageReadError, match="at most"):
        archives.ArchiveImages(path, ["x"], one, one * 10**12).read(0)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar"])
def test_a_compressed_tar_file_is_refused_with_a_cure(tmp_path, name):
    with tarfile.open(tmp_path / name, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    with pytest.raises(DataError) as error:
        read(tmp_path / name)
    assert error.value.path == tmp_path / name and "gunzip" in error.value.cure


def write_parquet(path: Path, rows: range, with_names: bool = True, **columns: list) -> None:
    """Write a Parquet file as Hugging Face's `datasets` does."""
    polars = pytest.importorskip("polars")
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "image": [{"bytes": jpeg(row), "path": f"{row}.jpg"} for row in rows],
        "label": [row % 2 for row in rows],
        **columns,
    }
    features = {"image": {"_type": "Image"}, "label": {"names": ["wolf", "bear"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if with_names else None
    polars.DataFrame(values).write_parquet(path, row_group_size=4, metadata=metadata)


def test_parquet_files_of_hugging_face_are_read_with_their_classes_and_splits(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(parquet_files, "PIECE_BYTES", 2000)
    root = tmp_path / "set"
    write_parquet(root / "data" / "train-00000-of-00002.parquet", range(10))
    write_parquet(root / "data" / "train-00001-of-00002.parquet", range(10, 20))
    write_parquet(root / "data" / "test-00000-of-00001.parquet", range(20, 26), label=[0, 1, 0, 1, 0, -1])
    raw = read(root)
    assert raw.classes == ("wolf", "bear")
    assert {name: len(split) for name, split in raw.splits.items()} == {"train": 20, "test": 5}
    train = raw.splits["train"]
    assert train.labels.tolist() == [0, 1] * 10
    assert train.sources[12] == f"{root / 'data' / 'train-00001-of-00002.parquet'}:2"
    assert np.array_equal(train.images[12], decode_image(jpeg(12), 3))
    assert any("1 row without a label" in line for line in raw.warnings)
    pack = next((cache / "parquet").glob("*.bin"))
    pack.write_bytes(pack.read_bytes()[:-1])  # a damaged copy is made again
    again = read(root)
    assert np.array_equal(again.splits["train"].digests(), train.digests()) and not again.unreadable
    shutil.rmtree(cache)
    assert np.array_equal(read(root, "memory").splits["train"].images, train.images[:])


def test_a_parquet_file_without_names_of_classes_and_without_some_bytes(tmp_path):
    images = [jpeg(row) if row != 3 else None for row in range(8)]
    write_parquet(tmp_path / "x.parquet", range(8), False, image=images, label=[10, 9] * 4)
    raw = read(tmp_path / "x.parquet")
    assert raw.classes == ("9", "10") and len(raw.splits["train"]) == 7
    assert [file.path for file in raw.unreadable] == [f"{tmp_path / 'x.parquet'}:3"]
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as error:
        read(tmp_path / "x.parquet")
    assert error.value.path == tmp_path / "x.parquet"


def test_a_parquet_table_of_paths_is_read_like_a_csv_table(tmp_path):
    polars = pytest.importorskip("polars")
    root = corpus.folder(tmp_path / "set", {"a": 6, "b": 6})
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    frame = polars.DataFrame({"path": paths, "label": [path[0] for path in paths], "group": list("xxyyzz") * 2})
    frame.write_parquet(root / "table.parquet")
    frame.write_csv(root / "table.csv")
    for storage in ("memory", "disk"):
        one, two = (corpus.load(root / f"table.{kind}", storage=storage) for kind in ("parquet", "csv"))
        assert one.fingerprint == two.fingerprint and len(one.all) == 12
    frame.with_columns(label=polars.lit(None)).write_parquet(root / "table.parquet")
    with pytest.raises(DataError) as error:
        read(root / "table.parquet")
    assert (error.value.line, error.value.value) == (2, "label")
