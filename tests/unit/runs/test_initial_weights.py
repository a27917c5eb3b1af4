"""What a training begins from: published weights, files and runs; what comes with them, is new, or is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.helpers.http_servers import serve_content
from tests.helpers.run_dirs import comparable_state, read_run_json
from thalweg import api, registry
from thalweg.cli import main as cli
from thalweg.config.options import Options
from thalweg.data.images.dataset import ImageDataset, Split
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import DataError, ModelFileError, NotFoundError, OptionError
from thalweg.runs import initial_weights as starting
from thalweg.training.build import TrainingRun
from thalweg.weights.catalog import CATALOG, PretrainedWeights

BARS = make_bars(count=96)
#: of the network that others begin from; none of them is usual
ARGUMENTS = {"filters": [3, 5], "hidden": 12, "activation": "tanh"}
HEAD = ["head.weight", "head.bias"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache of its own and no network."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    monkeypatch.delenv("THALWEG_DATA", raising=False)


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """The run that others begin from, on pictures that are brighter than theirs."""
    bright = [Split(255 - s.images // 2, s.labels, s.sources) for s in BARS.splits.values()]
    data = ImageDataset("bright", "made", "", BARS.classes, *bright)
    return finish(begin(tmp_path_factory.mktemp("runs") / "before", data, model="lenet", arguments=ARGUMENTS))


def begin(out: Path, data: ImageDataset = BARS, **given) -> TrainingRun:
    fresh = {} if given.get("resume") else {"epochs": 1, "batch": 16}
    return api.plan_training("classify", data, out=out, **{**fresh, "report": False, **given})


def finish(training: TrainingRun) -> Path:
    for _ in training:
        pass
    return training.path


def network(training: TrainingRun) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in training.session.trainer.objective.model.state_dict().items()}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


def different(one: dict, other: dict) -> list[str]:
    assert set(one) == set(other)
    return [name for name in one if one[name].shape != other[name].shape or not torch.equal(one[name], other[name])]


def fewer(data: ImageDataset, count: int = 3) -> ImageDataset:
    """The pictures of the first `count` classes."""
    splits = {part: split.take(np.flatnonzero(split.labels < count)) for part, split in data.splits.items()}
    return replace(data, classes=data.classes[:count], **splits)


def lenet(**arguments) -> nn.Module:
    return registry.find_model("lenet")(**{"in_channels": 1, "num_classes": 4, "image_size": 16, **arguments})


def written(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path) if path.suffix == ".pth" else safetensors.torch.save_file(state, path)
    return path


# --- from a run ------------------------------------------------------------------------------------------------------


def test_a_run_gives_model_arguments_weights_and_the_form_of_pictures(before, tmp_path):
    told = read_run_json(before)
    training = begin(tmp_path / "a", weights=str(before))
    assert training.session.model_name == "lenet" and different(network(training), weights(before)) == []
    assert training.session.facts["mean"] == told["facts"]["mean"] != training.session.task.facts(BARS)["mean"]
    assert training.session.facts["std"] == told["facts"]["std"]
    assert training.session.facts["counts"] == np.bincount(BARS.train.labels).tolist()
    after = read_run_json(finish(training))
    assert {k: after["arguments"][k] for k in ("hidden", "activation")} == {"hidden": 12, "activation": "tanh"}
    sha256 = hashlib.sha256((before / "weights.safetensors").read_bytes()).hexdigest()
    known = {"weights": str(before), "file": "weights.safetensors", "sha256": sha256, "new": []}
    assert after["start"].items() >= known.items()
    assert api.load(tmp_path / "a").evaluate(BARS)["metrics"] == pytest.approx(after["results"]["test"], abs=1e-6)


def test_arguments_survive_a_second_generation_and_those_that_are_given_win(before, tmp_path):
    child = finish(begin(tmp_path / "child", weights=str(before)))
    shutil.rmtree(child / "state")
    training = begin(tmp_path / "grandchild", weights=str(child))
    assert different(network(training), weights(child)) == [] and training.session.arguments["hidden"] == 12
    training = begin(tmp_path / "other", weights=str(child), arguments={"activation": "relu"})
    assert training.session.arguments["activation"] == "relu" and training.session.arguments["hidden"] == 12
    with pytest.raises(ModelFileError, match="features.7.weight"):
        begin(tmp_path / "wider", weights=str(child), arguments={"hidden": 13})


def test_a_last_layer_for_other_classes_is_new_and_said_to_be(before, tmp_path):
    training = begin(tmp_path / "a", fewer(BARS), weights=str(before))
    fresh = network(training)
    assert different(fresh, weights(before)) == HEAD and len(fresh["head.bias"]) == 3
    assert any("new: head.weight, head.bias" in line for line in training.lines())
    finish(training)
    assert read_run_json(tmp_path / "a")["start"]["new"] == HEAD
    again = begin(tmp_path / "b", fewer(BARS), weights=str(before))
    assert torch.equal(network(again)["head.weight"], fresh["head.weight"]), "drawn by the seed"


def test_a_run_of_another_model_is_refused(before, tmp_path):
    with pytest.raises(OptionError, match=f"--weights {before} is a lenet, not a mlp") as error:
        begin(tmp_path / "a", weights=str(before), model="mlp")
    assert error.value.cure == "Leave --model out, or give --model lenet." and not (tmp_path / "a").exists()


def test_a_network_that_comes_along_is_begun_from_by_its_name(tmp_path):
    data = make_bars(count=48, size=28)
    training = begin(tmp_path / "a", data, weights="digits-lenet")
    shipped = weights(api.bundled_models()["digits-lenet"])
    assert training.session.model_name == "lenet" and different(network(training), shipped) == HEAD
    assert training.session.facts["ink"] is True and training.session.facts["mean"] == [0.131034]
    finish(training)
    assert read_run_json(tmp_path / "a")["start"]["weights"] == "digits-lenet"


@pytest.mark.parametrize("broken", ["unfinished", "other weights", "no facts", "no model"])
def test_a_run_that_is_not_whole_is_refused(before, tmp_path, broken):
    run = shutil.copytree(before, tmp_path / "run")
    told = read_run_json(run)
    if broken == "unfinished":
        (run / "weights.safetensors").unlink()
    elif broken == "other weights":
        written(run / "weights.safetensors", lenet().state_dict())
    else:
        del told[broken.removeprefix("no ")]
    (run / "run.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises((ModelFileError, OptionError)) as error:
        begin(tmp_path / "a", weights=str(run))
    assert str(run) in error.value.message and error.value.cure


# --- from a file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_is_fitted_into_the_model_that_is_asked_for(tmp_path, name):
    torch.manual_seed(7)
    state = lenet(hidden=9).state_dict()
    file = written(tmp_path / name, state)
    training = begin(tmp_path / "a", weights=str(file), model="lenet", arguments={"hidden": 9})
    assert different(network(training), state) == []
    assert training.session.facts["mean"] == training.session.task.facts(BARS)["mean"], (
        "a file says nothing of pictures"
    )
    finish(training)
    start = read_run_json(tmp_path / "a")["start"]
    assert start["file"] == name and start["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_without_a_model_is_for_the_usual_one(tmp_path):
    convnet = registry.find_model("convnet")(in_channels=1, num_classes=4, image_size=16)
    file = written(tmp_path / "w.safetensors", convnet.state_dict())
    assert different(network(begin(tmp_path / "a", weights=str(file))), convnet.state_dict()) == []


def test_a_file_for_a_published_model_is_taken_to_be_as_imagenets(tmp_path):
    with torch.device("meta"):
        state = registry.find_model("squeezenet1_1")(in_channels=3, num_classes=7).state_dict()
    file = written(tmp_path / "w.safetensors", {name: torch.zeros(value.shape) for name, value in state.items()})
    told: list[str] = []
    start = starting.resolve("squeezenet1_1", str(file), True, told.append)
    assert start.outputs == 7 and start.classes == () and "form of pictures" in told[0]
    assert start.form["size"] == [224, 224] and start.form["mean"] == [0.485, 0.456, 0.406]
    assert start.facts(112, 3)["resize"] == 128 and start.facts(224, 3)["resize"] == 256
    with pytest.raises(DataError, match="read pictures with 3 channels, these have 1"):
        start.facts(224, 1)
    del state["classifier.1.weight"]
    lacking = written(tmp_path / "l.safetensors", {name: torch.zeros(value.shape) for name, value in state.items()})
    with pytest.raises(ModelFileError, match="classifier.1.weight"):
        starting.resolve("squeezenet1_1", str(lacking), True, told.append)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"features.3.weight": torch.zeros(5, 3, 5, 5)}, "'features.3.weight' is (5, 3, 5, 5), the network's is"),
        ({"features.0.bias": None}, "'features.0.bias' is missing"),
        ({"features.9.bias": torch.zeros(1)}, "no tensor 'features.9.bias'"),
        ({"head.weight": torch.zeros(4, 7)}, "'head.weight' is (4, 7)"),
    ],
    ids=["shape", "missing", "too many", "other inputs of the head"],
)
def test_a_file_of_another_network_ends_with_4_and_names_the_first_tensor_that_differs(tmp_path, capsys, changed, told):
    state = {k: v for k, v in {**lenet(image_size=8).state_dict(), **changed}.items() if v is not None}
    file = written(tmp_path / "w.safetensors", state)
    words = ["train", "classify", "digits", "--model", "lenet", "--weights", str(file), "--out", str(tmp_path / "a")]
    assert cli.invoke(words) == 4
    shown = capsys.readouterr()
    assert told in shown.err and str(file) in shown.err and not shown.out and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"head.weight": torch.tensor(1.0)}, "'head.weight' is ()"),
        ({"head.weight": torch.zeros(0, 12)}, "'head.weight' is (0, 12)"),
        ({"features.0.weight": torch.tensor(1.0)}, "'features.0.weight' is ()"),
        ({"features.0.weight": torch.zeros(6)}, "'features.0.weight' is (6,)"),
        ({"features.0.weight": torch.zeros(6, 4, 5, 5)}, "'features.0.weight' reads pictures with 4 channels"),
        ({"features.0.bias": None, "head.weight": None}, "'features.0.bias' is missing"),
    ],
    ids=["head without shape", "no class", "no shape", "one dimension", "four channels", "missing"],
)
def test_a_network_that_cannot_be_asked_ends_with_4_and_names_the_tensor(tmp_path, capsys, changed, told):
    state = {k: v for k, v in {**lenet().state_dict(), **changed}.items() if v is not None}
    file = written(tmp_path / "w.safetensors", state)
    (tmp_path / "a.png").touch()
    assert cli.invoke(["predict", "lenet", str(tmp_path / "a.png"), "--weights", str(file)]) == 4
    shown = capsys.readouterr()
    assert told in shown.err and str(file) in shown.err and not shown.out


class Trap:
    """What pickle would call when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("verb", ["predict", "explain", "train"])
