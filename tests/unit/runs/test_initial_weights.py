"""Initial weights of published sets, files and runs: what comes with them, what is reset, what is refused."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from tests.helpers.http_servers import serve_content
from tests.helpers.run_dirs import comparable_state, read_run_json, write_run_json
from tests.helpers.toy_runs import assert_equal_tensors, break_at, finish, load_weights, parts_of, release
from thalweg import api, registry
from thalweg.cli import main as cli
from thalweg.data.images.dataset import ImageDataset
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import DataError, ModelFileError, NotFoundError, OptionError
from thalweg.runs import initial_weights
from thalweg.runs.run_dir import bundled_models
from thalweg.tasks.classify import Classify, ClassifyOptions
from thalweg.training.run import TrainingRun
from thalweg.weights.catalog import CATALOG, PretrainedWeights

BARS = make_bars(count=96)
#: arguments of the model that others begin with; none is a default
KWARGS = {"filters": [3, 5], "hidden": 12, "activation": "tanh"}
HEAD = ["head.weight", "head.bias"]


@pytest.fixture(autouse=True)
def isolate(tmp_path, monkeypatch):
    """Use a cache of its own and no network."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    monkeypatch.delenv("THALWEG_DATA", raising=False)


def map_images(data: ImageDataset, change) -> ImageDataset:
    splits = {name: replace(split, images=change(split.images)) for name, split in data.splits.items()}
    return replace(data, splits=splits, fingerprint="changed")


def in_color(data: ImageDataset) -> ImageDataset:
    return map_images(data, lambda images: np.repeat(images, 3, axis=3))


def keep_classes(data: ImageDataset, count: int = 3) -> ImageDataset:
    splits = {name: split.take(np.flatnonzero(split.labels < count)) for name, split in data.splits.items()}
    return replace(data, classes=data.classes[:count], splits=splits)


