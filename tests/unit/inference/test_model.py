"""Trained models: which one a name means, on which data, for how many images, and what they looked at."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageDraw

from tests.helpers.http_servers import serve_content
from thalweg import api, registry
from thalweg.attribution.explain_image import METHODS
from thalweg.cli import main as cli
from thalweg.data.base import DataRequest
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.data.images.load import load_dataset
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import DataError, ModelFileError, NotFoundError, OptionError, ResourceError
from thalweg.inference.load import PretrainedModel
from thalweg.inference.model import FUSE_FROM, TrainedModel
from thalweg.inference.run import Run
from thalweg.predictions.base import UnreadableSource
from thalweg.tasks import classify

BARS = make_bars(count=192)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    monkeypatch.delenv("THALWEG_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A small LeNet that recognizes most bars."""
    options = {"model": "lenet", "model_kwargs": {"filters": [6, 12], "hidden": 32}, "epochs": 20, "batch_size": 16}
    return api.train("classify", BARS, out=tmp_path_factory.mktemp("runs") / "bars", report=False, **options)


@pytest.fixture
def seven(tmp_path) -> Path:
    """A seven, drawn in black on white."""
    page = Image.new("L", (90, 120), 255)
    ImageDraw.Draw(page).line([(20, 20), (70, 20), (38, 100)], fill=0, width=9)
    page.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def select_classes(names: list[str], dataset: ImageDataset = BARS) -> ImageDataset:
    """Return the images of some classes, with labels in the order of `names`."""
    labels = {dataset.classes.index(name): number for number, name in enumerate(names)}
    splits = {}
    for name, split in dataset.splits.items():
        chosen = split.take(np.flatnonzero(np.isin(split.labels, list(labels))))
        splits[name] = replace(chosen, labels=np.array([labels[k] for k in chosen.labels.tolist()], np.int64))
    return replace(dataset, classes=tuple(names), splits=splits)


