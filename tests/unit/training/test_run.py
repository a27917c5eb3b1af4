"""What a run leaves, when it validates and saves, and which weights it keeps."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import thalweg as tw
from tests.helpers.run_dirs import FINISHED_FILES, comparable_state, read_run_json
from tests.helpers.toy_runs import (
    BARS,
    assert_equal_tensors,
    break_at,
    finish,
    load_weights,
    parts_of,
    plan_toy,
    release,
    stop_at,
)
from thalweg import api
from thalweg.engine import checkpoint
from thalweg.errors import DataError, OptionError
from thalweg.tasks.base import EvalResult
from thalweg.training.run import TrainingRun

# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_equal_runs_leave_equal_files(reference, tmp_path):
    assert comparable_state(finish(plan_toy(tmp_path / "same"))) == comparable_state(reference)
    assert comparable_state(finish(plan_toy(tmp_path / "other", seed=1))) != comparable_state(reference)


def test_run_json_holds_everything_that_repeats_the_run(reference):
    values = read_run_json(reference)
    assert values["format"] == 2 and values["status"] == "finished" and values["seed"] == 0
    assert values["model"] == "mlp" and values["model_kwargs"].items() >= {"widths": 16, "dropout": 0.2}.items()
    assert values["options"]["batch_size"] == 16 and values["task_options"]["augment"] == "shift"
    assert values["plan"]["config"]["steps"] == 20 and values["plan"]["steps_per_epoch"] == 10
    assert values["data"]["counts"] == {"train": 160, "val": 40, "test": 40} and values["data"]["in_memory"]
    assert values["data_spec"]["classes"] == list(BARS.classes) and values["main_metric"] == "accuracy"
    assert values["versions"].keys() >= {"thalweg", "torch", "python"}
    assert values["results"]["test"]["examples"] == len(BARS.test) and values["results"]["epochs"] == 2
    assert values["weights_sha256"] == hashlib.sha256((reference / "weights.safetensors").read_bytes()).hexdigest()


def test_finished_runs_hold_these_files(reference):
    assert sorted(path.name for path in reference.iterdir()) == FINISHED_FILES


def test_metrics_have_no_clock_times(reference):
    rows = [json.loads(line) for line in (reference / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    train = [row for row in rows if row["split"] == "train"]
    val = [row for row in rows if row["split"] == "val"]
    assert [row["step"] for row in train] == list(range(2, 21, 2))
    assert all(row.keys() == {"step", "epoch", "split", "loss", "accuracy", "lr"} for row in train)
    assert [(row["step"], row["epoch"]) for row in val] == [(10, 1.0), (20, 2.0)]
    assert not any("second" in key or "time" in key for row in val for key in row)


def test_averaged_weights_are_saved(reference):
    state = checkpoint.load_checkpoint(reference / "state" / "00000020")
    weights = load_weights(reference)
    for name, value in state["trainer"]["ema_model"].items():
        assert torch.equal(weights[name], value)


def test_checkpoints_inside_an_epoch_come_at_their_time(tmp_path):
    for progress in plan_toy(tmp_path / "a", epochs=1, checkpoint_every=0):
        if progress.step == 8:
            assert sorted(path.name for path in (tmp_path / "a" / "state").iterdir()) == ["00000006", "00000008"]


def test_a_report_has_plots_and_a_card(tmp_path):
    out = finish(plan_toy(tmp_path / "a", epochs=1, report=True))
    assert (out / "report.html").is_file() and (out / "MODEL_CARD.md").is_file()
    plots = {path.stem for path in (out / "plots").glob("*.png")}
    assert "curves" in plots and len(plots) > 3


def test_the_command_in_run_json_repeats_the_options(tmp_path):
    training = plan_toy(tmp_path / "a", weight_decay=0.1, cache_features=False)
    words = training.record.command.split()
    assert words[:3] == ["thalweg", "train", "classify"] and "--no-cache-features" in words
    for flag, value in (
        ("--batch-size", "16"),
        ("--weight-decay", "0.1"),
        ("--set", "widths=16"),
        ("--augment", "shift"),
    ):
        assert value in [words[index + 1] for index, word in enumerate(words) if word == flag]
    release(training)


# --- data in memory and from files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (16, 16, 3)], ids=str)
def test_arrays_are_trained_on(tmp_path, shape):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (60, *shape), np.uint8)
    labels = np.array(["cat", "dog", "owl"])[np.arange(60) % 3]
    run = tw.train("classify", (images, labels), out=tmp_path / "a", model="mlp", steps=3, report=False)
    assert run.spec.classes == ["cat", "dog", "owl"] and run.spec.channels == (shape[2] if len(shape) == 3 else 1)
    assert run.record.data.in_memory and run.record.data.counts["train"] > 40
    assert run.evaluate((images, labels), split="all")["metrics"]["examples"] == 60
    with pytest.raises(DataError):
        run.evaluate()


def test_float_arrays_with_numbers_as_labels_are_trained_on(tmp_path):
    images = np.random.default_rng(0).random((40, 8, 8), np.float32)
    run = tw.train("classify", (images, np.arange(40) % 2 + 5), out=tmp_path / "a", model="mlp", steps=2, report=False)
    assert run.spec.classes == ["5", "6"]


def test_arrays_of_different_lengths_are_rejected(tmp_path):
    with pytest.raises(DataError) as error:
        plan_toy(tmp_path / "a", data=(np.zeros((4, 8, 8), np.uint8), [0, 1, 0]))
    assert error.value.value == (4, 3) and not (tmp_path / "a").exists()


def write_photos(folder: Path, count: int = 40, side: int = 32) -> Path:
    """Write random color images of two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        file = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (side, side, 3), np.uint8)).save(file)
    return folder


