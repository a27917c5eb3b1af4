"""Weights files are read without executing anything, refused with a reason, and loaded exactly or not at all."""

import copy
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from thalweg import registry
from thalweg.errors import ModelFileError, OptionError
from thalweg.weights.files import (
    MAX_TENSORS,
    classifier_layer,
    classifier_layers,
    load_strict,
    load_tensors,
    skip_init,
)

PATH = Path("file.pth")
ARCHIVE = pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])


def make_model(num_classes: int = 3) -> nn.Module:
    """Return a convolution, a batch norm and a last layer."""
    torch.manual_seed(num_classes)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("head", nn.Linear(4, num_classes))
    return model


def are_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def build(name: str, num_classes: int) -> nn.Module:
    with skip_init():
        return registry.find_model(name)(in_channels=3, num_classes=num_classes)


def refused(path: Path) -> ModelFileError:
    """Return the error of loading a file, which names the file."""
    with pytest.raises(ModelFileError) as error:
        load_tensors(path)
    assert error.value.path == path and error.value.cure
    return error.value


# --- reading ---------------------------------------------------------------------------------------------------------


@ARCHIVE
@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".PTH"])
def test_files_of_torch_save_are_loaded(tmp_path, ending, archive):
    state = make_model().state_dict()
    torch.save(state, tmp_path / f"w{ending}", _use_new_zipfile_serialization=archive)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert are_equal(load_tensors(tmp_path / f"w{ending}"), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_floats_of_any_width_become_float32_and_integers_do_not_change(tmp_path, ending, dtype):
    path = tmp_path / f"w{ending}"
    state = {"a": torch.tensor([0.5, -3.0]).to(dtype), "count": torch.tensor(7)}
    safetensors.torch.save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    tensors = load_tensors(path)
    assert tensors["a"].dtype == torch.float32 and tensors["a"].tolist() == [0.5, -3.0]
    assert tensors["count"].dtype == torch.int64 and tensors["count"] == 7


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_taken_out_of_a_training_checkpoint(tmp_path, key, prefix):
    state = make_model().state_dict()
    prefixed = {prefix + name: value for name, value in state.items()}
    torch.save({key: prefixed, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert are_equal(load_tensors(tmp_path / "w.pth"), state)


def test_a_prefix_of_only_some_names_is_not_removed(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert list(load_tensors(tmp_path / "w.pth")) == ["module.a", "b"]


def test_parameters_are_loaded_as_plain_tensors_without_gradient(tmp_path):
    torch.save({"a": nn.Parameter(torch.ones(2))}, tmp_path / "w.pth")
    tensor = load_tensors(tmp_path / "w.pth")["a"]
    assert type(tensor) is Tensor and not tensor.requires_grad


@pytest.mark.skipif(os.name != "posix", reason="file names are text on this system")
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_name_need_not_be_utf_8(tmp_path, name):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    state = make_model().state_dict()
    folder.mkdir()
    if name == "w.pth":
        with (folder / name).open("wb") as file:
            torch.save(state, file)
    else:
        (folder / name).write_bytes(safetensors.torch.save(state))
    assert are_equal(dict(sorted(load_tensors(folder / name).items())), dict(sorted(state.items())))


@ARCHIVE
def test_layers_may_share_their_weights(tmp_path, archive):
    shared = torch.randn(1000)
    path = tmp_path / "w.pth"
    torch.save({"in": shared, "out": shared, "bias": torch.ones(3)}, path, _use_new_zipfile_serialization=archive)
    assert torch.equal(load_tensors(path)["in"], shared) and torch.equal(load_tensors(path)["out"], shared)


# --- refusing --------------------------------------------------------------------------------------------------------


class Trap:
    """An object that makes pickle call a function when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


class NumpyTrap(Trap):
    """The same with a function of another package."""

    def __reduce__(self):
        return (np.ndarray.tofile, (np.zeros(1), str(self.marker)))


@pytest.mark.parametrize("trap_class", [Trap, NumpyTrap])
@pytest.mark.parametrize("position", ["root", "entry", "sibling"])
@ARCHIVE
def test_a_file_that_contains_code_is_refused_and_nothing_is_executed(tmp_path, trap_class, position, archive):
    marker = tmp_path / "executed"
    trap = trap_class(marker)
    content = {
        "root": trap,
        "entry": {"a": torch.ones(2), "b": trap},
        "sibling": {"state_dict": {"a": torch.ones(2)}, "hyper_parameters": trap},
    }[position]
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    error = refused(tmp_path / "w.pth")
    assert error.value and "state_dict()" in error.cure
    assert "weights_only" not in str(error)  # torch's own recommendation would execute it
    assert not marker.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)  # the trap works
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_refused_and_nothing_is_executed(tmp_path, protocol):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Trap(tmp_path / "executed")}, protocol))
    refused(tmp_path / "w.pth")
    assert not (tmp_path / "executed").exists()


def test_a_pickled_module_is_refused_with_its_class(tmp_path):
    torch.save(make_model(), tmp_path / "w.pt")
    assert refused(tmp_path / "w.pt").value == "torch.nn.modules.container.Sequential"


def test_a_torchscript_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
        assert refused(tmp_path / "w.pt").value == "a TorchScript program"


@ARCHIVE
@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_of_torch_save_is_refused(tmp_path, fraction, archive):
    torch.save(make_model().state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: int(fraction * len(content))])
    refused(tmp_path / "w.pth")


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_safetensors_file_is_refused(tmp_path, fraction):
    content = safetensors.torch.save(make_model().state_dict())
    (tmp_path / "w.safetensors").write_bytes(content[: int(fraction * len(content))])
    refused(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>" * 40, b"\0" * 5000, b"PK\3\4 and nonsense" * 40])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_other_content_is_refused(tmp_path, content, ending):
    (tmp_path / f"w{ending}").write_bytes(content)
    refused(tmp_path / f"w{ending}")


@ARCHIVE
def test_many_names_for_the_same_numbers_are_refused_before_they_take_memory(tmp_path, archive):
    shared = torch.zeros(10_000, dtype=torch.float16)
    path = tmp_path / "w.pth"
    torch.save({f"n{k}": shared.view(-1) for k in range(100)}, path, _use_new_zipfile_serialization=archive)
    assert refused(path).value.startswith("n")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for entry in plain.infolist():
            kind = zipfile.ZIP_DEFLATED if entry.filename.endswith("data.pkl") else zipfile.ZIP_STORED
            packed.writestr(entry.filename, plain.read(entry.filename), kind)
    monkeypatch.setattr(torch, "load", pytest.fail)
    refused(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("dtype", "size", "name"), [("F4", 4, "float4"), ("C64", 64, "complex64"), ("F8_E8M0", 8, "float8")]
)
def test_dtypes_that_would_lose_information_are_refused(tmp_path, dtype, size, name):
    write_safetensors(
        tmp_path / "w.safetensors", {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}, size
    )
    assert refused(tmp_path / "w.safetensors").value.startswith(name)


@pytest.mark.parametrize("name", ["w.onnx", "w.h5", "w", "w.pth.zip"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    error = refused(tmp_path / name)
    assert error.value == Path(name).suffix and ".safetensors" in error.allowed


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "w.pth", tmp_path):
        refused(path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ([torch.ones(2)], "list"),
        ({}, "dict"),
        (torch.ones(2), "Tensor"),
        ({"state_dict": {}}, "dict"),
        ({"a": torch.ones(2), "epoch": 3}, "epoch"),
        ({1: torch.ones(2)}, 1),
        ({"a": torch.eye(3).to_sparse()}, "a"),
        ({"a": torch.zeros(2, device="meta")}, "a"),
        ({"a": torch.zeros(1).expand(10**12)}, "a"),
    ],
    ids=str,
)
def test_content_other_than_dense_tensors_by_name_is_refused(tmp_path, content, value):
    torch.save(content, tmp_path / "w.pth")
    assert refused(tmp_path / "w.pth").value == value


# --- too many tensors ------------------------------------------------------------------------------------------------


def write_safetensors(path: Path, header: dict, size: int) -> None:
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(size))


def test_a_safetensors_file_of_too_many_tensors_is_refused_before_it_is_read(tmp_path, monkeypatch):
    header = {f"t{i}": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]} for i in range(MAX_TENSORS + 1)}
    write_safetensors(tmp_path / "w.safetensors", header, 4)
    monkeypatch.setattr(safetensors.torch, "load_file", pytest.fail)
    error = refused(tmp_path / "w.safetensors")
    assert error.value == MAX_TENSORS + 1 and error.allowed == [MAX_TENSORS]


@ARCHIVE
def test_a_pickle_that_rebuilds_too_many_tensors_is_refused_before_it_is_read(tmp_path, monkeypatch, archive):
    shared = torch.zeros(1)
    tensors = {f"t{i}": shared.view(-1) for i in range(2 * MAX_TENSORS + 1)}
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    monkeypatch.setattr(torch, "load", pytest.fail)
    assert refused(tmp_path / "w.pth").allowed == [MAX_TENSORS]


def test_an_archive_of_too_many_storages_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", b"")
        for i in range(MAX_TENSORS + 1):
            archive.writestr(f"w/data/{i}", b"")
    monkeypatch.setattr(torch, "load", pytest.fail)
    assert refused(tmp_path / "w.pth").value == MAX_TENSORS + 1


def test_many_names_for_one_tensor_are_refused(tmp_path):
    """The same object under many names is a single call of the pickle, so the names are counted after reading."""
    tensor = torch.zeros(1)
    torch.save({f"t{i}": tensor for i in range(MAX_TENSORS + 1)}, tmp_path / "w.pth")
    assert refused(tmp_path / "w.pth").value == MAX_TENSORS + 1


# --- loading into a model --------------------------------------------------------------------------------------------


def test_weights_that_match_are_loaded():
    source = make_model()
    target = make_model()
    nn.init.ones_(source.head.weight)
    assert load_strict(target, source.state_dict(), PATH) == []
    assert are_equal(source.state_dict(), target.state_dict())


def strict_error(model: nn.Module, tensors: dict[str, Tensor], **kwargs) -> ModelFileError:
    """Return the error of `load_strict`, which names the file and changes nothing."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelFileError) as error:
        load_strict(model, tensors, PATH, **kwargs)
    assert error.value.path == PATH and error.value.cure
    assert are_equal(model.state_dict(), before)
    return error.value


def test_the_first_tensor_that_differs_is_named():
    model = make_model()
    state = model.state_dict()
    incomplete = {name: value for name, value in state.items() if not name.endswith("bias")}
    assert strict_error(model, incomplete).value == "features.0.bias"
    wrong_shapes = {**state, "features.0.weight": torch.zeros(4, 1, 3, 3), "features.0.bias": torch.zeros(9)}
    error = strict_error(model, wrong_shapes)
    assert error.value == "features.0.weight"
    assert "(4, 1, 3, 3)" in error.message and "(4, 3, 3, 3)" in error.message
    assert strict_error(model, {**state, "extra": torch.zeros(1)}).value == "extra"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_integers_in_place_of_floats_are_refused(dtype):
    """A quantized tensor would be loaded without its scale, and every prediction would be wrong."""
    model = make_model()
    state = model.state_dict()
    quantized = {**state, "features.0.weight": torch.ones(4, 3, 3, 3).to(dtype)}
    assert strict_error(model, quantized).value == str(dtype).removeprefix("torch.")


def test_floats_in_place_of_integers_are_refused():
    model = nn.Linear(2, 2)
    model.register_buffer("index", torch.tensor([0, 1]))
    assert strict_error(model, {**model.state_dict(), "index": torch.tensor([0.5, 1.0])}).value == "float32"


def test_weights_for_other_classes_report_both_numbers():
    error = strict_error(make_model(3), make_model(5).state_dict())
    assert error.value == "head.weight" and "5 classes" in error.cure and "3" in error.cure


def test_a_replaced_head_keeps_its_initialization():
    model = make_model(3)
    weights = make_model(5).state_dict()
    head = model.head.weight.clone()
    assert load_strict(model, weights, PATH, replace_head=True) == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.features[0].weight, weights["features.0.weight"])


def test_a_new_head_keeps_its_initialization_even_for_as_many_classes():
    model = make_model(3)
    weights = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    head = model.head.weight.clone()
    assert load_strict(model, weights, PATH, new_head=True) == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head) and (model.features[0].weight == 1).all()


def test_replace_head_allows_another_number_of_outputs_only():
    source = make_model(3)
    nn.init.ones_(source.head.bias)
    model = make_model(3)
    assert load_strict(model, source.state_dict(), PATH, replace_head=True) == []
    assert torch.equal(model.head.bias, torch.ones(3))
    for name, value in (
        ("head.weight", torch.zeros(5, 7)),
        ("features.0.bias", torch.zeros(5)),
        ("head.bias", torch.tensor(1.0)),
    ):
        weights = {**make_model(3).state_dict(), name: value}
        assert strict_error(make_model(3), weights, replace_head=True).value == name


def test_batch_norm_counters_may_be_missing_left_over_or_floats():
    model = make_model()
    state = model.state_dict()
    counter = "features.1.num_batches_tracked"
    model.features[1].num_batches_tracked.fill_(9)
    load_strict(model, {name: value for name, value in state.items() if name != counter}, PATH)
    assert model.features[1].num_batches_tracked == 0
    load_strict(model, {**state, counter: torch.tensor(7.0)}, PATH)
    assert model.features[1].num_batches_tracked == 7
    load_strict(nn.Linear(4, 3), {**make_model().head.state_dict(), "num_batches_tracked": torch.tensor(1)}, PATH)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["fc"]),
        ("vgg16", ["classifier.6"]),
        ("squeezenet1_1", ["classifier.1"]),
        ("mobilenet_v3_small", ["classifier.3"]),
        ("inception_v3", ["fc", "AuxLogits.fc"]),
    ],
)
def test_classifier_layers_of_published_models_return_the_logits(name, expected):
    model = build(name, 7)
    assert list(classifier_layers(model)) == expected
    assert classifier_layer(model)[0] == expected[0]
    for layer_name, layer in classifier_layers(model).items():
        assert layer is model.get_submodule(layer_name) and layer.weight.shape[0] == 7


