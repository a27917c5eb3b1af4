"""The exported file agrees with Pillow, with the model, and with the command line; and what is rejected."""

from __future__ import annotations

import errno
import getpass
import io
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

import thalweg
from thalweg.cli import main as cli
from thalweg.data.images import image_decoding
from thalweg.data.images.image_decoding import resize_and_crop
from thalweg.data.images.input_spec import InputSpec
from thalweg.errors import ExportError, OptionError, ResourceError
from thalweg.inference import export_onnx
from thalweg.io import download
from thalweg.layers import pillow_resize
from thalweg.tasks import classify_export
from thalweg.tasks.base import ExportProof

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

SPEC = InputSpec(
    classes=["cat", "dög 🐶", 'a "b"'], channels=3, size=[12, 12], mean=[0.5, 0.4, 0.3], std=[0.2, 0.25, 0.3]
)
GRAY = replace(SPEC, channels=1, mean=[0.4], std=[0.3])
#: (h, w): smaller and larger, landscape and portrait, odd, one pixel, the model's own
SIZES = [(12, 12), (1, 1), (1, 9), (9, 1), (13, 12), (5, 7), (101, 57), (57, 101), (333, 7), (12, 41), (211, 307)]


def make_images(count: int, h: int, w: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, h, w, channels), np.uint8)


def make_linear(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144 * channels, 3)).eval()


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(model: nn.Module, spec: InputSpec, path: Path, samples: np.ndarray | None) -> export_onnx.ExportReport:
    """Export a classifier."""
    return export_onnx.export_onnx(classify_export.build_export_spec(model, spec, samples), path)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Steep enough that one level in one pixel moves its probabilities by more than the tolerance."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(600, 3)
    )
    for _ in range(3):
        net(torch.randn(32, 3, 12, 12) * 2 + 1)
    with torch.no_grad():
        net[-1].weight.mul_(4)
    return net


@pytest.fixture(scope="module")
def report(model, tmp_path_factory) -> export_onnx.ExportReport:
    path = tmp_path_factory.mktemp("naïve a'b") / "deeper" / "model.onnx"
    report = write(model, SPEC, path, make_images(20, 12, 12, 3))
    numbers = report.proof.numbers
    assert report.path == path and report.summary() == report.proof.text
    assert numbers["max_difference"] <= 1e-5 and numbers["agreement"] == 1 and numbers["samples"] == 48
    assert 0 < numbers["large_jpeg_difference"] < 0.05
    return report