def test_small_photo_sets_are_augmented_and_keep_the_best_by_default(tmp_path):
    photos = write_photos(tmp_path / "photos")
    training = api.plan_training("classify", photos, out=tmp_path / "a", model="mlp", steps=2, report=False)
    parts = parts_of(training)
    assert parts.options.keep_best is True and parts.options.patience is None
    batch = {"image": torch.from_numpy(parts.dataset.train.images[:4].copy())}
    torch.manual_seed(0)
    assert not torch.equal(parts.setup.transform(batch)["image"], parts.setup.transform(batch)["image"])
    finish(training)
    training = api.plan_training(
        "classify", photos, out=tmp_path / "b", model="mlp", steps=2, augment="none", keep_best=False
    )
    parts = parts_of(training)
    assert parts.options.keep_best is False
    assert torch.equal(parts.setup.transform(batch)["image"], parts.setup.transform(batch)["image"])
    release(training)


def test_a_model_that_memorizes_is_reported_with_what_to_try(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (60, 16, 16), np.uint8)
    labels = random.integers(0, 2, 60)
    settings = {"model": "mlp", "augment": "none", "epochs": 40, "batch_size": 16, "lr": 0.003, "val_fraction": 0.4}
    training = api.plan_training("classify", (images, labels), out=tmp_path / "a", report=False, **settings)
    warnings = [warning for progress in training for warning in progress.warnings]
    assert any("--augment" in warning and "--patience" in warning for warning in warnings)


def test_evaluation_finds_examples_that_were_trained_on(reference, tmp_path):
    run = api.load(reference)
    assert "trained_on" not in run.evaluate(BARS, split="test")
    found = run.evaluate(BARS, split="train")["trained_on"]
    assert found == {"examples": len(BARS.train), "metrics": None}
    images = np.concatenate([BARS.train.images[:10], BARS.test.images])
    names = np.array(BARS.classes)[np.concatenate([BARS.train.labels[:10], BARS.test.labels])]
    result = run.evaluate((images, names), split="all")
    assert result["metrics"]["examples"] == 50 and result["trained_on"]["examples"] == 10
    assert result["trained_on"]["metrics"] == run.evaluate(BARS, split="test")["metrics"]


# --- an interrupted run ----------------------------------------------------------------------------------------------


def test_an_interrupted_run_predicts_with_its_newest_checkpoint_and_says_so(tmp_path, capsys):
    training = plan_toy(tmp_path / "a")
    model = parts_of(training).trainer.model
    stop_at(training, 13)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    run = api.load(tmp_path / "a")
    assert_equal_tensors(dict(run.model.state_dict()), expected)
    assert "13 steps" in capsys.readouterr().err
    (prediction,) = run.predict(BARS.test.images[0])
    assert prediction.label in BARS.classes


# --- early stopping and the best weights -----------------------------------------------------------------------------

ACCURACIES = [0.2, 0.9, 0.3, 0.9, 0.4, 0.95, 0.5]