def test_a_file_that_carries_code_is_refused_with_4_and_nothing_of_it_is_run(tmp_path, capsys, verb):
    marker, evil = tmp_path / "it ran", tmp_path / "evil.pth"
    torch.save({**lenet().state_dict(), "beside": Trap(marker)}, evil)
    (tmp_path / "pic.png").touch()
    words = {"train": ["train", "classify", "digits", "--model", "lenet", "--out", str(tmp_path / "a")]}
    usual = [verb, "lenet", str(tmp_path / "pic.png")]
    assert cli.invoke([*words.get(verb, usual), "--weights", str(evil)]) == 4
    shown = capsys.readouterr()
    assert "carries code" in shown.err and "Traceback" not in shown.err and not shown.out
    assert not marker.exists() and not (tmp_path / "a").exists()
    torch.load(evil, weights_only=False)
    assert marker.exists(), "the trap was a real one"


def stem(training: TrainingRun) -> str:
    return "imagenet" if training.session.trainer.objective.model.conv1.kernel_size == (7, 7) else "small"


def test_the_stem_of_a_resnet_is_that_of_its_weights_whatever_the_size_of_the_pictures(tmp_path):
    """Else it would be chosen by their size, and the weights refused."""
    file = tmp_path / "r.safetensors"
    written(file, registry.find_model("resnet18")(in_channels=3, num_classes=5).state_dict())
    grey = [Split(np.repeat(s.images, 3, axis=3), s.labels, s.sources) for s in BARS.splits.values()]
    data = ImageDataset("colour", "made", "", BARS.classes, *grey)
    small = begin(tmp_path / "a", data, model="resnet18", steps=1, epochs=None, trail=0)
    fitted = begin(tmp_path / "b", data, model="resnet18", weights=str(file), steps=1, epochs=None)
    assert (stem(small), stem(fitted)) == ("small", "imagenet")
    assert starting.resolve("resnet18", str(finish(small)), True, print).arguments == {"stem": "small"}


