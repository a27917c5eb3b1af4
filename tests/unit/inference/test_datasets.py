from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.toy_tasks import TASKS
from thalweg import api
from thalweg.cli.main import invoke
from thalweg.errors import NotFoundError
from thalweg.inference.datasets import find_named_data, guess_task


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def write_text(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_text("To be, or not to be: that is the question.\n" * 20, encoding="utf-8")
    return path


def test_data_is_listed_for_every_task_with_keys_that_scripts_read(capsys):
    assert invoke(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"digits", "tinyshakespeare", "ettm1", "airline", "multi30k", "fra-eng", "adding", "valley"} <= set(rows)
    assert {"name", "images", "classes", "bytes", "license", "where", "task", "summary"} <= set(rows["mnist"])
    assert rows["ettm1"]["task"] == "forecast" and rows["ettm1"]["where"] is None and "classes" not in rows["ettm1"]


def test_the_table_has_the_same_columns_for_all(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "600")
    assert invoke(["data", "list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "task", "description", "summary", "bytes", "license", "where"]
    assert any("170.5 MB" in line and line.startswith("cifar10 ") for line in lines)


def test_data_is_checked_by_its_name_without_a_task(tmp_path, capsys):
    write_text(tmp_path)
    assert invoke(["data", "check", "tinyshakespeare"]) == 0
    assert "tinyshakespeare: text file" in capsys.readouterr().out


def test_download_prints_where_data_is_and_says_where_it_belongs(tmp_path, capsys):
    path = write_text(tmp_path)
    assert invoke(["data", "download", "tinyshakespeare"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert invoke(["data", "download", "ettm1"]) == 5
    assert str(Path("ett", "ETTm1.csv")) in capsys.readouterr().err
    assert api.download_dataset("adding-600") is None


def test_a_path_is_recognized_before_a_name(tmp_path):
    (tmp_path / "airline").mkdir()
    (tmp_path / "airline" / "a.txt").write_text("a text", encoding="utf-8")
    assert guess_task(Path("airline")) == "write"
    assert guess_task(Path("copy-500")) == "remember" and guess_task(Path("cifar10:cat,dog")) == "classify"
    assert guess_task(Path("nothing")) == next(iter(TASKS))


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(NotFoundError) as error:
        find_named_data("multi30")
    assert error.value.value == "multi30" and "'multi30k'" in error.value.cure
