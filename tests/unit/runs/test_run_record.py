"""run.json: what is written comes back, and every damaged field is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.toy_records import DATA, RECORD, make_record
from thalweg.data.base import UnreadableFile
from thalweg.data.images.input_spec import InputSpec
from thalweg.errors import ModelFileError
from thalweg.inference.run import Run
from thalweg.runs.run_dir import RunDir
from thalweg.runs.run_record import FORMAT_VERSION, InitialWeightsRecord, Results, RunRecord, parse_data_spec

FULL = make_record(
    status="finished",
    recipe="mnist-lenet",
    plan={"device": "cpu"},
    initial_weights=InitialWeightsRecord("imagenet", "w.pth", "ab", ["head.weight"], "MIT", {"classes": ["x"]}),
    results=Results({"accuracy": 0.5}, {"accuracy": None}, {"per_class": []}, 20, 2.0, 1.5, 3.25),
    weights_sha256="cd",
)


@pytest.mark.parametrize("record", [RECORD, FULL], ids=["new", "finished"])
def test_records_come_back(tmp_path, record):
    RunDir(tmp_path).write_record(record)
    assert RunDir(tmp_path).read_record() == record


def test_names_that_are_not_utf_8_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.png") if os.name == "posix" else "caf\udce9.png"
    data = replace(DATA, unreadable=[UnreadableFile(name, "数据")])
    RunDir(tmp_path).write_record(make_record(data=data))
    assert RunDir(tmp_path).read_record().data == data
    assert "数据" in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_fields_of_newer_versions_are_ignored():
    assert RunRecord.parse({**FULL.json(), "mood": "good"}, Path("run.json")) == FULL


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"3", b"{}"])
def test_other_content_is_not_a_run(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ModelFileError) as error:
        RunDir(tmp_path).read_record()
    assert error.value.path == tmp_path / "run.json" and error.value.cure and error.value.exit_code == 4


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 1, "2", None, True])
def test_other_formats_are_refused(tmp_path, version):
    (tmp_path / "run.json").write_text(json.dumps({**FULL.json(), "format": version}), encoding="utf-8")
    with pytest.raises(ModelFileError) as error:
        RunDir(tmp_path).read_record()
    assert error.value.path == tmp_path / "run.json"
    assert error.value.option == "format" or error.value.value == version


REQUIRED = ["task", "model", "model_kwargs", "options", "task_options", "data_spec", "data", "status"]


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_fields_are_named(name):
    values = FULL.json()
    del values[name]
    with pytest.raises(ModelFileError) as error:
        RunRecord.parse(values, Path("run.json"))
    assert error.value.option == name


@pytest.mark.parametrize("name", [field for field in RunRecord.__dataclass_fields__ if field != "format"])
@pytest.mark.parametrize("wrong", [3.5, ["x"], True], ids=str)
def test_every_field_of_a_wrong_type_is_named(name, wrong):
    with pytest.raises(ModelFileError) as error:
        RunRecord.parse({**FULL.json(), name: wrong}, Path("run.json"))
    assert (error.value.option, error.value.path) == (name, Path("run.json"))


@pytest.mark.parametrize(
    ("part", "changed", "name"),
    [
        ("data", {"counts": {"train": "many"}}, "data.counts.train"),
        ("data", {"fingerprint": None}, "data.fingerprint"),
        ("data", {"unreadable": [{"path": "a"}]}, "data.unreadable[0].reason"),
        ("results", {"steps": 2.5}, "results.steps"),
        ("results", {"test": []}, "results.test"),
        ("initial_weights", {"reset": "head"}, "initial_weights.reset"),
    ],
)
def test_fields_inside_of_fields_are_named_by_their_path(part, changed, name):
    values = FULL.json()
    with pytest.raises(ModelFileError) as error:
        RunRecord.parse({**values, part: {**values[part], **changed}}, Path("run.json"))
    assert error.value.option == name


# --- the parts that the task reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("classes", ["ab", [1], None]),
        ("channels", [4, 2, 0, True, "3", None]),
        ("size", [[8], [8, 0], [8, -1], [8.0, 8.0], [10**12, 8], 8, None]),
        ("mean", [[0.5], [0.5, 0.5, None], [0.5, 0.5, 10**400], [0, 0, float("nan")], "0.5", None]),
        ("std", [[1, 1, 0], [1, 1, -1], [1, 1], None]),
        ("handwriting", [0, "no", None]),
        ("resize", [0, "256", 1.5]),
        ("tta", [1, "mirrored", None]),
        ("class_counts", [[-1], ["many"], 3]),
    ],
)
def test_specs_that_no_image_can_be_read_with_are_refused_by_name(key, wrong):
    path = Path("run.json")
    for value in wrong:
        record = make_record(data_spec={**RECORD.data_spec, key: value})
        with pytest.raises(ModelFileError) as error:
            parse_data_spec(record, InputSpec, path)
        assert str(error.value.option).startswith(f"data_spec.{key}"), value
        assert error.value.path == path
    if key in RECORD.data_spec:
        rest = {name: value for name, value in RECORD.data_spec.items() if name != key}
        with pytest.raises(ModelFileError) as error:
            parse_data_spec(make_record(data_spec=rest), InputSpec, path)
        assert error.value.option == f"data_spec.{key}"


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"task": "clasify"}, "task"),
        ({"options": {"warp": 9}}, "warp"),
        ({"options": {"epochs": "many"}}, "epochs"),
        ({"task_options": {"tta": "mirrored"}}, "tta"),
        ({"data_spec": {}}, "data_spec.classes"),
    ],
    ids=str,
)
def test_runs_of_unknown_tasks_or_options_are_refused_by_name(tmp_path, changed, name):
    RunDir(tmp_path).write_record(make_record(**changed))
    with pytest.raises(ModelFileError) as error:
        Run(RunDir(tmp_path))
    assert (error.value.option, error.value.path) == (name, tmp_path / "run.json")


@pytest.mark.parametrize("changed", [{"model": "lenett"}, {"model_kwargs": {"warp": 9}}], ids=str)
def test_models_that_cannot_be_built_are_refused_by_name(tmp_path, changed):
    RunDir(tmp_path).write_record(make_record(**changed))
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    run = Run(RunDir(tmp_path))
    with pytest.raises(ModelFileError) as error:
        run.predict(tmp_path / "a.png")
    assert (error.value.option, error.value.path) == ("model", tmp_path / "run.json")