def test_a_file_for_inception_is_given_what_its_published_weights_expect(tmp_path):
    with torch.device("meta"):
        state = registry.find_model("inception_v3")(in_channels=3, num_classes=7).state_dict()
    file = written(tmp_path / "w.safetensors", {name: torch.zeros(value.shape) for name, value in state.items()})
    assert starting.resolve("inception_v3", str(file), True, print).arguments == {"transform_input": True}


# --- by name ---------------------------------------------------------------------------------------------------------


def test_imagenets_weights_of_no_model_are_refused_and_the_models_named(capsys):
    assert cli.invoke(["train", "classify", "digits", "--weights", "imagenet"]) == 2
    told = capsys.readouterr().err
    assert "--weights imagenet: of which model?" in told and "--model" in told
    assert all(name in told for name, _ in CATALOG)


def test_names_of_nothing_are_refused(tmp_path):
    with pytest.raises(NotFoundError, match="no weights 'imagenet-v3' for resnet50") as error:
        begin(tmp_path / "a", model="resnet50", weights="imagenet-v3")
    assert "imagenet-v2" in error.value.cure
    with pytest.raises(NotFoundError, match="no weights 'imagenet' for lenet"):
        begin(tmp_path / "a", model="lenet", weights="imagenet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="run.json"):
        begin(tmp_path / "a", weights=str(tmp_path / "empty"))


def test_no_weights_are_no_start():
    assert starting.from_options(Options(), "convnet", pytest.fail) is None


@pytest.fixture
def published(tmp_path, monkeypatch) -> PretrainedWeights:
    """Weights of a tanh LeNet for ImageNet's thousand classes, by the name of ImageNet, with a file on this machine."""
    torch.manual_seed(5)
    state = lenet(in_channels=3, num_classes=1000, hidden=8, activation="tanh").state_dict()
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
        arguments={"activation": "tanh", "hidden": 8},
    )
    monkeypatch.setitem(CATALOG, ("lenet", "imagenet"), row)
    return row


