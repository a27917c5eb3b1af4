"""Networks that can be asked: whichever they are, on which data, about how many pictures, and what they looked at."""

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
from thalweg.data.images.dataset import ImageDataset, Split
from thalweg.data.images.load import load_dataset
from thalweg.data.images.synthetic import make_bars
from thalweg.errors import DataError, ModelFileError, NotFoundError, OptionError, ResourceError
from thalweg.inference import model as trained
from thalweg.layers import fuse as inference

BARS = make_bars(count=192)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THALWEG_OFFLINE", "1")
    monkeypatch.delenv("THALWEG_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> trained.Run:
    """A small LeNet that knows bars rather well."""
    settings = {"model": "lenet", "arguments": {"filters": [6, 12], "hidden": 32}, "epochs": 20, "batch": 16}
    return api.train("classify", BARS, out=tmp_path_factory.mktemp("runs") / "bars", report=False, **settings)


def only(names: list[str], data: ImageDataset = BARS) -> ImageDataset:
    """The pictures of some classes, with labels in the order of `names`."""
    label = {data.classes.index(name): number for number, name in enumerate(names)}
    splits = {}
    for part, split in data.splits.items():
        taken = split.take(np.flatnonzero(np.isin(split.labels, list(label))))
        splits[part] = replace(taken, labels=np.array([label[k] for k in taken.labels.tolist()], np.int64))
    return replace(data, classes=tuple(names), **splits)


def answers(network, images: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) by the shortest way."""
    found = network.task.infer(network.model, {"image": torch.from_numpy(images)}, network.facts)
    return found.numpy()


# --- which -----------------------------------------------------------------------------------------------------------


def test_runs_and_what_comes_along_are_found_and_nothing_else_is(run, tmp_path):
    assert isinstance(api.load(run.path), trained.Run) and api.load("digits-lenet").content["model"] == "lenet"
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match="is not a run"):
        api.load(tmp_path / "folder")
    with pytest.raises(NotFoundError, match="no run or network named 'resnet5'") as error:
        api.load("resnet5")
    assert "'resnet50'" in error.value.cure
    with pytest.raises(NotFoundError, match="no weights 'imagenet' for lenet"):
        api.load("lenet")
    with pytest.raises(NotFoundError, match="no model named"):
        api.load(run.path, weights=str(run.path))


def test_a_folder_of_the_name_of_a_model_hides_it_only_if_it_is_a_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    with pytest.raises(ResourceError, match="resnet18 are not on this machine"):
        api.load("resnet18")
    shutil.copytree(run.path, tmp_path / "resnet34")
    assert isinstance(api.load("resnet34"), trained.Run)


def test_a_weights_file_is_no_run_but_may_become_one(tmp_path):
    (tmp_path / "w.pth").touch()
    with pytest.raises(ModelFileError, match="is a file") as error:
        api.load(tmp_path / "w.pth")
    assert error.value.cure.endswith(f"MODEL --weights {tmp_path / 'w.pth'}")


@pytest.mark.parametrize("verb", ["predict", "explain", "evaluate", "export"])
@pytest.mark.parametrize("name", ["", "x" * 5000], ids=["empty", "too long"])
def test_names_that_can_be_no_names_are_usage(verb, name, seven, capsys):
    picture = [str(seven)] if verb in ("predict", "explain") else []
    assert cli.invoke([verb, name, *picture]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and not shown.out


def test_a_name_that_is_too_long_is_no_picture_no_weights_and_no_data(seven, capsys):
    long = "x" * 5000
    assert cli.invoke(["predict", "digits-lenet", long, str(seven), "--json"]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert cli.invoke(["explain", "digits-lenet", long]) == 3
    assert cli.invoke(["predict", "lenet", str(seven), "--weights", long]) == 2
    assert cli.invoke(["evaluate", "digits-lenet", long]) == 2


def test_who_may_not_use_the_network_may_not_for_data_either(seven, monkeypatch):
    monkeypatch.delenv("THALWEG_OFFLINE")
    network = api.load("digits-lenet", offline=True)
    with pytest.raises(ResourceError, match="mnist"):
        network.evaluate("mnist")
    with pytest.raises(ResourceError, match=r"a\.png: It was not fetched"):
        network.explain("http://127.0.0.1/a.png")


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_network_whose_weights_are_no_numbers_gives_no_label(seven, tmp_path, capsys, verb):
    state = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=28).state_dict()
    state["head.bias"][1] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    save = ["--save", str(tmp_path / "out")]
    assert cli.invoke([verb, "lenet", str(seven), "--weights", str(tmp_path / "w.safetensors"), *save]) == 6
    shown = capsys.readouterr()
    assert "seven.png: the network's answer is not a number" in shown.err
    assert not shown.out and not (tmp_path / "out").exists()


def test_a_model_with_the_weights_of_a_run_answers_as_the_run(run):
    again = api.load("lenet", weights=str(run.path))
    assert list(again.facts["classes"]) == list(BARS.classes) and again.facts["mean"] == run.facts["mean"]
    assert np.array_equal(answers(again, BARS.test.images), answers(run, BARS.test.images))
    assert again.evaluate(BARS)["metrics"] == run.evaluate(BARS)["metrics"]


def test_a_model_with_the_weights_of_a_file_has_numbered_classes_and_says_what_it_assumes(tmp_path, capsys):
    network = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=28)
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    found = api.load("lenet", weights=str(file))
    told = capsys.readouterr().err
    assert "w.safetensors says nothing of the form of pictures: 28 x 28" in told
    assert found.facts["classes"] == ["class 0", "class 1", "class 2"] and found.facts["channels"] == 1
    picture = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    (answer,) = found.predict(picture)
    x_1CHW = torch.from_numpy(picture).float()[None, None] / 127.5 - 1
    with torch.no_grad():
        expected = network.eval()(x_1CHW).softmax(1)[0]
    torch.testing.assert_close(torch.from_numpy(answer.probabilities), expected)


def test_a_file_of_another_network_is_refused_when_it_is_asked(tmp_path):
    state = registry.find_model("lenet")(in_channels=1, num_classes=3, image_size=16).state_dict()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match="'features.7.weight' is"):
        list(api.load("lenet", weights=str(tmp_path / "w.safetensors")).predict(np.zeros((28, 28), np.uint8)))


# --- on which data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["lying", "rising"], ["rising", "standing", "lying"], ["rising", "falling"]], ids=str
)
def test_data_with_some_of_the_classes_is_scored_by_their_names(run, names):
    data = only(names)
    found = run.evaluate(data)["metrics"]
    label = np.array([BARS.classes.index(name) for name in names])[data.test.labels]
    right = answers(run, data.test.images).argmax(1) == label
    assert found["examples"] == len(label) and found["accuracy"] == pytest.approx(right.mean())
    assert found["accuracy"] > 0.5 > 1 / len(BARS.classes), "chance among all classes would be less"
    assert run.read(data).classes == BARS.classes


def test_classes_in_another_order_are_the_same_classes(run):
    shuffled = only(["rising", "falling", "standing", "lying"])
    assert run.evaluate(shuffled)["metrics"]["accuracy"] == run.evaluate(BARS)["metrics"]["accuracy"]


def test_data_that_the_network_cannot_be_asked_about_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="has the classes .*, zigzag; bars knows lying, standing") as error:
        run.evaluate(replace(BARS, classes=("lying", "standing", "falling", "zigzag")))
    assert "among these" in error.value.cure
    with pytest.raises(DataError, match=r"pictures of \[20, 20, 1\].*reads \[16, 16, 1\]"):
        run.evaluate(make_bars(count=24, size=20))
    with pytest.raises(DataError, match="in memory"):
        run.evaluate()
    with pytest.raises(OptionError, match="--split most"):
        run.evaluate(BARS, split="most")
    with pytest.raises(DataError, match="no examples in its valid set"):
        run.evaluate(replace(BARS, valid=BARS.valid.take(np.arange(0))), split="valid")
    with pytest.raises(DataError, match="came without data"):
        api.load("lenet", weights=str(run.path)).evaluate()


def test_a_named_set_can_be_cut_down_to_classes_and_evaluated_by_the_whole_network(capsys):
    data = load_dataset("digits:7,3")
    whole = load_dataset("digits")
    assert data.classes == ("7", "3") and data.name == "digits:7,3"
    for split in data.splits.values():
        assert set(split.labels.tolist()) == {0, 1}
    pictures = {}
    for split in whole.splits.values():
        pictures |= {i.tobytes(): whole.classes[k] for i, k in zip(split.images, split.labels, strict=True)}
    for split in data.splits.values():
        assert all(pictures[i.tobytes()] == data.classes[k] for i, k in zip(split.images, split.labels, strict=True))
    network = api.load("digits-lenet")
    seen = load_dataset("digits:7,3", size=28).whole  # nothing of it was trained on, and it has no test set of its own
    label = np.array([7, 3])[seen.labels]
    expected = (answers(network, seen.images).argmax(1) == label).mean()
    assert cli.invoke(["evaluate", "digits-lenet", "digits:7,3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["accuracy"] == pytest.approx(expected) and found["examples"] == len(label)


@pytest.mark.parametrize(
    ("source", "told", "cure"),
    [
        ("fashion-mnist:Sneakers,Bag", "no class 'Sneakers'", "'Sneaker'"),
        ("fashion-mnist:Bag,Bag", "'Bag' of here is named twice", "Name it once"),
        ("fashion-mnist:Bag,", "no class ''", ""),
        ("fashion-mnist:Bag", "only one class", ""),
    ],
)
def test_classes_that_a_named_set_does_not_have_are_refused(source, told, cure, monkeypatch, capsys):
    from thalweg.data.images import named_datasets as named
    from thalweg.data.images.catalog import NAMED_DATASETS
    from thalweg.data.images.raw_dataset import RawDataset

    classes = NAMED_DATASETS["fashion-mnist"].classes
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    split = Split(images, np.arange(60) % 10, [str(n) for n in range(60)])
    monkeypatch.setattr(named, "read_named", lambda *_: RawDataset("clothes", "here", classes, {"train": split}))
    chosen = load_dataset("fashion-mnist:Sneaker,Bag")
    assert chosen.classes == ("Sneaker", "Bag") and sum(map(len, chosen.splits.values())) == 12
    assert cli.invoke(["data", "check", source]) == 3
    shown = capsys.readouterr().err
    assert told in shown and cure in shown


# --- how many pictures -----------------------------------------------------------------------------------------------


@pytest.fixture
def hastened(monkeypatch) -> list[tuple]:
    """The shapes for which networks were made quick."""
    shapes = []
    honest = inference.optimize_for_inference

    def faster(network, shape):
        shapes.append(shape)
        made = honest(network, shape)
        assert made is not network
        return made

    monkeypatch.setattr(inference, "optimize_for_inference", faster)
    return shapes


def written(folder: Path, count: int) -> list[Path]:
    """So many pictures of bars as files, which sort in another order than theirs."""
    folder.mkdir()
    paths = [folder / f"{(11 * n) % count:03}.png" for n in range(count)]
    for path, image in zip(paths, np.resize(BARS.test.images, (count, 16, 16)), strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_one_unreadable_among_a_hundred_is_named_in_its_place(run, tmp_path, hastened, capsys):
    paths = written(tmp_path / "pictures", 100)
    paths[41].write_bytes(paths[41].read_bytes()[:60])
    found = list(run.predict(paths, batch=16))
    assert hastened == [(16, 1, 16, 16)]
    assert [one.source for one in found] == list(map(str, paths))
    assert isinstance(found[41], api.UnreadableImage) and found[41].reason
    read_ones = [row for row in range(100) if row != 41]
    one_by_one = [next(iter(run.predict([paths[row]]))) for row in read_ones]
    for row, one in zip(read_ones, one_by_one, strict=True):
        np.testing.assert_allclose(found[row].probabilities, one.probabilities, atol=1e-5)
    assert len(hastened) == 1, "a single picture is not worth it"
    assert cli.invoke(["predict", str(run.path), *map(str, paths), "--json"]) == 3
    shown = capsys.readouterr()
    sources = [json.loads(line)["source"] for line in shown.out.splitlines()]
    assert sources == [str(paths[row]) for row in read_ones] and str(paths[41]) in shown.err


@pytest.mark.parametrize(("count", "quick"), [(trained.FUSE_FROM - 1, 0), (trained.FUSE_FROM, 1)])
def test_a_network_is_made_quick_for_many_pictures_only(run, tmp_path, hastened, count, quick):
    written(tmp_path / "pictures", count)
    assert len(list(run.predict(tmp_path / "pictures"))) == count and len(hastened) == quick


def test_what_can_be_gone_through_only_once_is_answered_whole(run, hastened):
    images = list(np.resize(BARS.test.images, (70, 16, 16)))
    found = list(run.predict(image for image in images))
    assert len(found) == 70 and hastened == []
    for one, other in zip(found, run.predict(images), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert len(hastened) == 1


# --- what it looked at -----------------------------------------------------------------------------------------------


@pytest.fixture
def seven(tmp_path) -> Path:
    """A seven, drawn in black on white."""
    page = Image.new("L", (90, 120), 255)
    ImageDraw.Draw(page).line([(20, 20), (70, 20), (38, 100)], fill=0, width=9)
    page.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_a_drawn_digit_is_explained(seven, tmp_path, capsys):
    assert cli.invoke(["explain", "digits-lenet", str(seven), "--json", "--save", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out, parse_constant=pytest.fail)
    assert told["label"] == "7" and told["top"][0]["label"] == "7" and told["probability"] > 0.5
    assert set(told["methods"]) | set(told["notes"]) == set(METHODS)
    assert sorted(Path(p).name for p in told["pictures"]) == ["feature-maps.png", "filters.png", "looked-at.png"]
    for path in told["pictures"]:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 50
    assert "Traceback" not in shown.err


def test_what_is_explained_is_the_answer_that_is_predicted(tmp_path):
    """cifar10-fast averages its answers over views of a picture."""
    run, random = trained.load("cifar10-fast"), np.random.default_rng(0)
    for image in random.integers(0, 256, (6, 40, 50, 3), np.uint8):
        (answer,) = run.predict(image)
        found = run.explain(image, methods=["occlusion"])
        assert (found.label, found.probability) == (answer.label, pytest.approx(answer.top(1)[0][1], abs=1e-5))
        assert [label for label, _ in found.answers] == [label for label, _ in answer.top(5)]


def test_a_picture_to_explain_comes_from_wherever_one_to_predict_does(seven, tmp_path, monkeypatch, capsys):
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
        shown = capsys.readouterr()
        assert "two/a.png, two/b.png" in shown.err and "Give one picture." in shown.err


def test_another_class_and_some_methods_can_be_asked_about(seven, tmp_path, capsys):
    words = ["explain", "digits-lenet", str(seven), "--class", "1", "--methods", "grad-cam, occlusion"]
    assert cli.invoke([*words, "--save", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["label"] == "1" and set(told["methods"]) == {"grad-cam", "occlusion"}
    assert told["top"][0]["label"] == "7", "the answer stays what it is"
    assert cli.invoke([*words, "--save", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[1] == "7" and lines[-1] == str(tmp_path / "out" / "looked-at.png")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--class", "seven"], 2, "no class named 'seven'"),
        (["--methods", "grad-cam,gradcam"], 2, "no method named 'gradcam'"),
        (["--methods", " ,"], 2, "grad-cam"),
        (["--methods", ""], 2, "grad-cam"),
        (["--save", "{seven}/out"], 5, "out"),
        (["--weights", "imagenet"], 2, "digits-lenet"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_explained_ends_with_its_code(seven, tmp_path, capsys, words, code, told):
    words = [word.format(seven=seven) for word in words]
    save = [] if "--save" in words else ["--save", str(tmp_path / "out")]
    assert cli.invoke(["explain", "digits-lenet", str(seven), *words, *save]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    if code:
        assert told in shown.err and not shown.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "text", "blank", "empty folder"])
def test_what_is_no_picture_ends_with_3_and_is_named(seven, tmp_path, capsys, kind):
    path = tmp_path / "other.png"
    if kind == "blank":
        Image.new("L", (50, 50), 255).save(path)
    elif kind == "empty folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "cut": seven.read_bytes()[:80], "text": b"seven"}[kind])
    assert cli.invoke(["explain", "digits-lenet", str(path), "--save", str(tmp_path / "out")]) == 3
    shown = capsys.readouterr()
    assert "other.png" in shown.err and "Traceback" not in shown.err and not shown.out
    assert not (tmp_path / "out").exists()


def test_other_data_without_a_test_set_is_asked_about_as_a_whole(tmp_path, capsys):
    """Three pictures could not be divided, and nothing is to be trained on them."""
    for number, label in enumerate("731"):
        folder = tmp_path / "three" / label
        folder.mkdir(parents=True)
        page = Image.new("L", (28, 28), 255)
        ImageDraw.Draw(page).line([(10, 5), (14 + number, 22)], fill=0, width=2)
        page.save(folder / "a.png")
    assert cli.invoke(["evaluate", "digits-lenet", str(tmp_path / "three"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == "all" and found["metrics"]["examples"] == 3
    assert cli.invoke(["evaluate", "digits-lenet", str(tmp_path / "three"), "--split", "test"]) == 3
    assert "no examples in its test set" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_drawings_are_evaluated_as_they_are_predicted(seven, tmp_path, capsys, mode):
    """In MNIST's form, whatever their colour; what is left out of them is named."""
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
    shown = capsys.readouterr()
    metrics = json.loads(shown.out)["metrics"]
    assert metrics["examples"] == 7 and shown.err.count("left out: ") == 5 and "--size" not in shown.err
    assert all(f"{name}.png" in shown.err for name in ("broken", "5", "6", "7", "8"))
    assert cli.invoke(["predict", "digits-lenet", str(tmp_path / "drawn"), "--json"]) == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = sum(one["label"] == Path(one["source"]).parent.name for one in told)
    assert metrics["accuracy"] == pytest.approx(right / 7) and right >= 5


def test_pictures_in_colour_are_evaluated_by_a_network_that_reads_grey_ones(run, tmp_path):
    for number, (image, label) in enumerate(zip(BARS.test.images, BARS.test.labels, strict=True)):
        folder = tmp_path / "colour" / BARS.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(image, 3, axis=2)).save(folder / f"{number}.png")
        Image.fromarray(np.concatenate([image, image, image // 2], axis=2)).save(folder / f"{number}-yellow.png")
    assert run.evaluate(tmp_path / "colour")["metrics"]["examples"] == 2 * len(BARS.test)


def test_pictures_of_an_evaluation_that_have_no_place_are_told_of_as_such(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="file") as error:
        run.evaluate(BARS, save=tmp_path / "file")
    assert "--save" in error.value.cure and "--resume" not in str(error.value) and "MB" not in str(error.value)


def test_one_method_may_be_given_by_its_name(run):
    assert list(run.explain(BARS.test.images[0], methods="occlusion").json()["methods"]) == ["occlusion"]


def test_weights_without_a_name_are_not_taken_for_those_of_imagenet(seven, capsys):
    assert cli.invoke(["predict", "resnet18", str(seven), "--weights", ""]) == 2
    assert "no weights ''" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["missing", "cut"])
def test_weights_of_a_finished_run_that_are_lost_are_not_to_be_had_from_resuming(run, tmp_path, file):
    shutil.copytree(run.path, tmp_path / "a")
    weights = tmp_path / "a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:99]) if file == "cut" else weights.unlink()
    with pytest.raises(ModelFileError, match="weights.safetensors is") as error:
        answers(trained.load(tmp_path / "a"), BARS.test.images)
    assert "--resume" not in error.value.cure
