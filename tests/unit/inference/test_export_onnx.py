"""The exported file against Pillow, against the network, and against the command line; and all that is refused."""

from __future__ import annotations

import errno
import getpass
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

import thalweg
from thalweg.cli import main as cli
from thalweg.data.images import image_decoding as images
from thalweg.data.images.image_decoding import resize_and_crop
from thalweg.errors import DataError, ExportError, OptionError, ResourceError
from thalweg.inference import export_onnx as export
from thalweg.io import download as fetch

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

FACTS = {
    "classes": ["cat", "dög 🐶", 'a "b"'],
    "channels": 3,
    "size": [12, 12],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "ink": False,
}
GREY = {**FACTS, "channels": 1, "mean": [0.4], "std": [0.3]}
#: (h, w): smaller and larger, lying and standing, odd, one pixel, the network's own
EXTENTS = [(12, 12), (1, 1), (1, 9), (9, 1), (13, 12), (5, 7), (101, 57), (57, 101), (333, 7), (12, 41), (211, 307)]


def pictures(count: int, h: int, w: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, h, w, channels), np.uint8)


def linear(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144 * channels, 3)).eval()


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Steep enough that one level in one pixel moves its answers by more than what is accepted."""
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
def written(network, tmp_path_factory) -> export.ExportReport:
    path = tmp_path_factory.mktemp("naïve a'b") / "deeper" / "model.onnx"
    made = export.export_onnx(network, FACTS, path, pictures(20, 12, 12, 3))
    assert made.path == path and made.difference <= 1e-5 and made.agreement == 1 and made.samples == 48
    assert made.kinds == ("PNG", "JPEG", "JPEG on its side") and 0 < made.fraction < 0.05
    return made


def onnx_answer(path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    made = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return made.run(["probability"], {"image": pixels})[0]


@pytest.mark.parametrize("extent", EXTENTS)
def test_the_file_answers_as_pillow_and_the_network_do(written, network, extent):
    many = pictures(3, *extent, 3, seed=7)
    seen = np.stack([np.asarray(resize_and_crop(Image.fromarray(one), 12)) for one in many])
    x = (torch.from_numpy(seen).permute(0, 3, 1, 2) / 255 - torch.tensor(FACTS["mean"])[:, None, None]) / torch.tensor(
        FACTS["std"]
    )[:, None, None]
    with torch.no_grad():
        expected = network.eval()(x).softmax(1).numpy()
    np.testing.assert_allclose(onnx_answer(written.path, many), expected, atol=1e-5)
    np.testing.assert_allclose(onnx_answer(written.path, many[:1]), expected[:1], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_that_of_pillow_to_the_last_level(channels):
    random = np.random.default_rng(channels)
    for _ in range(200):
        h, w, size = (int(n) for n in (*random.integers(1, 140, 2), random.choice([8, 12, 28, 33])))
        resize = int(size + random.integers(0, 9)) if random.random() < 0.5 and max(h, w) < 8 * min(h, w) else None
        one = pictures(1, h, w, channels, seed=h * w)[0]
        expected = np.asarray(resize_and_crop(Image.fromarray(one[..., 0] if channels == 1 else one), size, resize))
        found = export.resize_and_crop(torch.from_numpy(one[None]), size, resize)[0]
        assert np.array_equal(found.numpy(), expected.reshape(size, size, channels)), (h, w, size, resize)


def test_it_is_one_file_and_says_what_goes_in_and_out(written):
    import onnx

    assert files_of(written.path.parent) == ["model.onnx"]
    model = onnx.load(written.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not [t.name for t in model.graph.initializer if t.data_location != onnx.TensorProto.DEFAULT]
    (image,), (probability,) = model.graph.input, model.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", "h", "w", 3]
    assert probability.name == "probability"
    assert [d.dim_param or d.dim_value for d in probability.type.tensor_type.shape.dim] == ["N", 3]
    told = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert {key: told[key] for key in FACTS} == FACTS
    assert told["thalweg"] == thalweg.__version__ and "MNIST" not in told["input"]
    assert "MNIST" in export.metadata({**FACTS, "ink": True})["input"]


def test_nothing_of_this_machine_is_in_the_file(written):
    content = written.path.read_bytes()
    repository = Path(__file__).resolve().parents[2]
    private = [Path.home(), repository, Path(thalweg.__file__).parent, Path(torch.__file__).parent, written.path.parent]
    for path in private:
        assert str(path).encode() not in content, path
    assert b".py" not in content and b"Traceback" not in content and b"stack_trace" not in content
    assert len(getpass.getuser()) < 5 or getpass.getuser().encode() not in content


def test_comments_are_forgotten_wherever_they_stand():
    from onnx import TensorProto, helper

    def noted(message):
        message.doc_string = "secret"
        message.metadata_props.add(key="secret", value="secret")
        return message

    value = noted(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    tensor = noted(helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0]))
    node = noted(helper.make_node("Constant", [], ["y"], value=tensor))
    branch = noted(helper.make_graph([node], "branch", [], [value]))
    choice = noted(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    model = noted(helper.make_model(noted(helper.make_graph([choice], "g", [condition], [value], [tensor]))))
    assert model.SerializeToString().count(b"secret") > 20
    export.strip_metadata(model)
    assert b"secret" not in model.SerializeToString()
    assert [n.op_type for n in model.graph.node[0].attribute[0].g.node] == ["Constant"]


def test_the_network_stays_as_it_was(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3, dtype=torch.float64)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    made = export.export_onnx(net, {**GREY, "ink": True}, tmp_path / "m.onnx", pictures(2, 12, 12, 1))
    assert made.samples == 10 and net.training and net[1].weight.dtype == torch.float64
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


class Pretender(nn.Module):
    """Gives the logits times `factor` while it is exported."""

    def __init__(self, factor: float, scale: float = 1.0):
        super().__init__()
        self.layers, self.factor, self.scale = linear(), factor, scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x) * self.scale
        return y * self.factor if torch.compiler.is_exporting() else y


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (Pretender(1.5), "100.00% of the answers"),  # the same labels, other probabilities
        (Pretender(-1.0, scale=1e-5), " 0.00% of the answers"),  # all but the same probabilities, other labels
        (Pretender(1.0, scale=float("nan")), "largest difference nan"),
    ],
)
def test_what_answers_otherwise_is_refused_and_leaves_nothing(tmp_path, net, told):
    with pytest.raises(ExportError) as refused:
        export.export_onnx(net.eval(), GREY, tmp_path / "new.onnx", pictures(8, 12, 12, 1))
    assert refused.value.exit_code == 7 and told in str(refused.value)
    assert files_of(tmp_path) == []


def test_an_earlier_file_stays_until_a_better_one_is_proven(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(export, "to_onnx_bytes", lambda *_: b"later")
    nan = float("nan")
    for figures in ((2e-4, 1.0, 0.0), (0.0, 0.99, 0.0), (nan, 1.0, 0.0), (0.0, 1.0, 0.06), (0.0, 1.0, nan)):
        found = export.ExportReport(path, *figures[:2], 5, ("PNG",), figures[2])
        monkeypatch.setattr(export, "compare_outputs", lambda *_, found=found: found)
        with pytest.raises(ExportError, match=r"on 5 pictures \(PNG\)"):
            export.export_onnx(linear(), GREY, path, pictures(2, 12, 12, 1))
        assert path.read_bytes() == b"earlier"
    found = export.ExportReport(path, 1e-4, 1.0, 5, ("PNG",), 0.05)
    monkeypatch.setattr(export, "compare_outputs", lambda *_: found)
    assert export.export_onnx(linear(), GREY, path, pictures(2, 12, 12, 1)) == found
    assert path.read_bytes() == b"later" and files_of(tmp_path) == ["model.onnx"]


class Deciding(nn.Module):
    """Python that depends on a value, which no exporter can follow."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1)[:, :3]
        return y if y.sum().item() > 0 else -y


