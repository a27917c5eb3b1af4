"""The verbs against the real thing: a small network on real handwritten digits, from training to answers."""

import csv
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.cli import main as cli

pytest.importorskip("torch")

TRAIN = ["train", "classify", "digits", "--model", "perceptron", "--steps", "60", "--no-report", "--threads", "1"]


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
    assert cli.invoke(["data", "sample", "digits", "--count", "10", "--out", str(folder)]) == 0
    return folder


def objects(text):
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_train_prints_its_folder_last_and_leaves_a_run_there(tmp_path, capsys):
    folder = tmp_path / "naïve 数据 a'b"
    assert cli.invoke([*TRAIN, "--set", "seed=3", "--out", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(folder)
    assert "digits" in shown.err and str(folder) not in shown.out.splitlines()[:-1]
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["options"]["steps"] == 60 and content["options"]["seed"] == 3
    assert (folder / "weights.safetensors").is_file()


def test_a_second_training_into_the_same_folder_is_refused(run, capsys):
    assert cli.invoke([*TRAIN, "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_finished_run_can_go_on(tmp_path, capsys):
    folder = tmp_path / "more"
    words = ["--no-report", "--out", str(folder)]
    assert cli.invoke(["train", "classify", "digits", "--model", "perceptron", "--epochs", "1", *words]) == 0
    assert cli.invoke(["train", "--resume", "--epochs", "+1", *words]) == 0
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert content["results"]["epochs"] == 2
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)


def test_evaluate_prints_one_object_that_python_gives_too(run, capsys):
    assert cli.invoke(["evaluate", str(run), "--json"]) == 0
    (found,) = objects(capsys.readouterr().out)
    assert set(found) == {"split", "metrics"} and found["split"] == "test"
    from thalweg import api

    assert found["metrics"] == pytest.approx(api.load(run).evaluate()["metrics"], abs=1e-6)
    assert 0.5 < found["metrics"]["accuracy"] <= 1


def test_predict_answers_alike_one_by_one_in_batches_and_from_python(run, digits, capsys):
    paths = sorted(str(path) for path in digits.iterdir())
    answers = []
    for batch in ("1", "64"):
        assert cli.invoke(["predict", str(run), *paths, "--json", "--batch", batch]) == 0
        answers.append(objects(capsys.readouterr().out))
    from thalweg import api

    answers.append([answer.json() for answer in api.load(run).predict(paths)])
    for one, many, python in zip(*answers, strict=True):
        assert set(one) == {"source", "label", "top"} and one["source"] in paths
        assert one["label"] == one["top"][0]["label"] and len(one["top"]) == 5
        for other in (many, python):
            assert [t["label"] for t in other["top"]] == [t["label"] for t in one["top"]]
            assert [t["probability"] for t in other["top"]] == pytest.approx(
                [t["probability"] for t in one["top"]], abs=1e-6
            )


def test_the_table_has_the_ten_probabilities_of_every_digit(run, digits, capsys):
    assert cli.invoke(["predict", str(run), str(digits)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == [*"0123456789", "answer", "source"]
    assert len(rows) == 10
    for row in rows:
        cells = row.split()
        assert sum(map(float, cells[:10])) == pytest.approx(1, abs=0.01)
        assert float(cells[int(cells[10])]) == max(map(float, cells[:10]))


def test_an_unreadable_picture_is_named_and_the_others_are_answered(run, digits, tmp_path, capsys):
    cut = tmp_path / "cut.png"
    whole = next(digits.iterdir())
    cut.write_bytes(whole.read_bytes()[:60])
    assert cli.invoke(["predict", str(run), str(cut), str(whole), str(tmp_path / "missing.png"), "--csv"]) == 3
    shown = capsys.readouterr()
    assert "cut.png" in shown.err and "missing.png" in shown.err
    rows = list(csv.reader(io.StringIO(shown.out)))
    assert [row[0] for row in rows] == ["source", str(whole)]


def test_predict_reads_standard_input_as_a_picture_or_a_list(run, digits):
    whole = next(digits.iterdir())
    command = [sys.executable, "-m", "thalweg", "predict", str(run), "-", "--json"]
    picture = subprocess.run(command, input=whole.read_bytes(), capture_output=True)
    listed = subprocess.run(command, input=f"{whole}\n".encode(), capture_output=True)
    assert (picture.returncode, listed.returncode) == (0, 0), picture.stderr + listed.stderr
    (one,), (other,) = objects(picture.stdout.decode()), objects(listed.stdout.decode())
    assert (one["source"], other["source"]) == ("-", str(whole))
    assert one["top"] == other["top"]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_done_without(run, digits, closed):
    words = shlex.join([sys.executable, "-m", "thalweg", "predict", str(run), str(next(digits.iterdir())), "--json"])
    done = subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(objects(done.stdout)) == (">&-" not in closed.split())


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
def test_notices_never_become_results(run, digits, tmp_path):
    (tmp_path / "bad.png").touch()
    words = ["predict", str(run), str(next(digits.iterdir())), str(tmp_path / "bad.png"), "--json"]
    command = shlex.join([sys.executable, "-m", "thalweg", *words])
    done = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, text=True)
    assert done.returncode == 3 and len(objects(done.stdout)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")
def test_a_closed_standard_input_is_an_empty_one(run):
    words = shlex.join([sys.executable, "-m", "thalweg", "predict", str(run), "-"])
    done = subprocess.run(["sh", "-c", f"{words} <&-"], capture_output=True, text=True)
    assert done.returncode == 3 and "standard input is empty" in done.stderr


def test_predict_saves_a_picture_of_the_answer_and_of_what_was_seen(run, digits, tmp_path, capsys):
    from PIL import Image

    whole = next(digits.iterdir())
    assert cli.invoke(["predict", str(run), str(whole), "--save", str(tmp_path / "saved")]) == 0
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == [f"{whole.stem}-seen.png", f"{whole.stem}.png"]
    assert Image.open(tmp_path / "saved" / f"{whole.stem}-seen.png").size == (8, 8)


def test_an_address_is_not_fetched_offline(run, digits, capsys):
    address = "https://example.invalid/digit.png"
    assert cli.invoke(["predict", str(run), address, str(next(digits.iterdir())), "--offline", "--json"]) == 3
    shown = capsys.readouterr()
    assert address in shown.err and len(objects(shown.out)) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
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
        (["data", "get", "mnsit"], 2, "'mnist'"),
        (["data", "check", "digits", "--size", "0"], 2, "--size"),
        (["export", "{run}", "--format", "h5"], 2, "h5"),
    ],
)
def test_what_goes_wrong_has_its_code_and_says_what(words, code, said, run, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [word.format(run=run, here=empty) for word in words]
    assert cli.invoke(words) == code
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err
    assert "Traceback" not in shown.err and "unexpected" not in shown.err


def test_export_writes_a_file_that_agrees_and_prints_where_it_is(run, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "digits.onnx"
    assert cli.invoke(["export", str(run), "--out", str(path)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(path)] and path.is_file()
    assert "same label in 100.00%" in shown.err


def test_data_check_counts_every_picture_once_and_draws_a_batch(tmp_path, capsys):
    from PIL import Image

    drawn = tmp_path / "new folder" / "batch.png"
    assert cli.invoke(["data", "check", "digits", "--json", "--save", str(drawn)]) == 0
    counts = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["counts"]
    assert sum(map(sum, counts.values())) == 1797
    assert min(Image.open(drawn).size) > 8


def test_a_batch_cannot_be_drawn_into_a_file_of_no_format(tmp_path, capsys):
    assert cli.invoke(["data", "check", "digits", "--save", str(tmp_path / "batch.digits")]) == 2
    assert "batch.digits" in capsys.readouterr().err


def test_damaged_weights_are_refused_with_4(run, digits, tmp_path, capsys):
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


def test_evaluate_draws_where_it_is_asked_to(run, tmp_path, capsys):
    assert cli.invoke(["evaluate", str(run), "--save", str(tmp_path / "seen")]) == 0
    drawn = {path.stem for path in (tmp_path / "seen" / "pictures").glob("*.png")}
    assert drawn == {"curves", "confusion", "classes", "mistakes", "calibration", "batch", "filters"}


def test_another_recipe_than_the_run_was_begun_with_is_refused(run, capsys):
    assert cli.invoke(["train", "--recipe", "mnist-mlp", "--out", str(run), "--resume"]) == 2
    assert "--recipe mnist-mlp is not what" in capsys.readouterr().err


def test_there_must_be_a_run_to_go_on_with(tmp_path, capsys):
    assert cli.invoke(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "There is no run" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