def test_what_is_fetched_is_told_before_it_is_fetched(published, tmp_path, monkeypatch, capsys):
    (tmp_path / "cache" / "weights" / published.file).unlink()
    with serve_content(b"", monkeypatch) as server:
        server.faults = [{"status": 403}]
        row = replace(published, address=f"{server.url}/{published.file}")
        monkeypatch.setitem(CATALOG, ("lenet", "imagenet"), row)
        words = ["classify", "digits", "--model", "lenet", "--weights", "imagenet", "--out", str(tmp_path / "a")]
        assert cli.invoke(["train", *words]) == 5
    told = capsys.readouterr().err
    assert f"lenet, weights 'imagenet': 46.8 MB from {row.address}" in told and f"licence: {row.licence}" in told
    assert "answers 403" in told


def test_published_arguments_survive_training_saving_and_loading(published, tmp_path):
    """As transform_input of Inception, without which its weights answer nonsense."""
    grey = [Split(np.repeat(s.images, 3, axis=3), s.labels, s.sources) for s in BARS.splits.values()]
    data = ImageDataset("colour", "made", "", BARS.classes, *grey)
    training = begin(tmp_path / "a", data, model="lenet", weights="imagenet")
    facts = training.session.facts
    assert (facts["resize"], facts["mean"], facts["std"]) == (20, list(published.mean), list(published.std))
    run = api.load(finish(training))
    told = read_run_json(tmp_path / "a")
    assert told["arguments"] == {
        "in_channels": 3,
        "num_classes": 4,
        "image_size": 16,
        "activation": "tanh",
        "hidden": 8,
    }
    assert sum(isinstance(layer, nn.Tanh) for layer in run.model.modules()) == 3
    x_BCHW = run.task.prepared(data.test.images, run.facts, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(run.model(x_BCHW), training.session.trainer.model(x_BCHW))
    assert api.load("lenet").facts["resize"] == 20 and api.load("lenet").start.arguments == published.arguments


def test_pictures_are_read_in_the_form_that_the_weights_ask_for_also_when_the_run_is_evaluated(published, tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (30, 40), np.uint8)).save(file)
    settings = {"model": "lenet", "weights": "imagenet", "epochs": 1, "batch": 8, "report": False}
    run = api.train("classify", tmp_path / "photos", out=tmp_path / "a", **settings)
    assert (run.facts["size"], run.facts["channels"], run.facts["resize"]) == ([16, 16], 3, 20)
    fingerprint = read_run_json(run.path)["data"]["fingerprint"]
    assert run.read().fingerprint == run.read(tmp_path / "photos").fingerprint == fingerprint
    first = run.read().test
    (seen,) = run.predict(first.sources[0])
    assert np.array_equal(seen.seen_HWC, first.images[0]), "predicting sees what training saw"