def test_what_cannot_be_written_as_onnx_is_refused(tmp_path, capfd):
    with pytest.raises(ExportError, match="cannot be written as ONNX: .*data-dependent"):
        export.export_onnx(Deciding(), GREY, tmp_path / "m.onnx", pictures(2, 12, 12, 1))
    assert files_of(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_a_file_that_onnxruntime_does_not_take_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "to_onnx_bytes", lambda *_: b"no model")
    with pytest.raises(ExportError, match="cannot be run"):
        export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(2, 12, 12, 1))
    assert files_of(tmp_path) == []


def test_a_graph_that_takes_no_other_extents_is_refused(tmp_path, monkeypatch):
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [2, 12, 12, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.UINT8, [2, 12, 12, 1])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["probability"])], "g", [image], [probability])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    monkeypatch.setattr(export, "to_onnx_bytes", lambda *_: model.SerializeToString())
    with pytest.raises(ExportError, match="refuses pictures of 3x12x12x1"):
        export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(3, 12, 12, 1))
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_its_cure(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError, match=f"package {package}:") as missing:
        export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(2, 12, 12, 1))
    assert missing.value.cure == 'pip install "thalweg[onnx]"' and missing.value.exit_code == 5


def test_a_target_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "file" / "m.onnx", tmp_path, tmp_path / "pipe", tmp_path / ("a" * 300)):
        with pytest.raises(OptionError, match="--out") as refused:
            export.export_onnx(linear(), GREY, target, pictures(2, 12, 12, 1))
        assert str(target) in refused.value.message
    assert files_of(tmp_path) == ["file", "pipe"] and (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("resize", [None, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_proof_has_files_of_every_kind_that_people_have(channels, resize):
    """Each looks, upright and decoded whole, as Pillow alone makes it."""
    facts = {**(FACTS if channels == 3 else GREY), "resize": resize}
    samples = pictures(5, 12, 12, channels)
    made = list(export.test_files(samples, facts))
    opened = [(kind, Image.open(io.BytesIO(file))) for kind, files in made for file in files]
    assert {(kind, one.format) for kind, one in opened} >= {("PNG", "PNG"), ("JPEG", "JPEG")}
    assert all(one.width % 2 and one.height % 2 for kind, one in opened if kind.startswith("JPEG"))
    assert [one.getexif()[0x0112] for kind, one in opened if kind == "JPEG on its side"] == [6] * 4
    assert [one.mode for kind, one in opened if kind == "PNG in colours"] == ["RGB"] * 4 * (channels == 1)
    large = Image.open(io.BytesIO(export.make_large_jpeg(samples[0], facts)))
    whole = large.size
    images._use_jpeg_draft(large, 12, resize)
    assert large.size == (whole[0] // 2, whole[1] // 2)
    assert export.make_large_jpeg(samples[0], {**facts, "size": [900, 900], "resize": resize and 1000}) is None


def test_a_grey_network_answers_colours_as_the_file_answers_their_greys(tmp_path):
    made = export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(20, 12, 12, 1))
    assert "PNG in colours" in made.kinds and made.difference < 1e-5
    assert made.told().endswith("on a large JPEG, decoded at a fraction")


def test_a_network_for_photographs_answers_jpegs_as_its_file_does(tmp_path, real_data):
    """48 photographs by Pillow alone: probabilities as `thalweg predict` gives them."""
    run = thalweg.load("cifar10-fast")
    made = run.export(out=tmp_path / "m.onnx")
    assert made.difference <= 1e-4
    found = [*(real_data / "photos").glob("*.jpg"), *sorted((real_data / "coco_subset" / "images").glob("*.jpg"))[:40]]
    for answer, file in zip(run.predict(found), found, strict=True):
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        theirs = onnx_answer(made.path, pixels[None])[0]
        assert np.abs(theirs - answer.probabilities).max() < 1e-4, file


def test_an_export_fetches_nothing(tmp_path, monkeypatch, capsys):
    """The data of cifar10-fast has a name, and is neither here nor was it asked for."""
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "urlopen", lambda *_, **__: pytest.fail("something was fetched"), raising=False)
    asked = []
    monkeypatch.setattr(export, "export_onnx", lambda *given: asked.append(given[3].shape))
    thalweg.load("cifar10-fast").export(out=tmp_path / "m.onnx")
    assert asked == [(64, 32, 32, 3)] and "The proof is on noise" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path, _):
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "to_onnx_bytes", lambda *_: b"model")
    monkeypatch.setattr(export, "write_fsync", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(2, 12, 12, 1))
    assert files_of(tmp_path) == []


