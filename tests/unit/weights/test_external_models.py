"""Models of other packages, replaced by fakes: trained, loaded, predicted with, and refused if they do not fit."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
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
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.data.images.input_spec import preprocess_image, to_normalized_float
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import ModelFileError, NotFoundError, OptionError, ResourceError
from thalweg.tasks.classify import Classify
from thalweg.weights import external_models, store
from thalweg.weights.external_models import build_external_model

GRAY = make_bars(count=48, size=20)


def make_color(data: ImageDataset) -> ImageDataset:
    splits = {}
    for name, split in data.splits.items():
        splits[name] = ImageSplit(np.repeat(split.images, 3, 3), split.labels, split.sources)
    return replace(data, splits=splits)


COLOR = make_color(GRAY)


class Toy(nn.Module):
    """Two convolutions and a linear last layer, with a name that our models do not use."""

    def __init__(self, in_chans: int = 3, width: int = 6, outputs: int = 1000):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Conv2d(width, 8, 3)
        self.top = nn.ModuleDict({"classifier": nn.Linear(8, outputs, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.top["classifier"](self.body(self.stem(x)).relu().mean((2, 3)))


class ConvHead(Toy):
    """A convolution computes the logits."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.top = nn.Conv2d(8, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(self.stem(x))).mean((2, 3))


class NormHead(Toy):
    """A layer with parameters follows the last linear layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last = nn.BatchNorm1d(1000)


class Auxiliary(Toy):
    """Returns auxiliary outputs in training mode, as GoogLeNet does."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        return (super().forward(x), None) if self.training else super().forward(x)


class TwoHeads(Toy):
    """The sum of two heads, of which only one would be replaced."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.other = nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(self.stem(x)).relu().mean((2, 3))
        return self.top["classifier"](features) + self.other(features)


class FixedSize(Toy):
    """Needs images of the size it was built for, as transformers do."""

    def __init__(self, img_size: int = 40, **kwargs):
        super().__init__(**kwargs)
        self.img_size = img_size

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] == self.img_size, f"Input height ({x.shape[2]}) doesn't match model ({self.img_size})."
        return super().forward(x)


class Deep(Toy):
    """Downsamples so much that images of 20 pixels vanish."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.max_pool2d(x, 8))


MODELS = {
    "toy": Toy,
    "toy.a1": Toy,
    "convhead": ConvHead,
    "normhead": NormHead,
    "thin": nn.ReLU,
    "auxiliary": Auxiliary,
    "twoheads": TwoHeads,
    "fixedsize": FixedSize,
    "deep": Deep,
}
DETECTORS = ["fasterrcnn"]


def build_toy(model_class: type[nn.Module], pretrained: bool, kwargs: dict) -> nn.Module:
    """Return a model; the pretrained ones are always the same."""
    if not pretrained:
        return model_class(**kwargs)
    with torch.random.fork_rng():
        torch.manual_seed(77)
        return model_class(**kwargs)


def fake_timm(calls: list[tuple[str, bool]]) -> ModuleType:
    def create_model(name, pretrained=False, **kwargs):
        calls.append((f"timm:{name}", pretrained))
        return build_toy(MODELS[name], pretrained, kwargs)

    config = SimpleNamespace(input_size=(3, 20, 20), crop_pct=0.8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    config.interpolation = "bicubic"
    timm = ModuleType("timm")
    timm.__version__ = "1.0.20"
    timm.list_models = lambda: [name for name in MODELS if "." not in name]
    timm.list_pretrained = lambda: [name for name in MODELS if "." in name]
    timm.create_model = create_model
    timm.get_pretrained_cfg = lambda name: config if name != "deep" else None
    return timm


def fake_torchvision_models(calls: list[tuple[str, bool]]) -> ModuleType:
    def get_model(name, weights=None, **kwargs):
        assert weights in (None, "DEFAULT")
        calls.append((f"torchvision:{name}", weights == "DEFAULT"))
        return build_toy(MODELS[name], weights == "DEFAULT", kwargs)

    transforms = SimpleNamespace(crop_size=[20], resize_size=[23], mean=[0.2, 0.3, 0.4], std=[0.5, 0.6, 0.7])
    transforms.interpolation = SimpleNamespace(value="bilinear")
    weights_enum = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: transforms))
    models = ModuleType("torchvision.models")
    models.list_models = lambda module=None: list(MODELS) + (DETECTORS if module is None else [])
    models.get_model_weights = lambda name: weights_enum if name != "deep" else SimpleNamespace()
    models.get_model = get_model
    return models


