"""Networks of other packages, played by stand-ins: trained, kept, asked again, and refused where they do not fit."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from tests.helpers.run_dirs import comparable_state, read_run_json
from thalweg import api, registry
from thalweg.cli import main as cli
from thalweg.data.images.dataset import ImageDataset, Split
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import NotFoundError, OptionError, ResourceError
from thalweg.tasks.classify import Classify
from thalweg.weights import external_models as elsewhere
from thalweg.weights import store as weights

GREY = make_bars(count=48, size=20)
COLOUR = ImageDataset(
    "bars",
    "made",
    "",
    GREY.classes,
    *(Split(np.repeat(s.images, 3, 3), s.labels, s.sources) for s in GREY.splits.values()),
)


class Toy(nn.Module):
    """Two convolutions and a last layer that is a linear one, by another name than ours."""

    def __init__(self, in_chans: int = 3, width: int = 6, outputs: int = 1000):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Conv2d(width, 8, 3)
        self.top = nn.ModuleDict({"classifier": nn.Linear(8, outputs, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.top["classifier"](self.body(self.stem(x)).relu().mean((2, 3)))


class Convolutional(Toy):
    """The classes come from a convolution."""

    def __init__(self, **given):
        super().__init__(**given)
        self.top = nn.Conv2d(8, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(self.stem(x))).mean((2, 3))


class Normalised(Toy):
    """A linear layer, and weights after it."""

    def __init__(self, **given):
        super().__init__(**given)
        self.last = nn.BatchNorm1d(1000)


class Auxiliary(Toy):
    """Gives more than logits while it trains, as GoogLeNet does."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        return (super().forward(x), None) if self.training else super().forward(x)


class TwoHeaded(Toy):
    """The mean of two heads, of which one would be taken out."""

    def __init__(self, **given):
        super().__init__(**given)
        self.other = nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.body(self.stem(x)).relu().mean((2, 3))
        return self.top["classifier"](seen) + self.other(seen)


class OfOneSize(Toy):
    """Reads pictures of the size that it was built for, as transformers do."""

    def __init__(self, img_size: int = 40, **given):
        super().__init__(**given)
        self.img_size = img_size

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] == self.img_size, f"Input height ({x.shape[2]}) doesn't match model ({self.img_size})."
        return super().forward(x)


