"""Laws of every task, on its toy data, through the functions that users call. A new task is held to them at once."""

from __future__ import annotations

import ast
import builtins
import json
import math
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from tests.helpers.toy_tasks import (
    PREDICT_OPTIONS,
    TASK_OPTIONS,
    TASKS,
    disable_batch_statistics,
    dump_json,
    evaluate_parts,
    interrupt_after,
    make_sources,
    plan_on,
    plan_toy,
    read_checkpoint,
    read_initial_weights,
    read_weights,
    train_toy,
    write_toy,
)
from thalweg import api
from thalweg.api import Run
from thalweg.cli.main import invoke
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import option_fields
from thalweg.engine import distributed
from thalweg.errors import DataError, NotFoundError, OptionError, ResourceError, ThalwegError
from thalweg.inference.datasets import guess_task, list_named_data
from thalweg.runs.run_record import RunRecord
from thalweg.training.run import TrainingRun

#: steps of the trainings that are compared; more than an epoch of each task, and more than a lazy phase's interval
STEPS = 20
#: steps until a task that begins by getting worse has learned something
LEARNING_STEPS = {"generate": 150}
#: words of the house that are also options or metrics of a task
HOUSE_WORDS = {"loss", *option_fields(TrainOptions)}
HOUSE_WORDS |= {f"--{name.replace('_', '-')}" for name in HOUSE_WORDS}
#: tasks whose default data is not in `thalweg data list`, and why
UNLISTED_DATA = {"edit": "draws latents of a generator and reads no data"}


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory) -> TrainingRun:
    """A training to the end, with its report."""
    return train_toy(task, tmp_path_factory.mktemp("trained") / "run", steps=STEPS)


@pytest.fixture(scope="module")
def model(trained) -> Run:
    return Run(trained.run_dir)