@pytest.mark.parametrize("name", ["squeezenet1_1", "inception_v3"])
def test_published_models_are_loaded_for_other_classes(name):
    weights = {key: torch.full_like(value, 0.5) for key, value in build(name, 1000).state_dict().items()}
    model = build(name, 7)
    kept = load_strict(model, weights, PATH, replace_head=True)
    assert kept == [f"{layer}.{end}" for layer in reversed(classifier_layers(model)) for end in ("weight", "bias")]
    for key, value in model.state_dict().items():
        assert key in kept or torch.equal(value, weights[key])


def test_without_a_head_the_classifier_layer_is_the_last_with_parameters():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.Softmax(1))
    assert classifier_layer(model) == ("2", model[2])
    model.head = nn.Flatten()
    assert classifier_layer(model) == ("2", model[2])
    with pytest.raises(OptionError) as error:
        classifier_layer(nn.ReLU())
    assert error.value.value == "ReLU"


# --- skip_init -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "inception_v3", "vgg11"])
def test_a_model_built_without_initialization_is_equal_after_loading_weights(name):
    state = torch.get_rng_state()
    model = build(name, 5)
    assert torch.equal(torch.get_rng_state(), state)  # no random numbers were used
    initialized = registry.find_model(name)(in_channels=3, num_classes=5)
    load_strict(model, initialized.state_dict(), PATH)
    x_BCHW = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(model.eval()(x_BCHW), initialized.eval()(x_BCHW))


def test_the_float16_file_matches_its_model(real_data):
    path = real_data / "weights" / "squeezenet1_1-fp16.safetensors"
    tensors = load_tensors(path)
    assert all(value.dtype == torch.float32 for value in tensors.values())
    model = build("squeezenet1_1", 1000)
    assert load_strict(model, tensors, path) == []
    assert are_equal(model.state_dict(), {name: tensors[name] for name in model.state_dict()})
