"""Laws for concept plots at the limits of their settings: every text is inside the figure, and none covers another."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch

import thalweg
from tests.helpers.figures import layout_figure, use_plot_style, visible_texts
from thalweg.concepts.convolution.compute import ConvolutionSettings, convolution
from thalweg.concepts.descent.compute import DescentSettings, descent
from thalweg.concepts.loss.compute import LossSettings, loss
from thalweg.concepts.neuron.compute import NeuronSettings, neuron
from thalweg.concepts.pooling.compute import PoolingSettings, pooling
from thalweg.concepts.training.compute import TrainingSettings, training

LONG_NUMBERS = [123.456, -99.98765, 1.2345e-6, -100.0, 100.0, -33.333333, 7.0, 8.88888, -0.001, 10.5, 11.11111, 12.0]
CLIPPED_NUMBERS = [min(value, 100) for value in LONG_NUMBERS]
SMALL_WEIGHTS = NeuronSettings([1, 2], [1e-3, 1e-3], 50, "tanh")
COLOR_IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def explain_confident_loss():
    """Return the loss of a batch of confident predictions: small numbers with many digits."""
    return loss(
        LossSettings(examples=12),
        images=np.zeros((12, 8, 8, 1), np.uint8),
        labels=np.arange(12) % 10,
        classes=[str(digit) for digit in range(10)],
        logits=np.eye(10)[np.arange(12) % 10] * np.linspace(5, 12, 12)[:, None],
        sources=[str(number) for number in range(12)],
    )


def explain_large_coordinates():
    """Return training on points far from zero, with long names of classes and columns."""
    return training(
        TrainingSettings(epochs=1),
        points=np.random.default_rng(0).normal(size=(40, 2)) + np.array([1e12, 30]),
        labels=np.arange(40) % 8,
        classes=[f"iris versicolor {number}" for number in range(8)],
        axes=["time since the epoch in microseconds", "width of the leaf in millimeters"],
        title="points.csv",
    )


def explain_grouped_sobel():
    """Return a convolution with two kernels and two groups: the longest lines of sums."""
    settings = ConvolutionSettings(kernel="sobel", channels="color+gray", groups=2, padding=2, layers=8)
    return convolution(settings, COLOR_IMAGE, "a long name of an image " * 9)


CASES = {
    "neuron with one input": lambda: neuron(NeuronSettings([0.5], [1.5])),
    "neuron with large numbers": lambda: neuron(NeuronSettings([100, -100], [100, -100], -100, "softplus")),
    "neuron with twelve inputs": lambda: neuron(NeuronSettings(CLIPPED_NUMBERS, CLIPPED_NUMBERS[::-1])),
    "neuron without a visible boundary": lambda: neuron(SMALL_WEIGHTS),
    "loss of confident predictions": explain_confident_loss,
    "training on large coordinates": explain_large_coordinates,
    "training of many layers": lambda: training(TrainingSettings(hidden=[64] * 6, points=20, epochs=1)),
    "descent that diverges": lambda: descent(DescentSettings(formula="-x^2-y^2")),
    "descent of many steps": lambda: descent(
        DescentSettings(surface="rosenbrock", steps=2000, optimizers=["momentum"])
    ),
    "convolution with two kernels": explain_grouped_sobel,
    "pooling of large windows": lambda: pooling(PoolingSettings(window=8, stride=3, padding=4), COLOR_IMAGE, "noise"),
}


def render(frame):
    """Return the rendered figure of a frame and its renderer."""
    canvas = FigureCanvasAgg(layout_figure(frame.plot, *frame.args))
    with use_plot_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas.draw()
    return canvas.figure, canvas.get_renderer()


@pytest.mark.parametrize("name", CASES)
def test_no_text_overlaps_another_or_is_cut_off(name):
    frames = CASES[name]().frames
    for frame in (frames[0], frames[len(frames) // 2], frames[-2], frames[-1]):
        figure, renderer = render(frame)
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
        for index, (text, box) in enumerate(boxes):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
            inner = box.padded(-2)
            overlapping = [other for other, other_box in boxes[index + 1 :] if inner.overlaps(other_box)]
            assert not overlapping, (frame.caption, text)


@pytest.mark.parametrize("layers", [[2, 2, 2, 2], [3, 5, 4, 2]])
def test_weights_of_deep_networks_do_not_overlap_units(layers):
    rendered = thalweg.explain(
        "backprop", layers=layers, inputs=[1] * layers[0], targets=[0] * 2, weights="random", biases="random", steps=2
    )
    for frame in rendered.result.frames[-4:-1]:
        figure, renderer = render(frame)
        unit_boxes = [patch.get_window_extent(renderer) for patch in figure.findobj(FancyBboxPatch)]
        weights = [text for text in visible_texts(figure) if text.get_text().startswith(("w", "was", "∂w", "∂E/∂w"))]
        weights = [text for text in weights if text.get_horizontalalignment() == "right"]
        assert len(weights) >= 12
        for text in weights:
            inner = text.get_window_extent(renderer).padded(-1)
            assert not any(inner.overlaps(box) for box in unit_boxes), (frame.caption, text.get_text())


def test_the_color_bar_of_a_constant_surface_has_one_tick():
    figure, _ = render(neuron(SMALL_WEIGHTS).frames[-1])
    assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == ["1"]


def test_the_loss_axis_shows_losses_that_rise():
    frame = descent(DescentSettings(optimizers=["sgd"], lr=0.09, steps=20)).frames[-1]
    figure, _ = render(frame)
    low, high = figure.axes[1].get_ylim()
    (losses,) = (line.get_ydata() for line in figure.axes[1].lines if len(line.get_ydata()) > 1)
    assert low < losses[0] < high
    assert max(losses) > 1.5 * losses[0]