def plan(out: Path, data: ImageDataset = BARS, **options) -> TrainingRun:
    defaults = {} if options.get("resume") else {"epochs": 1, "batch_size": 16}
    return api.plan_training("classify", data, out=out, **{**defaults, "report": False, **options})


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Return the run that others begin with, trained on brighter images than theirs."""
    bright = map_images(BARS, lambda images: 255 - images // 2)
    return finish(plan(tmp_path_factory.mktemp("runs") / "source", bright, model="lenet", model_kwargs=KWARGS))


def model_state(training: TrainingRun) -> dict[str, Tensor]:
    state = parts_of(training).model.state_dict()
    return {name: value.clone() for name, value in state.items()}


def differing_names(first: dict, second: dict) -> list[str]:
    assert set(first) == set(second)
    return [
        name
        for name, value in first.items()
        if value.shape != second[name].shape or not torch.equal(value, second[name])
    ]


def build_lenet(**kwargs) -> nn.Module:
    return registry.find_model("lenet")(**{"in_channels": 1, "num_classes": 4, "image_size": 16, **kwargs})


def save_state(path: Path, state: dict[str, Tensor]) -> Path:
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    return path


def zeros_of(name: str, **kwargs) -> dict[str, Tensor]:
    """Return a state of zeros for a large model."""
    with torch.device("meta"):
        state = registry.find_model(name)(in_channels=3, **kwargs).state_dict()
    return {key: torch.zeros(value.shape) for key, value in state.items()}


# --- from a run ------------------------------------------------------------------------------------------------------


def test_a_run_gives_model_arguments_weights_and_normalization(source, tmp_path):
    old = read_run_json(source)
    training = plan(tmp_path / "a", weights=str(source))
    spec = parts_of(training).spec
    assert training.record.model == "lenet" and differing_names(model_state(training), load_weights(source)) == []
    assert spec.mean == old["data_spec"]["mean"] != Classify().data_spec(BARS, ClassifyOptions()).mean
    assert spec.std == old["data_spec"]["std"]
    assert spec.class_counts == np.bincount(BARS.train.labels).tolist()
    record = read_run_json(finish(training))
    assert record["model_kwargs"].items() >= {"hidden": 12, "activation": "tanh"}.items()
    sha256 = hashlib.sha256((source / "weights.safetensors").read_bytes()).hexdigest()
    expected = {"weights": str(source), "file": "weights.safetensors", "sha256": sha256, "reset": []}
    assert record["initial_weights"].items() >= expected.items()
    metrics = api.load(tmp_path / "a").evaluate(BARS)["metrics"]
    assert metrics == pytest.approx(record["results"]["test"], abs=1e-6)


def test_arguments_survive_a_second_generation_and_given_ones_win(source, tmp_path):
    child = finish(plan(tmp_path / "child", weights=str(source)))
    shutil.rmtree(child / "state")
    training = plan(tmp_path / "grandchild", weights=str(child))
    assert differing_names(model_state(training), load_weights(child)) == []
    assert training.record.model_kwargs["hidden"] == 12
    release(training)
    training = plan(tmp_path / "other", weights=str(child), model_kwargs={"activation": "relu"})
    assert training.record.model_kwargs.items() >= {"activation": "relu", "hidden": 12}.items()
    release(training)
    with pytest.raises(ModelFileError) as error:
        plan(tmp_path / "wider", weights=str(child), model_kwargs={"hidden": 13})
    assert error.value.path == child / "weights.safetensors"


def test_the_head_is_reset_for_other_classes_and_drawn_by_the_seed(source, tmp_path):
    training = plan(tmp_path / "a", keep_classes(BARS), weights=str(source))
    state = model_state(training)
    assert differing_names(state, load_weights(source)) == HEAD and len(state["head.bias"]) == 3
    assert read_run_json(finish(training))["initial_weights"]["reset"] == HEAD
    again = plan(tmp_path / "b", keep_classes(BARS), weights=str(source))
    assert_equal_tensors(model_state(again), state)


def test_the_head_is_kept_only_for_the_same_classes(source, tmp_path):
    """As many classes in another order, or by other names, are other classes."""
    renamed = replace(BARS, classes=tuple(f"other {name}" for name in BARS.classes))
    same = plan(tmp_path / "same", weights=str(source))
    other = plan(tmp_path / "other", renamed, weights=str(source))
    assert same.record.initial_weights.reset == [] and other.record.initial_weights.reset == HEAD
    weights = load_weights(source)
    assert differing_names(model_state(same), weights) == []
    assert set(differing_names(model_state(other), weights)) <= set(HEAD)
    assert not torch.equal(model_state(other)["head.weight"], weights["head.weight"])


def test_a_run_of_another_model_is_refused(source, tmp_path):
    with pytest.raises(OptionError) as error:
        plan(tmp_path / "a", weights=str(source), model="mlp")
    assert (error.value.option, error.value.value) == ("weights", "lenet") and not (tmp_path / "a").exists()


def test_a_bundled_model_is_found_by_its_name(tmp_path):
    training = plan(tmp_path / "a", make_bars(count=48, size=28), weights="digits-lenet")
    weights = load_weights(bundled_models()["digits-lenet"])
    assert training.record.model == "lenet" and differing_names(model_state(training), weights) == HEAD
    assert parts_of(training).spec.handwriting is True and parts_of(training).spec.mean == [0.131034]
    assert read_run_json(finish(training))["initial_weights"]["weights"] == "digits-lenet"


@pytest.mark.parametrize("broken", ["no weights", "other weights", "no data_spec", "no model"])
def test_a_run_that_is_not_complete_is_refused(source, tmp_path, broken):
    run = shutil.copytree(source, tmp_path / "run")
    if broken == "no weights":
        (run / "weights.safetensors").unlink()
    elif broken == "other weights":
        save_state(run / "weights.safetensors", build_lenet().state_dict())
    else:
        values = read_run_json(run)
        del values[broken.removeprefix("no ")]
        write_run_json(run, values)
    with pytest.raises(ModelFileError) as error:
        plan(tmp_path / "a", weights=str(run))
    assert Path(str(error.value.path)).parent == run and error.value.cure


# --- from a file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_is_loaded_into_the_requested_model(tmp_path, name):
    torch.manual_seed(7)
    state = build_lenet(hidden=9).state_dict()
    file = save_state(tmp_path / name, state)
    training = plan(tmp_path / "a", weights=str(file), model="lenet", model_kwargs={"hidden": 9})
    assert differing_names(model_state(training), state) == []
    own = Classify().data_spec(BARS, ClassifyOptions())
    assert parts_of(training).spec.mean == own.mean, "a bare file says nothing of normalization"
    record = read_run_json(finish(training))["initial_weights"]
    assert record["file"] == name and record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_without_a_model_is_for_the_default_model(tmp_path):
    state = registry.find_model("convnet")(in_channels=1, num_classes=4, image_size=16).state_dict()
    file = save_state(tmp_path / "w.safetensors", state)
    assert differing_names(model_state(plan(tmp_path / "a", weights=str(file))), state) == []


def test_a_file_for_a_published_model_has_the_preprocessing_of_imagenet(tmp_path):
    state = zeros_of("squeezenet1_1", num_classes=7)
    file = save_state(tmp_path / "w.safetensors", state)
    lines: list[str] = []
    weights = initial_weights.resolve("squeezenet1_1", str(file), True, lines.append)
    assert len(lines) == 1 and file.name in lines[0]
    assert weights.spec_values["size"] == [224, 224] and weights.spec_values["mean"] == [0.485, 0.456, 0.406]
    assert list(weights.spec_values["classes"]) == [], "seven outputs are not ImageNet's classes"
    del state["classifier.1.weight"]
    file = save_state(tmp_path / "incomplete.safetensors", state)
    with pytest.raises(ModelFileError) as error:
        initial_weights.resolve("squeezenet1_1", str(file), True, lines.append)
    assert (error.value.value, error.value.path) == ("classifier.1.weight", file)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"features.3.weight": torch.zeros(5, 3, 5, 5)}, "features.3.weight"),
        ({"features.0.bias": None}, "features.0.bias"),
        ({"features.9.bias": torch.zeros(1)}, "features.9.bias"),
        ({"head.weight": torch.zeros(4, 7)}, "head.weight"),
    ],
    ids=["shape", "missing", "too many", "other inputs of the head"],
)
def test_a_file_of_another_model_ends_with_4_and_names_the_first_tensor_that_differs(tmp_path, capsys, changed, name):
    state = {**build_lenet(image_size=8).state_dict(), **changed}
    file = save_state(tmp_path / "w.safetensors", {key: value for key, value in state.items() if value is not None})
    words = ["train", "classify", "digits", "--model", "lenet", "--weights", str(file), "--out", str(tmp_path / "a")]
    assert cli.invoke(words) == 4
    captured = capsys.readouterr()
    assert f"'{name}'" in captured.err and str(file) in captured.err
    assert not captured.out and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"head.weight": torch.tensor(1.0)}, "head.weight"),
        ({"head.weight": torch.zeros(0, 12)}, "head.weight"),
        ({"features.0.weight": torch.tensor(1.0)}, "features.0.weight"),
        ({"features.0.weight": torch.zeros(6)}, "features.0.weight"),
        ({"features.0.weight": torch.zeros(6, 4, 5, 5)}, "features.0.weight"),
        ({"features.0.bias": None, "head.weight": None}, "features.0.bias"),
    ],
    ids=["head without shape", "no class", "no shape", "one dimension", "four channels", "missing"],
)
def test_weights_that_cannot_predict_end_with_4_and_name_the_tensor(tmp_path, capsys, changed, name):
    state = {**build_lenet().state_dict(), **changed}
    file = save_state(tmp_path / "w.safetensors", {key: value for key, value in state.items() if value is not None})
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert cli.invoke(["predict", "lenet", str(tmp_path / "a.png"), "--weights", str(file)]) == 4
    captured = capsys.readouterr()
    assert name in captured.err and str(file) in captured.err and not captured.out


class Trap:
    """Something that pickle calls when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("verb", ["predict", "explain", "train"])
