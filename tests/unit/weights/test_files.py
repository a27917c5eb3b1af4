"""Weights files from elsewhere: read without running anything, refused with a reason, fitted exactly or not at all."""

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
from torch import nn

from thalweg import registry
from thalweg.errors import ModelFileError, OptionError
from thalweg.weights.files import classifier_layer, classifier_layers, load_strict, load_tensors, skip_init

HERE = Path("file.pth")
ARCHIVE = pytest.mark.parametrize("archive", [True, False], ids=["archive", "before 2020"])


def small(classes: int = 3) -> nn.Module:
    """A convolution, a batch norm and a last layer."""
    torch.manual_seed(classes)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("head", nn.Linear(4, classes))
    return network


def equal(one, other) -> bool:
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def build(name: str, classes: int) -> nn.Module:
    with skip_init():
        return registry.find_model(name)(in_channels=3, num_classes=classes)


# --- reading ---------------------------------------------------------------------------------------------------------


@ARCHIVE
@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".PTH"])
def test_what_torch_saves_comes_back(tmp_path, ending, archive):
    state = small().state_dict()
    torch.save(state, tmp_path / f"w{ending}", _use_new_zipfile_serialization=archive)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert equal(load_tensors(tmp_path / f"w{ending}"), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_floats_of_any_width_become_float32_and_integers_stay(tmp_path, ending, dtype):
    path = tmp_path / f"w{ending}"
    state = {"a": torch.tensor([0.5, -3.0]).to(dtype), "count": torch.tensor(7)}
    safetensors.torch.save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    found = load_tensors(path)
    assert found["a"].dtype == torch.float32 and found["a"].tolist() == [0.5, -3.0]
    assert found["count"].dtype == torch.int64 and found["count"] == 7


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("lead", ["", "module."])
def test_weights_are_taken_out_of_what_they_are_wrapped_in(tmp_path, key, lead):
    state = small().state_dict()
    named = {lead + name: value for name, value in state.items()}
    torch.save({key: named, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert equal(load_tensors(tmp_path / "w.pth"), state)


def test_a_prefix_that_only_some_names_have_is_part_of_them(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert list(load_tensors(tmp_path / "w.pth")) == ["module.a", "b"]


def test_parameters_come_as_plain_tensors_without_gradient(tmp_path):
    torch.save({"a": nn.Parameter(torch.ones(2))}, tmp_path / "w.pth")
    found = load_tensors(tmp_path / "w.pth")["a"]
    assert type(found) is torch.Tensor and not found.requires_grad


@pytest.mark.skipif(os.name != "posix", reason="names are text here")
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_name_need_not_be_utf_8(tmp_path, name):
    folder, state = tmp_path / os.fsdecode(b"caf\xe9"), small().state_dict()
    folder.mkdir()
    if name == "w.pth":
        with (folder / name).open("wb") as file:
            torch.save(state, file)
    else:
        (folder / name).write_bytes(safetensors.torch.save(state))
    assert equal(dict(sorted(load_tensors(folder / name).items())), dict(sorted(state.items())))


@ARCHIVE
def test_layers_may_share_their_weights(tmp_path, archive):
    shared = torch.randn(1000)
    path = tmp_path / "w.pth"
    torch.save({"in": shared, "out": shared, "bias": torch.ones(3)}, path, _use_new_zipfile_serialization=archive)
    assert torch.equal(load_tensors(path)["in"], shared) and torch.equal(load_tensors(path)["out"], shared)


# --- refusing --------------------------------------------------------------------------------------------------------


class Trap:
    """What pickle would call a function for when it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


class Named(Trap):
    """The same by way of a function of another module."""

    def __reduce__(self):
        return (np.ndarray.tofile, (np.zeros(1), str(self.marker)))


@pytest.mark.parametrize("kind", [Trap, Named])
@pytest.mark.parametrize("place", ["whole", "entry", "beside"])
@ARCHIVE
def test_a_file_that_carries_code_is_refused_and_nothing_runs(tmp_path, kind, place, archive):
    trap, marker = kind(tmp_path / "it ran"), tmp_path / "it ran"
    content = {
        "whole": trap,
        "entry": {"a": torch.ones(2), "b": trap},
        "beside": {"state_dict": {"a": torch.ones(2)}, "hyper_parameters": trap},
    }[place]
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelFileError, match="carries code: '.*'. Nothing of it was run") as error:
        load_tensors(tmp_path / "w.pth")
    assert error.value.exit_code == 4 and "state_dict()" in error.value.cure
    assert "weights_only" not in str(error.value)  # torch's own advice would run it
    assert not marker.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)  # the trap was a real one
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_refused_and_nothing_runs(tmp_path, protocol):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Trap(tmp_path / "it ran")}, protocol))
    with pytest.raises(ModelFileError, match="[nN]othing of it was run"):
        load_tensors(tmp_path / "w.pth")
    assert not (tmp_path / "it ran").exists()


def test_a_whole_module_is_refused_by_its_class(tmp_path):
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match=r"carries code: 'torch\.nn\.modules\.container\.Sequential'"):
        load_tensors(tmp_path / "w.pt")


def test_a_torchscript_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
        with pytest.raises(ModelFileError, match="carries code: a TorchScript program"):
            load_tensors(tmp_path / "w.pt")


@ARCHIVE
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_of_torch_is_refused(tmp_path, share, archive):
    torch.save(small().state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="w.pth is broken, or no file of torch.save"):
        load_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_safetensors_file_is_refused(tmp_path, share):
    content = safetensors.torch.save(small().state_dict())
    (tmp_path / "w.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="no whole safetensors file"):
        load_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>" * 40, b"\0" * 5000, b"PK\3\4 and nonsense" * 40])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_something_else_under_the_name_is_refused(tmp_path, content, ending):
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(ModelFileError, match="broken|no whole"):
        load_tensors(tmp_path / f"w{ending}")


@ARCHIVE
def test_many_names_for_the_same_numbers_are_refused_before_they_take_memory(tmp_path, archive):
    one, path = torch.zeros(10_000, dtype=torch.float16), tmp_path / "w.pth"
    torch.save({f"n{k}": one.view(-1) for k in range(100)}, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelFileError, match="is not written out in the file"):
        load_tensors(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for entry in plain.infolist():
            kind = zipfile.ZIP_DEFLATED if entry.filename.endswith("data.pkl") else zipfile.ZIP_STORED
            packed.writestr(entry.filename, plain.read(entry.filename), kind)
    monkeypatch.setattr(torch, "load", pytest.fail)
    with pytest.raises(ModelFileError, match="is compressed"):
        load_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["F4", "C64", "F8_E8M0"])
def test_numbers_that_would_lose_something_are_refused(tmp_path, kind):
    stored = {"F4": 4, "C64": 64, "F8_E8M0": 8}[kind]
    head = json.dumps({"a": {"dtype": kind, "shape": [8], "data_offsets": [0, stored]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(stored))
    with pytest.raises(ModelFileError, match="'a' holds numbers of a kind that is not read: (float4|complex64|float8)"):
        load_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.onnx", "w.h5", "w", "w.pth.zip"])
def test_another_kind_of_file_is_refused_by_its_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelFileError, match="no kind of weights file that is read") as error:
        load_tensors(tmp_path / name)
    assert ".safetensors" in error.value.cure


def test_a_file_that_is_missing_is_said_so(tmp_path):
    for path in (tmp_path / "w.pth", tmp_path):
        with pytest.raises(ModelFileError, match="is missing"):
            load_tensors(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([torch.ones(2)], "holds no tensors by name"),
        ({}, "holds no tensors by name"),
        (torch.ones(2), "holds no tensors by name"),
        ({"state_dict": {}}, "holds no tensors by name"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' is no tensor but int"),
        ({1: torch.ones(2)}, "1 is no tensor"),
        ({"a": torch.eye(3).to_sparse()}, r"'a' of shape \(3, 3\) is not written out"),
        ({"a": torch.zeros(2, device="meta")}, r"'a' of shape \(2,\) is not written out"),
        ({"a": torch.zeros(1).expand(10**12)}, r"'a' of shape \(1000000000000,\) is not written out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_of_tensors_is_refused(tmp_path, content, told):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=told):
        load_tensors(tmp_path / "w.pth")


# --- fitting ---------------------------------------------------------------------------------------------------------


def test_weights_that_fit_are_loaded_whole():
    one, other = small(), small()
    nn.init.ones_(one.head.weight)
    assert load_strict(other, one.state_dict(), HERE) == []
    assert equal(one.state_dict(), other.state_dict())


def test_the_first_tensor_that_differs_is_named():
    network, before = small(), {k: v.clone() for k, v in small().state_dict().items()}
    state = dict(before)
    del state["features.0.bias"], state["head.bias"]
    with pytest.raises(ModelFileError, match=r"file\.pth: the tensor 'features\.0\.bias' is missing"):
        load_strict(network, state, HERE)
    wrong = {**before, "features.0.weight": torch.zeros(4, 1, 3, 3), "features.0.bias": torch.zeros(9)}
    with pytest.raises(
        ModelFileError, match=r"'features\.0\.weight' is \(4, 1, 3, 3\), the network's is \(4, 3, 3, 3\)"
    ):
        load_strict(network, wrong, HERE)
    with pytest.raises(ModelFileError, match="the network has no tensor 'extra'") as error:
        load_strict(network, {**before, "extra": torch.zeros(1)}, HERE)
    assert "this very model" in error.value.cure
    assert equal(network.state_dict(), before)  # nothing was loaded by halves


def test_weights_for_other_classes_say_both_numbers():
    with pytest.raises(ModelFileError, match=r"'head\.weight' is \(5, 4\), the network's is \(3, 4\)") as error:
        load_strict(small(3), small(5).state_dict(), HERE)
    assert "5 classes apart, this network 3" in error.value.cure


def test_a_replaced_last_layer_stays_as_it_was_initialised():
    network, weights = small(3), small(5).state_dict()
    head = network.head.weight.clone()
    assert load_strict(network, weights, HERE, replace_head=True) == ["head.weight", "head.bias"]
    assert torch.equal(network.head.weight, head)
    assert torch.equal(network.features[0].weight, weights["features.0.weight"])


def test_only_the_last_layer_and_only_its_number_of_outputs_may_differ():
    same = small(3)
    nn.init.ones_(same.head.bias)
    network = small(3)
    assert load_strict(network, same.state_dict(), HERE, replace_head=True) == []
    assert torch.equal(network.head.bias, torch.ones(3))
    for name, value in (
        ("head.weight", torch.zeros(5, 7)),
        ("features.0.bias", torch.zeros(5)),
        ("head.bias", torch.tensor(1.0)),
    ):
        with pytest.raises(ModelFileError, match=f"'{name}' is"):
            load_strict(small(3), {**small(3).state_dict(), name: value}, HERE, replace_head=True)


def test_counters_of_batches_may_be_missing_and_may_be_too_many():
    network = small()
    state = network.state_dict()
    counter = "features.1.num_batches_tracked"
    network.features[1].num_batches_tracked.fill_(9)
    load_strict(network, {k: v for k, v in state.items() if k != counter}, HERE)
    assert network.features[1].num_batches_tracked == 0
    load_strict(nn.Linear(4, 3), {**small().head.state_dict(), "num_batches_tracked": torch.tensor(1)}, HERE)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", ["fc"]),
        ("vgg16", ["classifier.6"]),
        ("squeezenet1_1", ["classifier.1"]),
        ("mobilenet_v3_small", ["classifier.3"]),
        ("inception_v3", ["fc", "AuxLogits.fc"]),
    ],
)
def test_the_last_layers_of_published_networks_give_the_answers(model, expected):
    network = build(model, 7)
    assert list(classifier_layers(network)) == expected
    assert classifier_layer(network)[0] == expected[0]
    for name, layer in classifier_layers(network).items():
        assert layer is network.get_submodule(name) and layer.weight.shape[0] == 7


@pytest.mark.parametrize("model", ["squeezenet1_1", "inception_v3"])
def test_published_networks_are_fitted_to_other_classes(model):
    weights = {name: torch.full(value.shape, 0.5) for name, value in build(model, 1000).state_dict().items()}
    network = build(model, 7)
    kept = load_strict(network, weights, HERE, replace_head=True)
    assert kept == [f"{name}.{end}" for name in reversed(classifier_layers(network)) for end in ("weight", "bias")]
    assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items() if k not in kept and v.dim())


def test_without_a_head_the_last_layer_is_the_last_with_weights():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.Softmax(1))
    assert classifier_layer(network) == ("2", network[2])
    network.head = nn.Flatten()
    assert classifier_layer(network) == ("2", network[2])
    with pytest.raises(OptionError, match="ReLU has no layer with weights"):
        classifier_layer(nn.ReLU())


# --- building without drawing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "inception_v3", "vgg11"])
def test_a_network_built_without_drawing_is_the_same_once_its_weights_are_loaded(model):
    state = torch.get_rng_state()
    undrawn = build(model, 5)
    assert torch.equal(torch.get_rng_state(), state)  # no number was drawn
    drawn = registry.find_model(model)(in_channels=3, num_classes=5)
    load_strict(undrawn, drawn.state_dict(), HERE)
    x_BCHW = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(undrawn.eval()(x_BCHW), drawn.eval()(x_BCHW))


def test_the_half_precision_file_fits_its_model(real_data):
    path = real_data / "weights" / "squeezenet1_1-fp16.safetensors"
    tensors = load_tensors(path)
    assert all(value.dtype == torch.float32 for value in tensors.values())
    network = build("squeezenet1_1", 1000)
    assert load_strict(network, tensors, path) == []
    assert equal(network.state_dict(), {name: tensors[name] for name in network.state_dict()})