@pytest.fixture(autouse=True)
def calls(tmp_path, monkeypatch) -> list[tuple[str, bool]]:
    """Install fake packages; return the list of the models they build, and whether pretrained."""
    calls: list[tuple[str, bool]] = []
    torchvision = ModuleType("torchvision")
    torchvision.models = fake_torchvision_models(calls)
    monkeypatch.setitem(sys.modules, "timm", fake_timm(calls))
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "torchvision.models", torchvision.models)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    return calls


def train(out: Path | None, data: ImageDataset | Path = COLOR, **options) -> api.Run:
    return api.train("classify", data, out=out, **{"steps": 2, "batch_size": 16, "report": False, **options})


# --- training and loading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "data"), [("timm:toy", GRAY), ("timm:toy", COLOR), ("torchvision:toy", COLOR)])
def test_a_model_of_another_package_is_trained_saved_and_loaded(tmp_path, calls, model, data):
    run = train(tmp_path / "a", data, model=model, model_kwargs={"width": 5})
    record = read_run_json(tmp_path / "a")
    assert record["model"] == model and record["model_kwargs"]["width"] == 5
    loaded = api.load(tmp_path / "a")
    assert loaded.evaluate(data)["metrics"] == pytest.approx(run.results["test"], abs=1e-6)
    assert loaded.model.features.stem[0].weight.shape == (5, data.shape[2], 3, 3)
    assert set(calls) == {(model, False)}


@pytest.mark.parametrize("name", ["timm:toy", "torchvision:toy"])
def test_the_model_is_the_head_of_its_features(name):
    model = registry.find_model(name, "classify")(in_channels=3, num_classes=4, image_size=20).eval()
    x_BCHW = torch.randn(5, 3, 20, 20)
    torch.testing.assert_close(model.head(model.features(x_BCHW)), model(x_BCHW))
    assert model(x_BCHW).shape == (5, 4) and model.features(x_BCHW).shape == (5, 8)
    assert model.head.bias is None, "like the head of the package"


def test_a_head_for_as_many_classes_is_not_replaced():
    model = build_external_model("timm:toy", in_channels=3, num_classes=1000, pretrained=True).eval()
    expected = build_toy(Toy, True, {"in_chans": 3}).eval()
    x_BCHW = torch.randn(2, 3, 20, 20)
    torch.testing.assert_close(model(x_BCHW), expected(x_BCHW))
    assert not model.replaced
    assert build_external_model("timm:toy", in_channels=3, num_classes=10).replaced


def test_a_run_of_it_gives_initial_weights(tmp_path, calls):
    first = train(tmp_path / "a", model="timm:toy")
    second = api.plan_training("classify", COLOR, out=tmp_path / "b", weights=str(first.path), steps=1, report=False)
    assert second.record.model == "timm:toy"
    assert read_run_json(tmp_path / "a")["data_spec"]["mean"] == second.parts.spec.mean
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.parts.trainer.model.state_dict()[name], value)
    second.parts.run_dir.unlock()
    assert not any(pretrained for _, pretrained in calls)


def test_a_default_run_folder_has_a_valid_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(None, model="timm:toy")
    assert run.path == Path("runs/classify-bars-timm-toy-1")


# --- pretrained weights ----------------------------------------------------------------------------------------------


