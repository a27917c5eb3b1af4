"""Published weights: the catalog, files on this machine, downloads, and what `--weights` can mean."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import thalweg.io.download
from tests.helpers.http_servers import serve_content
from thalweg import registry
from thalweg.errors import ModelFileError, NotFoundError, ResourceError
from thalweg.weights import store
from thalweg.weights.catalog import CATALOG, AlternateFile, PretrainedWeights
from thalweg.weights.files import skip_init

CONTENT = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ALTERNATE_CONTENT = b"the same weights in float16"


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """An empty THALWEG_DATA and an empty cache; the network is allowed, and retries do not wait."""
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    monkeypatch.setattr(thalweg.io.download.time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as server:
        yield server


@pytest.fixture
def row(folders, server, monkeypatch) -> PretrainedWeights:
    """The entry of ResNet-18, with the URL of the test server and the checksum of its content."""
    row = replace(
        CATALOG["resnet18", "imagenet"],
        address=f"{server.url}/resnet18-{SHA256[:8]}.pth",
        sha256=SHA256[:8],
        megabytes=len(CONTENT) / 2**20,
        alternates=(AlternateFile("resnet18-half.safetensors", hashlib.sha256(ALTERNATE_CONTENT).hexdigest()),),
    )
    monkeypatch.setitem(CATALOG, ("resnet18", "imagenet"), row)
    return row


def write(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def cached_path(row: PretrainedWeights) -> Path:
    return Path(os.environ["THALWEG_CACHE"]) / "weights" / row.file


def ignore(message: str) -> None:
    pass


# --- the catalog -----------------------------------------------------------------------------------------------------

ROWS = pytest.mark.parametrize("row", CATALOG.values(), ids=lambda row: f"{row.model}-{row.weights}")


@ROWS
def test_an_entry_is_consistent(row):
    assert row.address == f"https://download.pytorch.org/models/{row.file}"
    assert row.sha256 == row.file.removesuffix(".pth").rpartition("-")[2] and len(bytes.fromhex(row.sha256)) == 4
    assert row.bytes == pytest.approx(4 * row.parameters, rel=0.02)  # float32, and little else
    assert 50 < row.top1 < row.top5 < 100 and row.size < row.resize
    assert "ImageNet" in row.license and len(store.class_names(row.classes)) == 1000


@ROWS
def test_the_model_of_an_entry_has_its_number_of_parameters(row):
    with skip_init():
        model = registry.find_model(row.model, "classify")(in_channels=3, num_classes=1000, **row.model_kwargs)
    assert sum(param.numel() for param in model.parameters()) == row.parameters


def test_the_catalog_holds_every_model_of_its_families_once():
    families = {f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
    families |= {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    families |= {"inception_v3", "squeezenet1_0", "squeezenet1_1", "mobilenet_v3_small", "mobilenet_v3_large"}
    with_v2 = {"resnet50", "resnet101", "resnet152", "mobilenet_v3_large"}
    assert set(CATALOG) == {(m, "imagenet") for m in families} | {(m, "imagenet-v2") for m in with_v2}
    assert len({row.file for row in CATALOG.values()}) == len(CATALOG)


@pytest.mark.parametrize(
    ("model", "name", "top1", "resize", "size"),
    [
        ("vgg16", "imagenet", 71.592, 256, 224),
        ("resnet152", "imagenet", 78.312, 256, 224),
        ("resnet152", "imagenet-v2", 82.284, 232, 224),
        ("inception_v3", "imagenet", 77.294, 342, 299),
        ("mobilenet_v3_large", "imagenet-v2", 75.274, 232, 224),
    ],
)
def test_preprocessing_and_accuracy_are_as_published(model, name, top1, resize, size):
    row = store.lookup(model, name)
    assert (row.top1, row.resize, row.size) == (top1, resize, size)
    assert (row.mean, row.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_only_inception_transforms_its_input():
    assert {row.model for row in CATALOG.values() if row.model_kwargs} == {"inception_v3"}
    assert store.lookup("inception_v3").model_kwargs == {"transform_input": True}


def test_the_input_spec_of_an_entry_is_that_of_a_run():
    spec = store.input_spec(store.lookup("inception_v3"))
    assert set(spec) == {"classes", "channels", "size", "resize", "mean", "std", "handwriting"}
    assert (spec["channels"], spec["size"], spec["resize"], spec["handwriting"]) == (3, [299, 299], 342, False)
    assert spec["classes"] == list(store.class_names())


# --- class names -----------------------------------------------------------------------------------------------------


def test_the_classes_of_imagenet_are_distinct_and_in_order():
    names = store.class_names("imagenet")
    assert len(names) == 1000 and len({name.lower() for name in names}) == 1000
    assert all(name == name.strip() and name.isascii() and len(name) <= 30 for name in names)
    expected = {
        0: "tench",
        134: "crane (bird)",
        258: "Samoyed",
        285: "Egyptian cat",
        386: "African elephant",
        517: "crane (machine)",
        638: "maillot",
        639: "maillot, tank suit",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {index: names[index] for index in expected} == expected


def test_the_class_names_are_those_of_wordnet(real_data):
    lines = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    for name, line in zip(store.class_names(), lines, strict=True):
        words = line.partition(" ")[2]
        assert words == name.partition(" (")[0] or f"{words}, ".startswith(f"{name}, "), (name, line)


def test_an_unknown_list_of_classes_is_not_found():
    with pytest.raises(NotFoundError) as error:
        store.class_names("imagenett")
    assert error.value.value == "imagenett" and "imagenet" in error.value.allowed


# --- files on this machine -------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(NotFoundError) as error:
        store.lookup("resnet51")
    assert error.value.value == "resnet51" and "'resnet50'" in error.value.cure
    with pytest.raises(NotFoundError) as error:
        store.lookup("resnet50", "imagnet")
    assert error.value.value == "imagnet" and error.value.allowed == ["imagenet", "imagenet-v2"]
    assert "'imagenet'" in error.value.cure


def test_the_data_folder_comes_before_the_cache_and_the_official_file_before_an_alternate(folders, row):
    assert store.local_path(row) == cached_path(row) and not cached_path(row).exists()
    alternate = write(folders / "data" / "weights" / "resnet18-half.safetensors", ALTERNATE_CONTENT)
    assert store.local_path(row) == alternate
    write(cached_path(row))
    assert store.local_path(row) == cached_path(row)
    official = write(folders / "data" / "weights" / row.file)
    assert store.local_path(row) == official


def test_a_file_on_this_machine_is_verified_and_nothing_is_downloaded(folders, row, server):
    alternate = write(folders / "data" / "weights" / "resnet18-half.safetensors", ALTERNATE_CONTENT)
    assert store.ensure_downloaded(row, offline=True, log=ignore) == alternate
    official = write(folders / "data" / "weights" / row.file)
    assert store.ensure_downloaded(row, log=ignore) == official
    assert not server.requests


@pytest.mark.parametrize("name", ["{file}", "resnet18-half.safetensors"])
def test_a_wrong_file_on_this_machine_is_refused_but_not_changed(folders, row, server, name):
    path = write(folders / "data" / "weights" / name.format(file=row.file), b"something else")
    with pytest.raises(ModelFileError) as error:
        store.ensure_downloaded(row, log=ignore)
    assert error.value.path == path and error.value.value == hashlib.sha256(b"something else").hexdigest()
    assert error.value.allowed == [store.checksums(row)[path.name]]
    assert path.read_bytes() == b"something else" and not server.requests


def test_a_checksum_is_computed_once_and_again_when_the_file_changes(folders, row, monkeypatch):
    hashed = []
    file_digest = hashlib.file_digest

    def record_digest(file, algorithm):
        hashed.append(file.name)
        return file_digest(file, algorithm)

    monkeypatch.setattr(store.hashlib, "file_digest", record_digest)
    path = write(folders / "data" / "weights" / row.file)
    for _ in range(3):
        store.ensure_downloaded(row, log=ignore)
    assert hashed == [str(path)]
    status = path.stat()
    write(path, CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(ModelFileError):
        store.ensure_downloaded(row, log=ignore)
    assert hashed == [str(path)] * 2


def test_an_unwritable_cache_costs_time_only(folders, row):
    write(folders / "data" / "weights" / row.file)
    write(folders / "cache", b"a file in the place of the folder")
    assert store.ensure_downloaded(row, log=ignore) == folders / "data" / "weights" / row.file


@pytest.mark.parametrize("content", ["5", "null", "{}", "[]", "text", '"text"'])
def test_a_damaged_cached_checksum_is_replaced(row, folders, content):
    write(cached_path(row))
    store.ensure_downloaded(row, log=ignore)
    (file,) = (folders / "cache" / "weights").glob("*.sum")
    expected = file.read_text(encoding="utf-8")
    file.write_text(content, encoding="utf-8")
    assert store.ensure_downloaded(row, log=ignore) == cached_path(row)
    assert file.read_text(encoding="utf-8") == expected


# --- downloads -------------------------------------------------------------------------------------------------------


def test_weights_are_downloaded_once_and_announced_with_size_address_and_license(row, server):
    lines = []
    assert store.ensure_downloaded(row, log=lines.append) == cached_path(row)
    assert cached_path(row).read_bytes() == CONTENT and len(server.requests) == 1
    assert "resnet18" in lines[0] and "200.0 kB" in lines[0] and row.address in lines[0] and "ImageNet" in lines[1]
    assert lines[-1] == f"{row.file}: 200.0 kB of 200.0 kB"
    lines.clear()
    assert store.ensure_downloaded(row, log=lines.append) == cached_path(row)
    assert len(server.requests) == 1 and not lines


def test_progress_is_passed_to_a_callback(row):
    calls = []
    store.ensure_downloaded(row, log=ignore, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(CONTENT), len(CONTENT))


def test_progress_is_logged_for_every_tenth_even_if_the_server_reports_no_size(row):
    lines = []
    progress = store.DownloadProgress(row, lines.append)
    for done in range(0, len(CONTENT) + 1, 100):
        progress(done, None)
    assert len(lines) == 11 and lines[5].endswith("100.0 kB of 200.0 kB")


def test_an_interrupted_transfer_continues_where_it_stopped(row, server):
    server.faults = [{"cut": 70_000}, {"status": 503}, {"cut": 50_000}]
    store.ensure_downloaded(row, log=ignore)
    assert cached_path(row).read_bytes() == CONTENT
    assert [requested for _, requested in server.requests] == [
        None,
        "bytes=70000-",
        "bytes=70000-",
        "bytes=120000-",
    ]


def test_a_killed_download_continues(row, server):
    write(cached_path(row).with_name(row.file + ".part"), CONTENT[:60_000])
    store.ensure_downloaded(row, log=ignore)
    assert server.requests == [(f"/{row.file}", "bytes=60000-")] and cached_path(row).read_bytes() == CONTENT


def test_a_download_with_a_wrong_checksum_is_deleted(row, server):
    server.content = CONTENT[::-1]
    with pytest.raises(ModelFileError) as error:
        store.ensure_downloaded(row, log=ignore)
    assert error.value.value == row.address and error.value.path == cached_path(row)
    assert not [path.name for path in cached_path(row).parent.iterdir() if not path.name.endswith(".lock")]


def test_a_missing_page_is_not_retried(row, server):
    with pytest.raises(ResourceError) as error:
        store.ensure_downloaded(replace(row, address=f"{server.url}/missing"), log=ignore)
    assert "404" in error.value.message and len(server.requests) == 1


def test_without_a_connection_the_path_for_the_file_is_named(row):
    with pytest.raises(ResourceError) as error:
        store.ensure_downloaded(replace(row, address=f"http://127.0.0.1:1/{row.file}"), log=ignore)
    assert str(cached_path(row)) in error.value.cure


def test_too_little_disk_space_is_refused_before_writing(row, monkeypatch):
    monkeypatch.setattr(thalweg.io.download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5000}))
    with pytest.raises(ResourceError) as error:
        store.ensure_downloaded(row, log=ignore)
    assert "200,000" in error.value.message and "5,000" in error.value.message
    assert "THALWEG_CACHE" in error.value.cure and not cached_path(row).exists()


@pytest.mark.parametrize("source", ["argument", "environment"])
def test_offline_reports_address_and_path(row, server, monkeypatch, source):
    if source == "environment":
        monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError) as error:
        store.ensure_downloaded(row, offline=source == "argument", log=ignore)
    assert error.value.value == row.address and error.value.path == cached_path(row)
    assert row.address in error.value.cure and str(cached_path(row)) in error.value.cure
    assert not server.requests
    write(cached_path(row))
    assert store.ensure_downloaded(row, offline=True, log=ignore) == cached_path(row)


def test_of_two_processes_one_downloads_and_both_return_the_file(row, server):
    server.may_send.clear()
    code = (
        "import sys; from dataclasses import replace; from thalweg.weights import store;"
        "row = replace(store.lookup('resnet18'), address=sys.argv[1], sha256=sys.argv[2]);"
        "print(store.ensure_downloaded(row, log=lambda m: print(m, flush=True)), flush=True)"
    )
    command = [sys.executable, "-c", code, row.address, row.sha256]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = queue.Queue()

    def read_lines(process: subprocess.Popen) -> None:
        for line in process.stdout:
            lines.put(line.strip())

    readers = [threading.Thread(target=read_lines, args=(process,), daemon=True) for process in processes]
    for reader in readers:
        reader.start()
    try:
        line = ""
        while "another process" not in line:
            line = lines.get(timeout=60)
    finally:
        server.may_send.set()
    assert [process.wait(60) for process in processes] == [0, 0]
    for reader in readers:
        reader.join(60)
    rest = [lines.get() for _ in range(lines.qsize())]
    assert rest.count(str(cached_path(row))) == 2
    assert len(server.requests) == 1 and cached_path(row).read_bytes() == CONTENT


# --- what --weights can mean -----------------------------------------------------------------------------------------


def test_a_published_name_is_downloaded(row):
    assert store.resolve("resnet18", "imagenet", log=ignore) == (cached_path(row), row)


def test_a_file_is_recognized_by_its_name_and_checksum(row, tmp_path, server):
    unknown = write(tmp_path / "mine.pth")
    assert store.resolve("resnet18", str(unknown)) == (unknown, None)
    official = write(tmp_path / row.file)
    assert store.resolve("resnet18", str(official)) == (official, row)
    assert store.resolve("resnet50", str(official)) == (official, None)
    alternate = write(tmp_path / "resnet18-half.safetensors", ALTERNATE_CONTENT)
    assert store.resolve("resnet18", str(alternate)) == (alternate, row)
    write(official, b"fine-tuned")
    assert store.resolve("resnet18", str(official)) == (official, None)
    assert not server.requests


def test_a_run_is_resolved_to_its_folder(folders):
    write(folders / "run" / "run.json", b"{}")
    assert store.resolve("resnet18", str(folders / "run")) == (folders / "run", None)
    (folders / "photos").mkdir()
    with pytest.raises(NotFoundError) as error:
        store.resolve("resnet18", str(folders / "photos"))
    assert error.value.path == str(folders / "photos")


def test_names_that_are_too_long_for_a_file_are_not_found(row, monkeypatch):
    with pytest.raises(NotFoundError) as error:
        store.resolve("resnet18", "x" * 5000)
    assert error.value.value == "x" * 5000
    monkeypatch.setenv("THALWEG_CACHE", "x" * 5000)
    with pytest.raises(ResourceError):
        store.ensure_downloaded(row, log=ignore)
    assert all(row["where"] is None for row in store.list_weights())


def test_unknown_weights_are_not_found_and_the_nearest_are_suggested(folders):
    with pytest.raises(NotFoundError) as error:
        store.resolve("resnet50", "imagenet-v3")
    assert error.value.value == "imagenet-v3" and error.value.allowed == ["imagenet", "imagenet-v2"]
    assert "'imagenet-v2'" in error.value.cure
    with pytest.raises(NotFoundError) as error:
        store.resolve("lenet", "imagenet")
    assert error.value.value == "imagenet" and error.value.allowed == []


# --- for thalweg.api -------------------------------------------------------------------------------------------------


def test_the_list_holds_every_entry_and_the_files_on_this_machine(row):
    assert {(r["model"], r["weights"]) for r in store.list_weights()} == set(CATALOG)
    assert all(r["where"] is None for r in store.list_weights())
    write(cached_path(row))
    local = [r for r in store.list_weights() if r["where"]]
    assert [(r["model"], r["file"], r["where"]) for r in local] == [("resnet18", row.file, str(cached_path(row)))]


def test_the_path_of_weights_that_are_not_on_this_machine_is_an_error(row):
    with pytest.raises(ResourceError) as error:
        store.get_weights_path("resnet18")
    assert error.value.path == cached_path(row) and error.value.cure.endswith("resnet18")
    write(cached_path(row))
    assert store.get_weights_path("resnet18") == cached_path(row)
    with pytest.raises(ResourceError) as error:
        store.get_weights_path("resnet50", "imagenet-v2")
    assert error.value.cure.endswith("resnet50 imagenet-v2")


def test_a_download_logs_to_standard_error(row, capsys):
    assert store.download_weights("resnet18") == cached_path(row)
    output = capsys.readouterr()
    assert not output.out and row.address in output.err