class Deep(Toy):
    """Makes pictures so small that those of 20 pixels are nothing in the end."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.max_pool2d(x, 8))


NETWORKS = {"toy": Toy, "convolutional": Convolutional, "normalised": Normalised, "thin": nn.ReLU}
NETWORKS |= {"auxiliary": Auxiliary, "twoheaded": TwoHeaded, "ofonesize": OfOneSize, "deep": Deep, "toy.a1": Toy}
DETECTORS = ["fasterrcnn"]


def learned(kind: type[nn.Module], pretrained: bool, given: dict) -> nn.Module:
    """A network of that kind; the pretrained ones are always the same."""
    if not pretrained:
        return kind(**given)
    with torch.random.fork_rng():
        torch.manual_seed(77)
        return kind(**given)


@pytest.fixture(autouse=True)
def calls(tmp_path, monkeypatch) -> list[tuple[str, bool]]:
    """Puts stand-ins for timm and torchvision in place; the networks that they made, and whether pretrained."""
    made: list[tuple[str, bool]] = []

    def create_model(name, pretrained=False, **given):
        made.append((f"timm:{name}", pretrained))
        return learned(NETWORKS[name], pretrained, given)

    def get_model(name, weights=None, **given):
        assert weights in (None, "DEFAULT")
        made.append((f"torchvision:{name}", weights == "DEFAULT"))
        return learned(NETWORKS[name], weights == "DEFAULT", given)

    timm, torchvision, models = ModuleType("timm"), ModuleType("torchvision"), ModuleType("torchvision.models")
    shape = SimpleNamespace(input_size=(3, 20, 20), crop_pct=0.8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    shape.interpolation = "bicubic"
    asked = SimpleNamespace(crop_size=[20], resize_size=[23], mean=[0.2, 0.3, 0.4], std=[0.5, 0.6, 0.7])
    asked.interpolation = SimpleNamespace(value="bilinear")
    usual = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: asked))
    timm.list_models = lambda: [name for name in NETWORKS if "." not in name]
    timm.list_pretrained = lambda: [name for name in NETWORKS if "." in name]
    models.list_models = lambda module=None: list(NETWORKS) + (DETECTORS if module is None else [])
    models.get_model_weights = lambda name: usual if name != "deep" else SimpleNamespace()
    timm.create_model, models.get_model = create_model, get_model
    timm.get_pretrained_cfg = lambda name: shape if name != "deep" else None
    torchvision.models = models
    for name, module in {"timm": timm, "torchvision": torchvision, "torchvision.models": models}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return made


def train(out: Path, data: ImageDataset = COLOUR, **given) -> api.Run:
    return api.train("classify", data, out=out, **{"steps": 2, "batch": 16, "report": False, **given})


def logits(run: api.TrainedModel, images: np.ndarray) -> Tensor:
    with torch.no_grad():
        return run.model(run.task.prepared(images, run.facts, torch.device("cpu")))


# --- trained and asked again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "data"), [("timm:toy", GREY), ("timm:toy", COLOUR), ("torchvision:toy", COLOUR)])
def test_a_network_of_another_package_is_trained_kept_and_asked_again(tmp_path, calls, model, data):
    run = train(tmp_path / "a", data, model=model, arguments={"width": 5})
    assert read_run_json(tmp_path / "a")["model"] == model and read_run_json(tmp_path / "a")["arguments"]["width"] == 5
    again = api.load(tmp_path / "a")
    assert again.evaluate(data)["metrics"] == pytest.approx(run.results["test"], abs=1e-6)
    assert again.model.features.stem[0].weight.shape == (5, data.shape[2], 3, 3)
    assert set(calls) == {(model, False)}


@pytest.mark.parametrize("model", ["timm:toy", "torchvision:toy"])
def test_the_head_of_the_features_is_the_network(model):
    network = registry.find_model(model, "classify")(in_channels=3, num_classes=4, image_size=20).eval()
    x_BCHW = torch.randn(5, 3, 20, 20)
    torch.testing.assert_close(network.head(network.features(x_BCHW)), network(x_BCHW))
    assert network(x_BCHW).shape == (5, 4) and network.features(x_BCHW).shape == (5, 8)
    assert network.head.bias is None, "as that of the package"


def test_a_head_for_as_many_classes_is_kept():
    network = elsewhere.build_external_model("timm:toy", in_channels=3, num_classes=1000, pretrained=True).eval()
    x_BCHW, plain = torch.randn(2, 3, 20, 20), learned(Toy, True, {"in_chans": 3}).eval()
    torch.testing.assert_close(network(x_BCHW), plain(x_BCHW))
    assert elsewhere.build_external_model("timm:toy", in_channels=3, num_classes=10).replaced and not network.replaced


def test_a_run_of_it_can_be_begun_from(tmp_path, calls):
    first = train(tmp_path / "a", model="timm:toy")
    second = api.plan_training("classify", COLOUR, out=tmp_path / "b", weights=str(first.path), steps=1, report=False)
    assert (
        second.session.model_name == "timm:toy"
        and read_run_json(tmp_path / "a")["facts"]["mean"] == second.session.facts["mean"]
    )
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.session.trainer.model.state_dict()[name], value)
    second.session.folder.release()
    assert not any(pretrained for _, pretrained in calls)


def test_a_run_without_a_folder_gets_one_whose_name_every_disk_can_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(None, model="timm:toy")
    assert run.path == Path("runs/classify-bars-timm-toy-1")


# --- pretrained ------------------------------------------------------------------------------------------------------


def test_only_a_training_that_asks_for_imagenets_weights_has_them_fetched(tmp_path, calls):
    train(tmp_path / "plain", model="timm:toy")
    assert calls == [("timm:toy", False)]
    del calls[:]
    run = train(tmp_path / "a", model="timm:toy", weights="imagenet", freeze=True)
    assert calls == [("timm:toy", True)]
    assert "pretrained" not in read_run_json(tmp_path / "a")["arguments"]
    facts = read_run_json(tmp_path / "a")["facts"]
    assert (facts["mean"], facts["std"], facts["resize"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], 25)
    kept = learned(Toy, True, {"in_chans": 3}).state_dict()
    found = run.model.state_dict()
    assert all(torch.equal(found[f"features.{n}"], v) for n, v in kept.items() if not n.startswith("top"))
    assert len(found["head.weight"]) == 4 and run.evaluate(COLOUR)
    assert calls == [("timm:toy", True), ("timm:toy", False)], "the run has weights of its own"


def test_a_run_that_goes_on_does_not_fetch_again(tmp_path, calls):
    settings = {"model": "torchvision:toy", "weights": "imagenet", "steps": 6, "freeze": True}
    whole = train(tmp_path / "whole", **settings)
    training = api.plan_training(
        "classify", COLOUR, out=tmp_path / "a", batch=16, report=False, save_every=0, **settings
    )
    for progress in training:
        if progress.step == 4:
            break
    del calls[:]
    api.train("classify", COLOUR, out=tmp_path / "a", resume=True)
    assert calls == [("torchvision:toy", False)] and comparable_state(tmp_path / "a") == comparable_state(whole.path)


def test_pictures_of_files_are_brought_to_the_form_of_the_package(tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (30, 40), np.uint8)).save(file)
    run = train(tmp_path / "a", tmp_path / "photos", model="timm:toy", weights="imagenet")
    assert (run.facts["size"], run.facts["channels"], run.facts["resize"]) == ([20, 20], 3, 25)
    run = train(tmp_path / "b", tmp_path / "photos", model="timm:toy", weights="imagenet", size=40)
    assert (run.facts["size"], run.facts["resize"]) == ([40, 40], 50)


def test_a_pretrained_network_can_be_asked_as_it_is(tmp_path, calls):
    found = api.load("timm:toy")
    assert found.facts["classes"] == list(weights.class_names()) and found.facts["size"] == [20, 20]
    answers = list(found.predict(list(COLOUR.test.images)))
    images = np.stack([found.task.example(image, found.facts) for image in COLOUR.test.images])
    plain = learned(Toy, True, {"in_chans": 3}).eval()
    with torch.no_grad():
        expected = plain(found.task.prepared(images, found.facts, torch.device("cpu"))).softmax(1)
    assert [one.label for one in answers] == [weights.class_names()[k] for k in expected.argmax(1)]
    assert ("timm:toy", True) in calls
    found = api.load("timm:toy")
    found.entry = registry.find_model("timm:toy")
    found.start.building["outputs"] = 7
    with pytest.raises(OptionError, match="not trained on ImageNet's 1,000 classes"):
        _ = found.model


def test_a_file_of_its_weights_can_be_given(tmp_path):
    network = elsewhere.build_external_model("timm:toy", in_channels=3, num_classes=4)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    training = api.plan_training(
        "classify", COLOUR, out=tmp_path / "a", model="timm:toy", weights=str(tmp_path / "w.safetensors"), report=False
    )
    found = training.session.trainer.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    training.session.folder.release()


@pytest.mark.parametrize(("model", "form"), [("timm:toy", (25, 0.1, 0.4)), ("torchvision:toy", (23, 0.2, 0.5))])
def test_pictures_are_resized_as_the_weights_of_that_very_network_ask(model, form):
    told: list[str] = []
    found = elsewhere.input_spec(model, told.append)
    assert found["size"] == [20, 20] and (found["resize"], found["mean"][0], found["std"][0]) == form
    assert [line for line in told if "bicubic" in line] == told and len(told) == (model == "timm:toy")


def test_names_with_a_tag_are_names_though_no_list_has_them():
    assert elsewhere.build_external_model("timm:toy.a1", in_channels=3, num_classes=4, image_size=20)
    for package, name in (("torchvision", "fasterrcnn"), ("timm", "toy.a2")):
        with pytest.raises(NotFoundError, match=f"no model of {package} named '{name}'"):
            elsewhere.check_exists(f"{package}:{name}")


def test_a_network_that_gives_more_while_training_is_trained(tmp_path):
    run = train(tmp_path / "a", model="torchvision:auxiliary")
    assert run.evaluate(COLOUR)["metrics"]["examples"] == len(COLOUR.test)


def test_a_transformer_is_built_for_the_size_of_the_pictures():
    assert (
        elsewhere.build_external_model("timm:ofonesize", in_channels=3, num_classes=4, image_size=20).features.img_size
        == 20
    )
    assert (
        elsewhere.build_external_model("timm:ofonesize", in_channels=3, num_classes=4, image_size=40).features.img_size
        == 40
    )
    with pytest.raises(OptionError, match="doesn't match"):
        elsewhere.build_external_model("timm:ofonesize", in_channels=3, num_classes=4, image_size=20, img_size=33)
    with pytest.raises(OptionError, match="doesn't match"):
        elsewhere.build_external_model("torchvision:ofonesize", in_channels=3, num_classes=4, image_size=20)


def test_trying_a_network_leaves_no_trace():
    torch.manual_seed(3)
    network, following = (
        elsewhere.build_external_model("timm:toy", in_channels=3, num_classes=4, image_size=20),
        torch.rand(1),
    )
    assert network.training and network.features.stem[1].num_batches_tracked == 0
    assert torch.equal(network.features.stem[1].running_mean, torch.zeros(6))
    torch.manual_seed(3)
    elsewhere.ExternalModel(Toy(), 4, "timm:toy")
    assert torch.equal(following, torch.rand(1))


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize("way", ["--offline", "THALWEG_OFFLINE"])
def test_offline_nothing_is_looked_up_and_what_is_kept_is_used(tmp_path, monkeypatch, capsys, package, way):
    """A package that finds its file asks nobody; one that does not is refused an address."""
    kept, made = [], NETWORKS["toy"]

    def fetching(**given):
        if not kept:
            socket.create_connection(("localhost", 1))
        return made(**given)

    monkeypatch.setitem(NETWORKS, "toy", fetching)
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    if way != "--offline":
        monkeypatch.setenv(way, "1")
    Image.fromarray(COLOUR.test.images[0]).save(tmp_path / "a.png")
    words = ["predict", f"{package}:toy", str(tmp_path / "a.png"), *(["--offline"] if way == "--offline" else [])]
    assert cli.invoke(words) == 5
    shown = capsys.readouterr()
    assert "could not be fetched: the network may not be used" in shown.err and "Allow the network once" in shown.err
    kept.append("weights")
    assert cli.invoke(words) == 0
    assert socket.getaddrinfo("localhost", 1)


def test_weights_that_cannot_be_fetched_end_with_5(tmp_path, monkeypatch, capsys):
    def fails(**_):
        raise URLError("Name or service not known")

    monkeypatch.setitem(NETWORKS, "toy", fails)
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    Image.fromarray(COLOUR.test.images[0]).save(tmp_path / "a.png")
    assert cli.invoke(["predict", "torchvision:toy", str(tmp_path / "a.png")]) == 5
    assert "Name or service not known" in capsys.readouterr().err


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_package_that_is_missing_ends_with_5_and_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Classify, "read", lambda *_: pytest.fail("the data was read first"))
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    for package in ("timm", "torchvision"):
        words = ["train", "classify", "digits", "--model", f"{package}:toy", "--out", str(tmp_path / "a")]
        for more in ([], ["--weights", "imagenet"]):
            assert cli.invoke([*words, *more]) == 5
            shown = capsys.readouterr()
            assert f"pip install {package}" in shown.err and not shown.out and "Traceback" not in shown.err
            assert not (tmp_path / "a").exists()


def test_a_package_that_does_not_fit_torch_is_named_with_the_first_line_of_why(monkeypatch):
    def fails(name):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(elsewhere.importlib, "import_module", fails)
    with pytest.raises(ResourceError, match="imported: operator torchvision::nms does not exist[.]\n") as error:
        elsewhere.import_package("torchvision:toy")
    assert "same build as torch" in error.value.cure


def test_a_name_that_the_package_does_not_have_is_refused_with_the_nearest(tmp_path):
    for package in ("timm", "torchvision"):
        with pytest.raises(NotFoundError, match=f"no model of {package} named 'tyo'") as error:
            train(tmp_path / "a", model=f"{package}:tyo")
        assert "'toy'" in error.value.cure
    assert elsewhere.split_name("timm:toy") == ("timm", "toy") and elsewhere.split_name("torchvision:a:b") == (
        "torchvision",
        "a:b",
    )
    assert elsewhere.split_name("lenet") is elsewhere.split_name("keras:toy") is elsewhere.split_name("timm") is None
    with pytest.raises(NotFoundError, match="no model named 'keras:toy'"):
        train(tmp_path / "a", model="keras:toy")


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_weights_that_a_package_does_not_have_are_not_asked_for(package):
    with pytest.raises(NotFoundError, match=f"{package} has no weights for deep"):
        elsewhere.input_spec(f"{package}:deep", pytest.fail)


@pytest.mark.parametrize("name", ["deep", "twoheaded"])
def test_a_network_that_cannot_answer_such_pictures_is_refused_before_it_is_trained(tmp_path, name):
    for package in ("timm", "torchvision"):
        with pytest.raises(OptionError, match=f"{package}:{name} cannot be built for pictures of 20 x 20"):
            train(tmp_path / "a", model=f"{package}:{name}")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match=r"answers with \(2, 3\), not with \(2, 4\)"):
        elsewhere.check_output_shape(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), (2, 3, 1, 1), 4)


@pytest.mark.parametrize("name", ["convolutional", "normalised", "thin"])
def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match="does not end in a linear layer|cannot be built"):
        train(tmp_path / "a", model=f"timm:{name}")
    assert not (tmp_path / "a").exists()
    with pytest.raises(OptionError, match="'?toy does not end in a linear layer"):
        elsewhere.ExternalModel(nn.ReLU(), 4, "timm:toy")


def test_arguments_and_pictures_that_the_package_cannot_use_are_refused(tmp_path):
    with pytest.raises(OptionError, match="timm:toy cannot be built .*'depth'"):
        train(tmp_path / "a", model="timm:toy", arguments={"depth": 3})
    with pytest.raises(OptionError, match="torchvision:toy reads colour pictures only"):
        train(tmp_path / "a", GREY, model="torchvision:toy")
    assert not (tmp_path / "a").exists()
