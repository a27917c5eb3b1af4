"""The command line: what it hands on, where it prints, how it ends.

A recorder stands in for `thalweg.api` here, so that each test is about the command line alone.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import thalweg
from thalweg import errors
from thalweg.cli import main as cli
from thalweg.inference.export_onnx import ExportReport


class Training:
    """Two steps, or the error that it is given."""

    path = Path("runs/one")

    def __init__(self, error=None):
        self.error = error

    def lines(self):
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
                seconds=1.0,
                remaining=None,
                valid={"accuracy": 0.5} if step == 2 else None,
                notes=(),
            )

    def summary(self):
        return ["test accuracy 50 %"]


@pytest.fixture
def api(monkeypatch):
    """A stand-in that records calls as (name, arguments, options) and answers what `answers` says."""
    module = ModuleType("thalweg.api")
    module.calls, module.answers = [], {}

    def recorder(name):
        def call(*arguments, **given):
            # the function that notices go to is new at every call
            module.calls.append((name, arguments, {k: v for k, v in given.items() if k != "notice"}))
            answer = module.answers.get(name)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    names = (
        "plan_training",
        "models",
        "recipes",
        "check_dataset",
        "list_datasets",
        "download_dataset",
        "export_samples",
    )
    for name in (*names, "predict", "explain", "write_images"):
        setattr(module, name, recorder(name))
    run = SimpleNamespace(evaluate=recorder("evaluate"), export=recorder("export"))
    module.answers["load"] = run
    module.load = recorder("load")
    module.answers["plan_training"] = Training()
    module.is_concept = lambda name: name == "neuron"
    monkeypatch.setitem(sys.modules, "thalweg.api", module)
    monkeypatch.setattr(thalweg, "api", module, raising=False)
    return module


def last(api):
    return api.calls[-1]


# --- help and usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], [], ["train", "--help"], ["--version"], ["options"], ["data"]])
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys; from thalweg.cli import main as cli; code = cli.invoke(sys.argv[1:]);"
        "print([m for m in ('torch', 'numpy', 'rich', 'yaml', 'PIL') if m in sys.modules], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert done.stdout


def test_every_verb_is_in_the_help_and_shows_an_example(capsys):
    assert cli.invoke(["--help"]) == 0
    whole = capsys.readouterr().out
    verbs = ["train", "evaluate", "predict", "export", "models", "recipes", "options", "doctor", "data"]
    assert all(f"\n  {verb} " in whole for verb in verbs)
    examples = {
        **{verb: f"thalweg {verb}" for verb in ("train", "evaluate", "predict", "export", "doctor")},
        **{f"data {verb}": f"thalweg data {verb}" for verb in ("check", "get", "sample")},
    }
    for verb, example in examples.items():
        assert cli.invoke([*verb.split(), "--help"]) == 0
        assert example in capsys.readouterr().out.split("\n", 2)[2]


def test_the_help_of_train_shows_choices_and_defaults(capsys):
    cli.invoke(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--optimizer sgd|momentum|nesterov" in shown
    assert "--weight-decay NUMBER" in shown and "[default: 0.0]" in shown
    assert "--report / --no-report" in shown
    assert "--data" not in shown and "--arguments" not in shown


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["trian"], "'train'"),
        (["train", "--epoch", "3"], "'--epochs'"),
        (["train", "--optimiser=sgd"], "'--optimizer'"),
        (["data", "chekc", "x"], "'check'"),
        (["evaluate", "runs/a", "--jsn"], "'--json'"),
    ],
)
def test_a_misspelt_word_is_usage_with_a_suggestion(words, suggestion, api, capsys):
    assert cli.invoke(words) == 2
    shown = capsys.readouterr()
    assert "Did you mean" in shown.err and suggestion in shown.err
    assert shown.out == "" and api.calls == []


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "runs/a"],
        ["evaluate"],
        ["train", "classify", "digits", "more"],
        ["train", "--steps", "many"],
        ["train", "--set", "activation"],
        ["train", "--epochs", "+3"],
        ["predict", "a", "b", "--top", "0"],
        ["predict", "a", "b", "--json", "--csv"],
    ],
)
def test_wrong_usage_is_2_before_anything_is_done(words, api, capsys):
    assert cli.invoke(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and api.calls == []


# --- train -----------------------------------------------------------------------------------------------------------


def test_train_hands_on_only_what_was_given(api):
    assert cli.invoke(["train"]) == 0
    assert last(api) == ("plan_training", (), {"data": None, "recipe": None, "out": None, "resume": False})


def test_train_hands_on_task_data_options_and_arguments(api):
    words = "train classify photos --model lenet --epochs 3 --lr auto --no-report --set activation=tanh --set ema=0.9"
    cli.invoke([*words.split(), "--out", "runs/x y"])
    given = last(api)[2]
    assert given == {
        "task": "classify",
        "data": "photos",
        "recipe": None,
        "out": "runs/x y",
        "resume": False,
        "model": "lenet",
        "epochs": 3.0,
        "lr": "auto",
        "report": False,
        "ema": 0.9,
        "arguments": {"activation": "tanh"},
    }


def test_a_recipe_names_its_task_itself(api):
    cli.invoke(["train", "--recipe", "mnist-lenet"])
    assert "task" not in last(api)[2] and last(api)[2]["recipe"] == "mnist-lenet"


def test_more_epochs_are_asked_of_the_run_that_is_resumed(api):
    cli.invoke(["train", "--resume", "--out", "runs/a", "--epochs", "+5"])
    assert last(api)[2]["epochs"] == "+5" and last(api)[2]["resume"] is True


def test_the_folder_is_the_last_line_of_the_results_and_all_else_is_notice(api, capsys):
    assert cli.invoke(["train"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["test accuracy 50 %", str(Training.path)]
    assert shown.err.splitlines()[0] == "the plan"
    assert "valid accuracy 0.5000" in shown.err


def test_the_other_processes_of_torchrun_are_silent(api, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli.invoke(["train"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_path_in_the_place_of_the_task_is_recognised(api, capsys, tmp_path):
    api.answers["plan_training"] = errors.NotFoundError.for_unknown("task", str(tmp_path), ["classify"])
    assert cli.invoke(["train", str(tmp_path)]) == 2
    assert f"Did you mean: thalweg train classify {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InterruptedTrainingError("Stopped at step 3; everything is saved.", cure="Go on with --resume."), 143),
        (errors.NonFiniteError("The loss is not a number."), 6),
        (errors.DataError("no pictures"), 3),
        (MemoryError(), 5),
        (KeyboardInterrupt(), 130),
        (ValueError("a fault"), 1),
    ],
)
def test_a_training_that_fails_names_no_folder(error, code, api, capsys):
    api.answers["plan_training"] = Training(error)
    assert cli.invoke(["train"]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err


# --- the other verbs -------------------------------------------------------------------------------------------------


def test_evaluate_prints_one_object(api, capsys):
    metrics = {"accuracy": 0.98, "loss": float("nan"), "top5": None}
    api.answers["evaluate"] = {"split": "valid", "metrics": metrics, "data": "digits"}
    assert cli.invoke(["evaluate", "runs/a", "photos", "--split", "valid", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out, parse_constant=pytest.fail)
    assert found == {"split": "valid", "metrics": {"accuracy": 0.98, "loss": None, "top5": None}}
    assert api.calls == [
        ("load", ("runs/a", None, False), {}),
        ("evaluate", (), {"data": "photos", "split": "valid", "save": None}),
    ]


def test_evaluate_prints_a_table(api, capsys):
    api.answers["evaluate"] = {"split": "test", "metrics": {"accuracy": 0.987654, "examples": 10}, "data": "digits"}
    assert cli.invoke(["evaluate", "runs/a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits, test" and lines[2].split() == ["accuracy", "0.9877"]


def test_predict_hands_on_sources_and_wishes(api):
    api.answers["predict"] = {"digits-lenet": []}
    assert cli.invoke(["predict", "digits-lenet", "a.png", "b c.png", "--as-is", "--save", "out", "--batch", "8"]) == 0
    assert last(api) == (
        "predict",
        (["digits-lenet"], ["a.png", "b c.png"], None, False),
        {"top": 5, "batch": 8, "as_is": True, "save": "out"},
    )


@pytest.mark.parametrize(
    "words", [["evaluate", "m"], ["export", "m"], ["explain", "m", "a.png"], ["predict", "m", "a"]]
)
def test_every_verb_that_takes_weights_takes_others_and_can_be_kept_from_the_network(words, api):
    api.answers |= {
        "evaluate": {"split": "test", "metrics": {}, "data": "digits"},
        "export": ExportReport(Path("m.onnx"), 0.0, 1.0, 1),
        "explain": SimpleNamespace(pictures=dict, notes={}, answers=[]),
        "predict": {"m": []},
        "write_images": [],
    }
    assert cli.invoke([*words, "--weights", "mine.pth", "--offline"]) == 0
    _, arguments, named = api.calls[0]
    assert arguments[-2:] == ("mine.pth", True) or (named["weights"], named["offline"]) == ("mine.pth", True)


def test_export_says_how_well_it_agrees_and_prints_the_path(api, capsys):
    api.answers["export"] = ExportReport(Path("runs/a/model.onnx"), 1e-6, 1.0, 40)
    assert cli.invoke(["export", "runs/a", "--out", "m.onnx"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{Path('runs/a/model.onnx')}\n"
    assert "1e-06" in shown.err and "100.00%" in shown.err
    assert last(api)[2] == {"format": "onnx", "out": "m.onnx"}


def test_an_export_that_disagrees_is_7(api):
    api.answers["export"] = errors.ExportError("The answers differ by 0.3.")
    assert cli.invoke(["export", "runs/a"]) == 7


@pytest.mark.parametrize(
    ("verb", "name"), [("models", "models"), ("recipes", "recipes"), ("data list", "list_datasets")]
)
def test_listings_are_tables_or_json(verb, name, api, capsys):
    api.answers[name] = [{"name": "lenet", "about": "LeNet-5\x1b", "minutes": 1.5}]
    assert cli.invoke(verb.split()) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["name", "about", "minutes"] and "\x1b" not in shown
    assert cli.invoke([*verb.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == api.answers[name]


def test_data_get_prints_the_place(api, capsys):
    api.answers["download_dataset"] = Path("cache/mnist")
    assert cli.invoke(["data", "get", "mnist", "--offline"]) == 0
    assert capsys.readouterr().out == f"{Path('cache/mnist')}\n"
    assert last(api) == ("download_dataset", ("mnist",), {"offline": True})


def test_data_that_came_with_the_installation_has_no_place(api, capsys):
    assert cli.invoke(["data", "get", "digits"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "nothing to fetch" in shown.err


def test_data_get_without_a_network_is_5(api, capsys):
    api.answers["download_dataset"] = errors.ResourceError("mnist is not here.", cure="Put the files into x.")
    assert cli.invoke(["data", "get", "mnist", "--offline"]) == 5


def test_data_check_says_what_it_found_and_draws_on_request(api, capsys, tmp_path):
    saved = []
    found = SimpleNamespace(
        lines=lambda: ["2 classes"], json=lambda: {"classes": 2}, picture=lambda: SimpleNamespace(save=saved.append)
    )
    api.answers["check_dataset"] = found
    assert cli.invoke(["data", "check", "photos", "--strict", "--size", "28"]) == 0
    assert capsys.readouterr().out == "2 classes\n" and saved == []
    assert last(api) == ("check_dataset", ("photos",), {"strict": True, "size": 28})
    assert cli.invoke(["data", "check", "photos", "--json", "--save", "batch.png"]) == 0
    assert json.loads(capsys.readouterr().out) == {"classes": 2} and saved == ["batch.png"]


def test_data_sample_prints_the_paths(api, capsys):
    api.answers["export_samples"] = [Path("d/0.png"), Path("d/1.png")]
    assert cli.invoke(["data", "sample", "digits", "--count", "2", "--out", "d"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path("d/0.png")), str(Path("d/1.png"))]
    assert last(api) == ("export_samples", ("digits", 2, "d"), {})


def test_options_are_a_table_and_a_schema(capsys):
    assert cli.invoke(["options"]) == 0
    assert "weight_decay" in capsys.readouterr().out
    assert cli.invoke(["options", "--json"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["epochs"]["description"] and schema["additionalProperties"] is False


def test_doctor_exits_5_only_for_a_problem(api, capsys, monkeypatch):
    from thalweg.cli import doctor

    api.answers["list_datasets"] = []
    monkeypatch.setattr(
        doctor, "run_checks", lambda named: [doctor.HealthCheck("disk", "warning", "little room", "make some")]
    )
    assert cli.invoke(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("warning  disk: little room")
    monkeypatch.setattr(
        doctor, "run_checks", lambda named: [doctor.HealthCheck("torch", "problem", "missing", "install it")]
    )
    assert cli.invoke(["doctor", "--json"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "fine": False,
        "checks": [{"name": "torch", "status": "problem", "message": "missing", "cure": "install it"}],
    }


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_every_shell(shell):
    done = complete({"_THALWEG_COMPLETE": f"source_{shell}"})
    assert "_THALWEG_COMPLETE" in done and "thalweg" in done


def test_completion_knows_verbs_flags_and_choices():
    def bash(line):
        words = line.split(" ")
        return complete(
            {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        ).split()

    assert bash("thalweg ev") == ["evaluate"]
    assert bash("thalweg data g") == ["get"]
    assert "--weight-decay" in bash("thalweg train --w")
    assert bash("thalweg train --schedule co") == ["constant", "cosine"]


def complete(environment):
    import os

    program = "import sys; from thalweg.cli import main as cli; sys.exit(cli.invoke([]))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