def test_without_pictures_nothing_is_proven(tmp_path):
    with pytest.raises(DataError, match="no picture to compare"):
        export.export_onnx(linear(), GREY, tmp_path / "m.onnx", pictures(0, 12, 12, 1))


def test_the_command_line_exports_what_it_predicts(tmp_path, capfd):
    run, digits = tmp_path / "run", tmp_path / "digits"
    train = ["train", "classify", "digits", "--model", "perceptron", "--steps", "60", "--no-report", "--threads", "1"]
    assert cli.invoke([*train, "--out", str(run)]) == 0
    assert cli.invoke(["data", "sample", "digits", "--count", "5", "--out", str(digits)]) == 0
    capfd.readouterr()
    assert cli.invoke(["export", str(run)]) == 0
    shown = capfd.readouterr()
    assert shown.out.splitlines() == [str(run / "model.onnx")]
    assert len(shown.err.splitlines()) == 1 and "same label in 100.00%" in shown.err
    for number, source in enumerate(sorted(digits.iterdir())):
        picture = Image.open(source)
        picture.resize((8 + 2 * number + 1, 8 + 5 * number)).save(source)
    assert cli.invoke(["predict", str(run), str(digits), "--as-is", "--json", "--top", "10"]) == 0
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(answers) == 5
    for answer in answers:
        pixels = np.asarray(Image.open(answer["source"]))[None, ..., None]
        expected = {t["label"]: t["probability"] for t in answer["top"]}
        found = onnx_answer(run / "model.onnx", pixels)[0]
        classes = thalweg.load(run).facts["classes"]
        np.testing.assert_allclose(found, [expected[name] for name in classes], atol=1e-4)
