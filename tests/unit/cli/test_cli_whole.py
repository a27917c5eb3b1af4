"""The commands on real handwritten digits, from training to predictions."""

import csv
import io
import json
import os
import shlex
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import pytest

from thalweg.cli import main as cli

pytest.importorskip("torch")

TRAIN = ["train", "classify", "digits", "--model", "perceptron", "--steps", "60", "--no-report", "--cpu-threads", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert cli.invoke([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Ten digits of the test set as PNG files, one of each class."""
    folder = tmp_path_factory.mktemp("digits")
    assert cli.invoke(["data", "export-samples", "digits", "--count", "10", "--out", str(folder)]) == 0
    return folder


def parse_objects(text):
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_train_prints_its_folder_last_and_writes_a_run(tmp_path, capsys):
    folder = tmp_path / "naïve 数据 a'b"
    assert cli.invoke([*TRAIN, "--set", "seed=3", "--out", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(folder)
    assert "digits" in captured.err and str(folder) not in captured.out.splitlines()[:-1]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert record["options"]["steps"] == 60 and record["options"]["seed"] == 3
    assert (folder / "weights.safetensors").is_file()


def test_a_second_training_into_the_same_folder_is_rejected(run, capsys):
    assert cli.invoke([*TRAIN, "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_finished_run_can_be_trained_further(tmp_path, capsys):
    folder = tmp_path / "more"
    words = ["--no-report", "--out", str(folder)]
    assert cli.invoke(["train", "classify", "digits", "--model", "perceptron", "--epochs", "1", *words]) == 0
    assert cli.invoke(["train", "--resume", "--epochs", "+1", *words]) == 0
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["results"]["epochs"] == 2
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)


def test_evaluate_prints_the_json_object_that_python_returns(run, capsys):
    assert cli.invoke(["evaluate", str(run), "--json"]) == 0
    (result,) = parse_objects(capsys.readouterr().out)
    assert set(result) == {"split", "metrics", "data", "details"}
    assert (result["split"], result["data"]) == ("test", "digits")
    from thalweg import api

    assert result["metrics"] == pytest.approx(api.load(run).evaluate()["metrics"], abs=1e-6)
    assert 0.5 < result["metrics"]["accuracy"] <= 1


def test_evaluate_on_other_data_counts_the_examples_that_were_trained_on(tmp_path, capsys):
    from PIL import Image

    for split, shades in (("a", range(40)), ("b", range(20, 60))):
        for index in shades:
            folder = tmp_path / split / ("dark" if index % 2 else "light")
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 2 * index if index % 2 else 255 - 2 * index).save(folder / f"{index}.png")
    run = tmp_path / "run"
    words = ["--model", "perceptron", "--steps", "5", "--no-report", "--out", str(run)]
    assert cli.invoke(["train", "classify", str(tmp_path / "a"), *words]) == 0
    capsys.readouterr()
    assert cli.invoke(["evaluate", str(run), str(tmp_path / "b"), "--json"]) == 0
    (result,) = parse_objects(capsys.readouterr().out)
    assert set(result) == {"split", "metrics", "data", "details", "trained_on"} and result["split"] == "all"
    assert 0 < result["trained_on"]["examples"] <= 20
    assert result["trained_on"]["metrics"]["examples"] + result["trained_on"]["examples"] == 40


def test_predictions_are_equal_one_by_one_in_batches_and_from_python(run, digits, capsys):
    paths = sorted(str(path) for path in digits.iterdir())
    results = []
    for batch in ("1", "64"):
        assert cli.invoke(["predict", str(run), *paths, "--json", "--batch-size", batch]) == 0
        results.append(parse_objects(capsys.readouterr().out))
    from thalweg import api

    results.append([prediction.json() for prediction in api.load(run).predict(paths)])
    for one, many, python in zip(*results, strict=True):
        assert set(one) == {"source", "label", "top"} and one["source"] in paths
        assert one["label"] == one["top"][0]["label"] and len(one["top"]) == 5
        for other in (many, python):
            assert [t["label"] for t in other["top"]] == [t["label"] for t in one["top"]]
            assert [t["probability"] for t in other["top"]] == pytest.approx(
                [t["probability"] for t in one["top"]], abs=1e-6
            )


def test_the_table_has_the_ten_probabilities_of_every_digit(run, digits, capsys):
    assert cli.invoke(["predict", str(run), str(digits)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == [*"0123456789", "label", "source"]
    assert len(rows) == 10
    for row in rows:
        cells = row.split()
        assert sum(map(float, cells[:10])) == pytest.approx(1, abs=0.01)
        assert float(cells[int(cells[10])]) == max(map(float, cells[:10]))


def test_an_unreadable_image_is_reported_and_the_others_are_predicted(run, digits, tmp_path, capsys):
    cut = tmp_path / "cut.png"
    whole = next(digits.iterdir())
    cut.write_bytes(whole.read_bytes()[:60])
    assert cli.invoke(["predict", str(run), str(cut), str(whole), str(tmp_path / "missing.png"), "--csv"]) == 3
    captured = capsys.readouterr()
    assert "cut.png" in captured.err and "missing.png" in captured.err
    rows = list(csv.reader(io.StringIO(captured.out)))
    assert [row[0] for row in rows] == ["source", str(whole)]


def test_predict_reads_standard_input_as_an_image_or_a_list(run, digits):
    whole = next(digits.iterdir())
    command = [sys.executable, "-m", "thalweg", "predict", str(run), "-", "--json"]
    image = subprocess.run(command, input=whole.read_bytes(), capture_output=True)
    listed = subprocess.run(command, input=f"{whole}\n".encode(), capture_output=True)
    assert (image.returncode, listed.returncode) == (0, 0), image.stderr + listed.stderr
    (one,), (other,) = parse_objects(image.stdout.decode()), parse_objects(listed.stdout.decode())
    assert (one["source"], other["source"]) == ("-", str(whole))
    assert one["top"] == other["top"]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
@pytest.mark.parametrize(("closed", "code"), [("<&-", 0), (">&-", 141), ("2>&-", 0), ("<&- >&- 2>&-", 141)])
def test_a_closed_output_is_a_broken_pipe_and_other_closed_streams_do_not_matter(run, digits, closed, code):
    words = shlex.join([sys.executable, "-m", "thalweg", "predict", str(run), str(next(digits.iterdir())), "--json"])
    process = subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (code, "")
    assert len(parse_objects(process.stdout)) == (code == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
def test_notices_never_become_results(run, digits, tmp_path):
    (tmp_path / "bad.png").touch()
    words = ["predict", str(run), str(next(digits.iterdir())), str(tmp_path / "bad.png"), "--json"]
    command = shlex.join([sys.executable, "-m", "thalweg", *words])
    process = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, text=True)
    assert process.returncode == 3 and len(parse_objects(process.stdout)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
def test_a_closed_standard_input_is_an_empty_one(run):
    words = shlex.join([sys.executable, "-m", "thalweg", "predict", str(run), "-"])
    process = subprocess.run(["sh", "-c", f"{words} <&-"], capture_output=True, text=True)
    assert process.returncode == 3 and process.stderr.startswith("error: -: ")


def test_predict_saves_the_drawing_and_the_input(run, digits, tmp_path, capsys):
    from PIL import Image

    whole = next(digits.iterdir())
    assert cli.invoke(["predict", str(run), str(whole), "--save", str(tmp_path / "saved")]) == 0
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == [f"{whole.stem}-input.png", f"{whole.stem}.png"]
    assert Image.open(tmp_path / "saved" / f"{whole.stem}-input.png").size == (8, 8)


def test_a_url_is_not_fetched_offline(run, digits, capsys):
    url = "https://example.invalid/digit.png"
    assert cli.invoke(["predict", str(run), url, str(next(digits.iterdir())), "--offline", "--json"]) == 3
    captured = capsys.readouterr()
    assert url in captured.err and len(parse_objects(captured.out)) == 1


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["evaluate", "{run}", "--split", "tset"], 2, "tset"),
        (["evaluate", "nowhere"], 2, "nowhere"),
        (["evaluate", "{here}"], 4, "run.json"),
        (["train", "clasify"], 2, "'classify'"),
        (["train", "classify", "digits", "--model", "lenett"], 2, "'lenet'"),
        (["train", "classify", "no/such/folder"], 2, "no/such/folder"),
        (["train", "classify", "{here}"], 3, ""),
        (["train", "--recipe", "mnist-lnet"], 2, "mnist-lnet"),
        (["train", "classify", "digits", "--set", "activatoin=tanh"], 2, "activatoin"),
        (["train", "classify", "digits", "--lr", "-1"], 2, "--lr"),
        (["train", "classify", "digits", "--device", "cuda:77"], 5, "cuda:77"),
        (["train", "classify", "digits", "--device", "teapot"], 2, "teapot"),
        (["train", "--resume"], 2, "--out"),
        (["data", "download", "mnsit"], 2, "'mnist'"),
        (["data", "check", "digits", "--image-size", "0"], 2, "--image-size"),
        (["export", "{run}", "--format", "h5"], 2, "h5"),
    ],
)
def test_errors_have_exit_codes_and_name_the_cause(words, code, named, run, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [word.format(run=run, here=empty) for word in words]
    assert cli.invoke(words) == code
    captured = capsys.readouterr()
    assert captured.out == "" and named in captured.err
    assert "Traceback" not in captured.err and "unexpected" not in captured.err


def test_export_writes_a_file_that_agrees_and_prints_its_path(run, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "digits.onnx"
    assert cli.invoke(["export", str(run), "--out", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(path)] and path.is_file()
    assert "same label in 100.00%" in captured.err


def test_data_check_counts_every_image_once_and_draws_a_batch(tmp_path, capsys):
    from PIL import Image

    path = tmp_path / "new folder" / "batch.png"
    assert cli.invoke(["data", "check", "digits", "--json", "--save", str(path)]) == 0
    counts = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["counts"]
    assert sum(map(sum, counts.values())) == 1797
    assert min(Image.open(path).size) > 8


def test_data_check_rejects_an_unknown_image_ending(tmp_path, capsys):
    assert cli.invoke(["data", "check", "digits", "--save", str(tmp_path / "batch.digits")]) == 2
    assert "batch.digits" in capsys.readouterr().err


def test_damaged_weights_are_4(run, digits, tmp_path, capsys):
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "weights.safetensors").write_bytes(bytes(weights))
    assert cli.invoke(["predict", str(copy), str(digits)]) == 4
    assert "weights.safetensors" in capsys.readouterr().err


def test_listings_name_what_there_is(capsys):
    for verb, name in (("models", "lenet"), ("data list", "mnist")):
        assert cli.invoke([*verb.split(), "--json"]) == 0
        assert name in [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_evaluate_saves_its_plots(run, tmp_path, capsys):
    assert cli.invoke(["evaluate", str(run), "--save", str(tmp_path / "saved")]) == 0
    names = {path.stem for path in (tmp_path / "saved" / "plots").glob("*.png")}
    assert names == {"confusion", "classes", "mistakes", "calibration", "batch", "filters"}


def test_resuming_with_another_recipe_is_rejected(run, capsys):
    assert cli.invoke(["train", "--recipe", "mnist-mlp", "--out", str(run), "--resume"]) == 2
    assert "mnist-mlp" in capsys.readouterr().err


def test_resuming_needs_a_run(tmp_path, capsys):
    assert cli.invoke(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_listings_of_tasks_options_and_recipes_agree_with_python(capsys):
    import thalweg as tw

    for command, rows in (("tasks", tw.list_tasks()), ("recipes", tw.list_recipes())):
        assert cli.invoke([command, "--json"]) == 0
        assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [row["name"] for row in rows]
        assert cli.invoke([command]) == 0
        text = capsys.readouterr().out
        assert all(row["name"] in text for row in rows)


def test_models_shows_the_layers_and_groups_of_one_model(capsys):
    assert cli.invoke(["models", "lenet", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["total"]["parameters"] == sum(group["parameters"] for group in summary["groups"])
    assert cli.invoke(["models", "lenet"]) == 0
    assert cli.invoke(["models", "lstm"]) == 2
    assert cli.invoke(["models", "lenett"]) == 2


def test_doctor_finds_a_changed_file_of_a_run(run, tmp_path, capsys, monkeypatch):
    import shutil

    from thalweg.cli import doctor

    monkeypatch.setattr(doctor, "probe_torch", lambda: {"error": "not probed"})

    def check(path):
        assert cli.invoke(["doctor", str(path), "--json"]) == 5  # torch was not probed
        (check,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "run"]
        return check

    assert check(run)["status"] == "ok"
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    metrics = copy / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b"1", b"2", 1))
    assert check(copy)["status"] == "problem" and "metrics.jsonl" in check(copy)["message"]
    assert check(tmp_path)["status"] == "problem"


def test_one_image_of_ninety_million_pixels_is_one_unreadable_source(run, digits, tmp_path, capsys):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 90_000_000, 1, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 90_000_000 // 8), 9)
    wide = tmp_path / "wide.png"
    wide.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    good = sorted(map(str, digits.iterdir()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of the size
        assert cli.invoke(["predict", str(run), good[0], str(wide), *good[1:], "--json"]) == 3
    captured = capsys.readouterr()
    assert [row["source"] for row in parse_objects(captured.out)] == good
    assert str(wide) in captured.err


@pytest.mark.parametrize("words", [["explain", "neuron"], ["explain", "{run}", "{digit}", "--methods", "occlusion"]])
def test_explain_does_not_depend_on_the_user_s_matplotlib_backend(words, run, digits, tmp_path):
    words = [word.format(run=run, digit=next(digits.iterdir())) for word in words]
    command = [sys.executable, "-m", "thalweg", *words, "--save", str(tmp_path / "saved.png")]
    process = subprocess.run(command, env={**os.environ, "MPLBACKEND": "nonsense"}, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_one_flag_switches_between_the_models_of_several_tasks(tmp_path, capsys):
    """Flags are added per call: those of one task do not stay for the next."""
    book = tmp_path / "book.txt"
    book.write_text("to be or not to be, that is the question. " * 60, encoding="utf-8")
    folder = tmp_path / "book"
    words = ["--steps", "3", "--sequence-length", "16", "--batch-size", "4", "--no-report", "--out", str(folder)]
    assert cli.invoke(["train", "write", str(book), *words]) == 0
    assert cli.invoke(["train", "write", str(book), "--augment", "flip"]) == 2
    capsys.readouterr()
    assert cli.invoke(["sample", str(folder), "--prompt", "to", "--length", "20", "--seed", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("to") and len(text.removesuffix("\n")) == 22
    assert cli.invoke(["sample", str(folder), "--length", "5", "--count", "2", "--json"]) == 0
    assert len(parse_objects(capsys.readouterr().out)) == 2
    assert cli.invoke(["predict", str(folder), "to be or not", "--json"]) == 0
    (row,) = parse_objects(capsys.readouterr().out)
    assert row["characters"] == len("to be or not") and row["nats_per_character"] > 0
    assert cli.invoke(["predict", str(folder), "--top-k", "3", "to be"]) == 2
    assert cli.invoke(["predict", f"{folder},digits-lenet", "to be or not"]) == 2
    assert cli.invoke(["sample", "digits-lenet"]) == 2