def compute_probabilities(trained: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) directly from the model."""
    with torch.inference_mode():
        logits = trained.model(trained.task.to_input(images, trained.spec))
    return logits.softmax(1).numpy()


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_name_means_a_run_a_bundled_model_or_a_pretrained_one(run, tmp_path):
    assert isinstance(api.load(run.path), Run) and api.load("digits-lenet").record.model == "lenet"
    assert isinstance(api.load("lenet", weights=str(run.path)), PretrainedModel)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError) as error:
        api.load(tmp_path / "folder")
    assert error.value.path == str(tmp_path / "folder")
    with pytest.raises(NotFoundError) as error:
        api.load("resnet5")
    assert error.value.value == "resnet5" and "'resnet50'" in error.value.cure
    for name, weights in (("lenet", None), (str(run.path), str(run.path))):
        with pytest.raises(NotFoundError):
            api.load(name, weights=weights)


def test_a_folder_named_as_a_model_hides_it_only_if_it_is_a_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    with pytest.raises(ResourceError):
        api.load("resnet18")
    shutil.copytree(run.path, tmp_path / "resnet34")
    assert isinstance(api.load("resnet34"), Run)


def test_a_weights_file_is_not_a_run_but_may_become_one(tmp_path):
    file = tmp_path / "w.pth"
    file.touch()
    with pytest.raises(ModelFileError) as error:
        api.load(file)
    assert error.value.path == str(file) and error.value.cure.endswith(f"MODEL --weights {file}")


@pytest.mark.parametrize("verb", ["predict", "explain", "evaluate", "export"])
@pytest.mark.parametrize("name", ["", "x" * 5000], ids=["empty", "too long"])
def test_impossible_names_are_usage_errors(verb, name, seven, capsys):
    sources = [str(seven)] if verb in ("predict", "explain") else []
    assert cli.invoke([verb, name, *sources]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and not captured.out


def test_a_name_that_is_too_long_is_neither_image_weights_nor_data(seven, capsys):
    long = "x" * 5000
    assert cli.invoke(["predict", "digits-lenet", long, str(seven), "--json"]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert cli.invoke(["explain", "digits-lenet", long]) == 3
    assert cli.invoke(["predict", "lenet", str(seven), "--weights", long]) == 2
    assert cli.invoke(["evaluate", "digits-lenet", long]) == 2
    assert cli.invoke(["predict", "resnet18", str(seven), "--weights", ""]) == 2


def test_offline_models_download_neither_data_nor_urls(monkeypatch):
    monkeypatch.delenv("THALWEG_OFFLINE")
    trained = api.load("digits-lenet", offline=True)
    with pytest.raises(ResourceError, match="mnist"):
        trained.evaluate("mnist")
    with pytest.raises(ResourceError) as error:
        trained.explain("http://127.0.0.1/a.png")
    assert error.value.path == "http://127.0.0.1/a.png"


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_weights_that_are_nan_give_no_label(seven, tmp_path, capsys, verb):
    state = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=28).state_dict()
    state["head.bias"][1] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    save = ["--save", str(tmp_path / "out")]
    assert cli.invoke([verb, "lenet", str(seven), "--weights", str(tmp_path / "w.safetensors"), *save]) == 6
    assert not capsys.readouterr().out and not (tmp_path / "out").exists()


def test_a_model_with_the_weights_of_a_run_predicts_as_the_run(run):
    again = api.load("lenet", weights=str(run.path))
    assert again.spec.classes == list(BARS.classes) and again.spec.mean == run.spec.mean
    images = BARS.test.images
    np.testing.assert_array_equal(compute_probabilities(again, images), compute_probabilities(run, images))
    assert again.evaluate(BARS)["metrics"] == run.evaluate(BARS)["metrics"]


def test_a_model_with_the_weights_of_a_file_has_numbered_classes_and_says_what_it_assumes(tmp_path, capsys):
    model = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=28)
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    trained = api.load("lenet", weights=str(file))
    notice = capsys.readouterr().err
    assert "w.safetensors" in notice and "28 x 28" in notice
    assert trained.spec.classes == ["class 0", "class 1", "class 2"] and trained.spec.channels == 1
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    (prediction,) = trained.predict(image)
    x_1CHW = torch.from_numpy(image).float()[None, None] / 127.5 - 1
    with torch.no_grad():
        expected = model.eval()(x_1CHW).softmax(1)[0]
    torch.testing.assert_close(torch.from_numpy(prediction.probabilities), expected)


def test_the_weights_of_another_model_are_rejected_by_the_first_tensor_that_differs(tmp_path):
    state = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=16).state_dict()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match="features.7.weight"):
        list(api.load("lenet", weights=str(tmp_path / "w.safetensors")).predict(np.zeros((28, 28), np.uint8)))


@pytest.mark.parametrize("file", ["missing", "truncated"])
def test_lost_weights_of_a_finished_run_are_not_a_matter_of_resuming(run, tmp_path, file):
    shutil.copytree(run.path, tmp_path / "a")
    weights = tmp_path / "a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:99]) if file == "truncated" else weights.unlink()
    with pytest.raises(ModelFileError) as error:
        compute_probabilities(api.load(tmp_path / "a"), BARS.test.images)
    assert "weights.safetensors" in error.value.message and "--resume" not in error.value.cure


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("task", "clasify", "task"),
        ("model", "lenett", "model"),
        ("data_spec", {}, "data_spec"),
        ("task_options", {"loss": 3}, "loss"),
    ],
)
def test_a_wrong_record_is_a_model_file_error_that_names_the_field(run, tmp_path, field, value, option):
    shutil.copytree(run.path, tmp_path / "a")
    (tmp_path / "a" / "checksums.sha256").unlink()
    path = tmp_path / "a" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, field: value}), encoding="utf-8")
    with pytest.raises(ModelFileError) as error:
        _ = api.load(tmp_path / "a").model
    assert error.value.option.startswith(option) and str(error.value.path) == str(path)


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["lying", "rising"], ["rising", "standing", "lying"], ["rising", "falling"]], ids=str
)
def test_data_with_some_of_the_classes_is_evaluated_by_their_names(run, names):
    dataset = select_classes(names)
    metrics = run.evaluate(dataset)["metrics"]
    labels = np.array([BARS.classes.index(name) for name in names])[dataset.test.labels]
    is_correct = compute_probabilities(run, dataset.test.images).argmax(1) == labels
    assert metrics["examples"] == len(labels) and metrics["accuracy"] == pytest.approx(is_correct.mean())
    assert metrics["accuracy"] > 0.5 > 1 / len(BARS.classes), "chance among all classes would be less"
    assert run.load_data(dataset).classes == BARS.classes


def test_classes_in_another_order_are_the_same_classes(run):
    shuffled = select_classes(["rising", "falling", "standing", "lying"])
    assert run.evaluate(shuffled)["metrics"]["accuracy"] == run.evaluate(BARS)["metrics"]["accuracy"]


def test_data_that_does_not_fit_the_model_is_rejected(run):
    with pytest.raises(DataError) as error:
        run.evaluate(replace(BARS, classes=("lying", "standing", "falling", "zigzag")))
    assert error.value.value == ["zigzag"] and list(error.value.allowed) == list(BARS.classes)
    with pytest.raises(DataError) as error:
        run.evaluate(make_bars(count=24, size=20))
    assert error.value.value == [20, 20, 1]
    with pytest.raises(DataError) as error:
        run.evaluate()  # it was trained on data in memory
    assert error.value.path == run.path
    with pytest.raises(OptionError) as error:
        run.evaluate(BARS, split="most")
    assert (error.value.option, error.value.value) == ("split", "most") and "all" in error.value.allowed
    empty = replace(BARS, splits={**BARS.splits, "val": BARS.val.take(np.arange(0))})
    with pytest.raises(DataError) as error:
        run.evaluate(empty, split="val")
    assert error.value.value == "val"
    with pytest.raises(DataError):
        api.load("lenet", weights=str(run.path)).evaluate()


def test_a_named_dataset_can_be_reduced_to_classes_and_evaluated_by_the_full_model(capsys):
    dataset = load_dataset(DataRequest("digits:7,3"))
    full = load_dataset(DataRequest("digits"))
    assert dataset.classes == ("7", "3") and dataset.name == "digits:7,3"
    names = {}
    for split in full.splits.values():
        names |= {i.tobytes(): full.classes[k] for i, k in zip(split.images, split.labels, strict=True)}
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == {0, 1}
        labels = [dataset.classes[k] for k in split.labels]
        assert [names[image.tobytes()] for image in split.images] == labels
    trained = api.load("digits-lenet")
    examples = load_dataset(DataRequest("digits:7,3"), 28).all  # it was trained on none, and there is no test split
    labels = np.array([7, 3])[examples.labels]
    expected = (compute_probabilities(trained, examples.images).argmax(1) == labels).mean()
    assert cli.invoke(["evaluate", "digits-lenet", "digits:7,3", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["accuracy"] == pytest.approx(expected) and metrics["examples"] == len(labels)


@pytest.mark.parametrize(
    ("source", "named", "cure"),
    [
        ("fashion-mnist:Sneakers,Bag", "Sneakers", "'Sneaker'"),
        ("fashion-mnist:Bag,Bag", "Bag", ""),
        ("fashion-mnist:Bag,", "''", ""),
        ("fashion-mnist:Bag", "", ""),
    ],
)
def test_classes_that_a_named_dataset_does_not_have_are_rejected(source, named, cure, monkeypatch, capsys):
    from thalweg.data.images import named_datasets
    from thalweg.data.images.catalog import NAMED_DATASETS
    from thalweg.data.images.raw_dataset import RawDataset

    classes = NAMED_DATASETS["fashion-mnist"].classes
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    split = ImageSplit(images, np.arange(60) % 10, [str(n) for n in range(60)])
    raw = RawDataset("clothes", "here", classes, {"train": split})
    monkeypatch.setattr(named_datasets, "read_named", lambda *_: raw)
    chosen = load_dataset(DataRequest("fashion-mnist:Sneaker,Bag"))
    assert chosen.classes == ("Sneaker", "Bag") and sum(map(len, chosen.splits.values())) == 12
    assert cli.invoke(["data", "check", source]) == 3
    captured = capsys.readouterr().err
    assert named in captured and cure in captured


def test_other_data_without_a_test_split_is_evaluated_in_full(tmp_path, capsys):
    """Three images could not be split, and nothing is trained on them."""
    for number, label in enumerate("731"):
        folder = tmp_path / "three" / label
        folder.mkdir(parents=True)
        page = Image.new("L", (28, 28), 255)
        ImageDraw.Draw(page).line([(10, 5), (14 + number, 22)], fill=0, width=2)
        page.save(folder / "a.png")
    assert cli.invoke(["evaluate", "digits-lenet", str(tmp_path / "three"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["split"] == "all" and result["metrics"]["examples"] == 3
    assert cli.invoke(["evaluate", "digits-lenet", str(tmp_path / "three"), "--split", "test"]) == 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_drawings_are_evaluated_as_they_are_predicted(seven, tmp_path, capsys, mode):
    """Normalized like MNIST, whatever their color; those that cannot be are skipped by name."""
    for number, label in enumerate("777770001"):
        folder = tmp_path / "drawn" / label
        folder.mkdir(parents=True, exist_ok=True)
        page = Image.new(mode, (90, 120), "white")
        corner = (5 * number, 3 * number)
        page.paste(Image.open(seven).crop((10, 10, 80, 110)), corner)
        (page if label == "7" else Image.new(mode, (90, 120), "white")).save(folder / f"{number}.png")
    (tmp_path / "drawn" / "0" / "broken.png").touch()
    ImageDraw.Draw(page := Image.new(mode, (90, 120), "white")).line([(45, 20), (45, 100)], fill="black", width=8)
    page.save(tmp_path / "drawn" / "0" / "one.png")
    ImageDraw.Draw(page).rectangle([(10, 30), (80, 110)], outline="black", width=9)
    page.save(tmp_path / "drawn" / "1" / "box.png")
    assert cli.invoke(["evaluate", "digits-lenet", str(tmp_path / "drawn"), "--json"]) == 0
    captured = capsys.readouterr()
    metrics = json.loads(captured.out)["metrics"]
    assert metrics["examples"] == 7 and captured.err.count("skipped: ") == 5
    assert all(f"{name}.png" in captured.err for name in ("broken", "5", "6", "7", "8"))
    assert cli.invoke(["predict", "digits-lenet", str(tmp_path / "drawn"), "--json"]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    correct = sum(row["label"] == Path(row["source"]).parent.name for row in rows)
    assert metrics["accuracy"] == pytest.approx(correct / 7) and correct >= 5


def test_color_images_are_evaluated_by_a_model_that_reads_gray_ones(run, tmp_path):
    for number, (image, label) in enumerate(zip(BARS.test.images, BARS.test.labels, strict=True)):
        folder = tmp_path / "color" / BARS.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(image, 3, axis=2)).save(folder / f"{number}.png")
        Image.fromarray(np.concatenate([image, image, image // 2], axis=2)).save(folder / f"{number}-yellow.png")
    assert run.evaluate(tmp_path / "color")["metrics"]["examples"] == 2 * len(BARS.test)


def test_examples_that_were_trained_on_are_counted_and_left_out(run):
    mixed = ImageSplit(
        np.concatenate([BARS.train.images[:10], BARS.test.images]),
        np.concatenate([BARS.train.labels[:10], BARS.test.labels]),
        [str(n) for n in range(10 + len(BARS.test))],
    )
    is_new = ~np.isin(mixed.keys(), BARS.train.keys())
    result = run.evaluate(replace(BARS, splits={**BARS.splits, "test": mixed}))
    assert result["trained_on"]["examples"] == int((~is_new).sum()) >= 10
    assert result["trained_on"]["metrics"]["examples"] == int(is_new.sum())
    only_trained = run.evaluate(BARS, split="train")
    assert only_trained["trained_on"] == {"examples": len(BARS.train), "metrics": None}


def test_plots_that_cannot_be_written_are_not_about_resuming(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError) as error:
        run.evaluate(BARS, save=tmp_path / "file")
    assert "--resume" not in str(error.value) and "MB" not in str(error.value)


# --- many images -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fused_shapes(monkeypatch) -> list[tuple]:
    """The input shapes for which models were optimized."""
    shapes = []
    honest = classify.optimize_for_inference

    def record(model, shape):
        shapes.append(shape)
        optimized = honest(model, shape)
        assert optimized is not model
        return optimized

    monkeypatch.setattr(classify, "optimize_for_inference", record)
    return shapes


def write_images(folder: Path, count: int) -> list[Path]:
    """Write images of bars, whose names sort in another order."""
    folder.mkdir()
    paths = [folder / f"{(11 * n) % count:03}.png" for n in range(count)]
    for path, image in zip(paths, np.resize(BARS.test.images, (count, 16, 16)), strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_one_unreadable_image_among_a_hundred_is_reported_in_its_place(run, tmp_path, fused_shapes, capsys):
    paths = write_images(tmp_path / "images", 100)
    paths[41].write_bytes(paths[41].read_bytes()[:60])
    predictions = list(run.predict(paths, batch_size=16))
    assert fused_shapes == [(16, 1, 16, 16)]
    assert [prediction.source for prediction in predictions] == list(map(str, paths))
    assert isinstance(predictions[41], UnreadableSource) and predictions[41].reason
    readable = [row for row in range(100) if row != 41]
    for row in readable:
        (alone,) = run.predict([paths[row]])
        np.testing.assert_allclose(predictions[row].probabilities, alone.probabilities, atol=1e-5)
    assert len(fused_shapes) == 1, "optimizing does not pay for a single image"
    assert cli.invoke(["predict", str(run.path), *map(str, paths), "--json"]) == 3
    captured = capsys.readouterr()
    sources = [json.loads(line)["source"] for line in captured.out.splitlines()]
    assert sources == [str(paths[row]) for row in readable] and str(paths[41]) in captured.err


@pytest.mark.parametrize(("count", "num_fused"), [(FUSE_FROM - 1, 0), (FUSE_FROM, 1)])
def test_a_model_is_optimized_for_many_images_only(run, tmp_path, fused_shapes, count, num_fused):
    write_images(tmp_path / "images", count)
    assert len(list(run.predict(tmp_path / "images"))) == count and len(fused_shapes) == num_fused


def test_an_iterator_of_sources_is_read_as_it_comes(run, fused_shapes):
    images = list(np.resize(BARS.test.images, (70, 16, 16)))
    predictions = list(run.predict(image for image in images))
    assert len(predictions) == 70 and fused_shapes == []
    for one, other in zip(predictions, run.predict(images), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert len(fused_shapes) == 1


def test_predictions_can_be_indexed_and_looped_over_as_in_the_readme(run, tmp_path):
    stream = run.predict([BARS.test.images[0], tmp_path / "lost.png"])
    assert stream[0].label in BARS.classes and not stream[1] and len(stream) == 2
    for prediction in stream:
        print(prediction.label, prediction.top(3))


def test_unknown_options_of_predict_and_sample_are_rejected(run):
    with pytest.raises(OptionError) as error:
        run.predict(BARS.test.images[0], top=3)
    assert error.value.option == "top" and "top_k" in error.value.allowed
    with pytest.raises(OptionError):
        run.sample(count=3)


# --- explain ---------------------------------------------------------------------------------------------------------


def test_a_drawn_digit_is_explained(seven, tmp_path, capsys):
    assert cli.invoke(["explain", "digits-lenet", str(seven), "--json", "--save", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out, parse_constant=pytest.fail)
    assert result["label"] == "7" and result["top"][0]["label"] == "7" and result["probability"] > 0.5
    assert set(result["methods"]) | set(result["notes"]) == set(METHODS)
    assert sorted(Path(path).name for path in result["images"]) == [
        "attribution.png",
        "feature-maps.png",
        "filters.png",
    ]
    for path in result["images"]:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 50
    assert "Traceback" not in captured.err


def test_the_explained_label_is_the_predicted_one():
    """cifar10-fast averages its predictions over augmented copies of an image."""
    run = api.load("cifar10-fast")
    for image in np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8):
        (prediction,) = run.predict(image)
        result = run.explain(image, methods=["occlusion"])
        assert result.label == prediction.label
        assert result.probability == pytest.approx(prediction.top(1)[0][1], abs=1e-5)
        assert [label for label, _ in result.predictions] == [label for label, _ in prediction.top(5)]


def test_an_image_to_explain_comes_from_any_source(seven, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--methods", "occlusion", "--json", "--save", str(tmp_path / "out")]
    with serve_content(seven.read_bytes(), monkeypatch) as server:
        for source in (str(seven), "-", f"{server.url}/seven.png"):
            stdin = io.TextIOWrapper(io.BytesIO(seven.read_bytes()), encoding="utf-8")
            monkeypatch.setattr(sys, "stdin", stdin)
            assert cli.invoke(["explain", "digits-lenet", source, *words]) == 0
            assert json.loads(capsys.readouterr().out)["label"] == "7"
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "two" / name).write_bytes(seven.read_bytes())
    for source in ("two", "two/*.png"):
        assert cli.invoke(["explain", "digits-lenet", source]) == 3
        captured = capsys.readouterr()
        assert "two/a.png" in captured.err and "two/b.png" in captured.err


def test_target_class_and_methods_can_be_chosen(seven, tmp_path, capsys):
    words = ["explain", "digits-lenet", str(seven), "--target-class", "1", "--methods", "grad-cam, occlusion"]
    assert cli.invoke([*words, "--save", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["label"] == "1" and set(result["methods"]) == {"grad-cam", "occlusion"}
    assert result["top"][0]["label"] == "7", "the prediction stays what it is"
    assert cli.invoke([*words, "--save", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[1] == "7" and lines[-1] == str(tmp_path / "out" / "attribution.png")


def test_one_method_may_be_given_by_its_name(run):
    assert list(run.explain(BARS.test.images[0], methods="occlusion").json()["methods"]) == ["occlusion"]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--target-class", "seven"], 2, "seven"),
        (["--methods", "grad-cam,gradcam"], 2, "gradcam"),
        (["--methods", " ,"], 2, "grad-cam"),
        (["--methods", ""], 2, "grad-cam"),
        (["--save", "{seven}/out"], 5, "out"),
        (["--weights", "imagenet"], 2, "digits-lenet"),
    ],
    ids=str,
)
def test_failed_explanations_have_exit_codes_and_name_the_cause(seven, tmp_path, capsys, words, code, named):
    words = [word.format(seven=seven) for word in words]
    save = [] if "--save" in words else ["--save", str(tmp_path / "out")]
    assert cli.invoke(["explain", "digits-lenet", str(seven), *words, *save]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and named in captured.err
    assert not captured.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text", "blank", "empty folder"])
def test_unreadable_images_are_3_and_are_named(seven, tmp_path, capsys, kind):
    path = tmp_path / "other.png"
    if kind == "blank":
        Image.new("L", (50, 50), 255).save(path)
    elif kind == "empty folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "truncated": seven.read_bytes()[:80], "text": b"seven"}[kind])
    assert cli.invoke(["explain", "digits-lenet", str(path), "--save", str(tmp_path / "out")]) == 3
    captured = capsys.readouterr()
    assert "other.png" in captured.err and "Traceback" not in captured.err and not captured.out
    assert not (tmp_path / "out").exists()