def test_a_file_that_carries_code_is_refused_with_4_and_none_of_it_runs(tmp_path, capsys, verb):
    marker, file = tmp_path / "marker", tmp_path / "evil.pth"
    torch.save({**build_lenet().state_dict(), "beside": Trap(marker)}, file)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    words = [verb, "lenet", str(tmp_path / "a.png")]
    if verb == "train":
        words = ["train", "classify", "digits", "--model", "lenet", "--out", str(tmp_path / "a")]
    assert cli.invoke([*words, "--weights", str(file)]) == 4
    captured = capsys.readouterr()
    assert str(file) in captured.err and "Traceback" not in captured.err and not captured.out
    assert not marker.exists() and not (tmp_path / "a").exists()
    torch.load(file, weights_only=False)
    assert marker.exists(), "the trap was a real one"


def stem_kernel(training: TrainingRun) -> tuple[int, int]:
    return parts_of(training).model.conv1.kernel_size


def test_a_resnet_has_the_stem_of_its_weights_whatever_the_image_size(tmp_path):
    """Else it would be chosen by the image size, and the weights refused."""
    state = registry.find_model("resnet18")(in_channels=3, num_classes=5).state_dict()
    file = save_state(tmp_path / "r.safetensors", state)
    data = in_color(BARS)
    small = plan(tmp_path / "a", data, model="resnet18", steps=1, epochs=None, snapshots=0)
    large = plan(tmp_path / "b", data, model="resnet18", weights=str(file), steps=1, epochs=None)
    assert (stem_kernel(small), stem_kernel(large)) == ((3, 3), (7, 7))
    weights = initial_weights.resolve("resnet18", str(finish(small)), True, print)
    assert weights.model_kwargs == {"stem": "small"}


