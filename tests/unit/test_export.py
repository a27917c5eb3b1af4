"""What is exported answers as the network does, or is not written."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import thalweg
from thalweg import export, registry
from thalweg.data.images import fit
from thalweg.errors import DataError, ExportError, ResourceError
from thalweg.export import export_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

FACTS = {
    "classes": ["cat", "dog", "naïve 数据"],
    "channels": 3,
    "size": [12, 12],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.1],
    "ink": False,
}


def tiny() -> nn.Module:
    """A network with batch normalisation and dropout, left in training mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(32, 3))
    network(torch.randn(64, 3, 12, 12) * 2 + 1)
    return network


def pictures(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(network, what export_onnx gave back)."""
    network = tiny()
    path = tmp_path_factory.mktemp("export") / "new folder" / "model.onnx"
    return network, export_onnx(network, FACTS, path, pictures(20, 12, 12))


def test_the_export_agrees_and_says_how_well(written):
    network, done = written
    assert done.samples >= 20 and done.agreement == 1.0 and done.difference <= 1e-6
    assert network.training and all(w.requires_grad for w in network.parameters())
    assert [file.name for file in done.path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "height, width", [(12, 12), (7, 9), (1, 1), (13, 12), (31, 77), (77, 31), (12, 200), (333, 334)]
)
def test_pictures_of_any_size_get_the_answers_that_pillow_and_the_network_give(written, height, width):
    network, done = written
    images = pictures(3, height, width)
    seen = np.stack([np.asarray(fit(Image.fromarray(image), 12)) for image in images])
    x = (torch.from_numpy(seen).double() / 255 - torch.tensor(FACTS["mean"])) / torch.tensor(FACTS["std"])
    network.eval()
    expected = network(x.float().permute(0, 3, 1, 2)).softmax(1).detach().numpy()
    network.train()
    got = run(done.path, images)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(run(done.path, images[:1]), got[:1], atol=1e-6)


def test_resizing_inside_the_file_is_that_of_pillow_to_the_last_bit():
    random = np.random.default_rng(0)
    for size in (8, 28, 33):
        for height, width in np.exp(random.uniform(0, np.log(300), (60, 2))).round().astype(int):
            image = random.integers(0, 256, (height, width), np.uint8)
            got = export.fitted(torch.from_numpy(image)[None, ..., None], size, export.downwards_first())
            seen = np.asarray(fit(Image.fromarray(image), size))
            np.testing.assert_array_equal(got[0, ..., 0].numpy(), seen, err_msg=f"{height} x {width} to {size}")


def test_the_file_says_what_it_is_and_stands_alone(written):
    model = onnx.load(written[1].path, load_external_data=False)
    about = {entry.key: entry.value for entry in model.metadata_props}
    told = {key: json.loads(value) for key, value in about.items()}
    assert told.pop("thalweg") == thalweg.__version__ and "any size" in told.pop("input")
    assert told == FACTS
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    (image,), (probability,) = model.graph.input, model.graph.output
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [bool(d.dim_param) for d in image.type.tensor_type.shape.dim] == [True, True, True, False]
    assert probability.name == "probability" and probability.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_file_holds_nothing_of_the_machine_it_was_made_on(written):
    content = written[1].path.read_bytes()
    private = [str(Path.home()), str(Path(thalweg.__file__).parent), str(Path.cwd()), socket.gethostname()]
    for word in [*private, f"/{getpass.getuser()}/", "site-packages", ".py", sys.prefix]:
        assert word.encode() not in content, word


@pytest.mark.parametrize("name", registry.models("classify"))
def test_every_model_exports(name, tmp_path):
    facts = {**FACTS, "channels": 1, "size": [28, 28], "mean": [0.13], "std": [0.3], "ink": True}
    network = registry.models()[name](channels=1, classes=3, size=28)
    done = export_onnx(
        network.to(memory_format=torch.channels_last), facts, tmp_path / "m.onnx", pictures(6, 28, 28, 1)
    )
    assert done.difference <= 1e-5
    assert "white on black" in {e.key: e.value for e in onnx.load(done.path).metadata_props}["input"]


def test_weights_of_low_precision_are_exported_in_single(tmp_path):
    network = tiny().eval().to(torch.bfloat16)
    done = export_onnx(network, FACTS, tmp_path / "m.onnx", pictures(4, 12, 12))
    kinds = {tensor.data_type for tensor in onnx.load(done.path).graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in kinds
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}


class TwoFaced(nn.Module):
    """Answers differently when it is being exported."""

    def __init__(self, network: nn.Module, change: float):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        logits = self.network(x)
        return logits + torch.tensor([self.change, 0.0, 0.0]) if torch.compiler.is_exporting() else logits


def test_a_file_that_answers_differently_is_not_written(tmp_path):
    before = tmp_path / "model.onnx"
    before.write_bytes(b"what was exported last time")
    with pytest.raises(ExportError, match="answers differently") as refused:
        export_onnx(TwoFaced(tiny(), 0.01), FACTS, before, pictures(8, 12, 12))
    assert refused.value.exit_code == 7
    assert before.read_bytes() == b"what was exported last time"
    assert list(tmp_path.iterdir()) == [before]


@pytest.fixture
def translated(monkeypatch, written):
    """Saves translating once more: what was written stands for what would be."""
    monkeypatch.setattr(export, "serialised", lambda *_: written[1].path.read_bytes())


def test_a_network_that_answers_with_no_numbers_is_not_written(translated, tmp_path):
    network = tiny()
    nn.init.constant_(network[-1].weight, float("nan"))
    with pytest.raises(ExportError, match="answers differently"):
        export_onnx(network, FACTS, tmp_path / "m.onnx", pictures(2, 12, 12))
    assert not list(tmp_path.iterdir())


class Unspeakable(nn.Module):
    """Looks at the values to decide what to do, which no graph can."""

    def forward(self, x):
        return x.flatten(1)[:, : 3 if x.sum().item() > 0 else 4]


def test_a_network_that_cannot_be_translated_is_refused(tmp_path):
    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        export_onnx(Unspeakable(), FACTS, tmp_path / "m.onnx", pictures(2, 12, 12))
    assert not list(tmp_path.iterdir())


def test_no_samples_prove_nothing(tmp_path):
    with pytest.raises(DataError, match="no picture to compare"):
        export_onnx(tiny(), FACTS, tmp_path / "m.onnx", pictures(0, 12, 12))


def test_a_place_that_cannot_be_written_is_named(translated, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="is a folder"):
        export_onnx(tiny(), FACTS, tmp_path, pictures(1, 12, 12))
    with pytest.raises(ResourceError, match="m.onnx"):
        export_onnx(tiny(), FACTS, tmp_path / "file" / "m.onnx", pictures(1, 12, 12))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_its_cure(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ResourceError, match=name) as refused:
        export_onnx(tiny(), FACTS, tmp_path / "m.onnx", pictures(1, 12, 12))
    assert refused.value.exit_code == 5 and 'pip install "thalweg[onnx]"' in refused.value.cure


def test_a_file_that_cannot_be_run_is_refused(translated, monkeypatch, tmp_path):
    grey = {**FACTS, "channels": 1, "mean": [0.5], "std": [0.3]}
    first = nn.Conv2d(1, 8, 3)
    with pytest.raises(ExportError, match="refuses pictures of 1x12x12x1"):
        export_onnx(nn.Sequential(first, *tiny()[1:]), grey, tmp_path / "m.onnx", pictures(1, 12, 12, 1))
    monkeypatch.setattr(export, "serialised", lambda *_: b"no model")
    with pytest.raises(ExportError, match="cannot be run"):
        export_onnx(tiny(), FACTS, tmp_path / "m.onnx", pictures(1, 12, 12))
    assert not list(tmp_path.iterdir())