def with_accuracies(training: TrainingRun, values: list[float]) -> TrainingRun:
    """Return the same training, whose n-th epoch has the n-th accuracy on the validation split."""
    parts = parts_of(training)
    evaluate = parts.task.evaluate

    def evaluate_with_value(model, split, *arguments):
        result = evaluate(model, split, *arguments)
        if split is not parts.dataset.val or training.is_finalizing:
            return result
        return EvalResult({**result.metrics, "accuracy": values[parts.trainer.step // 10 - 1]})

    parts.task.evaluate = evaluate_with_value
    return training


def weights_after(epoch: int, tmp_path: Path) -> dict[str, torch.Tensor]:
    """Return the averaged weights after so many of six epochs."""
    training = plan_toy(tmp_path / f"until-{epoch}", epochs=6, checkpoint_every=0)
    break_at(training, 10 * epoch)
    return copy.deepcopy(parts_of(training).trainer.model.state_dict())


@pytest.mark.parametrize("interrupted", [None, 15, 20, 21, 39, 40])
def test_early_stopping_saves_the_best_weights_also_across_a_stop(tmp_path, interrupted):
    out = tmp_path / "a"
    training = with_accuracies(plan_toy(out, epochs=6, patience=2), ACCURACIES)
    if interrupted:
        stop_at(training, interrupted)
        training = with_accuracies(plan_toy(out, resume=True), ACCURACIES)
    finish(training)
    results = read_run_json(out)["results"]
    assert (results["steps"], results["best_epoch"]) == (40, 2)
    assert_equal_tensors(load_weights(out), weights_after(2, tmp_path))
    assert plan_toy(out, resume=True).parts is None


def test_patience_begins_anew_where_more_epochs_are_requested(tmp_path):
    out = tmp_path / "a"
    finish(with_accuracies(plan_toy(out, epochs=6, patience=2), ACCURACIES))
    stop_at(with_accuracies(plan_toy(out, resume=True, epochs="+1"), ACCURACIES), 45)
    finish(with_accuracies(plan_toy(out, resume=True), ACCURACIES))
    results = read_run_json(out)["results"]
    assert (results["steps"], results["best_epoch"]) == (70, 6)


@pytest.mark.parametrize(
    ("options", "is_best"),
    [({}, False), ({"keep_best": True}, True), ({"patience": 5}, True), ({"patience": 5, "keep_best": False}, False)],
    ids=str,
)
def test_the_last_weights_are_saved_unless_the_best_are_asked_for(tmp_path, options, is_best):
    out = tmp_path / "a"
    finish(with_accuracies(plan_toy(out, epochs=3, **options), [0.2, 0.9, 0.3]))
    results = read_run_json(out)["results"]
    assert (results["steps"], results["best_epoch"]) == (30, 2)
    snapshot = checkpoint.load_checkpoint(out / "state" / "00000020")["trainer"]["ema_model"]
    weights = load_weights(out)
    assert all(torch.equal(weights[name], value) for name, value in snapshot.items()) is is_best


# --- what cannot be trained ------------------------------------------------------------------------------------------


def test_batch_norm_of_a_single_value_names_the_batch_size(tmp_path):
    with pytest.raises(OptionError) as error:
        finish(plan_toy(tmp_path / "a", model="resnet18", model_kwargs={"stem": "imagenet"}, batch_size=1))
    assert error.value.option == "batch_size"


def test_errors_of_options_leave_no_folder(tmp_path):
    for wrong in (
        {"model": "lenett"},
        {"optimizer": "adamm"},
        {"val_fraction": 2},
        {"epochs": "+2"},
        {"device": "gpu"},
    ):
        with pytest.raises(tw.errors.ThalwegError) as error:
            plan_toy(tmp_path / "a", **wrong)
        assert error.value.exit_code == 2 and [error.value.value] == list(wrong.values())
        assert not (tmp_path / "a").exists()


def test_a_time_budget_is_planned_once_and_then_kept(tmp_path):
    out = tmp_path / "a"
    training = plan_toy(out, epochs=None, time_budget="0.5s")
    steps = training.plan["config"]["steps"]
    assert steps > 1
    stop_at(training, 2)
    training = plan_toy(out, resume=True)
    assert training.plan["config"]["steps"] == steps
    for progress in training:
        assert progress.steps == steps
    assert read_run_json(out)["results"]["steps"] == steps


def test_automatic_learning_rate_and_batch_size_are_planned_once(tmp_path):
    out = tmp_path / "a"
    training = plan_toy(out, lr="auto", batch_size="auto")
    planned = training.plan
    assert planned["batch_size"] >= 32 and 0 < planned["config"]["lr"] < 10
    stop_at(training, 2)
    training = plan_toy(out, resume=True)
    assert training.plan == planned
    release(training)
