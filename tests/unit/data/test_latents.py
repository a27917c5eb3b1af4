"""Readers of attributes, tables of attributes, and latents as a data set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from thalweg.data.latents.attribute_table import fit_features, read_attribute_table
from thalweg.errors import DataError, OptionError
from thalweg.models.edit.readers import AttributeReader, ClassifierReader, JoinedReader, MeasureReader
from thalweg.tasks.edit_support import draw_dataset, make_toy_dataset


def make_spec(classes: list[str]) -> SimpleNamespace:
    return SimpleNamespace(classes=classes, channels=1, size=[4, 4], mean=[0.5], std=[0.25])


def make_classifier(num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))


def test_a_classifier_reads_log_odds_of_normalized_images():
    model = make_classifier(3)
    reader = ClassifierReader(model, make_spec(["a", "b", "c"]), 1)
    image_BCHW = torch.rand(5, 1, 4, 4) * 2 - 1
    prob_BA = model(((image_BCHW + 1) / 2 - 0.5) / 0.25).softmax(1)
    odds_BA = (prob_BA / (1 - prob_BA)).log()
    torch.testing.assert_close(reader(image_BCHW), odds_BA, atol=0.01, rtol=0.01)
    assert reader(torch.rand(2, 1, 9, 9)).shape == (2, 3)  # other sizes are resized


def test_of_two_classes_the_second_is_the_attribute():
    assert ClassifierReader(make_classifier(2), make_spec(["neutral", "smiling"]), 1).names == ("smiling",)


def test_what_does_not_fit_the_images_is_refused():
    with pytest.raises(OptionError) as error:
        ClassifierReader(make_classifier(2), make_spec(["a", "b"]), 3)
    assert (error.value.option, error.value.value, error.value.allowed) == ("classifier", 1, [3])
    with pytest.raises(OptionError) as error:
        MeasureReader(["slant"], 3)
    assert (error.value.option, error.value.value) == ("measure", 3)
    with pytest.raises(OptionError) as error:
        MeasureReader(["sland"], 1)
    assert error.value.value == "sland" and "slant" in (error.value.allowed or [])
    with pytest.raises(OptionError) as error:
        JoinedReader([MeasureReader(["slant"], 1), MeasureReader(["slant", "width"], 1)])
    assert error.value.value == "slant"
    assert MeasureReader(["brightness"], 3)(torch.ones(2, 3, 4, 4)).tolist() == [[1.0], [1.0]]


def test_a_constant_attribute_is_refused_with_the_others():
    source = make_toy_dataset().source

    class Constant(AttributeReader):
        names = ("brightness", "constant")

        def forward(self, image_BCHW):
            return torch.stack([image_BCHW.mean((1, 2, 3)), torch.full((len(image_BCHW),), 3.0)], 1)

    reader = Constant()
    with pytest.raises(DataError) as error:
        draw_dataset(source, reader, {"train": 20, "val": 5, "test": 5}, 0)
    assert (error.value.value, error.value.allowed) == ("constant", ["brightness"])


def test_splits_are_drawn_apart_and_by_seed():
    first = make_toy_dataset()
    again = make_toy_dataset()
    assert first.fingerprint == again.fingerprint and (first.test.style_NW == again.test.style_NW).all()
    assert not np.isin(first.test.style_NW[:, 0], first.train.style_NW[:, 0]).any()
    other = draw_dataset(first.source, first.train.reader, {"train": 20, "val": 5, "test": 5}, 9)
    assert other.fingerprint != first.fingerprint and (other.test.style_NW != first.test.style_NW[:5]).all()


def test_regression_from_features_recovers_linear_attributes_and_says_how_well():
    rng = np.random.default_rng(0)
    feature_ND = rng.normal(size=(300, 8))
    weight_AD = rng.normal(size=(2, 8))
    value_NA = feature_ND @ weight_AD.T + 3
    value_NA[:, 1] = rng.normal(size=300)
    fit = fit_features(feature_ND, value_NA)
    np.testing.assert_allclose(fit.weight_AD[0], weight_AD[0], rtol=0.2, atol=0.05)
    assert fit.r2_A[0] > 0.98 and fit.r2_A[1] < 0.2


def write_table(folder: Path, *rows: str) -> Path:
    path = folder / "table.csv"
    filler = [f"{index}.png,{index},x" for index in range(30)]
    path.write_text("\n".join(["file,light,note", *rows, *filler]), encoding="utf-8")
    return path


def test_a_table_is_read_and_words_are_no_attribute(tmp_path):
    table = read_attribute_table(write_table(tmp_path), tmp_path / "images")
    assert table.names == ("light",) and table.value_NA[:3, 0].tolist() == [0, 1, 2]
    assert table.files[1] == tmp_path / "images" / "1.png"


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("a.png,bright,x", "bright"),
        ("a.png,nan,x", "nan"),
        ("a.png,1", 2),
        ('a.png,1,"x"y', None),
        (f"a.png,1,{'x' * 140_000}", None),  # longer than the csv module reads
    ],
)
def test_a_bad_row_of_a_table_is_named_with_its_line(row, value, tmp_path):
    with pytest.raises(DataError) as error:
        read_attribute_table(write_table(tmp_path, row), tmp_path)
    assert (error.value.line, error.value.value) == (2, value)


def test_missing_files_and_short_tables_are_refused(tmp_path):
    table = read_attribute_table(write_table(tmp_path), tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(DataError) as error:
        table.load_images(1, (8, 8))
    assert (error.value.line, error.value.value) == (3, str(tmp_path / "1.png"))
    path = tmp_path / "short.csv"
    path.write_text("file,a\n1.png,1\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_attribute_table(path, tmp_path)
    assert (error.value.value, error.value.path) == (1, path)
    with pytest.raises(DataError) as error:
        read_attribute_table(tmp_path / "no.csv", tmp_path)
    assert error.value.value == str(tmp_path / "no.csv")