def test_pretrained_weights_are_requested_only_by_weights_imagenet(tmp_path, calls):
    train(tmp_path / "plain", model="timm:toy")
    assert calls == [("timm:toy", False)]
    calls.clear()
    run = train(tmp_path / "a", model="timm:toy", weights="imagenet", freeze=True)
    assert calls == [("timm:toy", True)]
    assert "pretrained" not in read_run_json(tmp_path / "a")["model_kwargs"]
    facts = read_run_json(tmp_path / "a")["data_spec"]
    assert (facts["mean"], facts["std"], facts["resize"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], 25)
    pretrained = build_toy(Toy, True, {"in_chans": 3}).state_dict()
    trained = run.model.state_dict()
    for name, value in pretrained.items():
        assert name.startswith("top") or torch.equal(trained[f"features.{name}"], value)
    assert len(trained["head.weight"]) == 4 and run.evaluate(COLOR)
    assert calls == [("timm:toy", True), ("timm:toy", False)], "the run has its own weights"


def test_resuming_does_not_request_pretrained_weights_again(tmp_path, calls):
    settings = {"model": "torchvision:toy", "weights": "imagenet", "steps": 6, "freeze": True}
    full = train(tmp_path / "full", **settings)
    training = api.plan_training(
        "classify", COLOR, out=tmp_path / "a", batch_size=16, report=False, checkpoint_every=0, **settings
    )
    for progress in training:
        if progress.step == 4:
            break
    calls.clear()
    api.train("classify", COLOR, out=tmp_path / "a", resume=True)
    assert calls == [("torchvision:toy", False)]
    assert comparable_state(tmp_path / "a") == comparable_state(full.path)


def test_image_files_are_preprocessed_as_the_package_does(tmp_path):
    random = np.random.default_rng(0)
    for i in range(40):
        file = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (30, 40), np.uint8)).save(file)
    run = train(tmp_path / "a", tmp_path / "photos", model="timm:toy", weights="imagenet")
    assert (run.spec.size, run.spec.channels, run.spec.resize) == ([20, 20], 3, 25)
    run = train(tmp_path / "b", tmp_path / "photos", model="timm:toy", weights="imagenet", image_size=40)
    assert (run.spec.size, run.spec.resize) == ([40, 40], 50)


def test_a_pretrained_model_predicts_without_training(calls):
    loaded = api.load("timm:toy")
    assert loaded.spec.classes == list(store.class_names()) and loaded.spec.size == [20, 20]
    predictions = list(loaded.predict(list(COLOR.test.images)))
    images = np.stack([preprocess_image(image, loaded.spec) for image in COLOR.test.images])
    model = build_toy(Toy, True, {"in_chans": 3}).eval()
    with torch.no_grad():
        expected = model(to_normalized_float(torch.from_numpy(images), loaded.spec)).softmax(1)
    assert [p.label for p in predictions] == [store.class_names()[k] for k in expected.argmax(1)]
    assert ("timm:toy", True) in calls
    loaded = api.load("timm:toy")
    loaded.entry = registry.find_model("timm:toy")
    loaded.weights.build_kwargs["outputs"] = 7
    with pytest.raises(OptionError):
        _ = loaded.model


def test_a_weights_file_can_be_used(tmp_path):
    model = build_external_model("timm:toy", in_channels=3, num_classes=4)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    training = api.plan_training(
        "classify", COLOR, out=tmp_path / "a", model="timm:toy", weights=str(tmp_path / "w.safetensors"), report=False
    )
    initial = training.parts.trainer.model.state_dict()
    assert all(torch.equal(initial[name], value) for name, value in model.state_dict().items())
    training.parts.run_dir.unlock()


@pytest.mark.parametrize(
    ("model", "expected", "num_lines"), [("timm:toy", (25, 0.1, 0.4), 1), ("torchvision:toy", (23, 0.2, 0.5), 0)]
)
def test_the_input_spec_is_that_of_the_weights(model, expected, num_lines):
    lines: list[str] = []
    spec = external_models.input_spec(model, lines.append)
    assert spec["size"] == [20, 20] and (spec["resize"], spec["mean"][0], spec["std"][0]) == expected
    assert "interpolation" not in spec
    assert len(lines) == num_lines and all("bicubic" in line for line in lines)


