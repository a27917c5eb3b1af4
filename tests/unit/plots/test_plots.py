"""Laws for every plot: size, nothing cut off, no overlapping texts, independent of the user's settings."""

import subprocess
import sys
import warnings
from typing import NamedTuple

import matplotlib
import numpy as np
import pytest

from tests.helpers.figures import (
    DIGITS,
    HOSTILE_NAMES,
    LONG_NAMES,
    figure_texts,
    layout_figure,
    render_figure,
    use_plot_style,
    visible_texts,
)
from thalweg.metrics.classification import MetricAccumulator
from thalweg.plots import style
from thalweg.plots.attribution import Panel, plot_attribution_panels
from thalweg.plots.class_scores import plot_calibration, plot_per_class, plot_probabilities
from thalweg.plots.confusion import plot_confusion
from thalweg.plots.curves import MetricStyle, plot_curves
from thalweg.plots.feature_maps import plot_feature_maps
from thalweg.plots.image_grid import plot_augmented_batch, plot_examples, plot_filters, plot_worst_mistakes
from thalweg.plots.text_surprise import plot_text_surprise

# test_concept_texts.py imports the helpers under these names
laid_out = layout_figure
our_style = use_plot_style
texts = figure_texts

RANDOM = np.random.default_rng(0)
ACCURACY = MetricStyle("accuracy", "Accuracy", True, "fraction")


class Layer(NamedTuple):
    name: str
    kind: str
    channels: int
    maps_NHW: np.ndarray


def history(epochs: int = 5, per_epoch: int = 30) -> list[dict]:
    rows = []
    for step in range(1, epochs * per_epoch + 1):
        epoch = step / per_epoch
        row = {"step": step, "epoch": epoch, "loss": 2 / (1 + step), "accuracy": 1 - 0.9 / (1 + step)}
        rows.append({**row, "split": "train", "lr": 0.01 * (1 - step / 151)})
        if step % per_epoch == 0:
            rows.append({**row, "split": "val", "loss": 2.5 / (1 + step)})
    return rows


def many_metrics(count: int) -> list[dict]:
    rows = history()
    for row in rows:
        row["discriminator"] = row["loss"]
        if row["split"] == "val":
            row.update({f"a metric with a long name {n}": 0.1 * n for n in range(count)})
            del row["discriminator"]
    return rows


