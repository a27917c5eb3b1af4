"""Predictions of a classifier, and sources that cannot be read, in every form in which they are shown."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from thalweg.inference.predict import PredictionStream
from thalweg.predictions.base import Prediction, UnreadableSource
from thalweg.predictions.label import LabelPrediction

INPUT_HWC = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
FEW = LabelPrediction("a.png", ("cat", "dog", "owl"), np.float32([0.2, 0.5, 0.3]), INPUT_HWC)
MANY = LabelPrediction("b.png", tuple(map(str, range(12))), np.arange(1, 13) / 78, INPUT_HWC[..., :1])
UNREADABLE = UnreadableSource("c.png", "is cut off")


def with_top_k(prediction: LabelPrediction, top_k: int) -> LabelPrediction:
    return LabelPrediction(prediction.source, prediction.classes, prediction.probabilities, prediction.input_HWC, top_k)


def test_the_label_is_the_most_probable_class():
    assert FEW.label == "dog" and MANY.label == "11"
    assert [label for label, _ in FEW.top(2)] == ["dog", "owl"]
    assert all(type(probability) is float for _, probability in FEW.top())
    assert FEW and isinstance(FEW, Prediction)


def test_equal_probabilities_keep_the_order_of_the_classes():
    even = LabelPrediction("x", ("b", "a"), np.array([0.5, 0.5]), INPUT_HWC)
    assert [label for label, _ in even.top()] == ["b", "a"] and even.label == "b"


@pytest.mark.parametrize(
    ("prediction", "count"),
    [(FEW, 3), (MANY, 5), (with_top_k(MANY, 7), 7), (with_top_k(FEW, 2), 2), (with_top_k(FEW, 9), 3)],
)
def test_all_of_few_classes_are_listed_else_five_or_top_k(prediction, count):
    assert prediction.num_listed == count
    lines = prediction.brief()
    assert len(lines) == count and lines[0].endswith(prediction.label)
    assert prediction.colored(True) == prediction.colored(False) == lines


def test_rows_have_a_column_per_class_or_per_rank():
    (row,) = FEW.rows()
    assert list(row) == ["source", "label", "cat", "dog", "owl"] and row["owl"] == pytest.approx(0.3)
    (row,) = with_top_k(FEW, 1).rows()
    assert list(row) == ["source", "label", "label_1", "probability_1"]
    (row,) = MANY.rows()
    assert len(row) == 2 + 2 * 5 and row["label_5"] == "7"


def test_a_class_that_is_named_as_a_column_keeps_its_own_column():
    (row,) = LabelPrediction("x", ("label", "source"), np.array([0.25, 0.75]), INPUT_HWC).rows()
    assert row == {"source": "x", "label": "source", "class label": 0.25, "class source": 0.75}


def test_json_has_the_best_classes():
    result = json.loads(json.dumps(MANY.json()))
    assert result["source"] == "b.png" and result["label"] == "11"
    assert [item["label"] for item in result["top"]] == ["11", "10", "9", "8", "7"]
    assert len(with_top_k(MANY, 12).json()["top"]) == 12 and len(with_top_k(FEW, 2).json()["top"]) == 2


def test_files_are_the_drawing_and_the_exact_input():
    for prediction in (FEW, MANY):
        files = prediction.files()
        assert set(files) == {".png", "-input.png"}
        with Image.open(io.BytesIO(files["-input.png"])) as image:
            np.testing.assert_array_equal(np.atleast_3d(np.asarray(image)), prediction.input_HWC)
        assert min(prediction.draw().size) > 50


def test_a_notebook_shows_the_drawing_and_a_short_text():
    assert FEW._repr_png_().startswith(b"\x89PNG")
    assert "a.png" in repr(FEW) and "dog" in repr(FEW) and len(repr(FEW)) < 60


def test_an_unreadable_source_is_false_and_survives_every_loop():
    assert not UNREADABLE and UNREADABLE.label is None and UNREADABLE.top(3) == []
    assert UNREADABLE.json() == {"source": "c.png", "error": "is cut off"}
    labels = [(prediction.label, prediction.top(3)) for prediction in (FEW, UNREADABLE)]  # as README does
    assert labels[1] == (None, [])


def test_a_stream_of_predictions_is_an_iterator_and_a_sequence():
    read = []

    def predict():
        for prediction in (FEW, UNREADABLE, MANY):
            read.append(prediction.source)
            yield prediction

    stream = PredictionStream(predict())
    assert next(stream) is FEW and read == ["a.png"], "nothing is read before it is needed"
    assert stream[1] is UNREADABLE and stream[-1] is MANY and len(stream) == 3
    assert stream[:2] == [FEW, UNREADABLE]
    assert list(stream) == list(stream) == [FEW, UNREADABLE, MANY]
    with pytest.raises(IndexError):
        stream[3]
    with pytest.raises(StopIteration):
        next(stream)


def test_two_loops_over_one_stream_see_every_prediction():
    stream = PredictionStream(iter([FEW, MANY]))
    first = iter(stream)
    assert next(first) is FEW
    assert list(stream) == [FEW, MANY]
    assert list(first) == [MANY]


def test_a_drained_stream_keeps_nothing():
    stream = PredictionStream(iter([FEW, UNREADABLE, MANY]))
    assert next(stream) is FEW
    assert list(stream.drain()) == [UNREADABLE, MANY]
    assert list(stream) == [FEW]