def test_a_model_without_pretrained_weights_has_no_input_spec():
    for package in ("timm", "torchvision"):
        with pytest.raises(NotFoundError) as error:
            external_models.input_spec(f"{package}:deep", pytest.fail)
        assert error.value.value == "deep"


# --- building --------------------------------------------------------------------------------------------------------


def test_names_with_a_tag_are_valid():
    assert build_external_model("timm:toy.a1", in_channels=3, num_classes=4, image_size=20)


@pytest.mark.parametrize(
    "model",
    [
        "torchvision:fasterrcnn",
        "timm:toy.a2",
        "timm:hf-hub:someone/model",
        "timm:local-dir:/tmp/model",
        "timm:../toy",
        "timm:",
    ],
)
def test_only_names_that_the_package_lists_are_built(model, calls):
    with pytest.raises(NotFoundError) as error:
        build_external_model(model, in_channels=3, num_classes=4)
    assert error.value.value == model.partition(":")[2] and not calls


def test_a_model_with_auxiliary_outputs_is_trained(tmp_path):
    run = train(tmp_path / "a", model="torchvision:auxiliary")
    assert run.evaluate(COLOR)["metrics"]["examples"] == len(COLOR.test)


def test_a_transformer_is_built_for_the_image_size():
    assert build_external_model("timm:fixedsize", in_channels=3, num_classes=4, image_size=20).features.img_size == 20
    assert build_external_model("timm:fixedsize", in_channels=3, num_classes=4, image_size=40).features.img_size == 40
    with pytest.raises(OptionError):
        build_external_model("timm:fixedsize", in_channels=3, num_classes=4, image_size=20, img_size=33)
    with pytest.raises(OptionError):
        build_external_model("torchvision:fixedsize", in_channels=3, num_classes=4, image_size=20)


def test_checking_the_output_shape_leaves_no_trace():
    torch.manual_seed(3)
    model = build_external_model("timm:toy", in_channels=3, num_classes=4, image_size=20)
    next_number = torch.rand(1)
    assert model.training and model.features.stem[1].num_batches_tracked == 0
    assert torch.equal(model.features.stem[1].running_mean, torch.zeros(6))
    torch.manual_seed(3)
    external_models.ExternalModel(Toy(), 4, "timm:toy")
    assert torch.equal(next_number, torch.rand(1))


# --- no files and no network -----------------------------------------------------------------------------------------

