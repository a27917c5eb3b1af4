"""Published weights: one table of facts, files that are found, fetched, proved or refused, and other files and runs."""

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
from thalweg.weights import store as weights
from thalweg.weights.catalog import CATALOG, AlternateFile, PretrainedWeights
from thalweg.weights.files import skip_init

CONTENT = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: half precision, say
OTHER = b"the same weights in another form"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty THALWEG_DATA and an empty cache; the network is not forbidden, and nothing waits."""
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    monkeypatch.setattr(thalweg.io.download.time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as made:
        yield made


@pytest.fixture
def row(places, server, monkeypatch):
    """ResNet-18's row, with the server's address and the beginning of the sum of what the server serves."""
    url = f"{server.url}/resnet18-{SHA256[:8]}.pth"
    made = replace(
        CATALOG["resnet18", "imagenet"],
        address=url,
        sha256=SHA256[:8],
        megabytes=len(CONTENT) / 2**20,
        copies=(AlternateFile("resnet18-half.safetensors", hashlib.sha256(OTHER).hexdigest()),),
    )
    monkeypatch.setitem(CATALOG, ("resnet18", "imagenet"), made)
    return made


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def cached(row: PretrainedWeights) -> Path:
    return Path(os.environ["THALWEG_CACHE"]) / "weights" / row.file


def quiet(message: str) -> None:
    pass


# --- the table -------------------------------------------------------------------------------------------------------

ROWS = pytest.mark.parametrize("row", CATALOG.values(), ids=lambda row: f"{row.model}-{row.weights}")


@ROWS
def test_a_row_agrees_with_itself(row):
    assert row.address == f"https://download.pytorch.org/models/{row.file}"
    assert row.sha256 == row.file.removesuffix(".pth").rpartition("-")[2] and len(bytes.fromhex(row.sha256)) == 4
    assert row.bytes == pytest.approx(4 * row.parameters, rel=0.02)  # single precision, and little else
    assert 50 < row.top1 < row.top5 < 100 and row.size < row.resize
    assert "ImageNet" in row.licence and len(weights.class_names(row.classes)) == 1000


@ROWS
def test_the_model_of_a_row_can_be_built_and_has_its_parameters(row):
    with skip_init():
        network = registry.find_model(row.model, "classify")(in_channels=3, num_classes=1000, **row.arguments)
    assert sum(p.numel() for p in network.parameters()) == row.parameters


def test_the_table_holds_every_model_of_its_families_once():
    families = {f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
    families |= {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    families |= {"inception_v3", "squeezenet1_0", "squeezenet1_1", "mobilenet_v3_small", "mobilenet_v3_large"}
    twice = {"resnet50", "resnet101", "resnet152", "mobilenet_v3_large"}
    assert set(CATALOG) == {(m, "imagenet") for m in families} | {(m, "imagenet-v2") for m in twice}
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
    row = weights.lookup(model, name)
    assert (row.top1, row.resize, row.size) == (top1, resize, size)
    assert (row.mean, row.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_only_inception_reads_pictures_of_another_scale():
    assert {row.model for row in CATALOG.values() if row.arguments} == {"inception_v3"}
    assert weights.lookup("inception_v3").arguments == {"transform_input": True}


def test_the_facts_of_a_row_are_those_of_a_run():
    facts = weights.input_spec(weights.lookup("inception_v3"))
    assert set(facts) == {"classes", "channels", "size", "resize", "mean", "std", "ink"}
    assert (facts["channels"], facts["size"], facts["resize"], facts["ink"]) == (3, [299, 299], 342, False)
    assert facts["classes"] == list(weights.class_names())


# --- the names of the classes ----------------------------------------------------------------------------------------


def test_the_classes_of_imagenet_are_distinct_and_in_order():
    names = weights.class_names("imagenet")
    assert len(names) == 1000 and len({name.lower() for name in names}) == 1000
    assert all(name == name.strip() and name.isascii() and len(name) <= 30 for name in names)
    places = {
        0: "tench", 134: "crane (bird)", 258: "Samoyed", 285: "Egyptian cat", 386: "African elephant",
        517: "crane (machine)", 638: "maillot", 639: "maillot, tank suit", 967: "espresso", 999: "toilet tissue",
    }  # fmt: skip
    assert {place: names[place] for place in places} == places


def test_the_names_are_those_of_wordnet(real_data):
    lines = (real_data / "weights" / "imagenet_synset_words.txt").read_text(encoding="utf-8").splitlines()
    for name, line in zip(weights.class_names(), lines, strict=True):
        words = line.partition(" ")[2]
        assert words == name.partition(" (")[0] or f"{words}, ".startswith(f"{name}, "), (name, line)


def test_another_list_of_classes_is_not_found():
    with pytest.raises(NotFoundError, match="no list of classes named 'imagenett'"):
        weights.class_names("imagenett")


# --- where they are --------------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(NotFoundError, match="'resnet51'") as error:
        weights.lookup("resnet51")
    assert "'resnet50'" in error.value.cure
    with pytest.raises(NotFoundError, match="no weights named 'imagnet' for resnet50") as error:
        weights.lookup("resnet50", "imagnet")
    assert "'imagenet'" in error.value.cure


def test_the_users_own_data_comes_before_the_cache_and_the_official_file_before_a_copy(places, row):
    assert weights.local_path(row) == cached(row) and not cached(row).exists()
    half = put(places / "data" / "weights" / "resnet18-half.safetensors", OTHER)
    assert weights.local_path(row) == half
    put(cached(row))
    assert weights.local_path(row) == cached(row)
    own = put(places / "data" / "weights" / row.file)
    assert weights.local_path(row) == own


def test_a_file_or_a_copy_that_is_here_is_proved_and_nothing_is_fetched(places, row, server):
    half = put(places / "data" / "weights" / "resnet18-half.safetensors", OTHER)
    assert weights.ensure_downloaded(row, offline=True, notice=quiet) == half
    own = put(places / "data" / "weights" / row.file)
    assert weights.ensure_downloaded(row, notice=quiet) == own
    assert not server.asked


@pytest.mark.parametrize("name", ["{file}", "resnet18-half.safetensors"])
def test_a_file_that_is_here_and_wrong_is_refused_but_not_touched(places, row, server, name):
    path = put(places / "data" / "weights" / name.format(file=row.file), b"something else")
    with pytest.raises(ModelFileError, match="not the official file; its SHA-256 is") as error:
        weights.ensure_downloaded(row, notice=quiet)
    assert str(path) in error.value.message and path.read_bytes() == b"something else" and not server.asked


def test_a_sum_is_taken_once_and_again_when_the_file_changes(places, row, monkeypatch):
    taken = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        weights.hashlib, "file_digest", lambda file, kind: taken.append(file.name) or digest(file, kind)
    )
    path = put(places / "data" / "weights" / row.file)
    for _ in range(3):
        weights.ensure_downloaded(row, notice=quiet)
    assert taken == [str(path)]
    state = path.stat()
    put(path, CONTENT[::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000_000))
    with pytest.raises(ModelFileError):
        weights.ensure_downloaded(row, notice=quiet)
    assert taken == [str(path)] * 2


def test_a_cache_that_cannot_be_written_costs_time_only(places, row, monkeypatch):
    put(places / "data" / "weights" / row.file)
    put(places / "cache", b"a file where the folder would be")
    assert weights.ensure_downloaded(row, notice=quiet) == places / "data" / "weights" / row.file


# --- fetching --------------------------------------------------------------------------------------------------------


def test_weights_are_fetched_once_and_announced_with_size_address_and_licence(row, server):
    told = []
    assert weights.ensure_downloaded(row, notice=told.append) == cached(row)
    assert cached(row).read_bytes() == CONTENT and len(server.asked) == 1
    assert "resnet18" in told[0] and "200.0 kB" in told[0] and row.address in told[0] and "ImageNet" in told[1]
    assert told[-1] == f"{row.file}: 200.0 kB of 200.0 kB"
    told.clear()
    assert weights.ensure_downloaded(row, notice=told.append) == cached(row) and len(server.asked) == 1 and not told


def test_progress_goes_to_whom_it_may_concern(row):
    seen = []
    weights.ensure_downloaded(row, notice=quiet, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_progress_is_told_once_for_every_tenth_even_by_a_server_that_does_not_say_how_much(row):
    told = []
    progress = weights.DownloadProgress(row, told.append)
    for done in range(0, len(CONTENT) + 1, 100):
        progress(done, None)
    assert len(told) == 11 and told[5].endswith("100.0 kB of 200.0 kB")


def test_a_broken_transfer_goes_on_where_it_broke(row, server):
    server.plan = [{"cut": 70_000}, {"status": 503}, {"cut": 50_000}]
    told = []
    weights.ensure_downloaded(row, notice=told.append)
    assert cached(row).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=70000-", "bytes=70000-", "bytes=120000-"]
    assert sum("broke off" in line for line in told) == 3


def test_a_killed_download_is_gone_on_with(row, server):
    put(cached(row).with_name(row.file + ".part"), CONTENT[:60_000])
    weights.ensure_downloaded(row, notice=quiet)
    assert server.asked == [(f"/{row.file}", "bytes=60000-")] and cached(row).read_bytes() == CONTENT


def test_a_download_with_a_wrong_sum_is_thrown_away(row, server):
    server.content = CONTENT[::-1]
    with pytest.raises(ModelFileError, match=f"expected {row.sha256}…") as error:
        weights.ensure_downloaded(row, notice=quiet)
    assert row.address in error.value.message and "thrown away" in error.value.cure
    assert not [path.name for path in cached(row).parent.iterdir() if not path.name.endswith(".lock")]


def test_a_missing_page_is_said_at_once(row, server):
    with pytest.raises(ResourceError, match="404"):
        weights.ensure_downloaded(replace(row, address=f"{server.url}/missing"), notice=quiet)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_given_up_with_the_place_to_put_the_file(row):
    with pytest.raises(ResourceError, match="no connection") as error:
        weights.ensure_downloaded(replace(row, address=f"http://127.0.0.1:1/{row.file}"), notice=quiet)
    assert str(cached(row)) in error.value.cure


def test_too_little_room_is_refused_before_writing(row, monkeypatch):
    monkeypatch.setattr(thalweg.io.download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5000}))
    with pytest.raises(ResourceError, match="200,000 bytes are needed, 5,000 are free") as error:
        weights.ensure_downloaded(row, notice=quiet)
    assert "THALWEG_CACHE" in error.value.cure and not cached(row).exists()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_says_which_file_from_where_belongs_where(row, server, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("THALWEG_OFFLINE", "1")
    with pytest.raises(ResourceError, match="'imagenet' of resnet18 are not on this machine") as error:
        weights.ensure_downloaded(row, offline=how == "argument", notice=quiet)
    for told in (row.file, row.address, str(cached(row).parent)):
        assert told in error.value.cure
    assert not server.asked
    put(cached(row))
    assert weights.ensure_downloaded(row, offline=True, notice=quiet) == cached(row)


def test_of_two_processes_one_downloads_and_both_have_the_file(row, server):
    server.may_go_on.clear()
    code = (
        "import sys; from dataclasses import replace; from thalweg.weights import store as weights;"
        "row = replace(weights.lookup('resnet18'), address=sys.argv[1], sha256=sys.argv[2]);"
        "print(weights.ensure_downloaded(row, notice=lambda m: print(m, flush=True)), flush=True)"
    )
    command = [sys.executable, "-c", code, row.address, row.sha256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = queue.Queue()
    readers = [
        threading.Thread(target=lambda p=process: [lines.put(line.strip()) for line in p.stdout], daemon=True)
        for process in running
    ]
    for reader in readers:
        reader.start()
    try:
        told = ""
        while "another process is downloading it; waiting" not in told:
            told = lines.get(timeout=60)
    finally:
        server.may_go_on.set()
    assert [process.wait(60) for process in running] == [0, 0]
    for reader in readers:
        reader.join(60)
    rest = [lines.get() for _ in range(lines.qsize())]
    assert rest.count(str(cached(row))) == 2
    assert len(server.asked) == 1 and cached(row).read_bytes() == CONTENT


# --- what --weights can mean -----------------------------------------------------------------------------------------


def test_a_published_name_is_pulled(row):
    assert weights.resolve("resnet18", "imagenet", notice=quiet) == (cached(row), row)


def test_a_file_is_taken_as_it_is_and_recognised_by_name_and_sum(row, tmp_path, server):
    other = put(tmp_path / "mine.pth")
    assert weights.resolve("resnet18", str(other)) == (other, None)
    official = put(tmp_path / row.file)
    assert weights.resolve("resnet18", str(official)) == (official, row)
    assert weights.resolve("resnet50", str(official)) == (official, None)
    half = put(tmp_path / "resnet18-half.safetensors", OTHER)
    assert weights.resolve("resnet18", str(half)) == (half, row)
    put(official, b"fine-tuned")
    assert weights.resolve("resnet18", str(official)) == (official, None)
    assert not server.asked


def test_a_run_is_taken_by_its_folder(places):
    put(places / "run" / "run.json", b"{}")
    assert weights.resolve("resnet18", str(places / "run")) == (places / "run", None)
    (places / "photos").mkdir()
    with pytest.raises(NotFoundError, match="no run.json in it"):
        weights.resolve("resnet18", str(places / "photos"))


@pytest.mark.parametrize("note", ["5", "null", "{}", "[]", "text", '"text"'])
def test_a_note_of_a_sum_that_is_none_is_written_anew(row, places, note):
    put(cached(row))
    weights.ensure_downloaded(row, notice=quiet)
    (written,) = (places / "cache" / "weights").glob("*.sum")
    before = written.read_text(encoding="utf-8")
    written.write_text(note, encoding="utf-8")
    assert weights.ensure_downloaded(row, notice=quiet) == cached(row) and written.read_text(encoding="utf-8") == before


def test_names_that_are_too_long_are_names_of_nothing(row, monkeypatch):
    with pytest.raises(NotFoundError, match="no such file or run"):
        weights.resolve("resnet18", "x" * 5000)
    monkeypatch.setenv("THALWEG_CACHE", "x" * 5000)
    with pytest.raises(ResourceError, match="too long"):
        weights.ensure_downloaded(row, notice=quiet)
    assert all(row["where"] is None for row in weights.list_weights())


def test_anything_else_is_not_found_and_the_nearest_is_suggested(places):
    with pytest.raises(NotFoundError, match="no weights 'imagenet-v3' for resnet50") as error:
        weights.resolve("resnet50", "imagenet-v3")
    assert "'imagenet-v2'" in error.value.cure and "a run's folder" in error.value.cure
    with pytest.raises(NotFoundError, match="no weights 'imagenet' for lenet") as error:
        weights.resolve("lenet", "imagenet")
    assert "None are published for lenet" in error.value.cure


# --- what the façade offers ------------------------------------------------------------------------------------------


def test_the_list_tells_every_row_and_what_is_here(row):
    assert {(r["model"], r["weights"]) for r in weights.list_weights()} == set(CATALOG)
    assert all(r["where"] is None for r in weights.list_weights())
    put(cached(row))
    here = [r for r in weights.list_weights() if r["where"]]
    assert [(r["model"], r["file"], r["where"]) for r in here] == [("resnet18", row.file, str(cached(row)))]


def test_where_is_an_answer_only_for_what_is_here(row):
    with pytest.raises(ResourceError, match="not on this machine") as error:
        weights.get_weights_path("resnet18")
    assert str(cached(row)) in error.value.message and error.value.cure.endswith("thalweg weights pull resnet18")
    put(cached(row))
    assert weights.get_weights_path("resnet18") == cached(row)
    with pytest.raises(ResourceError) as error:
        weights.get_weights_path("resnet50", "imagenet-v2")
    assert error.value.cure.endswith("thalweg weights pull resnet50 imagenet-v2")


def test_pulling_tells_on_standard_error(row, capsys):
    assert weights.download_weights("resnet18") == cached(row)
    told = capsys.readouterr()
    assert not told.out and row.address in told.err