# --- gone on with ----------------------------------------------------------------------------------------------------


def broken_off(training: TrainingRun, step: int) -> Path:
    for progress in training:
        if progress.step >= step:
            break
    return training.path


def test_a_run_goes_on_when_the_weights_that_it_began_from_are_gone(before, tmp_path):
    source = shutil.copytree(before, tmp_path / "source")
    whole = finish(begin(tmp_path / "whole", weights=str(source), epochs=3))
    out = broken_off(begin(tmp_path / "a", weights=str(source), epochs=3, save_every=0), 5)
    shutil.rmtree(source)
    finish(begin(out, resume=True))
    assert (
        comparable_state(out) == comparable_state(whole)
        and read_run_json(out)["start"] == read_run_json(whole)["start"]
    )
    assert read_run_json(out)["form"] == read_run_json(whole)["form"] != {}


def test_killed_in_its_first_epoch_it_needs_them_no_more_either(before, tmp_path):
    source = shutil.copytree(before, tmp_path / "source")
    whole = finish(begin(tmp_path / "whole", weights=str(source), epochs=3))
    out = broken_off(begin(tmp_path / "a", weights=str(source), epochs=3), 1)
    shutil.rmtree(source)
    finish(begin(out, resume=True))
    assert (
        comparable_state(out) == comparable_state(whole)
        and read_run_json(out)["start"] == read_run_json(whole)["start"]
    )


def test_a_last_layer_of_other_classes_is_not_taken_over_however_many_they_are(before, tmp_path):
    """As many classes in another order, or by other names, are other classes."""
    source = api.load(before)
    named = replace(BARS, classes=tuple(f"other {name}" for name in BARS.classes))
    same, other = (begin(tmp_path / data.classes[0], data, weights=str(before)) for data in (BARS, named))
    assert same.content["start"]["new"] == [] and other.content["start"]["new"] == HEAD
    kept = source.model.state_dict()
    assert torch.equal(network(same)["head.weight"], kept["head.weight"])
    assert not torch.equal(network(other)["head.weight"], kept["head.weight"])
    assert all(torch.equal(value, kept[name]) for name, value in network(other).items() if name not in HEAD)


def test_what_a_network_took_from_data_survives_a_kill_before_the_first_epoch_ends(tmp_path):
    asked = {"model": "airbench", "arguments": {"widths": [4, 4]}, "epochs": 2}
    whole = finish(begin(tmp_path / "whole", **asked))
    out = broken_off(begin(tmp_path / "a", **asked), 1)
    finish(begin(out, resume=True))
    assert comparable_state(out) == comparable_state(whole)
    bare = begin(tmp_path / "b", **asked)  # killed even before its first checkpoint: planned, but nothing saved
    bare.session._describe("running")
    bare.session.folder.release()
    finish(begin(tmp_path / "b", resume=True))
    assert comparable_state(tmp_path / "b") == comparable_state(whole)