@pytest.fixture(scope="module")
def default_run(task, tmp_path_factory) -> Path:
    """A run of the task's default model on its default data, trained for three steps from the command line."""
    out = tmp_path_factory.mktemp("default") / "run"
    words = ["train", task, "--steps", "3", "--cpu-threads", "1", "--offline", "--out", str(out)]
    for name, value in TASK_OPTIONS.get(task, {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
        assert invoke(words) == 0
    return out


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_improves_the_first_metric(task, tmp_path):
    run = plan_toy(task, tmp_path / "run", steps=LEARNING_STEPS.get(task, STEPS), report=False)
    metric = TASKS[task].metrics[0]
    before = evaluate_parts(run, "test").metrics[metric.name]
    for _ in run:
        pass
    after = run.record.results.test[metric.name]
    assert after is not None and metric.is_better(after, before)


def test_a_run_leaves_the_files_that_it_promises(trained):
    for name in ("run.json", "weights.safetensors", "metrics.jsonl", "report.html", "MODEL_CARD.md"):
        assert (trained.path / name).stat().st_size > 0, name
    assert list((trained.path / "plots").glob("*.png"))
    assert not trained.run_dir.verify()


def test_a_run_cut_after_any_step_and_resumed_ends_with_the_same_bits(task, trained, tmp_path):
    out = tmp_path / "run"
    for step in (1, 2, 3, 7, trained.record.plan["steps_per_epoch"], STEPS - 3, STEPS - 1):
        interrupt_after(plan_toy(task, out, resume=True, steps=STEPS, report=False), step)
        assert read_checkpoint(out)[0] == f"{step:08d}"
    train_toy(task, out, resume=True, steps=STEPS, report=False)
    assert_equal_runs(out, trained.path)


def test_a_run_that_is_left_without_a_signal_goes_on_from_its_last_checkpoint(task, trained, tmp_path):
    out = tmp_path / "run"
    for progress in plan_toy(task, out, steps=STEPS, report=False):
        if progress.val:
            break
    train_toy(task, out, resume=True, steps=STEPS, report=False)
    assert_equal_runs(out, trained.path)


def assert_equal_runs(out: Path, expected: Path) -> None:
    """Compare all networks, averages, optimizers, buffers, weights and metrics bit for bit."""
    name, tensors, state = read_checkpoint(out)
    expected_name, expected_tensors, expected_state = read_checkpoint(expected)
    assert (name, state) == (expected_name, expected_state)
    assert tensors.keys() == expected_tensors.keys()
    for key, value in expected_tensors.items():
        assert torch.equal(tensors[key], value), key
    for file in ("weights.safetensors", "metrics.jsonl"):
        assert (out / file).read_bytes() == (expected / file).read_bytes(), file


# --- ranks and micro-batches ------------------------------------------------------------------------------------------

#: float32 and a plain optimizer: others divide by gradients near 0, so that the last bits decide
PARALLEL_OPTIONS = {
    "steps": 4,
    "optimizer": "sgd",
    "lr": 0.01,
    "ema_decay": 0.0,
    "precision": "float32",
    "report": False,
}


def train_without_batch_statistics(task: str, out: Path, **options) -> TrainingRun:
    run = plan_toy(task, out, **PARALLEL_OPTIONS, **options)
    disable_batch_statistics(run.parts.setup.objective)
    for _ in run:
        pass
    return run


def _train_rank(rank: int, port: int, folder: str) -> None:
    """Train every task in one of two processes."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    with distributed.process_group(torch.device("cpu")):  # one group for all trainings
        for task in TASKS:
            run = train_without_batch_statistics(task, Path(folder) / task)
            torch.save(run.parts.model.state_dict(), f"{folder}/{task}-{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> Path:
    """The folder of what two processes trained; started once, because starting takes most of the time."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    multiprocessing.spawn(_train_rank, (port, str(folder)), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def one_rank(task, tmp_path_factory) -> TrainingRun:
    return train_without_batch_statistics(task, tmp_path_factory.mktemp("one_rank") / "run")


def draws_random_numbers(run: TrainingRun) -> bool:
    """Whether the loss of one batch depends on the generator: ranks and micro-batches then draw other numbers."""
    objective = run.parts.setup.objective
    batch = run.parts.setup.transform(next(iter(run.parts.setup.batches)))
    for phase in objective.phases():
        losses = []
        for seed in (0, 1):
            before = {name: buffer.clone() for name, buffer in objective.named_buffers()}
            torch.manual_seed(seed)
            losses.append(phase.loss(batch).mean.item())
            for name, buffer in objective.named_buffers():
                buffer.copy_(before[name])
        if losses[0] != losses[1]:
            return True
    return False


def assert_close_weights(out: Path, expected: Path) -> None:
    weights = read_weights(out)
    for name, value in read_weights(expected).items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


def test_two_ranks_agree_and_equal_one(task, one_rank, two_ranks):
    states = [torch.load(two_ranks / f"{task}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, param in one_rank.parts.model.named_parameters():
        assert torch.equal(states[0][name], states[1][name]), name
        assert param.isfinite().all()
    if not draws_random_numbers(one_rank):
        assert_close_weights(two_ranks / task, one_rank.path)


def test_gradient_accumulation_equals_the_large_batch(task, one_rank, tmp_path):
    run = train_without_batch_statistics(task, tmp_path / "run", grad_accum=4)
    assert all(value.isfinite().all() for value in read_weights(run.path).values())
    if not draws_random_numbers(one_rank):
        assert_close_weights(run.path, one_rank.path)


# --- a trained model --------------------------------------------------------------------------------------------------


def test_a_loaded_model_has_the_test_result_of_its_run(task, trained, model):
    evaluation = model.evaluate(TASKS[task]().toy_dataset())
    assert evaluation["split"] == "test" and evaluation["metrics"] == trained.record.results.test
    dump_json(evaluation)


def test_predictions_one_by_one_equal_many_at_once(task, model):
    if TASKS[task].input_type is None:
        with pytest.raises(OptionError):
            model.predict(["image.png"])
        return
    sources = (make_sources(task) * 20)[:140]  # enough for the model that is optimized for inference
    options = PREDICT_OPTIONS.get(task, {})
    ones = [prediction.json() for prediction in model.predict(sources[:20], batch_size=1, **options)]
    many = [prediction.json() for prediction in model.predict(sources, batch_size=7, **options)]
    assert len(many) == len(sources)
    for one, other in zip(ones, many, strict=False):
        dump_json(other)
        assert_close_json(one, other)


def assert_close_json(one: object, other: object) -> None:
    """Compare values; numbers may differ in their last bits, names of sources by their index."""
    if isinstance(one, dict):
        assert isinstance(other, dict) and one.keys() == other.keys()
        for key in one.keys() - {"source"}:
            assert_close_json(one[key], other[key])
    elif isinstance(one, list):
        assert isinstance(other, list) and len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_close_json(first, second)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5)
    else:
        assert one == other


def test_a_sample_depends_on_its_seed_alone(task, model):
    if TASKS[task].SampleOptions is None:
        with pytest.raises(OptionError):
            list(model.sample())
        return
    many = list(model.sample(count=3, seed=5))
    (alone,) = model.sample(count=1, seed=6)
    first, second, _ = [replace(sample, source="").files() for sample in many]
    assert second == replace(alone, source="").files() != first
    for sample in many:
        dump_json(sample.json())


@pytest.mark.parametrize("verb", ["predict", "sample", "explain", "export"])
def test_every_verb_works_or_refuses_in_a_sentence(task, model, verb, tmp_path, capfd):
    if verb == "export":
        pytest.importorskip("onnx")
    source = make_sources(task)[0] if TASKS[task].input_type else "image.png"
    calls = {
        "predict": lambda: list(model.predict([source])),
        "sample": lambda: list(model.sample()),
        "explain": lambda: model.explain(source),
        "export": lambda: model.export(out=tmp_path / "model.onnx"),
    }
    try:
        assert calls[verb]()
    except ThalwegError as error:
        assert re.fullmatch(r"[^\n]+\.", error.message), error.message


def test_the_record_survives_json(trained, model):
    assert RunRecord.parse(json.loads(dump_json(trained.record.json())), trained.path) == model.record


def test_frozen_features_stay_and_the_head_learns(task, tmp_path):
    try:
        run = train_toy(task, tmp_path / "run", steps=2, freeze=True, report=False, ema_decay=0.0)
    except OptionError as error:
        assert error.option == "freeze"
        return
    names = set(read_initial_weights(run.path))
    model = run.parts.model
    head = {f"head.{name}" for name, _ in model.get_submodule("head").named_parameters()}
    assert names == head
    initial = plan_toy(task, tmp_path / "initial", steps=2, freeze=True, report=False).parts.model.state_dict()
    for name, value in read_weights(run.path).items():
        assert torch.equal(value, initial[name]) == (name not in head), name


# --- the command line, and what it leaves for people ------------------------------------------------------------------


def test_the_default_model_trains_on_the_default_data_without_a_network(task, default_run):
    record = Run(api.load(default_run).run_dir).record
    assert (record.task, record.model, record.status) == (task, TASKS[task].default_model, "finished")
    assert record.results.steps == 3
    assert all(value is None or math.isfinite(value) for value in record.results.test.values())


def test_evaluate_prints_split_metrics_and_data(task, default_run, capsys):
    assert invoke(["evaluate", str(default_run), "--json", "--offline"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {"split", "metrics", "data"} <= result.keys()
    assert result["metrics"] == Run(api.load(default_run).run_dir).record.results.test
    assert TASKS[task].metrics[0].name in result["metrics"]


def list_keys(value: object) -> set[str]:
    """Return the keys of all mappings inside JSON values."""
    if isinstance(value, dict):
        return set(value).union(*(list_keys(item) for item in value.values()))
    return set().union(*(list_keys(item) for item in value)) if isinstance(value, list) else set()


def foreign_words(task: str, results: object) -> set[str]:
    """Return names and labels of metrics and options that other tasks have, and this one and the house do not."""
    words: dict[str, set[str]] = {}
    for name, cls in TASKS.items():
        words[name] = {metric.name for metric in cls.metrics} | {metric.label for metric in cls.metrics}
        for option_type in (cls.TrainOptions, cls.PredictOptions, cls.SampleOptions, cls.ExplainOptions):
            for option in option_fields(option_type) if option_type is not None else ():
                # a single word may be an ordinary one: only its flag names the option
                words[name] |= {f"--{option.replace('_', '-')}", *([option] if "_" in option else [])}
    others = set().union(*(words[name] for name in TASKS if name != task))
    return others - words[task] - HOUSE_WORDS - list_keys(results)


def list_own_names(task: str) -> list[str]:
    """Return what holds a word of another task with right: "check leakage", "coverage of the 80 % interval"."""
    cls = TASKS[task]
    names = [*option_fields(cls.TrainOptions), *(metric.name for metric in cls.metrics)]
    return [*(name.replace("_", " ") for name in names), *(metric.label for metric in cls.metrics)]


def test_report_card_and_summary_have_no_word_of_another_task(task, trained, model):
    texts = [(trained.path / name).read_text(encoding="utf-8") for name in ("report.html", "MODEL_CARD.md")]
    texts += ["\n".join(model.summary()), "\n".join(trained.describe())]
    words = foreign_words(task, model.results)
    for text in texts:
        text = re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
        for own in sorted(list_own_names(task), key=len, reverse=True):
            text = text.replace(own, "")
        found = [word for word in words if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)]
        assert not found


def test_report_and_card_have_no_script_and_no_address(trained):
    for name in ("report.html", "MODEL_CARD.md"):
        text = (trained.path / name).read_text(encoding="utf-8")
        text = re.sub(r"data:image/png;base64,[\w+/=]+", "", text).replace("http://www.w3.org", "")
        assert not re.search(r"<script|javascript:|https?://|\bsrc=\"//|@import|\burl\(", text, re.IGNORECASE)


def test_the_python_of_a_card_needs_no_name_that_it_does_not_define(trained):
    card = (trained.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assert loaded <= stored | {"tw"} | set(dir(builtins)) and "run" in loaded


def test_progress_and_summary_name_the_metrics_of_the_task(task, trained, model):
    metric = TASKS[task].metrics[0]
    rows = [row for row in model.history if row["split"] == "val"]
    assert rows and all(metric.name in row for row in rows)
    assert metric.label in model.summary()[0] and trained.record.data.unit in model.summary()[0]


# --- data -------------------------------------------------------------------------------------------------------------

#: contents of files that are no data of a task, by file name; tasks without an entry are tested with what all share
BAD_FILES = {
    "classify": {"table.csv": b"label,p0\n1,2,3\n", "images.npz": b"PK\x03\x04", "photo.png": b"\x89PNG\r\n\x1a\n"},
    "forecast": {
        "one_column.csv": b"y\n1\n2\n3\n",
        "text.csv": b"ds,y\n2024-01-01,one\n2024-01-02,two\n",
        "latin1.csv": "ds,y,größe\n2024-01-01,1,2\n".encode("latin-1"),
    },
    "generate": {"images.npz": b"PK\x03\x04", "photo.png": b"\x89PNG\r\n\x1a\n"},
    "translate": {
        "one_column.tsv": b"A dog.\tEin Hund.\nA cat.\n",
        "latin1.tsv": b"A dog.\tEin Hund.\nA bear.\tEin B\xe4r.\n",
        "pairs.zip": b"PK\x03\x04",
        "pairs.tsv.gz": b"\x1f\x8b\x08",
        "short.tsv": b"A dog.\tEin Hund.\n",
    },
    "write": {"short.txt": b"too short", "binary.txt": bytes(range(256)) * 8},
}


def assert_refused_data(task: str, path: Path, out: Path) -> None:
    with pytest.raises((DataError, NotFoundError)) as error:
        plan_on(task, path, out, batch_size=2)
    assert error.value.cure and re.fullmatch(r"[^\n]+\.", error.value.message)
    assert not out.exists()


@pytest.mark.parametrize("kind", ["missing", "empty file", "empty folder", "folder of other files"])
def test_what_is_no_data_is_refused_with_a_cure(task, kind, tmp_path):
    path = tmp_path / "data.txt"
    if kind == "empty file":
        path.touch()
    elif kind != "missing":
        path.mkdir()
    if kind == "folder of other files":
        (path / "program.exe").write_bytes(b"MZ")
    assert_refused_data(task, path, tmp_path / "run")


def test_damaged_data_is_refused_with_a_cure(task, tmp_path):
    for name, content in BAD_FILES.get(task, {}).items():
        path = tmp_path / name
        path.write_bytes(content)
        assert_refused_data(task, path, tmp_path / "run")


def test_data_of_another_task_in_memory_is_refused(task, tmp_path):
    for other, cls in TASKS.items():
        if other != task:
            with pytest.raises(DataError, match="expected"):
                api.plan_training(task, cls().toy_dataset(), out=tmp_path / "run", steps=2)


def test_data_check_reports_or_refuses_in_a_sentence(task, tmp_path):
    path = write_toy(task, tmp_path)
    try:
        report = api.check_dataset(str(path), task, offline=True)
    except ThalwegError as error:
        assert re.fullmatch(r"[^\n]+\.", error.message), error.message
        return
    assert isinstance(report.ok, bool) and report.lines()
    dump_json(report.json())


def test_toy_data_on_disk_trains(task, tmp_path):
    for _ in plan_on(task, write_toy(task, tmp_path), tmp_path / "run"):
        pass
    assert api.load(tmp_path / "run").results["steps"] == 2


# --- data that has a name ---------------------------------------------------------------------------------------------


def test_the_default_data_is_listed(task):
    listed = any(item.is_named(TASKS[task].default_data) for _, item in list_named_data())
    assert listed != (task in UNLISTED_DATA)


def test_named_data_is_recognized_and_says_where_it_is_or_belongs(task, monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for item in TASKS[task].named_data():
        row = item.row(task)
        assert row["license"] and row["summary"] and row["description"] and dump_json(row)
        assert guess_task(Path(item.name)) == task
        if item.where is not None:
            assert item.fetch(True, print) is None
            continue
        with pytest.raises(ResourceError) as error:
            item.fetch(True, print)
        assert str(tmp_path) in str(error.value.path) and error.value.cure
