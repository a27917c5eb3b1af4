"""Laws for the drawings of concepts at the ends of their settings: every text inside, and none over another."""

import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch

import thalweg
from tests.unit.plots.test_plots import laid_out, our_style, texts, visible_texts
from thalweg.concepts.descent.compute import DescentSettings, descent
from thalweg.concepts.loss.compute import LossSettings, loss
from thalweg.concepts.neuron.compute import NeuronSettings, neuron
from thalweg.concepts.training.compute import TrainingSettings, training

LONG = [123.456, -99.98765, 1.2345e-6, -100.0, 100.0, -33.333333, 7.0, 8.88888, -0.001, 10.5, 11.11111, 12.0]


def surely_right():
    """A batch whose losses are small numbers of many digits."""
    logits = np.eye(10)[np.arange(12) % 10] * np.linspace(5, 12, 12)[:, None]
    images, names = np.zeros((12, 8, 8, 1), np.uint8), [str(n) for n in range(12)]
    return loss(LossSettings(examples=12), images, np.arange(12) % 10, names[:10], logits, names)


def table():
    """Points far from zero, of classes and columns with long names."""
    points = np.random.default_rng(0).normal(size=(40, 2)) + np.array([1e12, 30])
    classes = [f"iris versicolor {n}" for n in range(8)]
    axes = ["time since the epoch in microseconds", "width of the leaf in millimetres"]
    labels = np.arange(40) % 8
    return training(
        TrainingSettings(epochs=1), points=points, labels=labels, classes=classes, axes=axes, told="points.csv"
    )


CASES = {
    "neuron of one": lambda: neuron(NeuronSettings([0.5], [1.5])),
    "neuron of large numbers": lambda: neuron(NeuronSettings([100, -100], [100, -100], -100, "softplus")),
    "neuron of twelve": lambda: neuron(NeuronSettings([min(x, 100) for x in LONG], [min(x, 100) for x in LONG[::-1]])),
    "neuron without a line": lambda: neuron(NeuronSettings([1, 2], [1e-3, 1e-3], 50, "tanh")),
    "loss": surely_right,
    "training": table,
    "training of many layers": lambda: training(TrainingSettings(hidden=[64] * 6, points=20, epochs=1)),
    "descent that leaves": lambda: descent(DescentSettings(formula="-x^2-y^2")),
    "descent of small rates": lambda: descent(
        DescentSettings(surface="rosenbrock", steps=2000, optimizers=["momentum"])
    ),
}


def laid(frame):
    """The figure of a frame, laid out, and what knows where things are in it."""
    canvas = FigureCanvasAgg(laid_out(frame.plot, *frame.args))
    with our_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas.draw()
    return canvas.figure, canvas.get_renderer()


@pytest.mark.parametrize("name", CASES)
def test_no_text_is_over_another_or_cut_off(name):
    result = CASES[name]()
    for frame in (result.frames[0], result.frames[len(result.frames) // 2], result.frames[-2], result.frames[-1]):
        figure, renderer = laid(frame)
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
        for n, (text, one) in enumerate(boxes):
            assert one.x0 >= 0 and one.y0 >= 0 and one.x1 <= figure.bbox.x1 and one.y1 <= figure.bbox.y1, text
            inner = one.padded(-2)
            assert not [other for other, box in boxes[n + 1 :] if inner.overlaps(box)], (frame.caption, text)


@pytest.mark.parametrize("layers", [[2, 2, 2, 2], [3, 5, 4, 2]])
def test_weights_of_deep_networks_do_not_reach_into_units(layers):
    shown = thalweg.explain(
        "backprop", layers=layers, inputs=[1] * layers[0], targets=[0] * 2, weights="random", biases="random", steps=2
    )
    for frame in shown.result.frames[-4:-1]:
        figure, renderer = laid(frame)
        units = [box.get_window_extent(renderer) for box in figure.findobj(FancyBboxPatch)]
        edges = [text for text in visible_texts(figure) if text.get_text().startswith(("w", "was", "∂w", "∂E/∂w"))]
        edges = [text for text in edges if text.get_horizontalalignment() == "right"]
        assert len(edges) >= 12
        for text in edges:
            inner = text.get_window_extent(renderer).padded(-1)
            assert not any(inner.overlaps(unit) for unit in units), (frame.caption, text.get_text())


def test_a_surface_that_is_the_same_everywhere_has_one_number_and_no_line():
    frame = neuron(NeuronSettings([1, 2], [1e-3, 1e-3], 50, "tanh")).frames[-1]
    told = texts(frame.plot, *frame.args)
    assert any("the sum is 0 only farther out" in text for text in told)
    figure, _ = laid(frame)
    assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == ["1"]


def test_losses_that_only_rise_are_seen_to_rise():
    frame = descent(DescentSettings(optimizers=["sgd"], lr=0.09, steps=20)).frames[-1]
    figure, _ = laid(frame)
    low, high = figure.axes[1].get_ylim()
    (losses,) = (line.get_ydata() for line in figure.axes[1].lines if len(line.get_ydata()) > 1)
    assert low < losses[0] < high and max(losses) > 1.5 * losses[0]