def scores(classes: int = 10, rows: int = 400) -> MetricAccumulator:
    probabilities = RANDOM.dirichlet(np.full(classes, 0.1), rows)
    labels = RANDOM.integers(0, classes, rows)
    probabilities[: rows // 2] = 0.9 * np.eye(classes)[labels[: rows // 2]] + 0.1 / classes
    accumulator = MetricAccumulator(classes)
    accumulator.add(probabilities, labels)
    return accumulator


def images(count: int, channels: int = 1, height: int = 28, width: int = 28) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def mistakes(count: int, classes: list[str], **shape) -> tuple:
    indices = np.arange(count)
    labels = indices % len(classes)
    predictions = (indices + 1) % len(classes)
    sources = [f"a/{index}.png" for index in indices]
    return images(count, **shape), labels, predictions, RANDOM.random(count), sources, classes


def matrix(classes: int) -> np.ndarray:
    return RANDOM.integers(0, 2, (classes, classes)) + np.diag(RANDOM.integers(30, 20_000, classes))


def heat(height: int = 48, width: int = 48) -> np.ndarray:
    return np.linspace(0, 1, height * width).reshape(height, width)


def panels(count: int, height: int = 48, width: int = 48) -> list[Panel]:
    values = [heat(height, width), RANDOM.normal(size=(height, width)), images(1, 3, height, width)[0]]
    return [Panel(LONG_NAMES[n], values[n % 3], f"{LONG_NAMES[n]}, long enough for two lines") for n in range(count)]


def predictions(names: list[str]) -> list[tuple[str, float]]:
    return list(zip(names, np.linspace(1, 0, len(names)), strict=True))


def layers(count: int, side: int = 20, maps: int = 16) -> list[Layer]:
    return [Layer(HOSTILE_NAMES[n % 10], "ReLU", 64, RANDOM.normal(size=(maps, side, side))) for n in range(count)]


def photo(height: int = 48, width: int = 48, channels: int = 3) -> np.ndarray:
    return images(1, channels, height, width)[0]


ATTRIBUTION_CASES = {
    "attribution without maps": (plot_attribution_panels, photo(), [], predictions(["dog"])),
    "attribution by one map": (plot_attribution_panels, photo(), panels(1), predictions(["dog", "cat"]), "dog"),
    "attribution by three maps": (
        plot_attribution_panels,
        photo(100, 140),
        panels(3, 100, 140),
        predictions(LONG_NAMES[:5]),
        LONG_NAMES[0],
    ),
    "attribution in two rows": (
        plot_attribution_panels,
        photo(60, 40),
        panels(5, 60, 40),
        predictions(LONG_NAMES[:5]),
        "W" * 400,
    ),
    "attribution with hostile names": (
        plot_attribution_panels,
        photo(28, 28, 1),
        [Panel(name, heat(28, 28), name) for name in HOSTILE_NAMES],
        predictions(HOSTILE_NAMES),
        HOSTILE_NAMES[0],
    ),
    "feature maps": (plot_feature_maps, layers(12)),
    "feature maps of one layer": (plot_feature_maps, layers(1, 5, 3), "W" * 400),
    "wide feature maps": (plot_feature_maps, [Layer("a", "b", 1, RANDOM.normal(size=(1, 4, 9)))]),
    "no feature maps": (plot_feature_maps, []),
}
CASES = ATTRIBUTION_CASES | {
    "curves": (plot_curves, history(), [ACCURACY], "a title"),
    "curves without metric styles": (plot_curves, history()),
    "curves of four panels": (plot_curves, many_metrics(0), [ACCURACY], "a title"),
    "curves of six panels": (plot_curves, many_metrics(9), [ACCURACY, MetricStyle("loss", "W" * 90, False, "nats")]),
    "curves of one epoch": (plot_curves, history(1, 3), [ACCURACY]),
    "curves of one row": (plot_curves, [{"step": 1, "split": "val", "loss": 0.3, "accuracy": 0.4}], [ACCURACY]),
    "curves without errors": (
        plot_curves,
        [{"step": s, "split": "val", "accuracy": 1.0} for s in range(3)],
        [ACCURACY],
    ),
    "curves of no rows": (plot_curves, [], [ACCURACY], "a title"),
    "curves of the test split": (plot_curves, [{"step": 1, "split": "test", "loss": 0.3, "accuracy": 0.4}]),
    "confusion of 2": (plot_confusion, matrix(2), ["cat", "dog"], "a title"),
    "confusion of 10": (plot_confusion, matrix(10), DIGITS),
    "confusion of 20": (plot_confusion, matrix(20), LONG_NAMES[:20]),
    "confusion of 37": (plot_confusion, matrix(37), LONG_NAMES[:37]),
    "confusion of 100": (plot_confusion, matrix(100), LONG_NAMES),
    "confusion without examples": (plot_confusion, np.zeros((3, 3), int), ["a", "b", "c"]),
    "confusion with hostile names": (plot_confusion, matrix(10), HOSTILE_NAMES),
    "examples": (plot_examples, images(20, 3), LONG_NAMES[:20], "a title"),
    "no examples": (plot_examples, images(0)),
    "batch": (plot_augmented_batch, RANDOM.normal(size=(70, 1, 28, 28)), list("0123456789") * 7),
    "batch of wide images": (plot_augmented_batch, RANDOM.normal(size=(3, 3, 80, 200)), HOSTILE_NAMES[:3], "a title"),
    "batch of two channels": (plot_augmented_batch, RANDOM.normal(size=(3, 2, 8, 8))),
    "mistakes": (plot_worst_mistakes, *mistakes(13, DIGITS)),
    "mistakes with hostile names": (plot_worst_mistakes, *mistakes(10, HOSTILE_NAMES)),
    "mistakes of large images": (plot_worst_mistakes, *mistakes(2, LONG_NAMES, channels=3, height=300, width=200)),
    "no mistakes": (plot_worst_mistakes, *mistakes(0, DIGITS)),
    "filters": (plot_filters, RANDOM.normal(size=(20, 1, 5, 5))),
    "filters with three channels": (plot_filters, RANDOM.normal(size=(80, 3, 3, 3)), None, 64, "a title"),
    "filters of a linear layer": (plot_filters, RANDOM.normal(size=(12, 2 * 6 * 4)), (2, 6, 4)),
    "calibration": (plot_calibration, scores().bins, "a title"),
    "calibration without examples": (plot_calibration, MetricAccumulator(3).bins),
    "per class": (plot_per_class, scores().per_class, DIGITS, "a title"),
    "per class with hostile names": (plot_per_class, scores().per_class, HOSTILE_NAMES),
    "per class of 100": (plot_per_class, scores(100, 3000).per_class, LONG_NAMES),
    "per class without examples": (plot_per_class, MetricAccumulator(2).per_class, ["a", "b"]),
    "probabilities": (plot_probabilities, images(1)[0], DIGITS, RANDOM.dirichlet(np.ones(10))),
    "probabilities of 0 and 1": (plot_probabilities, images(1, 3)[0], DIGITS, np.eye(10)[3]),
    "probabilities of 100": (plot_probabilities, images(1, 3, 90, 60)[0], LONG_NAMES, RANDOM.dirichlet(np.ones(100))),
    "probabilities with hostile names": (plot_probabilities, images(1)[0], HOSTILE_NAMES, np.full(10, 0.1)),
    "surprise": (plot_text_surprise, "To be,\nor not to be.\n\n" + "long " * 40, RANDOM.gamma(1, size=222), "a title"),
    "surprise of no text": (plot_text_surprise, "", [], "a title"),
    "surprise of hostile text": (plot_text_surprise, "".join(HOSTILE_NAMES), RANDOM.gamma(1, size=200)),
    "surprise of a long text": (plot_text_surprise, "\n" * 100, [1.0] * 100, "W" * 400),
}

USER_SETTINGS = {"figure.facecolor": "black", "font.size": 30, "text.parse_math": True, "axes.grid": False}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """A plot under odd settings of the user, its figure rendered again, and the renderer, which measures texts."""
    plot, *args = CASES[request.param]
    with matplotlib.rc_context(USER_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("error")
        image = plot(*args)
    canvas = render_figure(plot, *args)
    return image, canvas.figure, canvas.get_renderer()


def test_plots_are_rgb_and_at_most_900_units_wide(case):
    image = case[0]
    assert image.mode == "RGB"
    assert image.width <= style.WIDTH * style.PIXELS_PER_UNIT
    assert len(image.getcolors(image.width * image.height)) > 1


def test_same_numbers_give_same_pixels_under_any_settings(case):
    image, figure, _ = case
    assert np.array_equal(np.asarray(image), np.asarray(figure.canvas.buffer_rgba())[..., :3])


def test_nothing_is_cut_off(case):
    """The outermost pixels are white, and every text lies inside."""
    image, figure, renderer = case
    pixels = np.asarray(image)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    for text in visible_texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= image.width and box.y1 <= image.height, text.get_text()


def test_texts_do_not_overlap(case):
    _, figure, renderer = case
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
    for n, (text, box) in enumerate(boxes):
        # one pixel of tolerance, because boxes of lines that touch are rounded outwards
        inner = box.padded(-1)
        assert not [other for other, other_box in boxes[n + 1 :] if inner.overlaps(other_box)], text


@pytest.mark.parametrize("name", ATTRIBUTION_CASES)
def test_attribution_texts_have_at_least_8_points(name):
    """At 1200 pixels a unit is 4/3 of a pixel: letters of 8 points are 8 pixels high."""
    figure = render_figure(*CASES[name]).figure
    assert min((text.get_fontsize() for text in visible_texts(figure)), default=8) >= 8


def test_plotting_leaves_matplotlib_settings_and_pyplot_alone():
    """Run in a subprocess, because other tests may have imported pyplot."""
    code = (
        "import matplotlib, sys\n"
        "settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from thalweg.plots.curves import plot_curves as curves\n"
        "curves([{'step': 1, 'split': 'train', 'loss': 1.0}])\n"
        "assert before == settings()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_long_texts_are_cut_in_the_middle_or_at_the_front():
    assert style.ellipsize("abcdefghij", 10) == "abcdefghij"
    assert style.ellipsize("class number 17", 10) == "class … 17"
    assert style.ellipsize("photos/summer/17.jpg", 10, tail=True) == "…er/17.jpg"
    assert style.ellipsize("a\nb\x00c\udcff") == "a?b?c?"


def test_only_1_is_100_percent_and_only_0_is_0_percent():
    fractions = [0, 0.0004, 0.5, 0.98765, 0.9996, 1, None, float("nan")]
    expected = ["0.0 %", "< 0.1 %", "50.0 %", "98.8 %", "> 99.9 %", "100.0 %", "–", "–"]
    assert [style.format_percent(fraction) for fraction in fractions] == expected
    assert style.format_percent(0.99996, 2) == "> 99.99 %"


def test_confusion_matrix_shows_all_counts_and_lists_the_most_frequent_mistake_first():
    labels = figure_texts(plot_confusion, np.array([[50, 7, 0], [1, 60, 3], [0, 0, 70]]), ["cat", "dog", "cow"])
    assert {"50", "60", "70", "7", "1", "3"} <= set(labels)
    assert [label for label in labels if "→" in label][1:] == ["cat → dog", "dog → cow", "dog → cat"]
    assert any({"11", "191"} <= set(label.split()) for label in labels)


def test_correct_predictions_are_blue_and_mistakes_orange():
    figure = layout_figure(plot_confusion, np.array([[90, 10], [0, 100]]), ["a", "b"])
    cells = next(axes for axes in figure.axes if axes.images).images[0].get_array()
    assert cells[0, 0][2] > cells[0, 0][0] and cells[0, 1][0] > cells[0, 1][2]
    assert tuple(cells[1, 0]) == (1, 1, 1)
    assert cells[1, 1].mean() < cells[0, 0].mean()


def test_classes_without_a_score_are_left_out():
    rows = [{"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "examples": 4}, dict.fromkeys(("precision", "recall", "f1"))]
    labels = figure_texts(plot_per_class, rows, ["cat", "dog"])
    assert "cat (4)" in labels and not any("dog" in label for label in labels)


def test_the_most_probable_of_many_classes_come_first():
    probabilities = np.linspace(0, 1, 30) / 15
    axes = layout_figure(plot_probabilities, images(1)[0], LONG_NAMES[:30], probabilities).axes[1]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(probabilities[::-1][:10])


def test_up_to_ten_classes_keep_their_order():
    probabilities = RANDOM.dirichlet(np.ones(10))
    axes = layout_figure(plot_probabilities, images(1)[0], DIGITS, probabilities).axes[1]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(probabilities)
