"""`thalweg weights`: what it prints where, and how it ends. The functions are the real ones, the server is local."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest

import thalweg
from tests.helpers.http_servers import serve_content
from thalweg.cli import main as cli
from thalweg.weights import store
from thalweg.weights.catalog import CATALOG

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as server:
        yield server


@pytest.fixture
def row(tmp_path, server, monkeypatch):
    """ResNet-50's second row, at the server's address; an empty cache, and an API that passes on to the functions."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_DATA", raising=False)
    key = ("resnet50", "imagenet-v2")
    row = replace(CATALOG[key], address=f"{server.url}/r-{SHA256[:8]}.pth", sha256=SHA256[:8])
    monkeypatch.setitem(CATALOG, key, row)
    api = ModuleType("thalweg.api")
    for name in ("list_weights", "download_weights", "get_weights_path"):
        setattr(api, name, getattr(store, name))
    monkeypatch.setitem(sys.modules, "thalweg.api", api)
    monkeypatch.setattr(thalweg, "api", api, raising=False)
    return row


def run(*words: str) -> int:
    """Return the exit code of `thalweg weights WORDS`."""
    return cli.invoke(["weights", *words])


def test_the_list_has_a_line_per_row(row, capsys):
    assert run("list") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["model", "weights"]
    cells = {tuple(line.split()[:2]): line.split()[2:] for line in lines[: len(CATALOG)]}
    assert set(cells) == set(CATALOG)
    assert cells["resnet152", "imagenet"] == ["60.19", "241.6", "78.31", "94.05", "no"]
    assert "ImageNet" in lines[-1]
    assert max(len(line) for line in lines[: len(CATALOG)]) <= 100


def test_the_list_shows_what_is_on_this_machine(row, capsys):
    assert run("download", "resnet50", "imagenet-v2") == 0
    capsys.readouterr()
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.endswith("  here")] == [["resnet50", "imagenet-v2"]]


def test_the_list_as_json_has_every_field(row, capsys):
    assert run("list", "--json") == 0
    rows = {(r["model"], r["weights"]): r for r in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(CATALOG)
    inception = rows["inception_v3", "imagenet"]
    assert (inception["resize"], inception["size"]) == (342, 299)
    assert inception["model_kwargs"] == {"transform_input": True}
    assert (inception["sha256"], inception["where"]) == ("0cc3c7bd", None)
    assert inception["file"] == "inception_v3_google-0cc3c7bd.pth"
    assert inception["address"].startswith("https://") and inception["license"]
    assert inception["mean"] == [0.485, 0.456, 0.406]


def test_download_prints_only_the_file_on_standard_output(row, tmp_path, capsys):
    path = tmp_path / "cache" / "weights" / row.file
    assert run("path", "resnet50", "imagenet-v2") == 5
    captured = capsys.readouterr()
    assert not captured.out and str(path) in captured.err
    assert "thalweg weights download resnet50 imagenet-v2" in captured.err
    assert run("download", "resnet50", "imagenet-v2") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{path}\n" and path.read_bytes() == CONTENT
    assert row.address in captured.err and row.license in captured.err and "error" not in captured.err
    assert run("path", "resnet50", "imagenet-v2") == 0
    assert capsys.readouterr().out == f"{path}\n"


def test_failures_have_exit_codes_and_no_results(row, server, capsys):
    def fail(*words: str) -> tuple[int, str]:
        code = run(*words)
        captured = capsys.readouterr()
        assert not captured.out and "error: " in captured.err
        return code, captured.err

    assert fail("download", "resnet5")[0] == 2
    assert fail("path", "resnet50", "imagnet")[0] == 2
    assert fail("download")[0] == 2
    code, message = fail("download", "resnet50", "imagenet-v2", "--offline")
    assert code == 5 and row.address in message and not server.requests
    server.faults = [{"status": 404}]
    code, message = fail("download", "resnet50", "imagenet-v2")
    assert code == 5 and "404" in message
    server.content = b"other" * 1000
    assert fail("download", "resnet50", "imagenet-v2")[0] == 4
    path = store.local_path(row)
    path.write_bytes(b"put here by hand")
    code, message = fail("download", "resnet50", "imagenet-v2")
    assert code == 4 and str(path) in message


def test_the_commands_import_nothing_heavy():
    program = (
        "import sys, thalweg.cli.weights;"
        "print([m for m in ('torch', 'numpy', 'rich', 'yaml', 'PIL') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
