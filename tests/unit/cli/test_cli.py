"""The command line: what it passes on, where it prints, how it ends.

A recorder stands in for `thalweg.api`, so that each test is about the command line alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import thalweg
from thalweg import errors
from thalweg.cli import main as cli
from thalweg.inference.export_onnx import ExportReport
from thalweg.tasks.base import ExportProof

REPORT = ExportReport(Path("runs/a/model.onnx"), ExportProof("largest difference 1e-06"))


class FakeTraining:
    """Two steps, or the error that it is given."""

    path = Path("runs/one")
    run_dir = "the run"

    def __init__(self, error=None):
        self.error = error

    def describe(self):
        return ["the plan"]

    def __iter__(self):
        if self.error:
            raise self.error
        for step in (1, 2):
            yield SimpleNamespace(
                step=step,
                steps=2,
                epoch=step / 2,
                epochs=1.0,
                losses={"loss": 0.5},
                lr=0.1,
                elapsed=1.0,
                eta=None,
                val={"accuracy": 0.5} if step == 2 else None,
                warnings=(),
            )


class FakeRun:
    """A finished run."""

    def __init__(self, run_dir):
        assert run_dir == FakeTraining.run_dir

    def summary(self):
        return ["test accuracy 50 %"]


@pytest.fixture
def api(monkeypatch):
    """A stand-in that records calls as (name, arguments, options) and returns what `results` holds."""
    module = ModuleType("thalweg.api")
    module.calls = []
    module.results = {}

    def recorder(name):
        def call(*arguments, **options):
            # the object that notices go to is new at every call
            module.calls.append((name, arguments, {k: v for k, v in options.items() if k != "notify"}))
            result = module.results.get(name)
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    names = ["plan_training", "compare_models", "explain", "load", "list_models", "list_recipes", "list_tasks"]
    for name in [*names, "check_dataset", "list_datasets", "download_dataset", "export_samples"]:
        setattr(module, name, recorder(name))
    module.results["load"] = SimpleNamespace(**{name: recorder(name) for name in ("evaluate", "export", "explain")})
    module.results["plan_training"] = FakeTraining()
    module.Run = FakeRun
    module.is_concept = lambda name: name == "neuron"
    module.task_of = lambda name, weights=None: "classify"
    monkeypatch.setitem(sys.modules, "thalweg.api", module)
    monkeypatch.setattr(thalweg, "api", module, raising=False)
    return module


# --- help and usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], [], ["train", "--help"], ["evaluate", "--help"], ["--version"], ["options"], ["data"]]
)
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys; from thalweg.cli import main as cli; code = cli.invoke(sys.argv[1:]);"
        "print([m for m in ('torch', 'numpy', 'rich', 'yaml', 'PIL') if m in sys.modules], file=sys.stderr);"
        "sys.exit(code)"
    )
    process = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, encoding="utf-8")
    assert process.returncode == 0
    assert process.stderr == "[]\n"
    assert process.stdout


def flags_in_help(capsys, *words):
    assert cli.invoke([*words, "--help"]) == 0
    return {word for word in capsys.readouterr().out.replace("/", " ").split() if word.startswith("--")}


def test_help_of_train_has_the_flags_of_the_named_task_only(capsys):
    common = flags_in_help(capsys, "train")
    assert {"--epochs", "--weight-decay", "--report", "--no-report"} <= common
    assert not {"--data", "--model-kwargs", "--augment", "--sequence-length"} & common
    assert flags_in_help(capsys, "train", "classify") >= common | {"--augment", "--image-size", "--tta"}
    assert flags_in_help(capsys, "train", "write") >= common | {"--sequence-length"}
    assert "--augment" not in flags_in_help(capsys, "train", "write")
    assert "--augment" in flags_in_help(capsys, "train", "--recipe", "mnist-lenet")
    assert flags_in_help(capsys, "train") == common


def test_help_of_predict_has_the_flags_of_the_run_s_task(capsys):
    assert {"--top-k", "--raw"} <= flags_in_help(capsys, "predict", "digits-lenet")
    assert not {"--top-k", "--raw"} & flags_in_help(capsys, "predict")


def test_help_of_a_run_without_a_flag_names_its_task(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"task": "classify"}', encoding="utf-8")
    assert "--augment" in flags_in_help(capsys, "train", "--resume", "--out", str(tmp_path))
    (tmp_path / "run.json").write_text('[{"task"', encoding="utf-8")
    assert "--augment" not in flags_in_help(capsys, "train", "--resume", "--out", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "option", "suggestion"),
    [
        ("train --learning-rate 3", "learning_rate", "--lr"),
        ("train classify --imgsz 3", "imgsz", "--image-size"),
        ("train --imgsz 3", "imgsz", "--image-size of the task classify"),
        ("train --batch 8", "batch", "--batch-size"),
        ("train --quiet", "quiet", "2>/dev/null"),
        ("train --epoch 3", "epoch", "'--epochs'"),
        ("train --optimiser=sgd", "optimiser", "'--optimizer'"),
        ("train --zzz", "zzz", "thalweg train --help"),
        ("train write --augment flip", "augment", "classify"),
        ("predict digits-lenet a.png --top 3", "top", "'--top-k'"),
        ("sample runs/a --prompt Once", "prompt", "write"),
        ("evaluate runs/a --jsn", "jsn", "'--json'"),
    ],
)
def test_an_unknown_flag_is_an_option_error_with_a_suggestion(words, option, suggestion, api):
    with pytest.raises(errors.OptionError) as error:
        cli.run_command(words.split())
    assert error.value.option == option
    assert error.value.allowed and error.value.value not in error.value.allowed
    assert suggestion in error.value.cure
    assert cli.invoke(words.split()) == 2 and api.calls == []


@pytest.mark.parametrize(("words", "suggestion"), [("trian", "'train'"), ("data chekc x", "'check'")])
def test_a_misspelled_command_is_usage_with_a_suggestion(words, suggestion, api, capsys):
    assert cli.invoke(words.split()) == 2
    captured = capsys.readouterr()
    assert suggestion in captured.err
    assert captured.out == "" and api.calls == []


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "runs/a"],
        ["evaluate"],
        ["train", "classify", "digits", "more"],
        ["train", "classify", "digits", "--set", "data=photos"],
        ["train", "--steps", "many"],
        ["train", "--set", "activation"],
        ["predict", "a", "b", "--top-k", "0"],
        ["predict", "a", "b", "--batch-size", "0"],
        ["predict", "a", "b", "--json", "--csv"],
        ["explain", "neuron", "--target-class", "cat"],
        ["explain", "neuron", "--set", "a"],
    ],
)
def test_wrong_usage_is_2_before_anything_happens(words, api, capsys):
    assert cli.invoke(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and api.calls == []


# --- train -----------------------------------------------------------------------------------------------------------


def test_train_passes_on_only_what_was_given(api):
    assert cli.invoke(["train"]) == 0
    assert api.calls == [("plan_training", (None, None), {"recipe": None, "out": None, "resume": False})]


def test_train_passes_on_task_data_options_and_model_arguments(api):
    words = "train classify photos --model lenet --epochs 3 --lr auto --no-report --set activation=tanh"
    words += " --set ema-decay=0.9 --augment flip"
    assert cli.invoke([*words.split(), "--out", "runs/x y"]) == 0
    _, arguments, options = api.calls[-1]
    assert arguments == ("classify", "photos")
    assert options == {
        "recipe": None,
        "out": "runs/x y",
        "resume": False,
        "model": "lenet",
        "epochs": 3.0,
        "lr": "auto",
        "report": False,
        "ema_decay": 0.9,
        "augment": "flip",
        "model_kwargs": {"activation": "tanh"},
    }


def test_data_may_be_set_like_any_option(api):
    assert cli.invoke(["train", "classify", "--set", "data=photos"]) == 0
    assert api.calls[-1][1] == ("classify", "photos")


def test_a_recipe_names_its_task_itself(api):
    assert cli.invoke(["train", "--recipe", "mnist-lenet"]) == 0
    assert api.calls[-1][1][0] is None and api.calls[-1][2]["recipe"] == "mnist-lenet"


def test_relative_epochs_are_passed_to_the_resumed_run(api):
    assert cli.invoke(["train", "--resume", "--out", "runs/a", "--epochs", "+5"]) == 0
    assert api.calls[-1][2]["epochs"] == "+5" and api.calls[-1][2]["resume"] is True


def test_the_folder_is_the_last_result_and_the_rest_is_notices(api, capsys):
    assert cli.invoke(["train"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["test accuracy 50 %", str(FakeTraining.path)]
    assert captured.err.splitlines()[0] == "the plan"
    assert "val accuracy 0.5000" in captured.err


def test_other_processes_of_torchrun_are_silent(api, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli.invoke(["train"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_path_in_place_of_the_task_is_recognized(api, capsys, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    book = tmp_path / "book.txt"
    book.write_text("a text", encoding="utf-8")
    for path, task in ((photos, "classify"), (book, "write")):
        api.results["plan_training"] = errors.NotFoundError.for_unknown("task", str(path), ["classify", "write"])
        assert cli.invoke(["train", str(path)]) == 2
        assert f"thalweg train {task} {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InterruptedTrainingError("Stopped at step 3; everything is saved.", cure="Continue: --resume."), 143),
        (errors.NonFiniteError("The loss is NaN."), 6),
        (errors.DataError("no images"), 3),
        (MemoryError(), 5),
        (KeyboardInterrupt(), 130),
        (ValueError("a fault"), 1),
    ],
)
def test_a_failed_training_prints_no_folder(error, code, api, capsys):
    api.results["plan_training"] = FakeTraining(error)
    assert cli.invoke(["train"]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err


# --- trained models --------------------------------------------------------------------------------------------------


def test_evaluate_prints_one_json_object(api, capsys):
    metrics = {"accuracy": 0.98, "loss": float("nan"), "top5": None}
    api.results["evaluate"] = {
        "split": "val",
        "metrics": metrics,
        "data": "digits",
        "trained_on": {"examples": 3, "metrics": {"accuracy": 0.9}},
    }
    assert cli.invoke(["evaluate", "runs/a", "photos", "--split", "val", "--json"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result == {
        "split": "val",
        "metrics": {"accuracy": 0.98, "loss": None, "top5": None},
        "data": "digits",
        "trained_on": {"examples": 3, "metrics": {"accuracy": 0.9}},
    }
    assert api.calls == [
        ("load", ("runs/a", None, False), {}),
        ("evaluate", (), {"data": "photos", "split": "val", "save": None}),
    ]


def test_evaluate_prints_a_table(api, capsys):
    metrics = {"accuracy": 0.987654, "examples": 10, "confusion": [[1]]}
    result = {"split": "test", "metrics": metrics, "data": "digits", "details": {"judge": "digits-mlp", "counts": [1]}}
    api.results["evaluate"] = result
    assert cli.invoke(["evaluate", "runs/a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[4] == "judge: digits-mlp" and lines[2].split() == ["accuracy", "0.9877"]
    api.results["evaluate"] = {**result, "trained_on": {"examples": 3, "metrics": {"accuracy": 0.5}}}
    assert cli.invoke(["evaluate", "runs/a"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["accuracy", "0.9877", "0.5"]


def test_predict_passes_on_sources_and_options(api):
    api.results["compare_models"] = {"digits-lenet": []}
    words = ["predict", "digits-lenet", "a.png", "b c.png", "--raw", "--save", "out", "--batch-size", "8"]
    assert cli.invoke([*words, "--top-k", "3"]) == 0
    assert api.calls[-1] == (
        "compare_models",
        (["digits-lenet"], ["a.png", "b c.png"], None, False),
        {"raw": True, "top_k": 3, "batch_size": 8, "save": "out"},
    )


@pytest.mark.parametrize("words", ["evaluate m", "export m", "explain m a.png", "predict m a"])
def test_every_verb_that_takes_weights_passes_them_on_and_can_stay_offline(words, api):
    api.results |= {
        "evaluate": {"split": "test", "metrics": {}, "data": "digits", "details": {}},
        "export": REPORT,
        "explain": SimpleNamespace(images=dict, notes={}, predictions=[]),
        "compare_models": {"m": []},
    }
    assert cli.invoke([*words.split(), "--weights", "mine.pth", "--offline"]) == 0
    assert api.calls[0][1][-2:] == ("mine.pth", True)


def test_export_prints_the_proof_as_a_notice_and_the_path_as_a_result(api, capsys):
    api.results["export"] = REPORT
    assert cli.invoke(["export", "runs/a", "--out", "m.onnx"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{REPORT.path}\n"
    assert captured.err == f"{REPORT.summary()}\n"
    assert api.calls[-1][2] == {"format": "onnx", "out": "m.onnx"}


def test_an_export_that_disagrees_is_7(api):
    api.results["export"] = errors.ExportError("The outputs differ by 0.3.")
    assert cli.invoke(["export", "runs/a"]) == 7


# --- listings and data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("tasks", "list_tasks"),
        ("models", "list_models"),
        ("recipes", "list_recipes"),
        ("data list", "list_datasets"),
    ],
)
def test_listings_are_tables_or_json(verb, name, api, capsys):
    api.results[name] = [{"name": "lenet", "summary": "LeNet-5\x1b", "minutes": 1.5}]
    assert cli.invoke(verb.split()) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[0].split() == ["name", "summary", "minutes"] and "\x1b" not in output
    assert cli.invoke([*verb.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == api.results[name]


def test_data_download_prints_the_folder(api, capsys):
    api.results["download_dataset"] = Path("cache/mnist")
    assert cli.invoke(["data", "download", "mnist", "--offline"]) == 0
    assert capsys.readouterr().out == f"{Path('cache/mnist')}\n"
    assert api.calls[-1] == ("download_dataset", ("mnist",), {"offline": True})


def test_bundled_data_has_no_folder(api, capsys):
    assert cli.invoke(["data", "download", "digits"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "digits" in captured.err


def test_data_download_without_a_network_is_5(api):
    api.results["download_dataset"] = errors.ResourceError("mnist is not here.", cure="Put the files into x.")
    assert cli.invoke(["data", "download", "mnist", "--offline"]) == 5


def test_data_check_prints_its_report_and_draws_on_request(api, capsys):
    saved = []
    api.results["check_dataset"] = SimpleNamespace(
        lines=lambda: ["2 classes"], json=lambda: {"classes": 2}, picture=lambda: SimpleNamespace(save=saved.append)
    )
    assert cli.invoke(["data", "check", "photos", "--strict", "--image-size", "28", "--task", "classify"]) == 0
    assert capsys.readouterr().out == "2 classes\n" and saved == []
    assert api.calls[-1] == ("check_dataset", ("photos", "classify"), {"strict": True, "image_size": 28})
    assert cli.invoke(["data", "check", "photos", "--json", "--save", "batch.png"]) == 0
    assert json.loads(capsys.readouterr().out) == {"classes": 2} and saved == ["batch.png"]


def test_data_export_samples_prints_the_paths(api, capsys):
    api.results["export_samples"] = [Path("d/0.png"), Path("d/1.png")]
    assert cli.invoke(["data", "export-samples", "digits", "--count", "2", "--out", "d"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path("d/0.png")), str(Path("d/1.png"))]
    assert api.calls[-1] == ("export_samples", ("digits", 2, "d"), {})


def test_options_are_a_table_and_a_schema(capsys):
    assert cli.invoke(["options"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert "weight-decay" in names and "augment" not in names
    assert cli.invoke(["options", "classify", "--json"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["epochs"]["description"] and schema["properties"]["augment"]["default"] == "auto"
    assert cli.invoke(["options", "clasify"]) == 2


def test_doctor_exits_5_only_for_a_problem(api, capsys, monkeypatch):
    from thalweg.cli import doctor

    warning = doctor.HealthCheck("disk", "warning", "little room", "make some")
    problem = doctor.HealthCheck("torch", "problem", "missing", "install it")
    monkeypatch.setattr(doctor, "run_checks", lambda datasets: [warning])
    assert cli.invoke(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("warning  disk: little room")
    monkeypatch.setattr(doctor, "run_checks", lambda datasets: [problem])
    assert cli.invoke(["doctor", "--json"]) == 5
    assert json.loads(capsys.readouterr().out) == {"ok": False, "checks": [vars(problem)]}


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_completion_script(shell):
    script = complete({"_THALWEG_COMPLETE": f"source_{shell}"})
    assert "_THALWEG_COMPLETE" in script and "thalweg" in script


def test_completion_knows_commands_flags_and_choices():
    def complete_bash(line):
        words = line.split(" ")
        environment = {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return complete(environment).split()

    assert complete_bash("thalweg ev") == ["evaluate"]
    assert complete_bash("thalweg data d") == ["download"]
    assert "--weight-decay" in complete_bash("thalweg train --w")
    assert "--augment" in complete_bash("thalweg train classify --a")
    assert complete_bash("thalweg train --schedule co") == ["constant", "cosine"]


def complete(environment):
    program = "import sys; from thalweg.cli import main as cli; sys.exit(cli.invoke([]))"
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_sample_says_how_to_keep_images(capsys, tmp_path):
    assert cli.invoke(["sample", "digits-dcgan", "--count", "1"]) == 0
    assert "--save" in capsys.readouterr().err
    assert cli.invoke(["sample", "digits-dcgan", "--count", "1", "--save", str(tmp_path)]) == 0
    assert "--save" not in capsys.readouterr().err and list(tmp_path.glob("*.png"))