def run_onnx(path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(["probability"], {"image": pixels})[0]


@pytest.mark.parametrize("size", SIZES)
def test_the_file_predicts_as_pillow_and_the_model_do(report, model, size):
    many = make_images(3, *size, 3, seed=7)
    inputs = np.stack([np.asarray(resize_and_crop(Image.fromarray(image), 12)) for image in many])
    mean_C11 = torch.tensor(SPEC.mean)[:, None, None]
    std_C11 = torch.tensor(SPEC.std)[:, None, None]
    x = (torch.from_numpy(inputs).permute(0, 3, 1, 2) / 255 - mean_C11) / std_C11
    with torch.no_grad():
        expected = model.eval()(x).softmax(1).numpy()
    np.testing.assert_allclose(run_onnx(report.path, many), expected, atol=1e-5)
    np.testing.assert_allclose(run_onnx(report.path, many[:1]), expected[:1], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_equals_pillow_s_in_every_level(channels):
    random = np.random.default_rng(channels)
    for _ in range(200):
        h, w = (int(n) for n in random.integers(1, 140, 2))
        size = [(8, 8), (12, 12), (28, 28), (33, 33), (9, 16), (24, 10), (31, 29)][random.integers(7)]
        resize = None
        if random.random() < 0.5 and max(h, w) < 8 * min(h, w):
            resize = int(min(size) + random.integers(0, 9))
        image = make_images(1, h, w, channels, seed=h * w)[0]
        expected = np.asarray(resize_and_crop(Image.fromarray(image[..., 0] if channels == 1 else image), size, resize))
        resized = pillow_resize.resize_and_crop(torch.from_numpy(image[None]), size, resize)[0]
        assert np.array_equal(resized.numpy(), expected.reshape(*size, channels)), (h, w, size, resize)


def test_an_export_for_images_that_are_no_squares_agrees(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    spec = replace(SPEC, size=[64, 96], resize=72)
    proof = write(model, spec, tmp_path / "model.onnx", make_images(6, 64, 96, 3)).proof
    assert proof.problem == "" and proof.numbers["agreement"] == 1 and proof.numbers["max_difference"] <= 1e-5


def test_the_export_is_one_file_that_describes_inputs_and_outputs(report):
    import onnx

    assert list_files(report.path.parent) == ["model.onnx"]
    model = onnx.load(report.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not [t.name for t in model.graph.initializer if t.data_location != onnx.TensorProto.DEFAULT]
    (image,), (probability,) = model.graph.input, model.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", "h", "w", 3]
    assert probability.name == "probability"
    assert [d.dim_param or d.dim_value for d in probability.type.tensor_type.shape.dim] == ["N", 3]
    metadata = {p.key: json.loads(p.value) for p in model.metadata_props}
    for name in ("classes", "channels", "size", "mean", "std", "handwriting", "resize"):
        assert metadata[name] == getattr(SPEC, name)
    assert metadata["thalweg"] == thalweg.__version__ and "MNIST" not in metadata["input"]
    assert "MNIST" in classify_export.metadata(replace(SPEC, handwriting=True))["input"]


def test_nothing_about_this_machine_is_in_the_file(report):
    content = report.path.read_bytes()
    repository = Path(__file__).resolve().parents[3]
    private = [Path.home(), repository, Path(thalweg.__file__).parent, Path(torch.__file__).parent, report.path.parent]
    for path in private:
        assert str(path).encode() not in content, path
    assert b".py" not in content and b"Traceback" not in content and b"stack_trace" not in content
    assert len(getpass.getuser()) < 5 or getpass.getuser().encode() not in content


def test_comments_are_removed_everywhere():
    from onnx import TensorProto, helper

    def annotate(message):
        message.doc_string = "secret"
        message.metadata_props.add(key="secret", value="secret")
        return message

    value = annotate(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    tensor = annotate(helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0]))
    node = annotate(helper.make_node("Constant", [], ["y"], value=tensor))
    branch = annotate(helper.make_graph([node], "branch", [], [value]))
    choice = annotate(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    model = annotate(helper.make_model(annotate(helper.make_graph([choice], "g", [condition], [value], [tensor]))))
    assert model.SerializeToString().count(b"secret") > 20
    export_onnx.strip_metadata(model)
    assert b"secret" not in model.SerializeToString()
    assert [n.op_type for n in model.graph.node[0].attribute[0].g.node] == ["Constant"]


def test_the_model_stays_unchanged(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3, dtype=torch.float64)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    report = write(net, replace(GRAY, handwriting=True), tmp_path / "m.onnx", make_images(2, 12, 12, 1))
    assert report.proof.numbers["samples"] == 10 and net.training and net[1].weight.dtype == torch.float64
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


class DifferentWhenExported(nn.Module):
    """Returns the logits times `factor` while it is exported."""

    def __init__(self, factor: float, scale: float = 1.0):
        super().__init__()
        self.layers = make_linear()
        self.factor = factor
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x) * self.scale
        return y * self.factor if torch.compiler.is_exporting() else y


@pytest.mark.parametrize(
    ("net", "is_wrong"),
    [
        (DifferentWhenExported(1.5), lambda n: n["agreement"] == 1 and n["max_difference"] > 1e-4),
        (DifferentWhenExported(-1.0, scale=1e-5), lambda n: n["agreement"] == 0 and n["max_difference"] < 1e-4),
        (DifferentWhenExported(1.0, scale=float("nan")), lambda n: math.isnan(n["max_difference"])),
    ],
    ids=["other probabilities", "other labels", "NaN"],
)
def test_a_model_that_disagrees_is_rejected_and_no_file_is_left(tmp_path, net, is_wrong):
    with pytest.raises(ExportError) as error:
        write(net.eval(), GRAY, tmp_path / "new.onnx", make_images(8, 12, 12, 1))
    assert error.value.exit_code == 7 and is_wrong(error.value.value)
    assert list_files(tmp_path) == []


def test_an_earlier_file_stays_until_a_better_one_is_proven(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(export_onnx, "to_onnx_bytes", lambda spec: b"later")
    monkeypatch.setattr(export_onnx, "onnx_runner", lambda *_: None)
    spec = classify_export.build_export_spec(make_linear(), GRAY, make_images(2, 12, 12, 1))
    proof = ExportProof("text", problem="a problem", numbers={"max_difference": 1.0})
    with pytest.raises(ExportError) as error:
        export_onnx.export_onnx(replace(spec, prove=lambda run: proof), path)
    assert error.value.value == proof.numbers and path.read_bytes() == b"earlier"
    proof = replace(proof, problem="")
    report = export_onnx.export_onnx(replace(spec, prove=lambda run: proof), path)
    assert report == export_onnx.ExportReport(path, proof)
    assert path.read_bytes() == b"later" and list_files(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    ("shift", "large_shift", "is_good"),
    [(0, 0, True), (2e-4, 0, False), (5e-5, 0, True), (0, 0.04, True), (0, 0.06, False), (0, float("nan"), False)],
)
def test_tolerances_of_the_proof(monkeypatch, shift, large_shift, is_good):
    """`shift` moves every probability, `large_shift` those of the large JPEG."""
    net = make_linear()
    spec = classify_export.build_export_spec(net, GRAY, make_images(4, 12, 12, 1))

    def run(images):
        logits = torch.log(spec.module(torch.from_numpy(images)))
        large = images.shape[1] > 60
        return logits.softmax(1).detach().numpy() + (large_shift if large else shift)

    proof = spec.prove(run)
    assert (proof.problem == "") is is_good


class Deciding(nn.Module):
    """Python that depends on a value, which no exporter can follow."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1)[:, :3]
        return y if y.sum().item() > 0 else -y


def test_a_model_that_cannot_be_traced_is_rejected(tmp_path, capfd):
    with pytest.raises(ExportError, match="data-dependent"):
        write(Deciding(), GRAY, tmp_path / "m.onnx", make_images(2, 12, 12, 1))
    assert list_files(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_a_file_that_onnxruntime_cannot_load_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "to_onnx_bytes", lambda *_: b"no model")
    with pytest.raises(ExportError):
        write(make_linear(), GRAY, tmp_path / "m.onnx", make_images(2, 12, 12, 1))
    assert list_files(tmp_path) == []


def test_a_graph_of_one_size_only_is_rejected(tmp_path, monkeypatch):
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [2, 12, 12, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.UINT8, [2, 12, 12, 1])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["probability"])], "g", [image], [probability])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    monkeypatch.setattr(export_onnx, "to_onnx_bytes", lambda *_: model.SerializeToString())
    with pytest.raises(ExportError) as error:
        write(make_linear(), GRAY, tmp_path / "m.onnx", make_images(3, 12, 12, 1))
    assert error.value.value == "1x12x12x1"
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError) as error:
        write(make_linear(), GRAY, tmp_path / "m.onnx", make_images(2, 12, 12, 1))
    assert error.value.value == package and error.value.cure == 'pip install "thalweg[onnx]"'


def test_an_unusable_path_is_rejected(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "file" / "m.onnx", tmp_path, tmp_path / "pipe", tmp_path / ("a" * 300)):
        with pytest.raises(OptionError) as error:
            write(make_linear(), GRAY, target, make_images(2, 12, 12, 1))
        assert (error.value.option, error.value.path) == ("out", target)
    assert list_files(tmp_path) == ["file", "pipe"] and (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("resize", [None, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_proof_has_image_files_of_every_kind(channels, resize):
    spec = replace(SPEC if channels == 3 else GRAY, resize=resize)
    samples = make_images(5, 12, 12, channels)
    files_by_kind = list(classify_export.make_test_files(samples, spec))
    opened = [(kind, Image.open(io.BytesIO(file))) for kind, files in files_by_kind for file in files]
    assert {(kind, image.format) for kind, image in opened} >= {("PNG", "PNG"), ("JPEG", "JPEG")}
    assert all(image.width % 2 and image.height % 2 for kind, image in opened if kind.endswith("JPEG"))
    assert [image.getexif()[0x0112] for kind, image in opened if kind == "rotated JPEG"] == [6] * 4
    assert [image.mode for kind, image in opened if kind == "color PNG"] == ["RGB"] * 4 * (channels == 1)
    large = Image.open(io.BytesIO(classify_export.make_large_jpeg(samples[0], spec)))
    size = large.size
    image_decoding._use_jpeg_draft(large, 12, resize)
    assert large.size == (size[0] // 2, size[1] // 2)
    too_large = replace(spec, size=[900, 900], resize=resize and 1000)
    assert classify_export.make_large_jpeg(samples[0], too_large) is None


def test_a_gray_model_predicts_color_images_as_its_file_predicts_them_in_gray(tmp_path):
    report = write(make_linear(), GRAY, tmp_path / "m.onnx", make_images(20, 12, 12, 1))
    assert "color PNG" in report.summary() and report.proof.numbers["max_difference"] < 1e-5


def test_a_photo_model_predicts_jpegs_as_its_file_does(tmp_path, real_data):
    """48 photographs by Pillow alone: probabilities as `thalweg predict` gives them."""
    run = thalweg.load("cifar10-fast")
    report = run.export(out=tmp_path / "m.onnx")
    assert report.proof.numbers["max_difference"] <= 1e-4
    files = [*(real_data / "photos").glob("*.jpg"), *sorted((real_data / "coco_subset" / "images").glob("*.jpg"))[:40]]
    for prediction, file in zip(run.predict(files), files, strict=True):
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        exported = run_onnx(report.path, pixels[None])[0]
        assert np.abs(exported - prediction.probabilities).max() < 1e-4, file


def test_an_export_downloads_nothing(tmp_path, monkeypatch):
    """The data of cifar10-fast has a name and is not here: the proof is on noise."""
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "urlopen", lambda *_, **__: pytest.fail("a download"), raising=False)
    specs = []
    monkeypatch.setattr(export_onnx, "export_onnx", lambda spec, path: specs.append(spec))
    samples = []
    honest = classify_export.compare_outputs
    monkeypatch.setattr(classify_export, "compare_outputs", lambda *args: samples.append(args[3]) or honest(*args))
    thalweg.load("cifar10-fast").export(out=tmp_path / "m.onnx")
    (spec,) = specs
    proof = spec.prove(lambda images: spec.module(torch.from_numpy(images)).detach().numpy())
    assert samples[0].shape == (64, 32, 32, 3) and not proof.problem


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(path, _):
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_onnx, "to_onnx_bytes", lambda *_: b"model")
    monkeypatch.setattr(export_onnx, "write_fsync", full)
    with pytest.raises(ResourceError, match="No space left on device") as error:
        write(make_linear(), GRAY, tmp_path / "m.onnx", make_images(2, 12, 12, 1))
    assert error.value.path == tmp_path / "m.onnx"
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("samples", [None, make_images(0, 12, 12, 1)], ids=["none", "empty"])
def test_without_samples_the_proof_is_on_noise(tmp_path, samples):
    report = write(make_linear(), GRAY, tmp_path / "m.onnx", samples)
    assert report.proof.numbers["samples"] > 64 and report.path.is_file()


def test_the_command_line_exports_what_it_predicts(tmp_path, capfd):
    run, digits = tmp_path / "run", tmp_path / "digits"
    train = [
        "train",
        "classify",
        "digits",
        "--model",
        "perceptron",
        "--steps",
        "60",
        "--no-report",
        "--cpu-threads",
        "1",
    ]
    assert cli.invoke([*train, "--out", str(run)]) == 0
    assert cli.invoke(["data", "export-samples", "digits", "--count", "5", "--out", str(digits)]) == 0
    capfd.readouterr()
    assert cli.invoke(["export", str(run)]) == 0
    captured = capfd.readouterr()
    assert captured.out.splitlines() == [str(run / "model.onnx")]
    assert len(captured.err.splitlines()) == 1 and "100.00%" in captured.err
    for number, source in enumerate(sorted(digits.iterdir())):
        image = Image.open(source)
        image.resize((8 + 2 * number + 1, 8 + 5 * number)).save(source)
    assert cli.invoke(["predict", str(run), str(digits), "--raw", "--json", "--top-k", "10"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == 5
    for row in rows:
        pixels = np.asarray(Image.open(row["source"]))[None, ..., None]
        expected = {t["label"]: t["probability"] for t in row["top"]}
        probabilities = run_onnx(run / "model.onnx", pixels)[0]
        classes = thalweg.load(run).spec.classes
        np.testing.assert_allclose(probabilities, [expected[name] for name in classes], atol=1e-4)