REFUSED = [
    ("checkpoint_path", "weights"),
    ("checkpoint_path", "/tmp/evil.pth"),
    ("pretrained_cfg", "word"),
    ("pretrained_cfg", {"url": "http://evil.example/w.pth"}),
    ("pretrained_cfg_overlay", {"file": "/tmp/evil.pth"}),
    ("pretrained_cfg_overlay", None),
    ("file", "w"),
    ("url", "w"),
    ("hf_hub_id", "w"),
    ("cache_dir", "w"),
    ("weights", "DEFAULT"),
    ("weights_backbone", "DEFAULT"),
    ("width", "/tmp/evil.pth"),
    ("width", "..\\evil"),
    ("width", "evil.pth"),
    ("width", "http://evil.example"),
    ("width", "C:evil"),
    ("width", "a" * 33),
    ("width", "two words"),
    ("width", "new\nline"),
    ("width", [1, 2]),
    ("width", {"a": 1}),
    ("width", Path("evil")),
    ("width", b"evil"),
    ("not an identifier", 1),
    ("__class__", 1),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_arguments_that_could_name_files_or_addresses_are_refused(package, name, value, calls):
    with pytest.raises(ModelFileError) as error:
        build_external_model(f"{package}:toy", in_channels=3, num_classes=4, **{name: value})
    assert error.value.option == name and error.value.value == value and error.value.cure
    assert not calls, "refused before the package is called"


class SneakyWord(str):
    """A string subclass whose checked content differs from what the package would see."""

    def __str__(self) -> str:
        return "/tmp/evil.pth"


def test_subclasses_of_allowed_types_are_refused(calls):
    with pytest.raises(ModelFileError):
        build_external_model("timm:toy", in_channels=3, num_classes=4, width=SneakyWord("word"))
    assert not calls


@pytest.mark.parametrize("value", [5, 0.5, True, None, "gelu", "batch_norm-2", ""])
def test_numbers_booleans_and_short_words_are_allowed(value):
    external_models.check_arguments("timm:toy", {"act_layer": value})


def test_a_run_folder_cannot_make_timm_load_a_checkpoint(tmp_path, calls):
    """A run.json from elsewhere is data: its arguments are checked before the package is called."""
    run = train(tmp_path / "a", model="timm:toy")
    path = run.path / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["model_kwargs"]["checkpoint_path"] = "/tmp/evil.pth"
    path.write_text(json.dumps(record), encoding="utf-8")
    (run.path / "checksums.sha256").unlink()
    calls.clear()
    with pytest.raises(ModelFileError) as error:
        _ = api.load(tmp_path / "a").model
    assert error.value.option == "checkpoint_path" and not calls


def record_network(monkeypatch, is_cached: bool = False) -> list[bool]:
    """Replace the toy by one that looks up a host while it is built; record whether it could."""
    reachable = []

    def build_with_lookup(**kwargs):
        try:
            socket.getaddrinfo("localhost", 1)
        except OSError:
            reachable.append(False)
            if not is_cached:
                raise
        else:
            reachable.append(True)
        return Toy(**kwargs)

    monkeypatch.setitem(MODELS, "toy", build_with_lookup)
    return reachable


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"offline": True}, False),
        ({"pretrained": True, "offline": True}, False),
        ({"pretrained": True}, True),
        ({"pretrained": "yes"}, False),
    ],
    ids=str,
)
def test_the_network_is_blocked_unless_weights_are_requested(monkeypatch, package, settings, expected):
    reachable = record_network(monkeypatch, is_cached=True)
    assert build_external_model(f"{package}:toy", in_channels=3, num_classes=4, image_size=20, **settings)
    assert reachable == [expected]
    assert socket.getaddrinfo("localhost", 1), "the block ends with the build"


def test_the_environment_variable_blocks_the_network_too(monkeypatch):
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    reachable = record_network(monkeypatch)
    with pytest.raises(ResourceError):
        build_external_model("timm:toy", in_channels=3, num_classes=4, pretrained=True)
    assert reachable == [False]


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize("offline", ["--offline", "THALWEG_OFFLINE"])
def test_offline_uses_cached_weights_or_fails(tmp_path, monkeypatch, capsys, package, offline):
    cached = []
    model_class = MODELS["toy"]

    def build_or_download(**kwargs):
        if not cached:
            socket.create_connection(("localhost", 1))
        return model_class(**kwargs)

    monkeypatch.setitem(MODELS, "toy", build_or_download)
    Image.fromarray(COLOR.test.images[0]).save(tmp_path / "a.png")
    words = ["predict", f"{package}:toy", str(tmp_path / "a.png")]
    if offline == "--offline":
        words.append(offline)
    else:
        monkeypatch.setenv(offline, "1")
    assert cli.invoke(words) == 5
    assert "the network may not be used" in capsys.readouterr().err
    cached.append("weights")
    assert cli.invoke(words) == 0
    assert socket.getaddrinfo("localhost", 1)


