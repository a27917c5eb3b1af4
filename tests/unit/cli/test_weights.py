"""`thalweg weights`: what it prints where, and how it ends. The functions are the real ones, the server is our own."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import typer

import thalweg
from tests.helpers.http_servers import serve_content
from thalweg.cli import exit_codes as exits
from thalweg.cli.weights import weights_app as verbs
from thalweg.weights import store as weights
from thalweg.weights.catalog import CATALOG

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    with serve_content(CONTENT, monkeypatch) as made:
        yield made


@pytest.fixture
def row(tmp_path, server, monkeypatch):
    """ResNet-50's second row, at the server's address; an empty cache, and a façade that hands on to the functions."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_DATA", raising=False)
    key = ("resnet50", "imagenet-v2")
    made = replace(CATALOG[key], address=f"{server.url}/r-{SHA256[:8]}.pth", sha256=SHA256[:8])
    monkeypatch.setitem(CATALOG, key, made)
    api = ModuleType("thalweg.api")
    for name in ("weights_list", "weights_pull", "weights_where"):
        setattr(api, name, getattr(weights, name))
    monkeypatch.setitem(sys.modules, "thalweg.api", api)
    monkeypatch.setattr(thalweg, "api", api, raising=False)
    return made


def run(*words: str) -> int:
    """The exit code of `thalweg weights WORDS`."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.add_typer(verbs, name="weights")
    return exits.run_with_exit_code(lambda: app(args=["weights", *words], prog_name="thalweg", standalone_mode=False))


def test_without_a_verb_the_help_is_shown_and_names_all(capsys):
    assert run() == 0
    told = capsys.readouterr().out
    assert all(f" {verb} " in told for verb in ("list", "pull", "where"))


@pytest.mark.parametrize("verb", ["list", "pull", "where"])
def test_the_help_of_every_verb_shows_an_example(verb, capsys):
    assert run(verb, "--help") == 0
    assert f"thalweg weights {verb}" in capsys.readouterr().out.split("\n", 2)[2]


def test_the_list_is_a_table_with_a_line_for_every_row(row, capsys):
    assert run("list") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["model", "weights"] and "on this machine" in heading
    told = {tuple(line.split()[:2]): line.split()[2:] for line in lines[: len(CATALOG)]}
    assert set(told) == set(CATALOG)
    assert told["resnet152", "imagenet"] == ["60.19", "241.6", "78.31", "94.05", "no"]
    assert lines[-1].startswith("licence: ") and "ImageNet" in lines[-1]
    assert max(len(line) for line in lines[: len(CATALOG)]) <= 100


def test_the_list_tells_what_is_here(row, capsys):
    assert run("pull", "resnet50", "imagenet-v2") == 0
    capsys.readouterr()
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.endswith("  here")] == [["resnet50", "imagenet-v2"]]


def test_the_list_as_json_has_all_facts(row, capsys):
    assert run("list", "--json") == 0
    rows = {(r["model"], r["weights"]): r for r in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(CATALOG)
    told = rows["inception_v3", "imagenet"]
    assert (told["resize"], told["size"], told["arguments"]) == (342, 299, {"transform_input": True})
    assert (told["sha256"], told["file"], told["where"]) == ("0cc3c7bd", "inception_v3_google-0cc3c7bd.pth", None)
    assert told["address"].startswith("https://") and told["licence"] and told["mean"] == [0.485, 0.456, 0.406]


def test_pull_prints_the_file_alone_on_standard_output(row, tmp_path, capsys):
    path = tmp_path / "cache" / "weights" / row.file
    assert run("where", "resnet50", "imagenet-v2") == 5
    told = capsys.readouterr()
    assert not told.out and str(path) in told.err and "thalweg weights pull resnet50 imagenet-v2" in told.err
    assert run("pull", "resnet50", "imagenet-v2") == 0
    told = capsys.readouterr()
    assert told.out == f"{path}\n" and path.read_bytes() == CONTENT
    assert row.address in told.err and "licence" in told.err and "error" not in told.err
    assert run("where", "resnet50", "imagenet-v2") == 0
    assert capsys.readouterr().out == f"{path}\n"


def test_every_failure_has_its_exit_code_and_nothing_on_standard_output(row, server, monkeypatch, capsys):
    def ends(*words: str) -> tuple[int, str]:
        code, told = run(*words), capsys.readouterr()
        assert not told.out and "error: " in told.err
        return code, told.err

    assert ends("pull", "resnet5")[0] == ends("where", "resnet50", "imagnet")[0] == 2
    assert ends("pull")[0] == 2
    code, told = ends("pull", "resnet50", "imagenet-v2", "--offline")
    assert code == 5 and row.address in told and not server.asked
    server.plan = [{"status": 404}]
    code, told = ends("pull", "resnet50", "imagenet-v2")
    assert code == 5 and "404" in told
    server.content = b"other" * 1000
    code, told = ends("pull", "resnet50", "imagenet-v2")
    assert code == 4 and "sha256" in told
    path = weights.local_path(row)
    path.write_bytes(b"put here by hand")
    code, told = ends("pull", "resnet50", "imagenet-v2")
    assert code == 4 and "not the official file" in told


def test_the_verbs_import_nothing_heavy():
    program = (
        "import sys, thalweg.cli.weights;"
        "print([m for m in ('torch', 'numpy', 'rich', 'yaml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