def test_a_file_for_inception_has_the_arguments_of_its_published_weights(tmp_path):
    file = save_state(tmp_path / "w.safetensors", zeros_of("inception_v3", num_classes=7))
    weights = initial_weights.resolve("inception_v3", str(file), True, print)
    assert weights.model_kwargs == {"transform_input": True}


# --- by name ---------------------------------------------------------------------------------------------------------


def test_weights_of_imagenet_need_a_model(tmp_path):
    with pytest.raises(OptionError) as error:
        plan(tmp_path / "a", weights="imagenet")
    assert error.value.option == "model" and set(error.value.allowed or ()) == {model for model, _ in CATALOG}


def test_unknown_weights_are_not_found(tmp_path):
    with pytest.raises(NotFoundError) as error:
        plan(tmp_path / "a", model="resnet50", weights="imagenet-v3")
    assert "imagenet-v2" in error.value.cure
    with pytest.raises(NotFoundError):
        plan(tmp_path / "a", model="lenet", weights="imagenet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError) as error:
        plan(tmp_path / "a", weights=str(tmp_path / "empty"))
    assert str(error.value.path) == str(tmp_path / "empty")


@pytest.fixture
def published(tmp_path, monkeypatch) -> PretrainedWeights:
    """Add a tanh LeNet for ImageNet's thousand classes to the catalog, with its file on this machine."""
    torch.manual_seed(5)
    state = build_lenet(in_channels=3, num_classes=1000, hidden=8, activation="tanh").state_dict()
    file = tmp_path / "cache" / "weights" / "lenet-00000000.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    row = replace(
        CATALOG["resnet18", "imagenet"],
        model="lenet",
        address="https://example.org/lenet-00000000.pth",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest()[:8],
        resize=20,
        size=16,
        model_kwargs={"activation": "tanh", "hidden": 8},
    )
    monkeypatch.setitem(CATALOG, ("lenet", "imagenet"), row)
    return row