def test_a_failed_download_exits_with_5(tmp_path, monkeypatch, capsys):
    def fail(**_):
        raise URLError("Name or service not known")

    monkeypatch.setitem(MODELS, "toy", fail)
    Image.fromarray(COLOR.test.images[0]).save(tmp_path / "a.png")
    assert cli.invoke(["predict", "torchvision:toy", str(tmp_path / "a.png")]) == 5
    assert "Name or service not known" in capsys.readouterr().err


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_missing_package_exits_with_5_and_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Classify, "load_data", lambda *_: pytest.fail("the data was read first"))
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    for package in ("timm", "torchvision"):
        words = ["train", "classify", "digits", "--model", f"{package}:toy", "--out", str(tmp_path / "a")]
        for more in ([], ["--weights", "imagenet"]):
            assert cli.invoke([*words, *more]) == 5
            output = capsys.readouterr()
            assert f"pip install {package}" in output.err and not output.out and "Traceback" not in output.err
            assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("version", ["1.0.19", "0.9.16", "1.0", "1.0.9.dev0", "unknown"])
def test_an_old_timm_is_refused(monkeypatch, version, calls):
    monkeypatch.setattr(sys.modules["timm"], "__version__", version)
    with pytest.raises(ResourceError) as error:
        build_external_model("timm:toy", in_channels=3, num_classes=4)
    assert error.value.value == version and error.value.allowed == ["1.0.20"] and not calls


@pytest.mark.parametrize("version", ["1.0.20", "1.0.21.dev0", "1.1.0", "2.0"])
def test_a_new_timm_is_used(monkeypatch, version):
    monkeypatch.setattr(sys.modules["timm"], "__version__", version)
    assert build_external_model("timm:toy", in_channels=3, num_classes=4)


def test_a_package_that_does_not_fit_torch_is_reported_with_the_first_line_of_the_reason(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(external_models.importlib, "import_module", fail)
    with pytest.raises(ResourceError) as error:
        external_models.import_package("torchvision:toy")
    assert error.value.value == "torchvision"
    assert "operator torchvision::nms does not exist." in error.value.message and "and more" not in str(error.value)


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    for package in ("timm", "torchvision"):
        with pytest.raises(NotFoundError) as error:
            train(tmp_path / "a", model=f"{package}:tyo")
        assert error.value.value == "tyo" and "'toy'" in error.value.cure
    with pytest.raises(NotFoundError) as error:
        train(tmp_path / "a", model="keras:toy")
    assert error.value.value == "keras:toy"


def test_only_names_of_the_two_packages_are_split():
    assert external_models.split_name("timm:toy") == ("timm", "toy")
    assert external_models.split_name("torchvision:a:b") == ("torchvision", "a:b")
    for name in ("lenet", "keras:toy", "timm"):
        assert external_models.split_name(name) is None


@pytest.mark.parametrize("name", ["deep", "twoheads"])
def test_a_model_that_does_not_fit_the_images_is_refused_before_training(tmp_path, name):
    for package in ("timm", "torchvision"):
        with pytest.raises(OptionError) as error:
            train(tmp_path / "a", model=f"{package}:{name}")
        assert error.value.option == "model" and error.value.value == f"{package}:{name}"
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        external_models.check_output_shape(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), (2, 3, 1, 1), 4)


@pytest.mark.parametrize("name", ["convhead", "normhead", "thin"])
def test_a_model_without_a_linear_last_layer_is_refused(tmp_path, name):
    with pytest.raises(OptionError) as error:
        train(tmp_path / "a", model=f"timm:{name}")
    assert error.value.option == "model" and error.value.value == f"timm:{name}"
    assert not (tmp_path / "a").exists()
    with pytest.raises(OptionError) as error:
        external_models.ExternalModel(nn.ReLU(), 4, "timm:toy")
    assert error.value.value == "timm:toy"


def test_arguments_and_images_that_the_package_cannot_use_are_refused(tmp_path):
    with pytest.raises(OptionError) as error:
        train(tmp_path / "a", model="timm:toy", model_kwargs={"depth": 3})
    assert error.value.value == "timm:toy" and "'depth'" in error.value.message
    with pytest.raises(OptionError) as error:
        train(tmp_path / "a", GRAY, model="torchvision:toy")
    assert error.value.allowed == [3]
    assert not (tmp_path / "a").exists()