def test_downloads_are_announced_before_they_begin(published, tmp_path, monkeypatch, capsys):
    (tmp_path / "cache" / "weights" / published.file).unlink()
    monkeypatch.delenv("THALWEG_OFFLINE")
    with serve_content(b"", monkeypatch) as server:
        server.faults = [{"status": 403}]
        row = replace(published, address=f"{server.url}/{published.file}")
        monkeypatch.setitem(CATALOG, ("lenet", "imagenet"), row)
        words = ["classify", "digits", "--model", "lenet", "--weights", "imagenet", "--out", str(tmp_path / "a")]
        assert cli.invoke(["train", *words]) == 5
    text = capsys.readouterr().err
    assert row.address in text and row.license in text and "403" in text


def test_published_arguments_survive_training_saving_and_loading(published, tmp_path):
    """As transform_input of Inception, without which its weights predict nonsense."""
    data = in_color(BARS)
    training = plan(tmp_path / "a", data, model="lenet", weights="imagenet")
    spec = parts_of(training).spec
    assert (spec.resize, spec.mean, spec.std) == (20, list(published.mean), list(published.std))
    run = api.load(finish(training))
    expected = {"in_channels": 3, "num_classes": 4, "image_size": 16, "activation": "tanh", "hidden": 8}
    assert read_run_json(tmp_path / "a")["model_kwargs"] == expected
    assert sum(isinstance(layer, nn.Tanh) for layer in run.model.modules()) == 3
    x_BCHW = Classify().to_input(data.test.images, spec)
    with torch.no_grad():
        torch.testing.assert_close(run.model(x_BCHW), parts_of(training).trainer.model(x_BCHW))
    assert api.load("lenet").spec.resize == 20


def test_weights_for_color_images_refuse_gray_ones(published, tmp_path):
    with pytest.raises(DataError) as error:
        plan(tmp_path / "a", BARS, model="lenet", weights="imagenet")
    assert (error.value.value, error.value.allowed) == (1, [3])


def test_images_are_read_in_the_form_of_the_weights_also_when_the_run_is_evaluated(published, tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (30, 40), np.uint8)).save(file)
    settings = {"model": "lenet", "weights": "imagenet", "epochs": 1, "batch_size": 8, "report": False}
    run = api.train("classify", tmp_path / "photos", out=tmp_path / "a", **settings)
    assert (run.spec.size, run.spec.channels, run.spec.resize) == ([16, 16], 3, 20)
    fingerprint = run.record.data.fingerprint
    assert run.load_data().fingerprint == run.load_data(tmp_path / "photos").fingerprint == fingerprint
    first = run.load_data().test
    (prediction,) = run.predict(first.sources[0])
    assert np.array_equal(prediction.input_HWC, first.images[0]), "predict reads an image as training did"


# --- resumed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 5])
def test_a_run_resumes_without_its_initial_weights(source, tmp_path, step):
    copied = shutil.copytree(source, tmp_path / "source")
    reference = finish(plan(tmp_path / "reference", weights=str(copied), epochs=3))
    out = break_at(plan(tmp_path / "a", weights=str(copied), epochs=3, checkpoint_every=0), step)
    shutil.rmtree(copied)
    finish(plan(out, resume=True))
    assert comparable_state(out) == comparable_state(reference)
    for name in ("initial_weights", "data_spec"):
        assert read_run_json(out)[name] == read_run_json(reference)[name]


def test_weights_initialized_from_data_survive_a_kill_in_the_first_epoch(tmp_path):
    settings = {"model": "airbench", "model_kwargs": {"widths": [4, 4]}, "epochs": 2}
    reference = finish(plan(tmp_path / "reference", **settings))
    out = break_at(plan(tmp_path / "a", **settings), 1)
    finish(plan(out, resume=True))
    assert comparable_state(out) == comparable_state(reference)
    planned = plan(tmp_path / "b", **settings)  # killed even before its first checkpoint: planned, but nothing saved
    planned.run_dir.write_record(planned.record)
    release(planned)
    finish(plan(tmp_path / "b", resume=True))
    assert comparable_state(tmp_path / "b") == comparable_state(reference)
